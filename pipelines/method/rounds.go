package method

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// rounds is how a method comes to its labeled responses: the window of the source, what is filtered, and where too few groups are
// left, further rounds of sampling (dynamic sampling). A pipeline has no loops, so every round is one of its own, which leaves the
// rows it keeps as a file; another reads them and goes on to the update. How many rounds run depends on outcomes alone.
type rounds struct {
	base
	judge bool
	// learning leads on from labeled responses.
	learning []chain.Node
	named    map[string]bool // sources of which it has been said that they are short
}

func newRounds(r recipe.Recipe, learning ...chain.Node) rounds {
	return rounds{base: base{r}, judge: chain.Judges(r), learning: learning, named: map[string]bool{}}
}

// checkSampling holds what draws and filters prompts to the rest of the recipe.
func (s rounds) checkSampling() error {
	if s.r.Measures() && s.r.Kind != "refresh" {
		held := s.r.Prompts.WithoutResponses()
		held.Split, held.Curriculum = s.r.Evaluate.Split, nil
		if err := setting.Check(held); err != nil {
			var e *setting.Error
			if errors.As(err, &e) && e.Path == "split" {
				return setting.Errorf("evaluate.split", "%s (source %s); name one of them, or let evaluate.every be 0", e.Why, held.Source)
			}
			return setting.In("prompts", withNote(err, "evaluation reads split "+s.r.Evaluate.Split))
		}
	}
	if b := s.r.Backfill(); b == nil && s.r.Prompts.Curriculum == nil || s.r.Kind == "policy" && chain.Samples(s.r) && s.judge {
		return nil
	} else if b != nil {
		return setting.Errorf("mixed.backfill", needsOutcomes)
	}
	return setting.Errorf("prompts.curriculum", needsOutcomes)
}

const needsOutcomes = "needs outcomes of the policy's own responses: kind policy, a source of prompts without responses, and a verifier"

// withNote ends an error of a setting with a remark.
func withNote(err error, note string) error {
	var e *setting.Error
	if errors.As(err, &e) {
		return &setting.Error{Path: e.Path, Why: e.Why + "; " + note}
	}
	return err
}

// keepsLedger reports whether iterations leave a ledger.
func (s rounds) keepsLedger() bool { return s.r.Mixed != nil || s.r.Prompts.Curriculum != nil }

var ledgerContract = schemas.Contract{Name: "ledger", Needs: []schemas.Descriptor{schemas.PromptID, schemas.Source, schemas.Verdict,
	schemas.Outcome, schemas.GroupMean}}

// sampling brings labeled responses, of the groups that an update learns from.
func (s rounds) sampling() []chain.Node {
	nodes := chain.Source(s.r, s.judge)
	if !s.keepsLedger() {
		return nodes
	}
	var mixed *label.MixedConfig
	if s.r.Mixed != nil {
		mixed = &s.r.Mixed.MixedConfig
	}
	nodes = append(nodes, chain.Node{Contract: ledgerContract, Add: func(f *chain.Flow) {
		label.Record(f.Scope, groupsFile(f.It, f.It.Round), f.It.Round, mixed, f.Store, f.Prompts, f.Rows)
	}})
	if mixed != nil {
		m := *mixed
		nodes = append(nodes, chain.Node{Contract: (&m).Contract(), Section: "mixed", Add: func(f *chain.Flow) {
			f.Then(label.KeepMixed(f.Scope,
				m, f.Rows))
		}})
	}
	return nodes
}

// Check looks for the models and endpoints.
func (s rounds) Check(ctx context.Context) error {
	return s.base.check(ctx, s.nodes(chain.Iteration{}))
}

// Chain leads from prompts to the update.
func (s rounds) Chain(it chain.Iteration) (chain.Chain, error) {
	return chain.Chain{Nodes: s.nodes(it)}, nil
}

// Phases is one.
func (s rounds) Phases() ([]Phase, error) {
	return []Phase{{Name: s.r.Kind, Iterations: s.r.Iterations, Recipe: s.r, Chain: chain.Chain{Nodes: s.nodes(chain.Iteration{})}}}, nil
}

// nodes are the stages of an iteration, whose rounds may have sampled already.
func (s rounds) nodes(it chain.Iteration) []chain.Node {
	sampling, learning := s.parts()
	if it.Rounds == nil {
		return slices.Concat(sampling, learning)
	}
	return append([]chain.Node{{Contract: schemas.Contract{Name: "rounds"}, Add: readRounds}}, learning...)
}

// parts are the stages up to the labeled responses and those after, with the stages of other modules among them.
func (s rounds) parts() (sampling, learning []chain.Node) {
	sampling = s.sampling()
	all := chain.With(s.r, slices.Concat(sampling, s.learning))
	last := sampling[len(sampling)-1].Contract.Name
	at := 1 + slices.IndexFunc(all, func(n chain.Node) bool { return n.Contract.Name == last })
	return all[:at], all[at:]
}

