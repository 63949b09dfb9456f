package show

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/rivo/uniseg"

	"github.com/millrace/millrace/pipelines/terminal"
)

// Rollouts prints each rollout with a table of its tokens. Colour is for terminals only: tokens are tinted by p_correct,
// orange where the outcome looks wrong, blue where it looks right, on one scale for all of them.
func Rollouts(w io.Writer, rollouts []Rollout, colour bool) error {
	out := bufio.NewWriter(w)
	scale := NewScale(rollouts)
	for i, r := range rollouts {
		if i > 0 {
			fmt.Fprintln(out)
		}
		printRollout(out, r, scale, colour)
	}
	return out.Flush()
}

// textAlone reports whether nothing is known of the tokens of a response: it is one, without a number.
func (r Rollout) textAlone() bool {
	t := r.Tokens[0]
	return len(r.Tokens) == 1 && math.IsNaN(t.LogP) && math.IsNaN(t.Value) && math.IsNaN(t.PCorrect) && math.IsNaN(t.Advantage)
}

func printRollout(out *bufio.Writer, r Rollout, scale Scale, colour bool) {
	if r.Name != "" {
		fmt.Fprintf(out, "rollout   %s\n", terminal.Clean(r.Name))
	}
	fmt.Fprintf(out, "prompt    %s\nanswer    %s\noutcome   %s\nresponse  ", terminal.Clean(r.Prompt), terminal.Clean(r.Answer), r.Verdict())
	for _, t := range r.Tokens {
		out.WriteString(paint(terminal.Clean(t.Text), scale.Value(t.PCorrect), colour))
	}
	out.WriteString("\n")
	if len(r.Tokens) == 0 || r.textAlone() {
		return
	}
	out.WriteString("\n")

	table := grid{header: []string{"t", "token", "logp", "value", "p_correct", "advantage", "other candidates (logp, advantage)"},
		left: 1<<1 | 1<<6}
	steps := r.Steps()
	for i, t := range r.Tokens {
		row := []string{fmt.Sprint(i), terminal.Clean(t.Text), figure(t.LogP, 3), figure(t.Value, 3), figure(t.PCorrect, 3), figure(t.Advantage,
			3), others(t)}
		if r.FirstError != nil && steps[i] == *r.FirstError && (i == 0 || steps[i-1] != steps[i]) {
			table.note(fmt.Sprintf("first wrong line: %d", *r.FirstError+1))
		}
		tint := scale.Value(t.PCorrect)
		table.row(row, func(column int, cell string) string {
			if column == 1 || column == 4 {
				return paint(cell, tint, colour)
			}
			return cell
		})
	}
	table.print(out)
}

// Verdict says the outcome, and where the response went wrong if that is known.
func (r Rollout) Verdict() string {
	text := "not decided"
	if r.Undecided != "" {
		text += " (" + terminal.Clean(r.Undecided) + ")"
	}
	if r.Outcome != nil && *r.Outcome {
		text = "correct"
	} else if r.Outcome != nil {
		text = "incorrect"
	}
	switch {
	case r.FirstError == nil:
	case *r.FirstError < 0:
		text += ", every line right"
	default:
		text += fmt.Sprintf(", first wrong line %d", *r.FirstError+1)
	}
	return text
}

// others are the candidates besides the sampled token.
func others(t Token) string {
	var parts []string
	for _, c := range t.Candidates[min(1, len(t.Candidates)):] {
		parts = append(parts, fmt.Sprintf("%s (%s, %s)", terminal.Clean(c.Text), figure(c.LogP, 2), figure(c.Advantage, 2)))
	}
	return strings.Join(parts, " ")
}

// figure writes a number with the given decimals; what is not known is a dash, and there is no negative zero.
func figure(x float64, decimals int) string {
	if math.IsNaN(x) {
		return "–"
	}
	text := fmt.Sprintf("%.*f", decimals, x)
	if strings.Trim(text, "-0.") == "" {
		text = strings.TrimPrefix(text, "-")
	}
	return text
}

// ansi are colours of the 256-colour palette, from surely wrong (orange) over neutral to surely right (blue); blue and
// orange stay apart for every common form of colour blindness.
var ansi = [2*Tints + 1]int{166, 172, 179, 187, 0, 152, 110, 74, 32}

func paint(text string, tint int, colour bool) string {
	if !colour || tint == 0 || text == "" {
		return text
	}
	return fmt.Sprintf("\x1b[38;5;%dm%s\x1b[0m", ansi[tint+Tints], text)
}

// grid is a table whose columns are as wide as their widest cell.
type grid struct {
	header []string
	left   uint // bit i: column i is left-aligned
	rows   []gridRow
}

type gridRow struct {
	cells []string
	paint func(column int, cell string) string
	note  string // a line between rows instead of cells
}

func (g *grid) row(cells []string, paint func(int, string) string) {
	g.rows = append(g.rows, gridRow{cells: cells, paint: paint})
}

func (g *grid) note(text string) { g.rows = append(g.rows, gridRow{note: text}) }

func (g *grid) print(out *bufio.Writer) {
	widths := make([]int, len(g.header))
	for _, row := range append([]gridRow{{cells: g.header}}, g.rows...) {
		for i, cell := range row.cells {
			widths[i] = max(widths[i], uniseg.StringWidth(cell))
		}
	}
	g.line(out, widths, gridRow{cells: g.header})
	for _, row := range g.rows {
		if row.note != "" {
			fmt.Fprintf(out, "── %s ──\n", row.note)
			continue
		}
		g.line(out, widths, row)
	}
}

func (g *grid) line(out *bufio.Writer, widths []int, row gridRow) {
	var text strings.Builder
	for i, cell := range row.cells {
		pad := strings.Repeat(" ", widths[i]-uniseg.StringWidth(cell))
		if row.paint != nil {
			cell = row.paint(i, cell)
		}
		if g.left>>i&1 == 1 {
			cell += pad
		} else {
			cell = pad + cell
		}
		if i > 0 {
			text.WriteString("  ")
		}
		text.WriteString(cell)
	}
	out.WriteString(strings.TrimRight(text.String(), " ") + "\n")
}
