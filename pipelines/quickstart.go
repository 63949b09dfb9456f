package pipelines

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/transforms/stage"
)

// The models the quickstart begins with, as `millrace quickstart --from-scratch` makes them: a policy warm-started on the
// proving ground's corpus, and an IPVRM trained on its rollouts. quickstart/README.md holds the commands and their results.
//
//go:embed quickstart
var quickstartModels embed.FS

// QuickstartOptions are the choices of a quickstart.
type QuickstartOptions struct {
	Run         string // directory; holds distrl/, grpo/ and report.html
	Seed        uint64
	Iterations  int
	FromScratch bool // train the models to begin with, instead of taking the embedded ones
}

// QuickstartResult is what a quickstart measured.
type QuickstartResult struct {
	Before  float64 `json:"accuracy_before"` // avg@8 on held-out prompts
	After   float64 `json:"accuracy_after"`  // after DistRL with IPVRM
	GRPO    float64 `json:"accuracy_after_grpo"`
	StdErr  float64 `json:"std_err"` // of each, over prompts
	Prompts int     `json:"prompts"`
	Seconds float64 `json:"seconds"`
	Seed    uint64  `json:"seed"`
	Run     string  `json:"run"`
	Report  string  `json:"report"`
}

// Quickstart runs DistRL with IPVRM, and GRPO from the same start on the same prompts, and writes a report.
func Quickstart(ctx context.Context, o QuickstartOptions, show progress.Run) (QuickstartResult, error) {
	start := time.Now()
	if stage.IsURL(o.Run) {
		return QuickstartResult{}, configErrorf("run", "%q: the quickstart runs on this machine, in a directory of it; `millrace run` takes buckets", o.Run)
	}
	if err := os.MkdirAll(o.Run, 0o755); err != nil {
		return QuickstartResult{}, err
	}
	models := filepath.Join(o.Run, "models")
	var err error
	if o.FromScratch {
		err = trainStart(ctx, o, models, show)
	} else {
		err = unpack(models)
	}
	if err != nil {
		return QuickstartResult{}, err
	}
	out := QuickstartResult{Seed: o.Seed, Run: o.Run, Report: filepath.Join(o.Run, "report.html")}
	var runs []string
	for _, name := range []string{"distrl", "grpo"} {
		dir := filepath.Join(o.Run, name)
		sets := []string{"run=" + dir, fmt.Sprintf("seed=%d", o.Seed), fmt.Sprintf("iterations=%d", o.Iterations),
			"policy.path=" + filepath.Join(models, "policy"), "evaluate.prompts=200", "evaluate.every=10"}
		if name == "distrl" {
			sets = append(sets, "reward.path="+filepath.Join(models, "reward"))
		}
		r, err := embeddedRecipe(name, sets)
		if err != nil {
			return out, err
		}
		show.Note("%s: %d iterations of %d prompts x %d responses", name, r.Iterations, r.Prompts.Count, r.Rollout.Samples)
		if err := Iterate(ctx, r, show); err != nil {
			return out, err
		}
		measured, err := measurementsOf(ctx, dir)
		if err != nil {
			return out, err
		}
		first, last := measured[0].Evaluation, measured[len(measured)-1].Evaluation
		if first == nil || last == nil {
			return out, errors.New("quickstart: the run was not evaluated at its start and its end")
		}
		if name == "distrl" {
			out.Before, out.After, out.StdErr, out.Prompts = first.Avg.Mean, last.Avg.Mean, last.Avg.StdErr, last.Prompts
		} else {
			out.GRPO = last.Avg.Mean
		}
		runs = append(runs, dir)
	}
	if err := Report(ctx, out.Report, runs...); err != nil {
		return out, err
	}
	out.Seconds = time.Since(start).Seconds()
	return out, nil
}

// unpack writes the embedded models, once.
func unpack(dir string) error {
	for _, name := range []string{"policy", "reward"} {
		to := filepath.Join(dir, name)
		if _, err := os.Stat(to); err == nil {
			continue
		}
		from, err := fs.Sub(quickstartModels, "quickstart/"+name)
		if err != nil {
			return err
		}
		tmp := to + ".tmp"
		if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(dir, 0o755), os.CopyFS(tmp, from), os.Rename(tmp, to)); err != nil {
			return err
		}
	}
	return nil
}

// A warm start is accepted at this accuracy on held-out prompts; below, the part of the network that copies operands is
// incomplete and no method learns from there.
const acceptedWarmStart = 0.33

// trainStart trains the models to begin with, taking the next seed until a warm start is accepted.
func trainStart(ctx context.Context, o QuickstartOptions, dir string, show progress.Run) error {
	for seed := o.Seed; seed < o.Seed+8; seed++ {
		warm := filepath.Join(dir, fmt.Sprintf("warm-start-%d", seed))
		r, err := embeddedRecipe("warm-start", []string{"run=" + warm, fmt.Sprintf("seed=%d", seed)})
		if err != nil {
			return err
		}
		show.Note("warm start, seed %d", seed)
		if err := Iterate(ctx, r, show); err != nil {
			return err
		}
		measured, err := measurementsOf(ctx, warm)
		if err != nil {
			return err
		}
		accuracy := measured[len(measured)-1].Evaluation.Avg.Mean
		show.Note("warm start, seed %d: avg@8 %.3f", seed, accuracy)
		if accuracy < acceptedWarmStart {
			continue
		}
		policy := filepath.Join(warm, "iter-00000", "policy")
		reward := filepath.Join(dir, "ipvrm")
		if r, err = embeddedRecipe("ipvrm-refresh", []string{"run=" + reward, fmt.Sprintf("seed=%d", seed), "policy.path=" + policy}); err != nil {
			return err
		}
		show.Note("reward model")
		if err := Iterate(ctx, r, show); err != nil {
			return err
		}
		for name, from := range map[string]string{"policy": policy, "reward": filepath.Join(reward, "iter-00000", "reward")} {
			to := filepath.Join(dir, name)
			if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
				return err
			}
		}
		return promoted(ctx, filepath.Join(reward, "iter-00000", "reward"))
	}
	return fmt.Errorf("no warm start of seeds %d to %d reached avg@8 %.2f", o.Seed, o.Seed+7, acceptedWarmStart)
}

func measurementsOf(ctx context.Context, dir string) ([]Measurement, error) {
	run := &RunDir{Path: dir}
	m, err := run.ReadMeasurements(ctx)
	if err == nil && len(m) == 0 {
		err = fmt.Errorf("%s holds no committed iteration", dir)
	}
	return m, err
}

func embeddedRecipe(name string, sets []string) (Recipe, error) {
	for _, e := range EmbeddedRecipes() {
		if e.Name == name {
			return ParseRecipe([]byte(e.Text), sets)
		}
	}
	return Recipe{}, fmt.Errorf("no embedded recipe %q", name)
}
