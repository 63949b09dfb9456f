package show

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/millrace/millrace/pipelines/terminal"
)

// DeadLetter is a row that a stage could not process.
type DeadLetter struct {
	Stage    string          `json:"stage"`
	Reason   string          `json:"reason"`
	Message  string          `json:"message"`
	RowID    string          `json:"row_id"`
	Attempts int             `json:"attempts"`
	Row      json.RawMessage `json:"row,omitempty"` // the row itself, one JSON object; may be left out
}

// DeadCount is how many rows a stage lost for one reason.
type DeadCount struct {
	Stage  string `json:"stage"`
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

// CountDead counts dead letters by stage and reason, most frequent first.
func CountDead(letters []DeadLetter) []DeadCount {
	var counts []DeadCount
	for _, l := range letters {
		i := slices.IndexFunc(counts, func(c DeadCount) bool { return c.Stage == l.Stage && c.Reason == l.Reason })
		if i < 0 {
			counts, i = append(counts, DeadCount{Stage: l.Stage, Reason: l.Reason}), len(counts)
		}
		counts[i].Count++
	}
	slices.SortFunc(counts, func(a, b DeadCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Reason, b.Reason))
	})
	return counts
}

// DeadLetters prints a count by stage and reason, then every dead letter with its row.
func DeadLetters(w io.Writer, letters []DeadLetter) error {
	out := bufio.NewWriter(w)
	if len(letters) == 0 {
		fmt.Fprintln(out, "no dead letters")
		return out.Flush()
	}
	counts := grid{header: []string{"stage", "reason", "rows"}, left: 1 | 1<<1}
	for _, c := range CountDead(letters) {
		counts.row([]string{terminal.Clean(c.Stage), terminal.Clean(c.Reason), fmt.Sprint(c.Count)}, nil)
	}
	counts.print(out)
	for _, l := range letters {
		fmt.Fprintf(out, "\n%s  %s: %s\n  %s\n", terminal.Clean(l.RowID), terminal.Clean(l.Stage), terminal.Clean(l.Reason),
			terminal.Clean(l.Message))
		if l.Attempts > 1 {
			fmt.Fprintf(out, "  after %d attempts\n", l.Attempts)
		}
		if len(l.Row) > 0 {
			fmt.Fprintf(out, "  %s\n", terminal.Clean(string(l.Row)))
		}
	}
	return out.Flush()
}
