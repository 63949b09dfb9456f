// Package progress shows how far a run is: bars on a terminal, one line every few seconds elsewhere, nothing when silent.
//
// Showing progress never slows or fails a run. Calls only note numbers down; one goroutine of its own paints, and a writer
// that blocks, fails or panics costs the picture, not the run. All methods may be called from any goroutine, and after Done
// they do nothing.
package progress

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/pipelines/terminal"
)

// Run is the progress of one run.
type Run interface {
	// Bar opens a bar over total units of work (records, iterations); a total of 0 or less is not known yet. Bars opened
	// while others are open are parts of them: the innermost is shown, those around it as its heading.
	Bar(name string, total int64) Bar
	// Note shows one line for good, as fmt.Sprintf would write it.
	Note(format string, args ...any)
	// Done shows what is outstanding and ends. It waits only briefly for a writer that does not take it.
	Done()
}

// Bar is a piece of work under way.
type Bar interface {
	// Step adds n units; fields replace those shown beside the bar.
	Step(n int64, fields ...Field)
	// Done closes the bar, whether or not its total was reached. The last state of an outermost bar stays as a line.
	Done()
}

// Field is a figure shown beside a bar, such as the loss.
type Field struct {
	Name  string
	Value any
}

func (f Field) String() string {
	switch v := f.Value.(type) {
	case float64:
		return fmt.Sprintf("%s %.4g", f.Name, v)
	case float32:
		return fmt.Sprintf("%s %.4g", f.Name, v)
	}
	return fmt.Sprint(f.Name, " ", f.Value)
}

const (
	plainEvery    = 5 * time.Second
	terminalEvery = 100 * time.Millisecond
	// maxLines bounds the lines that wait for a slow writer; the oldest go first.
	maxLines = 256
	// flushWait is how long Done waits for the last lines to be taken.
	flushWait = time.Second
)

// Start picks Terminal when w is a terminal that wants bars, Plain otherwise.
func Start(w io.Writer, title string) Run {
	if terminal.Capable(w) {
		return Terminal(w, title)
	}
	return Plain(w, title, plainEvery)
}

// Silent shows nothing.
func Silent() Run { return silent{} }

type silent struct{}

func (silent) Bar(string, int64) Bar { return silentBar{} }
func (silent) Note(string, ...any)   {}
func (silent) Done()                 {}

type silentBar struct{}

func (silentBar) Step(int64, ...Field) {}
func (silentBar) Done()                {}

// painter draws on one output; only the board's goroutine calls it.
type painter interface {
	line(text string) error      // text stays
	paint(open []snapshot) error // the state now, outermost first; may be empty
}

// snapshot is a bar at one moment.
type snapshot struct {
	key         *bar // identity between paints
	name        string
	done, total int64
	elapsed     time.Duration
	fields      string
}

// board is where callers note down what happened, and what the painter shows.
type board struct {
	title   string
	started time.Time
	flush   time.Duration

	mu      sync.Mutex
	open    []*bar
	lines   []string
	dropped int
	closed  bool

	wake   chan struct{} // capacity 1: a wake-up that is pending is enough
	ended  chan struct{}
	finish sync.Once
}

func newBoard(title string, p painter, every, flush time.Duration) *board {
	b := &board{
		title: terminal.Clean(title), started: time.Now(), flush: flush,
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	b.lines = append(b.lines, b.title)
	b.ring()
	go b.show(p, every)
	return b
}

func (b *board) Bar(name string, total int64) Bar {
	bar := &bar{board: b, name: terminal.Clean(name), total: max(total, 0), started: time.Now()}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.open = append(b.open, bar)
	}
	return bar
}

func (b *board) Note(format string, args ...any) {
	text := terminal.Clean(strings.TrimRight(fmt.Sprintf(format, args...), "\r\n"))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.push(text)
}

