package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/transforms/files"
)

// proving runs jobs below a directory.
type proving struct {
	ground   *ground
	model    string // the pretrained model of a ground that starts from one
	data     string // the directory of its files
	dir      string // of the runs
	binary   string
	parallel int
	keep     bool
	show     progress.Run
}

// finished reports whether an earlier call has done the job.
func (p *proving) finished(j job) bool {
	if j.iterations == 0 {
		_, err := os.Stat(p.printed(j))
		return err == nil
	}
	_, err := os.Stat(filepath.Join(p.dir, j.name, iteration(j.iterations-1), "manifest.json")) // iterations are committed in order
	return err == nil
}

func (p *proving) printed(j job) string { return filepath.Join(p.dir, j.name+".json") }

// all runs the jobs in order, each as soon as what it needs is there. A failed job leaves out
// what needs it; the others go on.
func (p *proving) all(ctx context.Context, jobs []job) error {
	bar := p.show.Bar("runs", int64(len(jobs)))
	defer bar.Done()
	var (
		mu       sync.Mutex
		changed  = sync.NewCond(&mu)
		waiting  = slices.Clone(jobs)
		settled  = map[string]error{}
		problems []error
	)
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		changed.Broadcast()
	})
	defer stop()
	settle := func(j job, err error) {
		settled[j.name] = err
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", j.name, err))
		}
		changed.Broadcast()
	}
	planned := map[string]bool{}
	for _, j := range jobs {
		planned[j.name] = true
	}
	// ready finds the first job whose needs are met, or one that never will be for want of missing; -1: none now.
	ready := func() (at int, missing string) {
		for i, j := range waiting {
			open := 0
			for _, a := range j.after {
				err, known := settled[a]
				if known && err != nil {
					return i, a
				}
				if planned[a] && !known {
					open++
				}
			}
			if open == 0 {
				return i, ""
			}
		}
		return -1, ""
	}
	next := func() (job, bool) {
		mu.Lock()
		defer mu.Unlock()
		for len(waiting) > 0 && ctx.Err() == nil {
			i, missing := ready()
			if i < 0 {
				changed.Wait() // for a job under way: needs come earlier in the plan
				continue
			}
			j := waiting[i]
			waiting = slices.Delete(waiting, i, i+1)
			if missing == "" {
				return j, true
			}
			settle(j, fmt.Errorf("needs %s", missing))
			bar.Step(1)
		}
		return job{}, false
	}
	var workers sync.WaitGroup
	for range p.parallel {
		workers.Go(func() {
			for {
				j, ok := next()
				if !ok {
					return
				}
				start, reused := time.Now(), p.finished(j)
				var err error
				if !reused {
					err = p.one(ctx, j)
				}
				if err == nil && j.thin && !p.keep {
					err = thin(filepath.Join(p.dir, j.name), j.iterations)
				}
				mu.Lock()
				settle(j, err)
				mu.Unlock()
				if !reused {
					bar.Step(1, progress.Field{Name: "last", Value: j.name}, progress.Field{Name: "s", Value: time.Since(start).Seconds()})
				} else {
					bar.Step(1)
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(append(problems, ctx.Err())...)
}

// one runs a job in a process of its own, on one thread: results do not depend on threads, and two runs side by side use
// two cores better than one run does.
func (p *proving) one(ctx context.Context, j job) error {
	if err := os.MkdirAll(filepath.Dir(filepath.Join(p.dir, j.name)), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(p.dir, j.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Fprintf(log, "millrace %s\n", strings.Join(j.args, " "))
	var out bytes.Buffer
	c := exec.CommandContext(ctx, p.binary, j.args...)
	c.Dir, c.Env = p.dir, append(os.Environ(), "GOMAXPROCS=1")
	c.Stdout, c.Stderr = &out, log
	c.Cancel, c.WaitDelay = func() error { return c.Process.Signal(syscall.SIGTERM) }, 10*time.Second
	err = c.Run()
	log.Write(out.Bytes())
	if c.ProcessState != nil {
		p.spent(j, (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds())
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w; see %s", err, log.Name())
	case j.iterations == 0:
		return files.Write(ctx, p.printed(j), out.Bytes(), true)
	}
	return nil
}

// cost is a line of costs.jsonl: processor seconds of one process. A run that was interrupted has several.
type cost struct {
	Job     string  `json:"job"`
	Seconds float64 `json:"cpu_seconds"`
}

const costsName = "costs.jsonl"

// spent notes down what a job has cost; a failure to do so costs the figure, not the run.
func (p *proving) spent(j job, seconds float64) {
	line, err := json.Marshal(cost{j.name, seconds})
	if err != nil {
		return
	}
	f, err := os.OpenFile(filepath.Join(p.dir, costsName), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, end-1); err == nil && last[0] != '\n' {
			line = append([]byte{'\n'}, line...) // after half a line of a process that was killed
		}
	}
	f.Write(append(line, '\n'))
}

// thin removes the models and optimizer states that nothing reads any more from a finished run: all but the models of the last
// two iterations, between which the last update is measured, and the last optimizer state.
func thin(run string, iterations int) error {
	for i := range iterations - 1 {
		dirs := []string{"optimizer-policy", "optimizer-reward"}
		if i < iterations-2 {
			dirs = append(dirs, "policy", "reward")
		}
		for _, d := range dirs {
			if err := os.RemoveAll(filepath.Join(run, iteration(i), d)); err != nil {
				return err
			}
		}
	}
	return nil
}
