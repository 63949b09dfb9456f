package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/evaluate"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// collect reads every figure off the finished jobs; what is not finished is left out.
func (p *proving) collect(ctx context.Context, accepted, tried []uint64) (*figures, error) {
	f := &figures{}
	good := map[uint64]bool{}
	for _, s := range accepted {
		good[s] = true
	}
	for _, s := range tried {
		e, err := p.warmStart(s)
		if err != nil {
			return nil, err
		}
		f.add(s, "warm", p.ground.avg, 0, e.Avg.Mean)
		f.add(s, "warm", p.ground.avg+"_stderr", 0, e.Avg.StdErr)
		f.add(s, "warm", strings.Replace(p.ground.avg, "avg", "pass", 1), 0, e.PassAt[len(e.PassAt)-1].Mean)
		f.add(s, "warm", "accepted", 0, map[bool]float64{true: 1}[good[s]])
		sum, err := p.weights(ctx, s)
		if err != nil {
			return nil, err
		}
		f.start(s, sum)
	}
	for _, s := range accepted {
		for _, j := range p.ground.plan(s)[1:] {
			if !p.finished(j) {
				continue
			}
			if err := p.ground.collect(ctx, p, f, s, j); err != nil {
				return nil, fmt.Errorf("%s: %w", j.name, err)
			}
		}
	}
	return f, p.collectCosts(f)
}

func collectJob(ctx context.Context, p *proving, f *figures, seed uint64, j job) error {
	name := path.Base(j.name)
	if j.iterations == 0 {
		return p.collectEval(f, seed, j)
	}
	measured, err := measurements(filepath.Join(p.dir, j.name), j.iterations)
	if err != nil {
		return err
	}
	last := measured[len(measured)-1]
	if j.part == "reward" || j.part == "long" && last.Evaluation.BestOf != nil {
		return p.collectReward(f, seed, name, *last.Evaluation)
	}
	for _, m := range measured {
		if m.Evaluation == nil {
			continue
		}
		f.add(seed, name, "avg@8", m.Iterations, m.Evaluation.Avg.Mean)
		f.add(seed, name, "avg@8_stderr", m.Iterations, m.Evaluation.Avg.StdErr)
	}
	if j.part == "stability" {
		u, err := lastUpdate(ctx, filepath.Join(p.dir, j.name), j.iterations)
		if err != nil {
			return err
		}
		f.add(seed, name, "kl", j.iterations, u.kl)
		f.add(seed, name, "entropy", j.iterations, u.entropy)
		f.add(seed, name, "mixed_share", j.iterations, last.Metrics["mixed_share"])
	}
	return nil
}

// collectReward reads what a refresh measured on the held-out responses.
func (p *proving) collectReward(f *figures, seed uint64, name string, e evaluate.Report) error {
	model := rewardModel{name: name}
	for _, m := range p.ground.rewards {
		if m.name == name {
			model = m
		}
	}
	f.addRanking(seed, model, e)
	if c := e.Calibration; c != nil && c.ECE != nil && c.AUC != nil {
		f.add(seed, name, "auc", 0, *c.AUC)
	}
	if d := e.ByDecile; len(d) == evaluate.Deciles && d[len(d)-1].AUC != nil {
		f.add(seed, name, "auc_last_tenth", 0, *d[len(d)-1].AUC)
	}
	for _, s := range e.Steps {
		f.add(seed, name, "step_f1_"+s.Rule, 0, s.HeldOut.F1)
	}
	return nil
}

// addRanking adds what a scorer picks of the k responses to a prompt, what chance, majority vote and the best choice do, and calibration.
func (f *figures) addRanking(seed uint64, m rewardModel, e evaluate.Report) {
	most := e.PassAt[len(e.PassAt)-1]
	for _, b := range e.BestOf {
		if b.Score == m.score {
			f.add(seed, m.name, fmt.Sprint("best_of_", most.K), 0, b.Mean)
		}
	}
	f.add(seed, m.name, "mean_accuracy", 0, e.Avg.Mean)
	f.add(seed, m.name, "random", 0, e.Random.Mean)
	f.add(seed, m.name, fmt.Sprint("pass@", most.K), 0, most.Mean)
	if e.Vote != nil {
		f.add(seed, m.name, "majority_vote", 0, e.Vote.Mean)
	}
	if c := e.Calibration; c != nil && c.ECE != nil && c.AUC != nil {
		f.add(seed, m.name, "ece", 0, *c.ECE)
		f.add(seed, m.name, "brier", 0, *c.Brier)
	}
}

