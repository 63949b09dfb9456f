package pipelines

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// Mixed says which prompt groups an update learns from, and how many more prompts are sampled where too few are such.
type Mixed struct {
	label.MixedConfig
	Backfill *Backfill `json:"backfill,omitempty"`
}

// Backfill is dynamic sampling (DAPO, arXiv 2503.14476, section 3.2) as a bounded loop: an iteration samples rounds of
// prompts.count prompts until Groups groups are kept, but not more than Rounds. What the last round brings beyond is
// dropped, in the order of prompt ids, so that every update learns from as many groups. The next iteration goes on in the
// source where this one ended. After the last round the update learns from what there is.
//
// A pipeline has no loops, so every round is one of its own, which leaves the rows it keeps as a file; another reads them
// and goes on to the update. How many rounds run depends on outcomes alone.
type Backfill struct {
	Groups int `json:"groups"`
	Rounds int `json:"rounds"`
}

// defaultBackfill takes at most 4 rounds.
func defaultBackfill() *Backfill { return &Backfill{Groups: 16, Rounds: 4} }

func (r Recipe) backfill() *Backfill {
	if r.Mixed == nil {
		return nil
	}
	return r.Mixed.Backfill
}

// planSampling checks what draws and filters prompts against the rest of the recipe.
func (r Recipe) planSampling() error {
	if r.Evaluate.Every > 0 && r.Kind != Refresh {
		if err := r.heldOut(false).Prompts.Validate(); err != nil {
			return configErrorf("prompts."+firstPath(err), "%s; evaluation reads split %s", rest(err), r.Evaluate.Split)
		}
	}
	b := r.backfill()
	if (b != nil || r.Prompts.Curriculum != nil) && (r.Kind != Policy || !r.samples() || !r.labels()) {
		path := "prompts.curriculum"
		if b != nil {
			path = "mixed.backfill"
		}
		return configErrorf(path, "needs outcomes of the policy's own responses: kind %s, a source of prompts without responses, and a verifier", Policy)
	}
	switch {
	case b == nil:
		return nil
	case b.Groups < 1:
		return configErrorf("mixed.backfill.groups", "%d is not at least 1", b.Groups)
	case b.Rounds < 1:
		return configErrorf("mixed.backfill.rounds", "%d is not at least 1", b.Rounds)
	case b.Rounds*r.Prompts.Count < b.Groups:
		return configErrorf("mixed.backfill.groups", "%d groups cannot come of %d rounds of %d prompts (prompts.count)", b.Groups, b.Rounds, r.Prompts.Count)
	}
	return nil
}

// samplingNodes bring labeled responses, of the groups that an update learns from.
func (r Recipe) samplingNodes() []node {
	nodes := r.sourceNodes()
	if !r.keepsLedger() {
		return nodes
	}
	var mixed *label.MixedConfig
	if r.Mixed != nil {
		mixed = &r.Mixed.MixedConfig
	}
	nodes = append(nodes, node{ledgerContract, func(f *flow) {
		label.Record(f.scope, f.at.groupsFile(f.at.round), f.at.round, mixed, f.store, f.prompts, f.rows)
	}})
	if mixed != nil {
		m := *mixed
		nodes = append(nodes, node{(&m).Contract(), func(f *flow) { f.then(label.KeepMixed(f.scope, m, f.rows)) }})
	}
	return nodes
}

// groupsFile is where a round leaves what became of its prompts.
func (at iteration) groupsFile(round int) string {
	return stage.JoinPath(at.work, fmt.Sprintf("groups-%03d.jsonl", round))
}

// roundOutput is where a round leaves the rows it keeps.
func (r Recipe) roundOutput(at iteration) recordio.Output {
	return recordio.Output{Dir: at.work, Name: fmt.Sprintf("round-%03d", at.round), Format: recordio.Arrow, Shards: r.Output.Shards,
		RowGroupRows: r.Prompts.PerRecord * r.Rollout.Samples, RowGroupBytes: r.Limits.MaxRecordBytes / 2}
}

// window is the part of the source that the pipeline takes.
func (r Recipe) window(at iteration) prompts.Window {
	return prompts.Window{Seed: r.Seed, First: at.first, Drawn: at.drawn, Count: r.Prompts.Count, Meta: at.meta,
		MaxRecordBytes: r.Limits.MaxRecordBytes, History: at.history}
}

// sample runs the rounds of an iteration and returns the counters of their pipelines. After it at.rounds says what was
// kept.
func (run *RunDir) sample(ctx context.Context, r Recipe, at *iteration) ([]beam.PipelineResult, error) {
	b := r.backfill()
	if b == nil {
		return nil, nil
	}
	var results []beam.PipelineResult
	kept := 0
	for round := range b.Rounds {
		at.round, at.drawn = round, round*r.Prompts.Count
		out := r.roundOutput(*at)
		result, err := run.round(ctx, r, *at, out)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", round, err)
		}
		results = append(results, result)
		groups, err := readGroups(ctx, at.groupsFile(round))
		if err != nil {
			return nil, err
		}
		brought := 0
		for _, g := range groups { // in the order of their ids
			if g.Fate != label.FateKept {
				continue
			}
			if brought++; kept+brought == b.Groups {
				at.last = g.Prompt
			}
		}
		if brought > 0 {
			files, err := out.Files(ctx)
			if err != nil {
				return nil, err
			}
			at.rounds = append(at.rounds, files)
		}
		if kept += brought; kept >= b.Groups || len(groups) == 0 {
			break
		}
	}
	return results, nil
}

