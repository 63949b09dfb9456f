// Package quickstart shows what the framework does in a minute: a small policy learns, by two methods from the same start.
package quickstart

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// The models the quickstart begins with, as `millrace quickstart --from-scratch` makes them: a policy warm-started on the
// proving ground's corpus, and an IPVRM trained on its rollouts. quickstart/README.md holds the commands and their results.
//
//go:embed policy reward
var quickstartModels embed.FS

// Options are the choices of a quickstart.
type Options struct {
	Run         string // directory; holds distrl/, grpo/ and report.html
	Seed        uint64
	Iterations  int
	FromScratch bool // train the models to begin with, instead of taking the embedded ones
}

// Result is what a quickstart measured.
type Result struct {
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

// Run runs DistRL with IPVRM, and GRPO from the same start on the same prompts, and writes a report.
func Run(ctx context.Context, o Options, show progress.Run) (Result, error) {
	start := time.Now()
	if files.IsURL(o.Run) {
		return Result{}, setting.Errorf("run", "%q: the quickstart runs on this machine, in a directory of it; `millrace run` takes buckets",
			o.Run)
	}
	if err := begun(ctx, o); err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(o.Run, 0o755); err != nil {
		return Result{}, err
	}
	models := filepath.Join(o.Run, "models")
	var err error
	if o.FromScratch {
		err = trainStart(ctx, o, models, show)
	} else {
		err = Unpack(models)
	}
	if err != nil {
		return Result{}, err
	}
	out := Result{Seed: o.Seed, Run: o.Run, Report: filepath.Join(o.Run, run.ReportName)}
	var runs []string
	for _, name := range methods {
		dir := filepath.Join(o.Run, name)
		sets := []string{recipe.Set("run", dir), fmt.Sprintf("seed=%d", o.Seed), fmt.Sprintf("iterations=%d", o.Iterations),
			recipe.Set("policy.path", filepath.Join(models, "policy")), "evaluate.prompts=200", "evaluate.every=10"}
		if name == "distrl" {
			sets = append(sets, recipe.Set("reward.path", filepath.Join(models, "reward")))
		}
		r, err := open(ctx, name, sets)
		if err != nil {
			return out, err
		}
		show.Note("%s: %d iterations of %d prompts x %d responses", name, r.Recipe().Iterations, r.Recipe().Prompts.Count,
			r.Recipe().Rollout.Samples)
		if err := method.Run(ctx, r, show); err != nil {
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
	if err := look.Report(ctx, out.Report, runs...); err != nil {
		return out, err
	}
	out.Seconds = time.Since(start).Seconds()
	return out, nil
}

// methods are the recipes that are run, each in a directory of its name.
var methods = []string{"distrl", "grpo"}

// begun refuses to go on with other choices than a quickstart was begun with: its table compares runs of one seed and one length.
func begun(ctx context.Context, o Options) error {
	for _, name := range methods {
		d, err := run.Read(ctx, filepath.Join(o.Run, name))
		var none *run.NotARunError
		if errors.As(err, &none) {
			continue
		}
		if err != nil {
			return err
		}
		r, err := d.Recipe(ctx)
		if err != nil {
			return err
		}
		const fixed = "%d: the quickstart in %s was begun with %d, and goes on with that alone; give another directory (--run), or %d again"
		if r.Iterations != o.Iterations {
			return setting.Errorf("iterations", fixed, o.Iterations, o.Run, r.Iterations, r.Iterations)
		}
		if r.Seed != o.Seed {
			return setting.Errorf("seed", fixed, o.Seed, o.Run, r.Seed, r.Seed)
		}
	}
	return nil
}

// Unpack writes the embedded models, once.
func Unpack(dir string) error {
	for _, name := range []string{"policy", "reward"} {
		to := filepath.Join(dir, name)
		if _, err := os.Stat(to); err == nil {
			continue
		}
		from, err := fs.Sub(quickstartModels, name)
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
func trainStart(ctx context.Context, o Options, dir string, show progress.Run) error {
	for seed := o.Seed; seed < o.Seed+8; seed++ {
		warm := filepath.Join(dir, fmt.Sprintf("warm-start-%d", seed))
		r, err := open(ctx, "warm-start", []string{recipe.Set("run", warm), fmt.Sprintf("seed=%d", seed)})
		if err != nil {
			return err
		}
		show.Note("warm start, seed %d", seed)
		if err := method.Run(ctx, r, show); err != nil {
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
		sets := []string{recipe.Set("run", reward), fmt.Sprintf("seed=%d", seed), recipe.Set("policy.path", policy)}
		if r, err = open(ctx, "ipvrm-refresh", sets); err != nil {
			return err
		}
		show.Note("reward model")
		if err := method.Run(ctx, r, show); err != nil {
			return err
		}
		for name, from := range map[string]string{"policy": policy, "reward": filepath.Join(reward, "iter-00000", "reward")} {
			to := filepath.Join(dir, name)
			if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
				return err
			}
		}
		return method.Promoted(ctx, filepath.Join(reward, "iter-00000", "reward"))
	}
	return fmt.Errorf("no warm start of seeds %d to %d reached avg@8 %.2f", o.Seed, o.Seed+7, acceptedWarmStart)
}

func measurementsOf(ctx context.Context, dir string) ([]run.Measurement, error) {
	d := &run.Dir{Path: dir}
	m, err := d.ReadMeasurements(ctx)
	if err == nil && len(m) == 0 {
		err = fmt.Errorf("%s holds no committed iteration", dir)
	}
	return m, err
}

func open(ctx context.Context, name string, sets []string) (method.Method, error) {
	r, err := recipes.Open(ctx, name, sets)
	if err != nil {
		return nil, err
	}
	return method.New(r)
}
