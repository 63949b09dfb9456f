package run

import (
	"context"
	"errors"

	"github.com/millrace/millrace/pipelines/show"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/label"
)

// The ledger of an iteration that learns from some of its prompt groups only: sums, and a line for every prompt drawn.
const (
	LedgerName = "ledger.json"
	GroupsName = "groups.jsonl"
)

// WriteLedger leaves the ledger in the iteration's directory.
func WriteLedger(ctx context.Context, dir string, l show.Ledger, groups []label.PromptGroup) error {
	return errors.Join(writeState(ctx, files.Join(dir, LedgerName), l, false), files.WriteLines(ctx, files.Join(dir, GroupsName), groups))
}

// ReadLedger reads the ledger of an iteration; nil when it left none.
func ReadLedger(ctx context.Context, dir string) (*show.Ledger, error) {
	return readState[show.Ledger](ctx, files.Join(dir, LedgerName))
}

// ReadLedgers reads the ledgers of all committed iterations.
func (run *Dir) ReadLedgers(ctx context.Context) ([]show.Ledger, error) {
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
