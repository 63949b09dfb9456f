// Command proving repeats what docs/results.md reports: every method on the proving ground, and on text chains and GSM8K by a pretrained
// model, over several seeds, by the recipes that come with the program.
//
//	go run ./e2e/programs/proving -seeds 5
//	go run ./e2e/programs/proving -ground text -model "$(e2e/smollm2/fetch.sh)" -seeds 5
//	go run ./e2e/programs/proving -ground gsm8k -model "$(e2e/smollm2/fetch.sh)" -data DIR -seeds 5
//
// Of the proving ground warm starts are trained from -first on until enough are accepted, and everything else starts from them, paired
// by seed. Each job is one command of the program in its own directory below -runs, with a log beside it that begins with the
// command. What is finished is reused and what was interrupted goes on, so the same command again continues; a larger -seeds adds seeds.
// Then the figures are read from the run directories into docs/results/figures.csv (text-figures.csv, gsm8k-figures.csv), beside those of
// the same warm starts that are there already, and from these files the tables of docs/results.md, between their markers, and the plots
// are drawn; -draw does only this last step, without runs.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path"
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
	dir := flag.String("runs", "", "directory of the runs (default: runs/ and the name of the ground)")
	docs := flag.String("docs", "docs", "directory of results.md")
	on := flag.String("ground", "proving", "the task: "+strings.Join(groundNames(), ", "))
	binary := flag.String("millrace", "", "the program (default: built from this checkout)")
	parallel := flag.Int("parallel", 2, "runs at a time, of one thread each")
	only := flag.String("only", "", "the parts to run, or runs by name (default: all), or none; the others are drawn as far as they are there")
	model := flag.String("model", "", "of grounds text and gsm8k: the pretrained model, such as what e2e/smollm2/fetch.sh fetches")
	data := flag.String("data", "", "of ground gsm8k: the directory of gsm8k/ and processbench/")
	keep := flag.Bool("keep", false, "keep the models of all iterations, several times the 2 GB that five seeds take")
	drawOnly := flag.Bool("draw", false, "draw tables and plots again from figures.csv, without runs")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "proving: %q: want flags only\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := func() error {
		if *drawOnly {
			return redraw(*docs)
		}
		g, ok := grounds[*on]
		if !ok {
			return fmt.Errorf("-ground: %q is not one of %s", *on, strings.Join(groundNames(), ", "))
		}
		p := &proving{ground: g, dir: cmp.Or(*dir, filepath.Join("runs", *on)), parallel: *parallel, keep: *keep}
		if err := p.take(*model, *data); err != nil {
			return err
		}
		return run(ctx, p, *binary, *first, *seeds, strings.Split(cmp.Or(*only, strings.Join(g.parts, ",")), ","), *docs)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "proving:", err)
		os.Exit(1)
	}
}

// none is the choice of no part: what is finished is collected and drawn.
const none = "none"

func run(ctx context.Context, p *proving, binary string, first uint64, seeds int, only []string, docs string) error {
	for _, name := range only {
		if !slices.Contains(p.ground.parts, name) && !p.ground.runs(name) && name != none {
			return fmt.Errorf("-only: %q is not one of %s, nor a run of them, nor %s", name, strings.Join(p.ground.parts, ", "), none)
		}
	}
	if seeds < 1 || p.parallel < 1 {
		return fmt.Errorf("-seeds %d, -parallel %d: want at least 1", seeds, p.parallel)
	}
	at := filepath.Join(docs, "results", p.ground.figures)
	if _, err := figuresBefore(at); err != nil { // said before hours of runs
		return err
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
	if err := p.link(); err != nil {
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
	failed := p.all(ctx, p.chosen(only, accepted))
	if ctx.Err() != nil {
		return failed
	}
	now, err := p.collect(ctx, accepted, tried)
	if err == nil {
		var was *figures
		if was, err = figuresBefore(at); err == nil {
			p.otherStarts(now, was, at)
			now.keep(was, p.ground.measures)
			err = now.save(at)
		}
	}
	if err == nil {
		err = redraw(docs)
	}
	return errors.Join(failed, err)
}

// chosen are the jobs of the parts and runs that are asked for, and those that they need and that are not done yet.
func (p *proving) chosen(only []string, seeds []uint64) []job {
	wanted, needed := map[string]bool{}, map[string]bool{}
	for _, seed := range seeds {
		for _, j := range slices.Backward(p.ground.plan(seed)) { // needs come before what needs them
			asked := slices.Contains(only, j.part) || slices.Contains(only, path.Base(j.name)) || j.part == "warm" && !p.ground.shared
			open := !p.finished(j)
			wanted[j.name] = asked || needed[j.name] && open
			for _, need := range j.after {
				needed[need] = needed[need] || wanted[j.name] && open
			}
		}
	}
	var jobs []job
	for i := range p.ground.plan(0) { // a row of a table is complete before the next begins
		for _, seed := range seeds {
			if j := p.ground.plan(seed)[i]; wanted[j.name] && !slices.ContainsFunc(jobs, func(k job) bool { return k.name == j.name }) {
				jobs = append(jobs, j)
			}
		}
	}
	return jobs
}

// figuresBefore are those that a file has; none where there is no file yet.
func figuresBefore(path string) (*figures, error) {
	f, err := loadFigures(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &figures{}, nil
	}
	return f, err
}

// otherStarts says which warm starts are others than those of the figures that are there: whatever follows from them differs too.
func (p *proving) otherStarts(now, was *figures, path string) {
	for _, seed := range now.seeds {
		if a, b := was.starts[seed], now.starts[seed]; a != "" && a != b {
			p.show.Note("the warm start of seed %d has other weights than that of %s: %s, not %s", seed, path, b, a)
		}
	}
}

// warmStarts trains warm starts until enough are accepted, or the one that all seeds share.
func (p *proving) warmStarts(ctx context.Context, first uint64, seeds int) (accepted, tried []uint64, err error) {
	if p.ground.shared {
		for seed := first; len(tried) < seeds; seed++ {
			tried = append(tried, seed)
		}
		return tried, tried, p.all(ctx, p.ground.plan(first)[:1])
	}
	for seed := first; len(accepted) < seeds; {
		if len(tried)-len(accepted) > maxRejected {
			return nil, tried, fmt.Errorf("only %d of %d warm starts reached %v", len(accepted), len(tried), p.ground.accepted)
		}
		var jobs []job
		for range min(p.parallel, seeds-len(accepted)) {
			jobs = append(jobs, p.ground.plan(seed)[0])
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
			if e.Avg.Mean >= p.ground.accepted {
				accepted = append(accepted, seed)
			}
		}
	}
	return accepted, tried, nil
}
