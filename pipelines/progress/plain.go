package progress

import (
	"io"
	"strings"
	"time"
)

// Plain writes lines without control characters: notes and finished bars at once, the state of the open bars once every
// interval if it changed.
func Plain(w io.Writer, title string, every time.Duration) Run {
	return newBoard(title, &plain{w: w}, every, flushWait)
}

type plain struct {
	w    io.Writer
	last string // counts and fields last written
}

func (p *plain) line(text string) error {
	_, err := io.WriteString(p.w, text+"\n")
	return err
}

func (p *plain) paint(open []snapshot) error {
	if len(open) == 0 {
		return nil
	}
	var state, text []string
	for i, s := range open {
		state = append(state, s.count(), s.fields)
		if i < len(open)-1 {
			text = append(text, heading(s))
		} else {
			text = append(text, s.String())
		}
	}
	if now := strings.Join(state, "\x00"); now == p.last {
		return nil
	} else {
		p.last = now
	}
	return p.line(strings.Join(text, " · "))
}

// heading is a bar around the innermost one: name, count and figures.
func heading(s snapshot) string {
	text := s.name + " " + s.count()
	if s.fields != "" {
		text += ", " + s.fields
	}
	return text
}
