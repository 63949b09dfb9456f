package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/millrace/millrace/schemas/setting"
)

// CommandConfig configures an external verifier program. It is started directly, without a shell, once a pair, with an
// environment that holds PATH alone, in an empty working directory. It reads {"gold", "response", "truncated"} as JSON
// on its standard input and writes {"verdict", "rule", "extracted", "reason"} as JSON on its standard output.
type CommandConfig struct {
	Command   []string `json:"command" doc:"the program and its arguments"`
	Seconds   float64  `json:"seconds" range:"(0,3600]" doc:"seconds for one pair"`
	MaxOutput int      `json:"max_output" range:"[1,inf)" doc:"bytes of standard output, and of standard error, at most"`
	Rules     string   `json:"version" doc:"the program's version, which lineage names"`
}

// Command runs an external verifier. A program that takes too long or writes too much is killed with everything it
// started, and the verdict is Budget; one that cannot be started or fails is an error.
type Command struct{ cfg CommandConfig }

func init() { Register("command", CommandConfig{Seconds: 10, MaxOutput: 1 << 20}) }

// Validate checks that there is a program.
func (c CommandConfig) Validate() error {
	if len(c.Command) == 0 || c.Command[0] == "" {
		return setting.Errorf("command", "is empty; give the program and its arguments as a list")
	}
	return nil
}

// New makes the verifier.
func (c CommandConfig) New() (Verifier, error) { return &Command{c}, nil }

// Version names the program and the configuration.
func (c *Command) Version() string { return version("command-1", CommandConfig{}, c.cfg) }

// exchange is what external verifiers are asked and answer.
type exchange struct {
	Gold      string `json:"gold"`
	Response  string `json:"response"`
	Truncated bool   `json:"truncated"`
}

// Verify runs the program on one pair.
func (c *Command) Verify(ctx context.Context, gold Gold, response Response) (Result, error) {
	in, err := json.Marshal(exchange{gold.Answer, response.Text, response.Truncated})
	if err != nil {
		return Result{}, fmt.Errorf("verify: command: %w", err)
	}
	dir, err := os.MkdirTemp("", "verify-*")
	if err != nil {
		return Result{}, fmt.Errorf("verify: command: %w", err)
	}
	defer os.RemoveAll(dir)
	limit, cancel := context.WithTimeout(ctx, time.Duration(c.cfg.Seconds*float64(time.Second)))
	defer cancel()
	cmd := exec.CommandContext(limit, c.cfg.Command[0], c.cfg.Command[1:]...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Stdin = bytes.NewReader(in)
	out, errOut := &limited{max: c.cfg.MaxOutput, full: cancel}, &limited{max: c.cfg.MaxOutput, full: cancel}
	cmd.Stdout, cmd.Stderr = out, errOut
	cmd.WaitDelay = time.Second
	isolate(cmd)
	err = cmd.Run()
	switch {
	case out.over || errOut.over:
		return Result{Verdict: Budget, Rule: "command", Gold: short(gold.Answer),
			Reason: fmt.Sprintf("the program wrote more than %d bytes", c.cfg.MaxOutput)}, nil
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	case limit.Err() != nil:
		return Result{Verdict: Budget, Rule: "command", Gold: short(gold.Answer),
			Reason: fmt.Sprintf("the program took more than %v s", c.cfg.Seconds)}, nil
	case err != nil:
		return Result{}, fmt.Errorf("verify: command %s: %w: %s", c.cfg.Command[0], err, short(errOut.String()))
	}
	return answered(out.Bytes(), "command")
}

// answered reads an external verifier's answer.
func answered(b []byte, rule string) (Result, error) {
	var a struct {
		Verdict   *Verdict `json:"verdict"`
		Rule      string   `json:"rule"`
		Extracted string   `json:"extracted"`
		Reason    string   `json:"reason"`
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return Result{}, fmt.Errorf("verify: %s: the answer is not the expected JSON: %w: %s", rule, err, short(string(b)))
	}
	if a.Verdict == nil {
		return Result{}, fmt.Errorf("verify: %s: the answer has no verdict: %s", rule, short(string(b)))
	}
	if a.Rule == "" {
		a.Rule = rule
	}
	return Result{Verdict: *a.Verdict, Rule: short(a.Rule), Extracted: short(a.Extracted), From: rule, Reason: short(a.Reason)}, nil
}

// limited keeps the first max bytes and calls full when there are more.
type limited struct {
	buf  bytes.Buffer
	max  int
	over bool
	full func()
}

func (l *limited) Write(p []byte) (int, error) {
	room := l.max - l.buf.Len()
	if len(p) > room {
		l.over = true
		l.full()
		l.buf.Write(p[:max(room, 0)])
		return len(p), nil
	}
	l.buf.Write(p)
	return len(p), nil
}

func (l *limited) Bytes() []byte  { return l.buf.Bytes() }
func (l *limited) String() string { return l.buf.String() }
