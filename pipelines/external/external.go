// Package external has another program do the update of an iteration (docs/external.md). The rows that the update reads are laid into a
// directory that both programs see, with a task written last; the other program leaves a checkpoint there, with a manifest written last.
// What it leaves is checked as what comes from elsewhere, and becomes the model that the iteration leaves.
package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/update"
)

// DirName is the directory of tasks in that of a run, where a recipe names no other.
const DirName = chain.HandoverName

// Update is the update of one iteration. Its rows have been written.
type Update struct {
	Job       update.Job // with External
	Run       string     // directory of the run
	Iteration chain.Iteration
	Keep      bool // leave the tasks of earlier iterations
}

// TimeoutError says that no checkpoint came in time.
type TimeoutError struct {
	Dir     string
	Seconds float64
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("%s: the trainer has left no %s within %v s (update.external.timeout_seconds); the same command waits again", e.Dir,
		DoneName, e.Seconds)
}

// RefusedError says what of the files of a task cannot be taken, and why.
type RefusedError struct {
	File   string // its path
	Tensor string // "" where it is about the file
	Why    string
}

func (e *RefusedError) Error() string {
	if e.Tensor != "" {
		return fmt.Sprintf("%s: tensor %q: %s", e.File, e.Tensor, e.Why)
	}
	return e.File + ": " + e.Why
}

// Do hands the update over, waits for the checkpoint and takes it. Without rows there is nothing to do, and the model stays as it is.
func (u Update) Do(ctx context.Context, show progress.Run) error {
	handed, err := u.handed(ctx)
	if err != nil {
		return err
	}
	if len(handed) == 0 {
		return u.stay(ctx)
	}
	dir, err := u.dir()
	if err != nil {
		return err
	}
	if err := u.tidy(dir); err != nil {
		return err
	}
	at := filepath.Join(dir, iterationName(u.Iteration.Number))
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	t, err := u.task(ctx, at, handed)
	if err != nil {
		return err
	}
	if err := u.handOver(ctx, at, t); err != nil {
		return fmt.Errorf("hand-over of the update: %w", err)
	}
	limit := time.Duration(u.Job.External.Seconds * float64(time.Second))
	within, cancel := context.WithTimeoutCause(ctx, limit, &TimeoutError{at, u.Job.External.Seconds})
	defer cancel()
	bar := show.Bar("waiting for the trainer", 0)
	defer bar.Done()
	if err := u.await(within, at, show); err != nil {
		var late *TimeoutError
		if errors.As(context.Cause(within), &late) {
			return late
		}
		return err
	}
	return u.take(ctx, at, t)
}

// dir is where tasks are left.
func (u Update) dir() (string, error) {
	if d := u.Job.External.Dir; d != "" {
		return filepath.Abs(d)
	}
	return filepath.Join(u.Run, DirName), nil
}

func iterationName(number int) string { return fmt.Sprintf("iter-%05d", number) }

var iterationPattern = regexp.MustCompile(`^iter-(\d{5,9})$`)

// tidy removes the tasks of this run's earlier iterations, which are committed.
func (u Update) tidy(dir string) error {
	if u.Keep {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		m := iterationPattern.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() {
			continue
		}
		at := filepath.Join(dir, e.Name())
		if n, _ := strconv.Atoi(m[1]); n >= u.Iteration.Number {
			continue
		}
		if raw, err := readSmall(at, TaskName); err != nil || runOf(raw) != u.Iteration.Meta.Run {
			continue // somebody else's
		}
		if err := os.RemoveAll(at); err != nil {
			return err
		}
	}
	return nil
}

// runOf is the run that a task is of; "" of what is no task.
func runOf(raw []byte) string {
	var t struct {
		Run string `json:"run"`
	}
	if json.Unmarshal(raw, &t) != nil {
		return ""
	}
	return t.Run
}

// prepared is a task with the files that go with it.
type prepared struct {
	Task
	raw   []byte
	plan  []byte            // of PlanName
	from  map[string]string // where the rows lie, by their names in the directory of the task
	local map[string]string // models and states that lie in a bucket, by their names there
}

// handOver lays the task into its directory, unless it lies there. One with another content, as of a recipe that was changed before an
// iteration was committed, goes with all that was left for it.
func (u Update) handOver(ctx context.Context, at string, t prepared) error {
	there, err := readSmall(at, TaskName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case string(there) == string(t.raw):
	case u.Job.External.Dir != "" && runOf(there) != t.Run:
		return &RefusedError{File: filepath.Join(at, TaskName), Why: fmt.Sprintf("is a task of another run or recipe (%s, this one is %s); "+
			"remove its directory, or set update.external.dir to another one", runOf(there), t.Run)}
	default:
		if err := os.Remove(filepath.Join(at, TaskName)); err != nil { // the others are nothing without it
			return err
		}
		if err := os.RemoveAll(at); err != nil {
			return err
		}
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		there = nil
	}
	for _, b := range t.Batches {
		for _, f := range b.Files {
			if same(ctx, at, f) {
				continue
			}
			if err := copyIn(ctx, t.from[f.Name], filepath.Join(at, f.Name)); err != nil {
				return err
			}
		}
	}
	if !same(ctx, at, t.Plan) {
		if err := files.Write(ctx, filepath.Join(at, PlanName), t.plan, true); err != nil {
			return err
		}
	}
	for name, from := range t.local {
		if ok, err := files.Exists(ctx, filepath.Join(at, name)); ok || err != nil { // written as a whole
			if err != nil {
				return err
			}
			continue
		}
		if err := files.WriteDirectory(ctx, filepath.Join(at, name), nil, func(local string) error {
			infos, err := files.Below(ctx, from)
			if err != nil {
				return err
			}
			return files.Download(ctx, infos, local)
		}); err != nil {
			return err
		}
	}
	if there != nil {
		return nil
	}
	return files.Write(ctx, filepath.Join(at, TaskName), t.raw, true)
}

// same reports whether a file of the task lies there with its content.
func same(ctx context.Context, at string, f File) bool {
	digest, err := digestOf(ctx, filepath.Join(at, f.Name))
	return err == nil && digest == f.SHA256
}

func copyIn(ctx context.Context, from, to string) error {
	in, err := files.Open(ctx, from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := files.Create(ctx, to)
	if err != nil {
		return err
	}
	defer out.Abort()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Commit(true)
}
