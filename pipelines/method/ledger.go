package method

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/pipelines/show"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/prompts"
)

// closeLedger writes the ledger of an iteration from what its rounds have left.
func (s rounds) closeLedger(ctx context.Context, it chain.Iteration, show progress.Run) error {
	if !s.keepsLedger() {
		return nil
	}
	var all []label.PromptGroup
	for round := range it.Round + 1 {
		groups, err := readGroups(ctx, groupsFile(it, round))
		if err != nil {
			return err
		}
		for _, g := range groups {
			if round == it.Round && it.Last != "" && g.Fate == label.FateKept && g.Prompt > it.Last {
				g.Fate = label.FateSurplus
			}
			all = append(all, g)
		}
	}
	l := s.ledger(all, it.Round+1, it.First)
	l.Iteration = it.Number
	if l.Note != "" {
		show.Note("iteration %d: %s", it.Number, l.Note)
	} else if l.Kept == 0 {
		show.Note("iteration %d: no group of %d prompts is mixed; the update has nothing to learn from", it.Number, l.Drawn)
	}
	return run.WriteLedger(ctx, it.Dir, l, all)
}

// ledger sums up groups, of which each round asked so many prompts of the source. First is the position in the source.
func (s rounds) ledger(groups []label.PromptGroup, rounds, first int) show.Ledger {
	l := show.Ledger{Next: first + rounds*s.r.Prompts.Count}
	if b := s.r.Backfill(); b != nil {
		l.Wanted = b.Groups
	}
	levels := map[[2]string]*show.LedgerLevel{}
	l.Rounds = make([]show.LedgerRound, rounds)
	for i := range l.Rounds {
		l.Rounds[i].Asked = s.r.Prompts.Count
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

// historyName is the file in which a curriculum's state travels to the workers. What it is made of are the lines of the
// committed iterations, so a run that is resumed goes by the same.
const historyName = "history.json"

// writeHistory sums up what the iterations before number know about prompts; "" when they know nothing.
func (s rounds) writeHistory(ctx context.Context, d *run.Dir, number int, work string) (string, error) {
	c := s.r.Prompts.Curriculum
	first := 0
	if c.History > 0 {
		first = max(0, number-c.History)
	}
	var h prompts.History
	known := false
	for i := first; i < number; i++ {
		groups, err := files.ReadLines[label.PromptGroup](ctx, files.Join(d.IterPath(i), run.GroupsName))
		if err != nil {
			return "", err
		}
		for _, g := range groups {
			if g.Responses == 0 {
				continue
			}
			if err := h.Add(s.r.Prompts, g.Prompt, prompts.SourceName(g.Source), g.Difficulty, prompts.Tally{Right: g.Right,
				N: g.Responses}); err != nil {
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
	path := files.Join(work, historyName)
	return path, files.Write(ctx, path, raw, false)
}
