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

// DeadTally counts dead letters; a key is a count of 0.
type DeadTally map[DeadCount]int

// Add counts a dead letter.
func (t DeadTally) Add(stage, reason string) { t[DeadCount{Stage: stage, Reason: reason}]++ }

// Counts are those by stage and reason, most frequent first.
func (t DeadTally) Counts() (counts []DeadCount) {
	for key, n := range t {
		key.Count = n
		counts = append(counts, key)
	}
	slices.SortFunc(counts, func(a, b DeadCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Reason, b.Reason))
	})
	return counts
}

// DeadLetters prints counts by stage and reason of all that there are, then the dead letters given with their rows.
func DeadLetters(w io.Writer, letters []DeadLetter, all []DeadCount) error {
	out := bufio.NewWriter(w)
	if len(all) == 0 {
		fmt.Fprintln(out, "no dead letters")
		return out.Flush()
	}
	total := 0
	counts := grid{header: []string{"stage", "reason", "rows"}, left: 1 | 1<<1}
	for _, c := range all {
		total += c.Count
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
	if more := total - len(letters); more > 0 {
		fmt.Fprintf(out, "\n%d more; --rows 0 prints all\n", more)
	}
	return out.Flush()
}
