package label

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
	"time"

	"github.com/millrace/millrace/schemas"
)

// CommandConfig asks an external program, started anew for every response and without a shell. It reads the [Question] as
// JSON from its standard input and writes a [Reply] as JSON to its standard output. It runs in an empty directory of its
// own, with no environment but PATH and under limits of time, output and, on Linux, memory; it is not a jail: run code
// that models wrote inside a container.
type CommandConfig struct {
	Argv        []string `json:"argv"`         // program and arguments; the program is a path or is found on PATH
	Seconds     float64  `json:"seconds"`      // wall-clock time for a response; after it the program and its children are killed
	OutputBytes int      `json:"output_bytes"` // most it may write
	MemoryMiB   int      `json:"memory_mib"`   // most address space, on Linux; 0: no limit
}

// Reply is what an external verifier answers.
type Reply struct {
	Verdict    string  `json:"verdict"` // correct, incorrect, unparsable_response, unparsable_answer, budget
	Extracted  *string `json:"extracted"`
	Rule       string  `json:"rule"`
	FirstError *int    `json:"first_error"`
	StepEnds   []int   `json:"step_ends"` // bytes of the response up to and with the end of each step
}

type command struct {
	CommandConfig
	path string
}

func newCommand(c CommandConfig) (Verifier, error) {
	switch {
	case len(c.Argv) == 0 || c.Argv[0] == "":
		return nil, errors.New("argv: is empty; want a program and its arguments")
	case !(c.Seconds > 0 && c.Seconds <= 3600):
		return nil, fmt.Errorf("seconds: %v is not in (0, 3600]", c.Seconds)
	case c.OutputBytes < 1:
		return nil, fmt.Errorf("output_bytes: %d is not at least 1", c.OutputBytes)
	case c.MemoryMiB < 0:
		return nil, fmt.Errorf("memory_mib: %d is negative", c.MemoryMiB)
	}
	path, err := exec.LookPath(c.Argv[0])
	if err != nil {
		return nil, fmt.Errorf("argv: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("argv: %w", err)
	}
	return command{c, path}, nil
}

func (v command) Version() string { return version("command", 1, v.CommandConfig) }

// Verify abstains (budget) when the program exceeds a limit, and sets the row aside when it fails or its reply is no Reply.
func (v command) Verify(ctx context.Context, q Question) (Judgement, error) {
	input, err := json.Marshal(q)
	if err != nil {
		return Judgement{}, &RowError{schemas.ReasonUnreadable, err}
	}
	dir, err := os.MkdirTemp("", "verify-")
	if err != nil {
		return Judgement{}, err
	}
	defer os.RemoveAll(dir)
	limited, cancel := context.WithTimeout(ctx, time.Duration(v.Seconds*float64(time.Second)))
	defer cancel()
	cmd := exec.CommandContext(limited, v.path, v.Argv[1:]...)
	out, diagnostics := &bounded{left: v.OutputBytes}, &bounded{left: 1 << 10}
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH")}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), out, diagnostics
	cmd.WaitDelay = time.Second
	confine(cmd)
	if err := cmd.Start(); err != nil {
		return Judgement{}, fmt.Errorf("verifier command: %w", err)
	}
	if err := limitMemory(cmd.Process.Pid, v.MemoryMiB); err != nil {
		cancel()
		cmd.Wait()
		return Judgement{}, fmt.Errorf("verifier command: limiting its memory: %w", err)
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return Judgement{}, ctx.Err()
	case limited.Err() != nil:
		return Judgement{Verdict: Budget, Rule: fmt.Sprintf("the command took more than %v s", v.Seconds)}, nil
	case out.over:
		return Judgement{Verdict: Budget, Rule: fmt.Sprintf("the command wrote more than %d bytes", v.OutputBytes)}, nil
	case err != nil:
		return Judgement{}, &RowError{schemas.ReasonModel, fmt.Errorf("verifier command: %w: %s", err, bytes.TrimSpace(diagnostics.Bytes()))}
	}
	return readReply(out.Bytes(), len(q.Response))
}

// bounded keeps the first bytes written to it and drops the rest.
type bounded struct {
	bytes.Buffer
	left int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), b.left)
	b.Buffer.Write(p[:keep])
	b.left -= keep
	b.over = b.over || keep < len(p)
	return len(p), nil
}

// ReadFrom hides the one of bytes.Buffer, which knows no bound.
func (b *bounded) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{b}, r) }

// readReply makes a judgement of an external verifier's reply about a response of that many bytes.
func readReply(raw []byte, responseBytes int) (Judgement, error) {
	bad := func(format string, args ...any) (Judgement, error) {
		return Judgement{}, &RowError{schemas.ReasonModel, fmt.Errorf("verifier's reply %.100q: %w", raw, fmt.Errorf(format, args...))}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	var r Reply
	if err := dec.Decode(&r); err != nil {
		return bad("is not JSON: %w", err)
	}
	allowed := []string{Correct, Incorrect, UnparsableResponse, UnparsableAnswer, Budget}
	if !slices.Contains(allowed, r.Verdict) {
		return bad("verdict %q is not one of %q", r.Verdict, allowed)
	}
	j := Judgement{Verdict: r.Verdict, Rule: r.Rule}
	if r.Extracted != nil {
		j.Extracted, j.Found = *r.Extracted, true
	}
	if r.FirstError != nil {
		j.Judged, j.FirstError, j.StepEnds = true, *r.FirstError, r.StepEnds
		if j.FirstError < -1 || len(r.StepEnds) > 0 && j.FirstError >= len(r.StepEnds) {
			return bad("first_error %d is not -1 or one of %d steps", j.FirstError, len(r.StepEnds))
		}
	}
	last := 0
	for i, end := range r.StepEnds {
		if end <= last || end > responseBytes {
			return bad("step_ends[%d] is %d; want increasing numbers up to the response's %d bytes", i, end, responseBytes)
		}
		last = end
	}
	return j, nil
}
