package method

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/prompts"
)

// A policy run may refresh its reward model on a schedule (batch refresh, arXiv 2604.13197): before an iteration whose turn it is the
// model is trained on the rows that the last iterations have left, measured on held-out prompts, and serves from then on where it
// passes. What became of it is promotion.json in the iteration's directory, and the model lies beside it where it was promoted.

// serving finds the reward model that an iteration begins with: the last one promoted, or the recipe's.
func (m *policyMethod) serving(ctx context.Context, d *run.Dir, it *chain.Iteration) error {
	n, err := d.Serving(ctx, it.Number)
	if err != nil {
		return err
	}
	if n < 0 {
		return m.reward(ctx, d, it, false)
	}
	if it.Reward, err = chain.Committed(ctx, m.r.RewardStart(), d.IterPath(n), chain.RewardRole); err != nil {
		return err
	}
	it.RewardState, err = chain.Existing(ctx, files.Join(d.IterPath(n), "optimizer-"+chain.RewardRole))
	return err
}

// Sample refreshes the reward model where its turn has come, and runs the rounds of sampling.
func (m *policyMethod) Sample(ctx context.Context, it *chain.Iteration) ([]beam.PipelineResult, error) {
	var results []beam.PipelineResult
	if f := m.r.Scheduled(); f != nil && f.Due(it.Number) {
		result, err := m.refresh(ctx, *f, it)
		if err != nil {
			return nil, fmt.Errorf("refresh of the reward model: %w", err)
		}
		results = append(results, result)
	}
	sampled, err := m.rounds.Sample(ctx, it)
	return append(results, sampled...), err
}

// refresh trains the reward model, and has the iteration go on with what results where that passes its gate.
func (m *policyMethod) refresh(ctx context.Context, f recipe.Refresh, it *chain.Iteration) (beam.PipelineResult, error) {
	var batches []int
	var dirs []string
	for n := f.From(it.Number); n < it.Number; n++ {
		dir := m.run.IterPath(n)
		if _, err := run.RowFiles(ctx, dir, chain.BatchName); err != nil { // which holds them to their manifest
			return nil, err
		}
		batches, dirs = append(batches, n), append(dirs, dir)
	}
	count, err := m.r.Refreshing(dirs, 1).Prompts.Of.(prompts.Sized).Size(ctx, "all")
	if err != nil {
		return nil, err
	}
	if count == 0 {
		return nil, fmt.Errorf("iterations %d to %d have left no rows", batches[0], it.Number-1)
	}
	r := m.r.Refreshing(dirs, count)
	sub, from := *it, it.Reward
	sub.First, sub.History = 0, ""
	result, err := chain.Chain{Nodes: chain.Refresh(r)}.Run(ctx, chain.RefreshName, sub, r.Limits.MaxRecordBytes, r.Runner)
	if err != nil {
		return nil, err
	}
	trained, err := chain.Committed(ctx, m.r.RewardStart(), it.Dir, chain.RewardRole)
	if err != nil {
		return nil, err
	}
	p := run.Promotion{Promoted: true, Margin: f.Gate.Margin, Why: "there is no gate: reward.refresh.gate.margin is negative"}
	if f.Gated() {
		if p, err = m.gate(ctx, f.Gate, *it, trained); err != nil {
			return nil, err
		}
	}
	p.Model, p.From, p.Batches = trained.Identity(), from.Identity(), batches
	state := files.Join(it.Dir, "optimizer-"+chain.RewardRole)
	if p.Promoted {
		it.Reward = trained
		it.RewardState, err = chain.Existing(ctx, state)
	} else {
		err = errors.Join(files.RemoveAll(ctx, files.Join(it.Dir, chain.RewardRole)), files.RemoveAll(ctx, state))
	}
	if err != nil {
		return nil, err
	}
	verb := "is refreshed"
	if !p.Promoted {
		verb = "stays as it was"
	}
	progress.From(ctx).Note("iteration %d: the reward model %s: %s", it.Number, verb, p.Why)
	return result, run.WritePromotion(ctx, it.Dir, p)
}

// gate measures a trained model, and the one that has served so far on the same responses: the new one must rank better than chance,
// and not clearly worse than the old.
func (m *policyMethod) gate(ctx context.Context, g recipe.Gate, it chain.Iteration, trained models.Ref) (run.Promotion, error) {
	work := files.Join(it.Work, "refresh-evaluation")
	if err := errors.Join(files.RemoveAll(ctx, work), files.MakeDirectory(work)); err != nil {
		return run.Promotion{}, err
	}
	ranks := m.r.Reward.Value.Kind.Ranks()
	of := func(reward models.Ref) (run.Promotion, error) {
		e, err := measure.In(ctx, m.r, measure.Subject{Policy: it.Policy, Reward: reward, Reference: it.Reference}, work)
		return judge(g, e, ranks), err
	}
	p, err := of(trained)
	if err != nil {
		return p, err
	}
	if it.Reward.Path != it.Policy.Path { // else no reward model has served: it was the policy itself
		before, err := of(it.Reward)
		if err != nil {
			return p, err
		}
		p.Serving = &run.Standing{Value: before.Value, StdErr: before.StdErr}
		if apart := 2 * math.Hypot(p.StdErr, before.StdErr); p.Promoted && p.Measure == before.Measure && p.Value < before.Value-apart {
			p.Promoted = false
			p.Why = fmt.Sprintf("%s %.3f on held-out prompts is more than two standard errors (%.3f) below the %.3f of the model that serves",
				p.Measure, p.Value, apart, before.Value)
		}
	}
	return p, files.RemoveAll(ctx, work)
}

// Phases are the iterations, and the refreshes between them.
func (m *policyMethod) Phases() ([]Phase, error) {
	out, err := m.rounds.Phases()
	f := m.r.Scheduled()
	if f == nil || err != nil {
		return out, err
	}
	r := m.r.Refreshing([]string{m.r.Run}, f.Batches*m.r.Prompts.Count)
	return append(out, Phase{Name: chain.RefreshName, Iterations: (m.r.Iterations - 1) / f.Every, Recipe: r,
		Chain: chain.Chain{Nodes: chain.Refresh(r)}}), nil
}
