package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/millrace/millrace/pipelines/commit"
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
	raw, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(files.Write(ctx, files.Join(dir, LedgerName), append(raw, '\n'), false), files.WriteLines(ctx, files.Join(dir,
		GroupsName), groups))
}

// ReadLedger reads the ledger of an iteration; nil when it left none.
func ReadLedger(ctx context.Context, dir string) (*show.Ledger, error) {
	path := files.Join(dir, LedgerName)
	raw, err := files.Read(ctx, path, MaxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = commit.CheckPath(ctx, path)
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