// printed is what `millrace eval --json` says of policies, or of reward models.
type printed struct {
	Results []evaluate.Report `json:"results"`
	Rewards []measuredReward  `json:"rewards"`
}

// heldOut is the set of the policy's own responses.
const heldOut = "held_out"

// measuredReward is a reward model, or a scorer without one, on one set of responses.
type measuredReward struct {
	Set   string `json:"set"` // held_out, a corruption, or a file
	Name  string `json:"name"`
	Model struct {
		Path string `json:"path"`
	} `json:"model"`
	evaluate.Report
	ByCertainty []evaluate.ErrorRecall `json:"errors_by_certainty"`
}

// scorer is the row that it is of; own says that it is one without a reward model.
func (m measuredReward) scorer() (s rewardModel, own bool) {
	for _, s := range policyScorers {
		if s.title == m.Name {
			return s, true
		}
	}
	return rewardModel{name: path.Base(path.Dir(path.Dir(filepath.ToSlash(m.Model.Path))))}, false // seed-N/run/iter-00000/reward
}

// said reads what a job has printed.
func (p *proving) said(j job) (e printed, err error) {
	raw, err := os.ReadFile(p.printed(j))
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, fmt.Errorf("%s: %w; remove it to have it measured again", p.printed(j), err)
	}
	return e, nil
}

func (p *proving) collectEval(f *figures, seed uint64, j job) error {
	e, err := p.said(j)
	if err != nil {
		return err
	}
	name := path.Base(j.name)
	if name != rewardsJob {
		if len(e.Results) != 1 {
			return fmt.Errorf("%d policies, want 1", len(e.Results))
		}
		f.add(seed, name, p.ground.avg, 0, e.Results[0].Avg.Mean)
		return nil
	}
	for _, m := range e.Rewards {
		s, own := m.scorer()
		run := s.name
		add := func(metric string, x evaluate.Figure) {
			if x.Value != nil {
				f.add(seed, run, metric, 0, *x.Value)
			}
		}
		if m.Set != heldOut && !slices.Contains(p.ground.corrupt, m.Set) {
			return fmt.Errorf("set %q of %s is neither %s nor one of %s", m.Set, run, heldOut, strings.Join(p.ground.corrupt, ", "))
		}
		for _, e := range m.ByCertainty {
			for kind, x := range map[string]evaluate.Figure{"unsure": e.Unsure, "confident": e.Confident} {
				if x.Value != nil {
					f.add(seed, run, m.Set+"_"+kind+"_"+e.Rule, 0, *x.Value)
					f.add(seed, run, m.Set+"_"+kind+"_n", 0, float64(x.N))
				}
			}
		}
		if m.Set != heldOut {
			for _, step := range m.Steps {
				f.add(seed, run, m.Set+"_f1_"+step.Rule, 0, step.HeldOut.F1)
			}
			continue
		}
		if own {
			for _, step := range m.Steps {
				f.add(seed, run, "step_f1_"+step.Rule, 0, step.HeldOut.F1)
			}
			for _, b := range m.BestOf {
				if b.Score == s.score {
					f.add(seed, run, "best_of_8", 0, b.Mean)
				}
			}
		}
		if m.Final != nil {
			add("auc_final", m.Final.AUC)
		}
		if m.Truth != nil {
			add("truth_r", m.Truth.R)
			add("truth_ece", m.Truth.ECE)
			add("truth_brier", m.Truth.Brier)
			add("truth_auc", m.Truth.BestAUC)
		}
	}
	return nil
}

// measurement is a line of a run's metrics.jsonl.
type measurement struct {
	Iterations int                `json:"iterations"`
	Metrics    map[string]float64 `json:"metrics"`
	Evaluation *evaluate.Report   `json:"evaluation"`
}

// measurements reads what the iterations of a run measured.
func measurements(run string, iterations int) ([]measurement, error) {
	var out []measurement
	for i := range iterations {
		raw, err := os.ReadFile(filepath.Join(run, iteration(i), "metrics.jsonl"))
		if err != nil {
			return nil, err
		}
		for dec := json.NewDecoder(bytes.NewReader(raw)); dec.More(); {
			var m measurement
			if err := dec.Decode(&m); err != nil {
				return nil, fmt.Errorf("%s, iteration %d: %w", run, i, err)
			}
			out = append(out, m)
		}
	}
	if len(out) == 0 || out[len(out)-1].Evaluation == nil {
		return nil, fmt.Errorf("%s: its last iteration was not evaluated", run)
	}
	return out, nil
}

