//go:build unix

package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary serve as an external verifier program.
func TestMain(m *testing.M) {
	if len(os.Args) >= 2 && os.Args[1] == "judge" {
		judgeLines(os.Args[2:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// judgeLines answers questions; a response says what becomes of it.
func judgeLines(args []string) {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	out := bufio.NewWriter(os.Stdout)
	var late []string
	for in.Scan() {
		var q question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			os.Exit(3)
		}
		var gold string
		json.Unmarshal(q.Gold, &gold)
		line := fmt.Sprintf(`{"id": %d, "verdict": "incorrect", "extracted": %q}`, q.ID, q.Response)
		switch word, rest, _ := strings.Cut(q.Response, " "); word {
		case gold:
			line = fmt.Sprintf(`{"id": %d, "verdict": "correct", "score": 0.25, "reason": "pid %d home <%s>"}`, q.ID, os.Getpid(), os.Getenv("HOME"))
		case "die":
			fmt.Fprintln(os.Stderr, "out of paper")
			os.Exit(7)
		case "once": // dies of it the first time
			if f, err := os.OpenFile(rest, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
				f.Close()
				os.Exit(8)
			}
			line = fmt.Sprintf(`{"id": %d, "verdict": "correct"}`, q.ID)
		case "sleep":
			time.Sleep(time.Minute)
		case "flood":
			line = strings.Repeat("x", 1<<20)
		case "error":
			line = fmt.Sprintf(`{"id": %d, "error": "no such unit"}`, q.ID)
		case "html":
			line = "<html>"
		case "empty":
			line = "{}"
		case "huge":
			line = fmt.Sprintf(`{"id": %d, "verdict": "correct", "score": 1e300}`, q.ID)
		case "child": // leaves a process behind that holds its output
			c := exec.Command("sleep", "60")
			c.Stdout, c.Stderr = os.Stdout, os.Stderr
			c.Start()
			os.WriteFile(rest, []byte(strconv.Itoa(c.Process.Pid)), 0o600)
			os.Exit(9)
		case "echo":
			all, _ := json.Marshal(q)
			line = fmt.Sprintf(`{"id": %d, "verdict": "correct", "extracted": %q}`, q.ID, all)
		}
		if len(args) > 0 && args[0] == "backwards" { // answers pairs of questions the other way round
			if late = append(late, line); len(late) < 2 {
				continue
			}
			line = late[1] + "\n" + late[0]
			late = nil
		}
		fmt.Fprintln(out, line)
		out.Flush()
		if len(args) > 0 && args[0] == "single" {
			return
		}
	}
}

func commandOf(t *testing.T, settings string, args ...string) *Command {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	list, _ := json.Marshal(append([]string{self, "judge"}, args...))
	v, err := New("command", json.RawMessage(fmt.Sprintf(`{"command": %s%s}`, list, settings)))
	if err != nil {
		t.Fatal(err)
	}
	c := v.(*Command)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCommand(t *testing.T) {
	c := commandOf(t, `, "seconds": 0.5, "processes": 1, "max_output": 100000`)
	ask := func(response string) (Result, error) {
		return c.Verify(context.Background(), Gold{"x"}, Response{Text: response})
	}
	r, err := ask("x")
	if err != nil || r.Verdict != Correct || r.Score == nil || *r.Score != 0.25 || !strings.Contains(r.Reason, `home <>`) {
		t.Fatalf("%+v, %v: want correct with its score, and an empty environment", r, err)
	}
	if again, _ := ask("x"); again.Reason != r.Reason {
		t.Errorf("%q, then %q: the process should live on", r.Reason, again.Reason)
	}
	if r, err := ask("y $(touch /x) `z`"); err != nil || r.Verdict != Incorrect {
		t.Errorf("%+v, %v", r, err)
	}
	for _, response := range []string{"sleep", "flood"} {
		if r, err := ask(response); err != nil || r.Verdict != Budget {
			t.Errorf("%s: %+v, %v", response, r, err)
		}
	}
	for response, says := range map[string]string{"die": "out of paper", "error now": "no such unit", "html": "not the expected JSON",
		"empty": "no verdict", "huge": "32-bit"} {
		_, err := ask(response)
		var row *RowError
		if !errors.As(err, &row) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want the row's, with %q", response, err, says)
		}
	}
	if r, err := ask("once " + filepath.Join(t.TempDir(), "mark")); err != nil || r.Verdict != Correct {
		t.Errorf("a row that its process dies of once: %+v, %v", r, err)
	}
	if r, err := ask("x"); err != nil || r.Verdict != Correct {
		t.Errorf("after all that: %+v, %v", r, err)
	}
	missing, _ := New("command", json.RawMessage(`{"command": ["/nonexistent/program"]}`))
	_, err = missing.Verify(context.Background(), Gold{"x"}, Response{Text: "x"})
	if row := (*RowError)(nil); err == nil || errors.As(err, &row) {
		t.Errorf("a program that is not there: %v, want an error of the world", err)
	}
}

// Verdicts do not depend on the company: rows that kill, stall or fail beside others.
func TestCommandBatches(t *testing.T) {
	want := map[string]string{"x": "correct", "y": "incorrect", "die": "error", "sleep": "budget", "error": "error",
		"html": "error", "flood": "budget"}
	for _, setup := range []string{`, "processes": 1, "batch": 1`, `, "processes": 1, "batch": 64`, `, "processes": 3, "batch": 4`} {
		c := commandOf(t, setup+`, "seconds": 0.4, "max_output": 100000`)
		var wg sync.WaitGroup
		for i := range 12 {
			for response, verdict := range want {
				if (verdict == "budget" || response == "die" || response == "html") && i > 1 {
					continue
				}
				wg.Go(func() {
					r, err := c.Verify(context.Background(), Gold{"x"}, Response{Text: response})
					got := r.Verdict.String()
					if err != nil {
						got = "error"
					}
					if got != verdict {
						t.Errorf("%s: %s: %s (%v), want %s", setup, response, got, err, verdict)
					}
				})
			}
		}
		wg.Wait()
	}
}

func TestCommandOrders(t *testing.T) {
	c := commandOf(t, `, "processes": 1, "batch": 2, "seconds": 2`, "backwards")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			text := strconv.Itoa(i)
			r, err := c.Verify(context.Background(), Gold{"x"}, Response{Text: text})
			if err == nil && r.Verdict == Incorrect && r.Extracted != text {
				t.Errorf("%s was given the answer of %s", text, r.Extracted)
			}
		})
	}
	wg.Wait()
	single := commandOf(t, `, "processes": 1, "attempts": 1`, "single") // reads one line, answers, ends
	for range 5 {
		if r, err := single.Verify(context.Background(), Gold{"x"}, Response{Text: "x"}); err != nil || r.Verdict != Correct {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// What a verifier program is given.
func TestQuestion(t *testing.T) {
	c := commandOf(t, `, "gold": "json"`)
	r, err := c.Verify(context.Background(), Gold{`{"tests": [1, 2]}`}, Response{Text: "echo", Prompt: "Why?", Extra: `{"level": 3}`, Tokens: []int32{5, 6},
		Finish: "length", Truncated: true})
	const want = `{"id":0,"prompt":"Why?","extra":{"level":3},"gold":{"tests":[1,2]},"response":"echo","tokens":[5,6],"finish":"length","truncated":true}`
	if err != nil || r.Extracted != want {
		t.Errorf("%s, %v\nwant %s", r.Extracted, err, want)
	}
	var row *RowError
	if _, err := c.Verify(context.Background(), Gold{"{"}, Response{Text: "echo"}); !errors.As(err, &row) || row.Fault != FaultUnreadable {
		t.Errorf("a reference answer that is not JSON: %v", err)
	}
}

// A program's children die with it, and nobody waits for what they hold open.
func TestCommandChildren(t *testing.T) {
	c := commandOf(t, `, "processes": 1, "attempts": 1, "seconds": 20`)
	file := filepath.Join(t.TempDir(), "pid")
	start := time.Now()
	_, err := c.Verify(context.Background(), Gold{"x"}, Response{Text: "child " + file})
	if row := (*RowError)(nil); !errors.As(err, &row) || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(string(raw))
	for range 100 {
		if alive := syscall.Kill(pid, 0) == nil && !zombie(pid); !alive {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("process %d lives on", pid)
}

func zombie(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(raw), ") Z ")
}

func TestCommandCancelled(t *testing.T) {
	c := commandOf(t, `, "processes": 1, "seconds": 60`)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := c.Verify(ctx, Gold{"x"}, Response{Text: "sleep"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if r, err := c.Verify(context.Background(), Gold{"x"}, Response{Text: "x"}); err != nil || r.Verdict != Correct ||
		time.Since(start) > 20*time.Second {
		t.Errorf("after a cancelled row: %+v, %v, %s", r, err, time.Since(start))
	}
}

// The example of docs/verifier-protocol.md is a program that works.
func TestPythonExample(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "verifier-protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, code, found := strings.Cut(string(page), "```python\n")
	code, _, closed := strings.Cut(code, "```")
	if !found || !closed {
		t.Fatal("the page has no Python example")
	}
	file := filepath.Join(t.TempDir(), "verifier.py")
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	config, _ := json.Marshal(map[string]any{"command": []string{python, file}, "processes": 1})
	v, err := New("command", config)
	if err != nil {
		t.Fatal(err)
	}
	defer v.(*Command).Close()
	for response, want := range map[string]Verdict{"so 3 of 4 words: one two three four": Correct, "one": Incorrect} {
		r, err := v.Verify(context.Background(), Gold{"one two three four"}, Response{Text: response, Finish: "stop"})
		if err != nil || r.Verdict != want || r.Score == nil {
			t.Errorf("%q: %+v, %v, want %s with a score", response, r, err, want)
		}
	}
	if _, err := v.Verify(context.Background(), Gold{""}, Response{Text: "x"}); err == nil {
		t.Error("a row without a reference answer should be the row's error")
	}
}

// Nothing of a verifier's processes stays behind it, neither their folders nor they themselves.
func TestCommandLeavesNoFolders(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	c := commandOf(t, `, "processes": 2, "batch": 1`)
	var asks sync.WaitGroup
	for range 8 {
		asks.Go(func() { c.Verify(context.Background(), Gold{"x"}, Response{Text: "x"}) })
	}
	asks.Wait()
	if begun, _ := os.ReadDir(dir); len(begun) == 0 {
		t.Fatal("there is no process with a folder")
	}
	c.Close()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%d folders are left behind a verifier that was closed", len(left))
	}
}

// A verifier that fails judges nothing: no case agrees with it, and where it fails on all, that is the result.
func TestFailureIsNoAgreement(t *testing.T) {
	judge := func(args []string, responses ...string) (Agreement, error) {
		var v Verifier = commandOf(t, "", args...)
		var lines strings.Builder
		for _, r := range responses {
			fmt.Fprintf(&lines, `{"gold": "x", "response": %q, "correct": %t}`+"\n", r, r == "x")
		}
		return Judge(context.Background(), KindOf("command", v), strings.NewReader(lines.String()))
	}
	sum, err := judge(nil, "x", "die", "html", "y")
	if err != nil || sum.Cases != 4 || sum.Agree != 2 || len(sum.Failed) != 2 || sum.Failed[0].Line != 2 || sum.Share != 0.5 {
		t.Errorf("%+v, %v", sum, err)
	}
	if sum, err := judge(nil, "die", "die"); err == nil || !strings.Contains(err.Error(), "line 1") || !strings.Contains(err.Error(),
		"out of paper") {
		t.Errorf("%+v, %v", sum, err)
	}
}
