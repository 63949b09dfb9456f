// Command proving repeats what docs/results.md reports: every method on the proving ground, over several seeds, by the recipes
// that come with the program.
//
//	go run ./e2e/programs/proving -seeds 5
//
// Warm starts are trained from -first on until enough are accepted, and everything else starts from them, paired by seed. Each
// job is one command of the program in its own directory below -runs, with a log beside it that begins with the command. What is
// finished is reused and what was interrupted goes on, so the same command again continues; a larger -seeds adds seeds.
// Then the figures are read from the run directories into docs/results/figures.csv, and from that file the tables of
// docs/results.md, between their markers, and the plots are drawn; -draw does only this last step, without runs.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/millrace/millrace/pipelines/progress"
)

//go:embed self-training.yaml
var selfTrainingRecipe []byte

// acceptedWarmStart is the accuracy on held-out prompts from which a warm start is worth starting from: below it, the part
// of the network that copies operands is incomplete.
const acceptedWarmStart = 0.33

// maxRejected bounds the search for warm starts.
const maxRejected = 20

func main() {
	seeds := flag.Int("seeds", 5, "accepted warm starts")
	first := flag.Uint64("first", 0, "first seed")
	dir := flag.String("runs", filepath.Join("runs", "proving"), "directory of the runs")
	docs := flag.String("docs", "docs", "directory of results.md")
	binary := flag.String("millrace", "", "the program (default: built from this checkout)")
	parallel := flag.Int("parallel", 2, "runs at a time, of one thread each")
	only := flag.String("only", strings.Join(parts, ","), "the parts to run; the others are drawn as far as they are finished")
	keep := flag.Bool("keep", false, "keep the models of all iterations, about 5 GB instead of 0.5 for five seeds")
	drawOnly := flag.Bool("draw", false, "draw tables and plots again from figures.csv, without runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := func() error {
		if *drawOnly {
			return redraw(*docs)
		}
		p := &proving{dir: *dir, parallel: *parallel, keep: *keep}
		return run(ctx, p, *binary, *first, *seeds, strings.Split(*only, ","), *docs)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "proving:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p *proving, binary string, first uint64, seeds int, only []string, docs string) error {
	for _, name := range only {
		if !slices.Contains(parts, name) {
			return fmt.Errorf("-only: %q is not one of %s", name, strings.Join(parts, ", "))
		}
	}
	if seeds < 1 || p.parallel < 1 {
		return fmt.Errorf("-seeds %d, -parallel %d: want at least 1", seeds, p.parallel)
	}
	var err error
	if p.dir, err = filepath.Abs(p.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.dir, selfRecipe), selfTrainingRecipe, 0o644); err != nil {
		return err
	}
	if binary == "" {
		binary = filepath.Join(p.dir, "millrace")
		build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/millrace/millrace")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build: %w", err)
		}
	}
	if p.binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	p.show = progress.Start(os.Stderr, "proving")
	defer p.show.Done()
	accepted, tried, err := p.warmStarts(ctx, first, seeds)
	if err != nil {
		return err
	}
	p.show.Note("accepted warm starts: seeds %v of %v", accepted, tried)
	var jobs []job
	for i := range plan(0) { // a row of a table is complete before the next begins
		for _, seed := range accepted {
			if j := plan(seed)[i]; slices.Contains(only, j.part) || j.part == "warm" {
				jobs = append(jobs, j)
			}
		}
	}
	failed := p.all(ctx, jobs)
	if ctx.Err() != nil {
		return failed
	}
	figures, err := p.collect(ctx, accepted, tried)
	if err == nil {
		err = figures.save(filepath.Join(docs, figuresName))
	}
	if err == nil {
		err = redraw(docs)
	}
	return errors.Join(failed, err)
}

// warmStarts trains warm starts until enough are accepted.
func (p *proving) warmStarts(ctx context.Context, first uint64, seeds int) (accepted, tried []uint64, err error) {
	for seed := first; len(accepted) < seeds; {
		if len(tried)-len(accepted) > maxRejected {
			return nil, tried, fmt.Errorf("only %d of %d warm starts reached %v", len(accepted), len(tried), acceptedWarmStart)
		}
		var jobs []job
		for range min(p.parallel, seeds-len(accepted)) {
			jobs = append(jobs, plan(seed)[0])
			tried = append(tried, seed)
			seed++
		}
		if err := p.all(ctx, jobs); err != nil {
			return nil, tried, err
		}
		for _, seed := range tried[len(tried)-len(jobs):] {
			e, err := p.warmStart(seed)
			if err != nil {
				return nil, tried, err
			}
			if e.Avg.Mean >= acceptedWarmStart {
				accepted = append(accepted, seed)
			}
		}
	}
	return accepted, tried, nil
}
