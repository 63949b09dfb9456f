package external

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/pipelines/progress"
)

const (
	// LogName holds what a trainer's command writes to its outputs. It is a file, so that the command outlives this program: a run that
	// was killed takes the checkpoint of a trainer that went on.
	LogName  = "trainer.log"
	lockName = "trainer.lock"

	pollEvery = 200 * time.Millisecond
	// half is how old an unfinished manifest must be to be taken for all there is: who does not rename it into its place is given time.
	half     = 10 * time.Second
	saidMost = 2 << 10
)

// TrainerError says that a trainer's command failed.
type TrainerError struct {
	Command []string
	Why     string // how it ended
	Said    string // the end of what it wrote
}

func (e *TrainerError) Error() string {
	text := fmt.Sprintf("trainer %s: %s; the same command tries again", strings.Join(e.Command, " "), e.Why)
	if e.Said != "" {
		text += "; it wrote: " + e.Said
	}
	return text
}

// await returns when the trainer has left its manifest.
func (u Update) await(ctx context.Context, at string, show progress.Run) error {
	if left, err := finished(at); left || err != nil {
		return err
	}
	if len(u.Job.External.Command) > 0 {
		return u.command(ctx, at, show)
	}
	show.Note("iteration %d: the update of %s waits for a trainer; the task is %s", u.Iteration.Number, u.Job.Role,
		filepath.Join(at, TaskName))
	for {
		if err := pause(ctx); err != nil {
			return err
		}
		if left, err := finished(at); left || err != nil {
			return err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(pollEvery):
		return nil
	}
}

// finished reports whether the manifest is there as a whole.
func finished(at string) (bool, error) {
	info, err := os.Lstat(filepath.Join(at, DoneName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	raw, err := readSmall(at, DoneName)
	if err != nil {
		return false, err
	}
	var any json.RawMessage
	if json.Unmarshal(raw, &any) != nil && time.Since(info.ModTime()) < half {
		return false, nil
	}
	return true, nil
}

// command runs the trainer's command to its end. One that an earlier call has started, and that lives, is waited for instead: two would
// write to one place.
func (u Update) command(ctx context.Context, at string, show progress.Run) error {
	lock, err := os.OpenFile(filepath.Join(at, lockName), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	for noted := false; ; noted = true {
		held, err := hold(lock)
		if err != nil {
			return err
		}
		if held {
			break
		}
		if !noted {
			show.Note("iteration %d: a trainer that an earlier call has started is still at work; waiting for it", u.Iteration.Number)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	if left, err := finished(at); left || err != nil { // by the earlier one
		return err
	}
	return u.start(ctx, at, lock)
}

func (u Update) start(ctx context.Context, at string, lock *os.File) error {
	words := u.Job.External.Command
	failed := func(format string, args ...any) error {
		return &TrainerError{Command: words, Why: fmt.Sprintf(format, args...)}
	}
	path := filepath.Join(at, LogName)
	out, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(words[0], append(words[1:len(words):len(words)], filepath.Join(at, TaskName))...)
	cmd.Stdout, cmd.Stderr = out, out
	isolate(cmd, lock)
	if err := cmd.Start(); err != nil {
		return failed("it cannot be started: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	log := &tail{path: path}
	defer log.close()
	for {
		select {
		case err := <-ended:
			killGroup(cmd) // whoever it has left behind
			log.read(ctx)
			if err != nil {
				return &TrainerError{Command: words, Why: err.Error(), Said: log.said()}
			}
			if left, err := finished(at); left || err != nil {
				return err
			}
			return &TrainerError{Command: words, Why: fmt.Sprintf("it ended well, and left no whole %s", filepath.Join(at, DoneName)),
				Said: log.said()}
		case <-ctx.Done():
			killGroup(cmd)
			<-ended
			log.read(context.WithoutCancel(ctx))
			return context.Cause(ctx)
		case <-time.After(pollEvery):
			log.read(ctx)
		}
	}
}

// tail passes the lines of a file on to the log as they come.
type tail struct {
	path string
	file *os.File
	part []byte // of a line that has not ended
	last []byte
}

func (t *tail) read(ctx context.Context) {
	if t.file == nil {
		f, err := os.Open(t.path)
		if err != nil {
			return
		}
		t.file = f
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := t.file.Read(buf)
		t.last = append(t.last, buf[:n]...)
		t.last = t.last[max(0, len(t.last)-saidMost):]
		t.part = append(t.part, buf[:n]...)
		for {
			line, rest, ok := bytes.Cut(t.part, []byte("\n"))
			if !ok && len(t.part) < len(buf) {
				break
			}
			if !ok {
				line, rest = t.part, nil
			}
			if line = bytes.TrimSpace(line); len(line) > 0 {
				slog.InfoContext(ctx, string(line), "from", "trainer")
			}
			t.part = rest
		}
		if err != nil || n == 0 {
			return
		}
	}
}

func (t *tail) said() string { return string(bytes.TrimSpace(t.last)) }

func (t *tail) close() {
	if t.file != nil {
		t.file.Close()
	}
}

// smallMost bounds task.json and done.json.
const smallMost = 64 << 20

// readSmall reads a regular file of the directory, through no link.
func readSmall(at, name string) ([]byte, error) {
	root, err := os.OpenRoot(at)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := openIn(root, at, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, smallMost+1))
	if err == nil && len(raw) > smallMost {
		err = &RefusedError{File: filepath.Join(at, name), Why: fmt.Sprintf("has more than %d bytes, which is the most that is read", smallMost)}
	}
	return raw, err
}
