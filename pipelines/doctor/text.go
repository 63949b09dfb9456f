package doctor

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// width of a line of the report.
const width = 110

// Text writes the report for people. What comes of files is quoted, so that none of it acts on a terminal.
func (r Report) Text(w io.Writer) {
	fmt.Fprintf(w, "%d rows, %d prompts, %d responses in %d files\n", r.Rows, r.Prompts, r.Responses, len(r.Files))
	var said []string
	for _, key := range slices.Sorted(maps.Keys(r.Columns)) {
		said = append(said, key+"="+r.Columns[key])
	}
	fold(w, "columns: "+strings.Join(said, " ")+"; --field says otherwise", "")
	for _, a := range []struct {
		name string
		of   *Accuracy
	}{{"scores", r.Given}, {"verifier", r.Verified}, {"against", r.Against}} {
		if a.of != nil {
			fmt.Fprintf(w, "right by %-9s %5.1f%% of %d (%s)\n", a.name, 100*a.of.Share, a.of.Of, a.of.By)
		}
	}
	if l := r.Lengths; l != nil {
		fmt.Fprintf(w, "length in %s: mean %.0f, median %d, 95%% up to %d, longest %d", l.Unit, l.Mean, l.Median, l.P95, l.Max)
		if l.Right > 0 && l.Wrong > 0 {
			fmt.Fprintf(w, "; right %.0f, wrong %.0f", l.Right, l.Wrong)
		}
		if l.Correlation != nil {
			fmt.Fprintf(w, "; correlation with the score %.2f", *l.Correlation)
		}
		fmt.Fprintln(w)
	}
	if r.SampledPrompts < 1 {
		fmt.Fprintf(w, "what is said of groups is of %.3g%% of the prompts, chosen by their hashes\n", 100*r.SampledPrompts)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "\n%-8s %s: %d of %d %s (%.1f%%)\n", strings.ToUpper(string(f.Severity)), f.Kind, f.Count, f.Of, f.Unit, 100*f.Share)
		fold(w, f.Meaning, "  ")
		fold(w, f.Advice, "  ")
		for _, e := range f.Examples {
			fmt.Fprintf(w, "    %s", quoted(e.Row))
			if e.Text != "" {
				fmt.Fprintf(w, "  %s", strconv.Quote(e.Text))
			}
			fmt.Fprintln(w)
			if e.Why != "" {
				fmt.Fprintf(w, "      %s\n", quoted(e.Why))
			}
		}
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(w, "\nnothing was found to be wrong")
	}
}

// quoted escapes what does not print, without quotation marks.
func quoted(s string) string {
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// fold writes a text in lines of a width.
func fold(w io.Writer, s, indent string) {
	at := 0
	for i, word := range strings.Fields(quoted(s)) {
		switch {
		case i == 0:
			fmt.Fprint(w, indent)
		case at+1+len(word) > width:
			fmt.Fprint(w, "\n"+indent)
			at = 0
		default:
			fmt.Fprint(w, " ")
			at++
		}
		fmt.Fprint(w, word)
		at += len(word)
	}
	fmt.Fprintln(w)
}
