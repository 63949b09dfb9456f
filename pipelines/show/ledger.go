package show

import (
	"bufio"
	"fmt"
	"io"
	"slices"

	"github.com/millrace/millrace/pipelines/terminal"
)

// Ledger says what became of the prompts that an iteration drew: drawn = kept + dropped + dead, in every part of it.
type Ledger struct {
	Iteration int `json:"iteration"`
	Wanted    int `json:"wanted,omitempty"` // groups that end the rounds; 0: there is one round
	Fates
	Rounds []LedgerRound `json:"rounds"`
	Levels []LedgerLevel `json:"levels"` // by source and difficulty
	Next   int           `json:"next"`   // where in the source the next iteration goes on
	Note   string        `json:"note,omitempty"`
}

// Fates are numbers of prompts.
type Fates struct {
	Drawn   int            `json:"drawn"`
	Kept    int            `json:"kept"`
	Dropped map[string]int `json:"dropped,omitempty"` // by reason
	Dead    int            `json:"dead"`
}

// LedgerRound is one round of sampling.
type LedgerRound struct {
	Asked int `json:"asked"` // prompts asked of the source; it drew fewer when it had no more
	Fates
}

// LedgerLevel are the prompts of one source and difficulty.
type LedgerLevel struct {
	Source     string  `json:"source"`
	Difficulty string  `json:"difficulty,omitempty"`
	Responses  int     `json:"responses"` // that have an outcome
	Right      float64 `json:"right"`
	Fates
}

// Reasons lists why prompts were dropped, in order.
func (l Ledger) Reasons() []string {
	var out []string
	for why := range l.Dropped {
		out = append(out, why)
	}
	slices.Sort(out)
	return out
}

// PassRate is the mean outcome, a dash when there is none.
func (l LedgerLevel) PassRate() string {
	if l.Responses == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3f", l.Right/float64(l.Responses))
}

// add adds the numbers of others.
func (f *Fates) add(o Fates) {
	f.Drawn, f.Kept, f.Dead = f.Drawn+o.Drawn, f.Kept+o.Kept, f.Dead+o.Dead
	for why, n := range o.Dropped {
		if f.Dropped == nil {
			f.Dropped = map[string]int{}
		}
		f.Dropped[why] += n
	}
}

// Merge adds the sums of another ledger, and its sources and difficulties.
func (l *Ledger) Merge(o Ledger) {
	l.add(o.Fates)
	for _, v := range o.Levels {
		at := slices.IndexFunc(l.Levels, func(have LedgerLevel) bool { return have.Source == v.Source && have.Difficulty == v.Difficulty })
		if at < 0 {
			at = len(l.Levels)
			l.Levels = append(l.Levels, LedgerLevel{Source: v.Source, Difficulty: v.Difficulty})
		}
		have := &l.Levels[at]
		have.Responses, have.Right = have.Responses+v.Responses, have.Right+v.Right
		have.add(v.Fates)
	}
}

// Ledgers prints each ledger with a line for every round and for every source and difficulty.
func Ledgers(w io.Writer, ledgers []Ledger) error {
	out := bufio.NewWriter(w)
	for i, l := range ledgers {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "iteration %d: %d prompts drawn, %d groups kept", l.Iteration, l.Drawn, l.Kept)
		if l.Wanted > 0 {
			fmt.Fprintf(out, " of %d wanted", l.Wanted)
		}
		fmt.Fprintln(out)
		if l.Note != "" {
			fmt.Fprintln(out, l.Note)
		}
		reasons := l.Reasons()
		table := grid{header: slices.Concat([]string{"", "difficulty", "drawn", "kept"}, reasons, []string{"dead", "pass rate"}), left: 3}
		line := func(name, difficulty string, f Fates, rate string) {
			cells := []string{terminal.Clean(name), terminal.Clean(difficulty), fmt.Sprint(f.Drawn), fmt.Sprint(f.Kept)}
			for _, why := range reasons {
				cells = append(cells, fmt.Sprint(f.Dropped[why]))
			}
			table.row(append(cells, fmt.Sprint(f.Dead), rate), nil)
		}
		for k, r := range l.Rounds {
			line(fmt.Sprintf("round %d", k), "", r.Fates, "")
		}
		for _, v := range l.Levels {
			line(v.Source, v.Difficulty, v.Fates, v.PassRate())
		}
		table.print(out)
	}
	return out.Flush()
}
