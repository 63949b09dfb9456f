package pipelines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/millrace/millrace/pipelines/show"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/stage"
)

// The ledger of an iteration that learns from some of its prompt groups only: sums, and a line for every prompt drawn.
const (
	ledgerName = "ledger.json"
	groupsName = "groups.jsonl"
)

// keepsLedger reports whether the iterations of the recipe leave a ledger.
func (r Recipe) keepsLedger() bool { return r.Mixed != nil || r.Prompts.Curriculum != nil }

// ledger sums up groups, of which each round asked so many prompts of the source. First is the position in the source.
func (r Recipe) ledger(groups []label.PromptGroup, rounds, first int) show.Ledger {
	l := show.Ledger{Next: first + rounds*r.Prompts.Count}
	if b := r.backfill(); b != nil {
		l.Wanted = b.Groups
	}
	levels := map[[2]string]*show.LedgerLevel{}
	l.Rounds = make([]show.LedgerRound, rounds)
	for i := range l.Rounds {
		l.Rounds[i].Asked = r.Prompts.Count
	}
	for _, g := range groups {
		key := [2]string{prompts.SourceName(g.Source), g.Difficulty}
		if levels[key] == nil {
			levels[key] = &show.LedgerLevel{Source: key[0], Difficulty: key[1]}
		}
		level := levels[key]
		level.Right, level.Responses = level.Right+g.Right, level.Responses+g.Responses
		for _, f := range []*show.Fates{&l.Fates, &l.Rounds[g.Round].Fates, &level.Fates} {
			addFate(f, g.Fate)
		}
	}
	for _, level := range levels {
		l.Levels = append(l.Levels, *level)
	}
	slices.SortFunc(l.Levels, func(a, b show.LedgerLevel) int {
		return strings.Compare(a.Source+"\x00"+a.Difficulty, b.Source+"\x00"+b.Difficulty)
	})
	last := l.Rounds[rounds-1]
	switch {
	case l.Wanted == 0 || l.Kept >= l.Wanted:
	case last.Drawn == 0:
		l.Note = fmt.Sprintf("exhausted: the source had no further prompts; %d of %d groups after %d rounds", l.Kept, l.Wanted, rounds)
	default:
		l.Note = fmt.Sprintf("exhausted: %d of %d groups after %d rounds, which is the limit", l.Kept, l.Wanted, rounds)
	}
	return l
}

func addFate(f *show.Fates, fate string) {
	f.Drawn++
	switch fate {
	case label.FateKept:
		f.Kept++
	case label.FateDead:
		f.Dead++
	default:
		if f.Dropped == nil {
			f.Dropped = map[string]int{}
		}
		f.Dropped[fate]++
	}
}

// writeLedger leaves the ledger in the iteration's directory.
func writeLedger(ctx context.Context, dir string, l show.Ledger, groups []label.PromptGroup) error {
	raw, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(stage.WriteFile(ctx, stage.JoinPath(dir, ledgerName), append(raw, '\n'), false), stage.WriteLines(ctx, stage.JoinPath(dir, groupsName), groups))
}

// ReadLedger reads the ledger of an iteration; nil when it left none.
func ReadLedger(ctx context.Context, dir string) (*show.Ledger, error) {
	path := stage.JoinPath(dir, ledgerName)
	raw, err := stage.ReadFile(ctx, path, maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var l show.Ledger
	if err := json.Unmarshal(raw, &l); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &l, nil
}

// ReadLedgers reads the ledgers of all committed iterations.
func (run *RunDir) ReadLedgers(ctx context.Context) ([]show.Ledger, error) {
	done, err := run.Committed(ctx)
	if err != nil {
		return nil, err
	}
	var out []show.Ledger
	for _, i := range done {
		l, err := ReadLedger(ctx, run.IterPath(i))
		if err != nil {
			return nil, err
		}
		if l != nil {
			l.Iteration = i
			out = append(out, *l)
		}
	}
	return out, nil
}

// ledgerMetrics puts a ledger among the metrics of its iteration.
func ledgerMetrics(ctx context.Context, dir string, into map[string]float64) error {
	l, err := ReadLedger(ctx, dir)
	if l == nil || err != nil {
		return err
	}
	into["rounds"] = float64(len(l.Rounds))
	into["prompts_drawn"] = float64(l.Drawn)
	into["groups_kept"] = float64(l.Kept)
	into["groups_dead"] = float64(l.Dead)
	for why, n := range l.Dropped {
		into["groups_"+why] = float64(n)
	}
	return nil
}

// historyName is the file in which a curriculum's state travels to the workers. What it is made of are the lines of the
// committed iterations, so a run that is resumed goes by the same.
const historyName = "history.json"

// writeHistory sums up what the iterations before number know about prompts; "" when they know nothing.
func (run *RunDir) writeHistory(ctx context.Context, r Recipe, number int, work string) (string, error) {
	c := r.Prompts.Curriculum
	first := 0
	if c.History > 0 {
		first = max(0, number-c.History)
	}
	var h prompts.History
	known := false
	for i := first; i < number; i++ {
		groups, err := stage.ReadLines[label.PromptGroup](ctx, stage.JoinPath(run.IterPath(i), groupsName))
		if err != nil {
			return "", err
		}
		for _, g := range groups {
			if g.Responses == 0 {
				continue
			}
			if err := h.Add(r.Prompts, g.Prompt, prompts.SourceName(g.Source), g.Difficulty, prompts.Tally{Right: g.Right, N: g.Responses}); err != nil {
				return "", err
			}
			known = true
		}
	}
	if !known {
		return "", nil
	}
	raw, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	path := stage.JoinPath(work, historyName)
	return path, stage.WriteFile(ctx, path, raw, false)
}
