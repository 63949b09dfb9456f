// Package terminal says what an output can show: whether it is a terminal that takes control sequences, and which
// characters of foreign text may reach it.
package terminal

import (
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"

	"github.com/millrace/millrace/models/outbound"
)

// Capable reports whether w is a terminal on which bars and colours are wanted: not a file or pipe, not TERM=dumb, and
// NO_COLOR unset or empty.
func Capable(w io.Writer) bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	return isTerminal(w)
}

// Width is the number of columns of w, or 0 when it is not a terminal.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Clean returns s as one line of printable text. Prompts, responses and messages are untrusted: control characters could
// move the cursor or retitle the window, and invisible format characters could reorder what is read. A line break becomes
// ⏎, a tab →, anything else that does not print ·.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return '⏎'
		case r == '\t':
			return '→'
		case !unicode.IsPrint(r):
			return '·'
		}
		return r
	}, s)
}

// Text is a text of several lines in which foreign parts cannot act on a terminal: what does not print is written out, as in \x1b, but
// for line breaks and tabs.
func Text(s string) string {
	var out strings.Builder
	for {
		i := strings.IndexAny(s, "\n\t")
		if i < 0 {
			out.WriteString(outbound.Visible(s))
			return out.String()
		}
		out.WriteString(outbound.Visible(s[:i]))
		out.WriteByte(s[i])
		s = s[i+1:]
	}
}
