package progress

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"

	"github.com/millrace/millrace/pipelines/terminal"
)

// Terminal draws the innermost open bar in the last line of a terminal, with the bars around it as its heading.
func Terminal(w io.Writer, title string) Run {
	return newBoard(title, &screen{w: w}, terminalEvery, flushWait)
}

const (
	barWidth = 18
	// barRoom is what stands beside the description: percentage, bar, count and clocks.
	barRoom      = barWidth + 34
	defaultWidth = 80
)

// screen renders through a buffer, so that the terminal gets each frame in one piece.
type screen struct {
	w      io.Writer
	frame  bytes.Buffer
	shown  *bar // whose progressbar this is
	bar    *progressbar.ProgressBar
	onLine bool // the cursor stands in a line with a bar
}

func (s *screen) line(text string) error {
	s.clear()
	s.frame.WriteString(text + "\n")
	return s.flush()
}

func (s *screen) paint(open []snapshot) error {
	if len(open) == 0 {
		s.clear()
		return s.flush()
	}
	inner := open[len(open)-1]
	if inner.key != s.shown {
		s.shown, s.bar = inner.key, newTerminalBar(&s.frame, inner.total)
	}
	s.clear()
	done := inner.done
	if inner.total > 0 {
		done = min(done, inner.total-1) // a full bar would end its line; the board says when a bar is done
	}
	// The library draws on both calls and remembers the rate; only the last drawing of the line is wanted.
	_ = s.bar.Set64(done)
	s.bar.Describe(describe(open, terminal.Width(s.w)))
	s.frame.Reset()
	s.frame.WriteString("\r\x1b[2K" + strings.TrimLeft(s.bar.String(), "\r"))
	s.onLine = true
	return s.flush()
}

func newTerminalBar(w io.Writer, total int64) *progressbar.ProgressBar {
	if total == 0 {
		total = -1 // the library's sign for a length that is not known
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetWidth(barWidth),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetSpinnerChangeInterval(0), // no painting behind the board's back
		progressbar.OptionSpinnerType(14),
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "█", SaucerPadding: "░", BarStart: "", BarEnd: ""}),
	)
}

// describe is the text left of the bar, cut to what the line has room for.
func describe(open []snapshot, width int) string {
	var parts []string
	for _, s := range open[:len(open)-1] {
		parts = append(parts, heading(s))
	}
	inner := open[len(open)-1]
	text := inner.name
	if inner.fields != "" {
		text += " (" + inner.fields + ")"
	}
	text = strings.Join(append(parts, text), " · ")
	if width == 0 {
		width = defaultWidth
	}
	room := max(width-barRoom, 12)
	if utf8.RuneCountInString(text) > room {
		text = string([]rune(text)[:room-1]) + "…"
	}
	return text
}

// clear empties the line with the bar, if there is one.
func (s *screen) clear() {
	s.frame.Reset()
	if s.onLine {
		s.frame.WriteString("\r\x1b[2K")
		s.onLine = false
	}
}

func (s *screen) flush() error {
	if s.frame.Len() == 0 {
		return nil
	}
	_, err := s.w.Write(s.frame.Bytes())
	s.frame.Reset()
	return err
}
