package progress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// seconds takes the clock out of a line, so that the rest can be compared.
var seconds = regexp.MustCompile(`\b(\d+h)?(\d+m)?\d+[sm]\b`)

func TestPlainWritesLinesInOrder(t *testing.T) {
	var out bytes.Buffer
	run := Plain(&out, "quickstart", time.Hour)
	iterations := run.Bar("iteration", 2)
	rollout := run.Bar("rollout", 64)
	rollout.Step(64)
	rollout.Done()
	iterations.Step(1, Field{"avg@8", 0.41234567}, Field{"gate", "passed"})
	run.Note("reward model %d\n", 7)
	iterations.Done()
	iterations.Done()
	run.Done()
	run.Note("too late")
	run.Done()
	want := "quickstart\nreward model 7\niteration 1/2 (50%), T, about T left, avg@8 0.4123, gate passed\nquickstart: T\n"
	if got := seconds.ReplaceAllString(out.String(), "T"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPlainIsThrottled(t *testing.T) {
	var out bytes.Buffer
	run := Plain(&out, "run", time.Hour)
	b := run.Bar("step", 100_000)
	for range 100_000 {
		b.Step(1)
	}
	run.Done() // closes what is open
	if lines := strings.Count(out.String(), "\n"); lines != 3 {
		t.Errorf("%d lines, want title, bar and end:\n%s", lines, out.String())
	}
	if !strings.Contains(out.String(), "step 100000/100000, ") {
		t.Errorf("steps were lost:\n%s", out.String())
	}
}

func TestPlainSaysEachStateOnce(t *testing.T) {
	var out bytes.Buffer
	p := &plain{w: &out}
	open := []snapshot{{name: "iteration", done: 3, total: 40, fields: "loss 0.5"}, {name: "rollout", done: 1}}
	for range 3 {
		if err := p.paint(open); err != nil {
			t.Fatal(err)
		}
	}
	open[1].done = 2
	_ = p.paint(open)
	want := "iteration 3/40, loss 0.5 · rollout 1, 0s\niteration 3/40, loss 0.5 · rollout 2, 0s\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestNoControlCharactersReachTheOutput(t *testing.T) {
	var out bytes.Buffer
	run := Plain(&out, "ti\x1btle", time.Hour)
	b := run.Bar("ba\x07r", 0)
	b.Step(1, Field{"fie\x1b[2Jld", "\r"})
	run.Note("no\x1b]0;te")
	run.Done()
	for i, r := range out.String() {
		if r < ' ' && r != '\n' {
			t.Errorf("control character %q at byte %d of %q", r, i, out.String())
		}
	}
}

// TestTerminalFrames renders frames as a terminal would keep them: what follows the last clearing of each line.
func TestTerminalFrames(t *testing.T) {
	var out bytes.Buffer
	s := &screen{w: &out}
	outer, inner := new(bar), new(bar)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(s.line("quickstart"))
	check(s.paint([]snapshot{{key: outer, name: "iteration", done: 2, total: 40}}))
	check(s.paint([]snapshot{{key: outer, name: "iteration", done: 2, total: 40}, {key: inner, name: "rollout", done: 32, total: 64}}))
	if got := visible(out.String()); !strings.Contains(got, "50%") || !strings.Contains(got, "█░") || !strings.Contains(got, "(32/64)") ||
		!strings.Contains(got, "iteration 2/40 · rollout") {
		t.Errorf("the bar is not shown: %q", got)
	}
	check(s.line("a note"))
	check(s.paint([]snapshot{{key: outer, name: "iteration", done: 40, total: 40, fields: "loss 0.5"}}))
	check(s.paint([]snapshot{{key: outer, name: "iteration", done: 41, total: 40}})) // more than was announced
	check(s.paint([]snapshot{{key: inner, name: "unknown length", done: 5}}))
	check(s.paint(nil))
	if got, want := visible(out.String()), "quickstart\na note\n"; got != want {
		t.Errorf("what stays is %q, want %q", got, want)
	}
}

func visible(raw string) string {
	lines := strings.Split(raw, "\n")
	for i, line := range lines {
		lines[i] = line[strings.LastIndex(line, "\x1b[2K")+1:]
		lines[i] = strings.TrimPrefix(lines[i], "[2K")
	}
	return strings.Join(lines, "\n")
}

func TestDescriptionFitsTheLine(t *testing.T) {
	long := []snapshot{{name: strings.Repeat("é", 300)}}
	for _, width := range []int{0, 20, 80, 200} {
		if got := []rune(describe(long, width)); len(got) > max(12, width, defaultWidth-barRoom) {
			t.Errorf("width %d: %d characters", width, len(got))
		}
	}
}

// stuck never takes what is written.
type stuck struct{ release chan struct{} }

func (s stuck) Write([]byte) (int, error) { <-s.release; return 0, io.ErrClosedPipe }

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space left") }

type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("writer") }

// TestNoWriterHoldsUpTheRun would not end if a call waited for the writer.
func TestNoWriterHoldsUpTheRun(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	for _, w := range []io.Writer{stuck{release}, failing{}, panicking{}} {
		for name, p := range map[string]painter{"plain": &plain{w: w}, "terminal": &screen{w: w}} {
			t.Run(fmt.Sprintf("%T %s", w, name), func(t *testing.T) {
				run := newBoard("run", p, time.Millisecond, time.Millisecond)
				b := run.Bar("step", 0)
				for range 10 * maxLines {
					b.Step(1)
					run.Note("a line")
				}
				run.Done()
			})
		}
	}
}

func TestASlowWriterIsToldWhatItMissed(t *testing.T) {
	b := &board{wake: make(chan struct{}, 1)}
	for i := range maxLines + 3 {
		b.Note("line %d", i)
	}
	lines, _, _ := b.take()
	if len(lines) != maxLines+1 || lines[0] != "(3 earlier lines not shown)" || lines[1] != "line 3" {
		t.Errorf("%d lines, first %q", len(lines), lines[:2])
	}
}

func TestConcurrentUse(t *testing.T) {
	for name, run := range map[string]Run{
		"plain": Plain(io.Discard, "p", time.Millisecond), "terminal": Terminal(io.Discard, "t"), "silent": Silent(),
		"start": Start(&bytes.Buffer{}, "s"),
	} {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			shared := run.Bar("shared", 800)
			for range 8 {
				all.Go(func() {
					own := run.Bar("own", 100)
					for range 100 {
						own.Step(1, Field{"loss", float32(0.5)})
						shared.Step(1)
					}
					run.Note("one of eight")
					own.Done()
				})
			}
			all.Wait()
			run.Done()
		})
	}
}

func TestClock(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 59 * time.Second: "59s", 125 * time.Second: "2m05s", 3*time.Hour +
		12*time.Minute: "3h12m"} {
		if got := clock(d); got != want {
			t.Errorf("clock(%v) = %q, want %q", d, got, want)
		}
	}
}