// round runs one pipeline from prompts to the rows that are kept.
func (run *RunDir) round(ctx context.Context, r Recipe, at iteration, out recordio.Output) (beam.PipelineResult, error) {
	p, f := r.flow(at)
	for _, n := range r.samplingNodes() {
		n.add(f)
	}
	f.writeDead(fmt.Sprintf("%s-round-%03d", deadName, at.round))
	recordio.Write(f.scope, out, f.store, f.rows)
	return execute(ctx, roundPipeline(at.round), p, r.Runner)
}

// readRounds takes up the rows that the rounds have kept.
func (f *flow) readRounds() {
	parts := []beam.PCollection{recordio.Read(f.scope, nil)}
	for k, files := range f.at.rounds {
		rows := recordio.Read(f.scope, files)
		if f.at.last != "" && k == len(f.at.rounds)-1 {
			var dead beam.PCollection
			rows, dead = stage.Apply(f.scope, label.UpTo{Last: f.at.last}, rows)
			f.dead = append(f.dead, dead)
		}
		parts = append(parts, rows)
	}
	rows := beam.Flatten(f.scope, parts...)
	stage.Describe(rows, stage.Description{MaxRecordBytes: f.store.MaxRecordBytes})
	f.rows = stage.Exchange(f.scope, f.store, rows)
}

// readGroups reads what became of the prompts of a round; a round without prompts leaves no file.
func readGroups(ctx context.Context, file string) ([]label.PromptGroup, error) {
	groups, err := stage.ReadLines[label.PromptGroup](ctx, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return groups, err
}

// closeLedger writes the ledger of an iteration from what its rounds have left.
func (r Recipe) closeLedger(ctx context.Context, at iteration, show progress.Run) error {
	if !r.keepsLedger() {
		return nil
	}
	var all []label.PromptGroup
	for round := range at.round + 1 {
		groups, err := readGroups(ctx, at.groupsFile(round))
		if err != nil {
			return err
		}
		for _, g := range groups {
			if round == at.round && at.last != "" && g.Fate == label.FateKept && g.Prompt > at.last {
				g.Fate = label.FateSurplus
			}
			all = append(all, g)
		}
	}
	l := r.ledger(all, at.round+1, at.first)
	l.Iteration = at.number
	if l.Note != "" {
		show.Note("iteration %d: %s", at.number, l.Note)
	} else if l.Kept == 0 {
		show.Note("iteration %d: no group of %d prompts is mixed; the update has nothing to learn from", at.number, l.Drawn)
	}
	return writeLedger(ctx, at.dir, l, all)
}

// startSampling finds where in its source an iteration begins, and what a curriculum goes by.
func (run *RunDir) startSampling(ctx context.Context, r Recipe, at *iteration) (err error) {
	at.first = at.number * r.Prompts.Count
	if at.number == 0 {
		return nil
	}
	if r.backfill() != nil { // rounds differ in number, so each iteration begins where the one before ended
		before, err := ReadLedger(ctx, run.IterPath(at.number-1))
		if err == nil && before == nil {
			err = fmt.Errorf("iteration %d left no %s", at.number-1, ledgerName)
		}
		if err != nil {
			return err
		}
		at.first = before.Next
	}
	if r.Prompts.Curriculum != nil {
		at.history, err = run.writeHistory(ctx, r, at.number, at.work)
	}
	return err
}

// checkDrawn says which sources had fewer prompts than they were asked for, each once in a run, and ends the run when none
// had any.
func (r Recipe) checkDrawn(at iteration, results []beam.PipelineResult, show progress.Run, named map[string]bool) error {
	asked, short := int64((at.round+1)*r.Prompts.Count), int64(0)
	for source, n := range shortOf(results) {
		if short += n; !named[source] {
			named[source] = true
			show.Note("iteration %d: source %s has %d prompts fewer than it was asked for", at.number, source, n)
		}
	}
	if short == asked {
		return &exhaustedError{at.number}
	}
	return nil
}

// exhaustedError says that a source has no prompts left.
type exhaustedError struct{ iteration int }

func (e *exhaustedError) Error() string {
	if e.iteration == 0 {
		return "no source has a prompt; look at prompts.split and at the files"
	}
	return fmt.Sprintf("iteration %d: no source has a prompt left (prompts.file.exhausted: stop)", e.iteration)
}

// shortOf sums up the prompts that sources were asked for beyond those they have, by source.
func shortOf(results []beam.PipelineResult) map[string]int64 {
	out := map[string]int64{}
	for _, result := range results {
		for _, c := range stage.CountsOf(result) {
			for name, n := range c.Other {
				if source, ok := prompts.ShortOf(name); ok && n > 0 {
					out[source] += n
				}
			}
		}
	}
	return out
}