// groupsFile is where a round leaves what became of its prompts.
func groupsFile(it chain.Iteration, round int) string {
	return files.Join(it.Work, fmt.Sprintf("groups-%03d.jsonl", round))
}

// output is where a round leaves the rows it keeps.
func (s rounds) output(it chain.Iteration) recordio.Output {
	return recordio.Output{Dir: it.Work, Name: fmt.Sprintf("round-%03d", it.Round), Format: recordio.Arrow, Shards: s.r.Output.Shards,
		RowGroupRows: s.r.Prompts.PerRecord * s.r.Rollout.Samples, RowGroupBytes: s.r.Limits.MaxRecordBytes / 2}
}

// Sample runs the rounds of an iteration and returns the counters of their pipelines. After it it.Rounds says what was kept.
func (s rounds) Sample(ctx context.Context, it *chain.Iteration) ([]beam.PipelineResult, error) {
	b := s.r.Backfill()
	if b == nil {
		return nil, nil
	}
	it.Rounds = [][]string{}
	var results []beam.PipelineResult
	kept := 0
	for round := range b.Rounds {
		it.Round, it.Drawn = round, round*s.r.Prompts.Count
		out := s.output(*it)
		result, err := s.round(ctx, *it, out)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", round, err)
		}
		results = append(results, result)
		groups, err := readGroups(ctx, groupsFile(*it, round))
		if err != nil {
			return nil, err
		}
		brought := 0
		for _, g := range groups { // in the order of their ids
			if g.Fate != label.FateKept {
				continue
			}
			if brought++; kept+brought == b.Groups {
				it.Last = g.Prompt
			}
		}
		if brought > 0 {
			left, err := out.Files(ctx)
			if err != nil {
				return nil, err
			}
			it.Rounds = append(it.Rounds, left)
		}
		if kept += brought; kept >= b.Groups || len(groups) == 0 {
			break
		}
	}
	return results, nil
}

// round runs one pipeline from prompts to the rows that are kept.
func (s rounds) round(ctx context.Context, it chain.Iteration, out recordio.Output) (beam.PipelineResult, error) {
	p, f := chain.New(it, s.r.Limits.MaxRecordBytes)
	sampling, _ := s.parts()
	f.Add(sampling...)
	f.WriteDead(fmt.Sprintf("%s-round-%03d", chain.DeadName, it.Round))
	recordio.Write(f.Scope, out, f.Store, f.Rows)
	return chain.Execute(ctx, chain.RoundPipeline(it.Round), p, s.r.Runner)
}

// readRounds takes up the rows that the rounds have kept.
func readRounds(f *chain.Flow) {
	parts := []stage.Rows{recordio.Read(f.Scope, nil)}
	for k, paths := range f.It.Rounds {
		rows := recordio.Read(f.Scope, paths)
		if f.It.Last != "" && k == len(f.It.Rounds)-1 {
			var dead stage.Rows
			rows, dead = stage.Apply(f.Scope, label.UpTo{Last: f.It.Last}, rows)
			f.SetAside(dead)
		}
		parts = append(parts, rows)
	}
	rows := stage.Flatten(f.Scope, parts...)
	rows.MaxRecordBytes = f.Store.MaxRecordBytes
	f.Rows = stage.Exchange(f.Scope, f.Store, rows)
}

// readGroups reads what became of the prompts of a round; a round without prompts leaves no file.
func readGroups(ctx context.Context, file string) ([]label.PromptGroup, error) {
	groups, err := files.ReadLines[label.PromptGroup](ctx, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return groups, err
}

// window finds where in its source an iteration begins, and what a curriculum goes by.
func (s rounds) window(ctx context.Context, d *run.Dir, it *chain.Iteration) (err error) {
	if it.First, err = d.First(ctx, it.Number, s.r.Prompts.Count); err != nil || it.Number == 0 {
		return err
	}
	if s.r.Backfill() != nil { // rounds differ in number, so each iteration begins where the one before ended
		before, err := run.ReadLedger(ctx, d.IterPath(it.Number-1))
		if err == nil && before == nil {
			err = fmt.Errorf("iteration %d left no %s", it.Number-1, run.LedgerName)
		}
		if err != nil {
			return err
		}
		it.First = before.Next
	}
	if s.r.Prompts.Curriculum != nil {
		it.History, err = s.writeHistory(ctx, d, it.Number, it.Work)
	}
	return err
}

// Close says which sources had fewer prompts than they were asked for, each once in a run, ends the run when none had any, and
// writes the ledger.
func (s rounds) Close(ctx context.Context, it chain.Iteration, results []beam.PipelineResult, show progress.Run) error {
	asked, short := int64((it.Round+1)*s.r.Prompts.Count), int64(0)
	for source, n := range shortOf(results) {
		if short += n; !s.named[source] && s.r.Kind != "label" { // which goes through a source to its end
			s.named[source] = true
			show.Note("iteration %d: source %s has %d prompts fewer than it was asked for", it.Number, source, n)
		}
	}
	if short == asked {
		return &run.ExhaustedError{Iteration: it.Number}
	}
	return s.closeLedger(ctx, it, show)
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