func (b *board) Done() {
	b.finish.Do(func() {
		b.mu.Lock()
		for _, bar := range slices.Backward(slices.Clone(b.open)) {
			bar.close()
		}
		b.push(fmt.Sprintf("%s: %s", b.title, clock(time.Since(b.started))))
		b.closed = true
		b.mu.Unlock()
		b.ring()
		select {
		case <-b.ended:
		case <-time.After(b.flush):
		}
	})
}

// push adds a line that stays; the caller holds the lock.
func (b *board) push(text string) {
	if b.closed {
		return
	}
	if len(b.lines) == maxLines {
		b.lines = b.lines[1:]
		b.dropped++
	}
	b.lines = append(b.lines, text)
	b.ring()
}

func (b *board) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// show runs until Done: lines as soon as there are any, the bars once every interval.
func (b *board) show(p painter, every time.Duration) {
	defer close(b.ended)
	defer func() { _ = recover() }() // a picture is not worth a run
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		repaint := false
		select {
		case <-b.wake:
		case <-tick.C:
			repaint = true
		}
		lines, open, closed := b.take()
		for _, line := range lines {
			if p.line(line) != nil {
				return
			}
		}
		if (repaint || closed) && p.paint(open) != nil {
			return
		}
		if closed {
			return
		}
	}
}

func (b *board) take() (lines []string, open []snapshot, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dropped > 0 {
		lines = append(lines, fmt.Sprintf("(%d earlier lines not shown)", b.dropped))
		b.dropped = 0
	}
	lines = append(lines, b.lines...)
	b.lines = nil
	for _, bar := range b.open {
		open = append(open, bar.now())
	}
	return lines, open, b.closed
}

// bar belongs to its board, whose lock guards it.
type bar struct {
	board   *board
	name    string
	done    int64
	total   int64
	fields  string
	started time.Time
}

func (b *bar) Step(n int64, fields ...Field) {
	text := make([]string, len(fields))
	for i, f := range fields {
		text[i] = terminal.Clean(f.String())
	}
	b.board.mu.Lock()
	defer b.board.mu.Unlock()
	b.done += max(n, 0)
	if len(fields) > 0 {
		b.fields = strings.Join(text, ", ")
	}
}

func (b *bar) Done() {
	b.board.mu.Lock()
	defer b.board.mu.Unlock()
	b.close()
}

// close takes the bar off the board; an outermost bar leaves its last state as a line, a part of another bar does not (an
// iteration has many). The caller holds the lock.
func (b *bar) close() {
	i := slices.Index(b.board.open, b)
	if i < 0 {
		return
	}
	if i == 0 {
		b.board.push(b.now().String())
	}
	b.board.open = slices.Delete(b.board.open, i, i+1)
}

func (b *bar) now() snapshot {
	return snapshot{key: b, name: b.name, done: b.done, total: b.total, elapsed: time.Since(b.started), fields: b.fields}
}

// count is "29/64", or "29" while the total is not known.
func (s snapshot) count() string {
	if s.total == 0 {
		return fmt.Sprint(s.done)
	}
	return fmt.Sprintf("%d/%d", s.done, s.total)
}

// String is the bar as one line: rollout 29/64 (45%), 3s, about 4s left, loss 0.31.
func (s snapshot) String() string {
	parts := []string{s.name + " " + s.count()}
	if s.total > 0 && s.done < s.total {
		parts[0] += fmt.Sprintf(" (%d%%)", s.done*100/s.total)
	}
	parts = append(parts, clock(s.elapsed))
	if s.done > 0 && s.done < s.total {
		left := time.Duration(float64(s.elapsed) / float64(s.done) * float64(s.total-s.done))
		parts = append(parts, "about "+clock(left)+" left")
	}
	if s.fields != "" {
		parts = append(parts, s.fields)
	}
	return strings.Join(parts, ", ")
}

// clock writes a duration as people read it: 4s, 2m05s, 3h12m.
func clock(d time.Duration) string {
	s := int64(d.Round(time.Second).Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
}