// warmStart reads what the warm start of a seed reaches.
func (p *proving) warmStart(seed uint64) (evaluate.Report, error) {
	j := p.ground.plan(seed)[0]
	m, err := measurements(filepath.Join(p.dir, j.name), j.iterations)
	if err != nil {
		return evaluate.Report{}, err
	}
	return *m[len(m)-1].Evaluation, nil
}

// weights is the SHA-256 of the warm start's weights, by the manifest of its run.
func (p *proving) weights(ctx context.Context, seed uint64) (string, error) {
	j := p.ground.plan(seed)[0]
	m, _, err := commit.Read(ctx, filepath.Join(p.dir, j.name, iteration(j.iterations-1)))
	if err != nil {
		return "", err
	}
	return cmp.Or(m.Files["policy/model.safetensors"], m.Files["policy/adapter_model.safetensors"]), nil
}

// collectCosts adds the processor seconds of every job.
func (p *proving) collectCosts(f *figures) error {
	file, err := os.Open(filepath.Join(p.dir, costsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	total := map[string]float64{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var c cost
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			continue // half a line of a process that was killed
		}
		total[c.Job] += c.Seconds
	}
	for name, seconds := range total {
		dir, run := path.Split(name)
		var seed uint64
		if _, err := fmt.Sscanf(strings.TrimSuffix(dir, "/"), "seed-%d", &seed); err == nil {
			f.add(seed, run, "cpu_seconds", 0, seconds)
		}
	}
	return lines.Err()
}

// change is how far one iteration moved a policy.
type change struct {
	kl      float64 // KL(before || after), nats a token, over the iteration's responses
	entropy float64 // of the policy after, nats a token
}

// lastUpdate compares the policies before and after the last of n iterations on the responses sampled in it, over the whole
// vocabulary.
func lastUpdate(ctx context.Context, run string, n int) (change, error) {
	before, err := local.Load(filepath.Join(run, policyOf(".", n-1)))
	if err != nil {
		return change{}, err
	}
	after, err := local.Load(filepath.Join(run, policyOf(".", n)))
	if err != nil {
		return change{}, err
	}
	files, err := filepath.Glob(filepath.Join(run, iteration(n-1), "batch-*.parquet"))
	if err != nil {
		return change{}, err
	}
	var requests []models.ScoreRequest
	vocabulary := before.VocabSize()
	for _, file := range files {
		err := recordio.ReadFile(ctx, file, func(b stage.Batch) error {
			prompts, responses := schemas.PromptTokens.Of(b), schemas.ResponseTokens.Of(b)
			for i := range b.NumRows() {
				r := models.ScoreRequest{Sequence: models.Sequence{Prompt: prompts.Row(i), Response: responses.Row(i)}, ListStart: []int32{0}}
				for range r.Response {
					for id := range vocabulary {
						r.ListIDs = append(r.ListIDs, int32(id))
					}
					r.ListStart = append(r.ListStart, int32(len(r.ListIDs)))
				}
				requests = append(requests, r)
			}
			return nil
		})
		if err != nil {
			return change{}, err
		}
	}
	was, err := local.NewScorer(before, local.ScoreOptions{}).Score(ctx, requests)
	if err != nil {
		return change{}, err
	}
	is, err := local.NewScorer(after, local.ScoreOptions{}).Score(ctx, requests)
	if err != nil {
		return change{}, err
	}
	var out change
	tokens := 0
	for i := range requests {
		if err := errors.Join(was[i].Err, is[i].Err); err != nil {
			return change{}, err
		}
		out.add(was[i].ListLogP, is[i].ListLogP)
		tokens += len(requests[i].Response)
	}
	if tokens == 0 {
		return change{}, errors.New("no responses in the last iteration")
	}
	return change{out.kl / float64(tokens), out.entropy / float64(tokens)}, nil
}

// add sums over rows of log-probs, each a whole distribution.
func (c *change) add(was, is []float32) {
	for k := range was {
		p, q := math.Exp(float64(was[k])), math.Exp(float64(is[k]))
		if p > 0 {
			c.kl += p * float64(was[k]-is[k])
		}
		if q > 0 {
			c.entropy -= q * float64(is[k])
		}
	}
}
