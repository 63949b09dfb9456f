package pipelines

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/transforms/revise"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/update"
)

// SEFT fine-tunes a policy on its own responses as a reviser corrects them (arXiv 2406.10813; spec 4.5). The first iteration
// trains the base reviser on preference pairs, the second the adaptive reviser on further pairs with labels; every further
// one is a round of evolution: the policy answers new prompts, the reviser labels and revises, the policy is tuned on the
// results. No outcome is read in a round; the verifier measures.
type SEFT struct {
	Reviser revise.Config `json:"reviser"`
	// Pairs is the number of prompts the pairs are made of; prompts.count is that of a round.
	Pairs    int           `json:"pairs"`
	Samples  int           `json:"samples"` // responses to each of them
	Base     update.Config `json:"base"`
	Adaptive update.Config `json:"adaptive"`
	// Source answers the prompts of a round: internal is the policy itself (no path), external another model.
	Source *Model `json:"source,omitempty"`
}

// Phases of a SEFT run, by the number of the iteration.
const (
	baseReviser     = 0
	adaptiveReviser = 1
)

func defaultSEFT() *SEFT {
	return &SEFT{Reviser: revise.Default(1024), Pairs: 500, Samples: 8, Base: update.Default(), Adaptive: update.Default()}
}

func (s SEFT) validate() error {
	if err := s.Reviser.Validate(); err != nil {
		return fmt.Errorf("reviser.%w", err)
	}
	if err := s.Base.Validate(); err != nil {
		return fmt.Errorf("base.%w", err)
	}
	if err := s.Adaptive.Validate(); err != nil {
		return fmt.Errorf("adaptive.%w", err)
	}
	if s.Source != nil {
		if err := s.Source.validate(); err != nil {
			return fmt.Errorf("source.%w", err)
		}
	}
	if s.Pairs < 1 || s.Samples < 2 {
		return errors.New("pairs: want at least 1 prompt, and at least 2 samples of each")
	}
	return nil
}

// seftPhase is the recipe of one iteration: what its prompts, its rows and its update are.
func (r Recipe) seftPhase(number int) Recipe {
	if number > adaptiveReviser {
		r.Pairs = nil
		return r
	}
	r.Prompts.Count, r.Rollout.Samples = r.SEFT.Pairs, r.SEFT.Samples
	r.Update = r.SEFT.Base
	if number == adaptiveReviser {
		r.Update = r.SEFT.Adaptive
	}
	return r
}

// seftNodes turn the rows of a phase into what its update learns from.
func (r Recipe) seftNodes(number int) []node {
	c := r.SEFT.Reviser
	tasks := revise.TaskConfig{Adaptive: number == adaptiveReviser, Layout: c.Layout, Labels: c.Labels}
	taskNode := node{(&tasks).Contract(), func(f *flow) {
		f.rows = stage.Exchange(f.scope, f.store, f.rows) // read twice: for the median gain and for the rows
		f.then(revise.Tasks(f.scope, tasks, f.rows))
	}}
	switch number {
	case baseReviser:
		return []node{taskNode}
	case adaptiveReviser:
		return []node{{(&revise.Scorer{}).Contract(), func(f *flow) {
			f.then(revise.Gains(f.scope, c.Layout, f.at.reviser, f.rows))
		}}, taskNode}
	}
	return []node{
		{(&revise.Reviser{}).Contract(), func(f *flow) { f.then(revise.Revise(f.scope, c, f.at.reviser, f.at.seed, f.rows)) }},
		{(&revise.Adopted{}).Contract(), func(f *flow) { f.then(revise.Adopt(f.scope, f.rows)) }},
	}
}

// seftStart finds the models of a phase: the policy and the reviser that the iterations before left.
func (run *RunDir) seftStart(ctx context.Context, r Recipe, at *iteration) (err error) {
	start, err := r.Policy.open(ctx, "", r.Seed)
	if err != nil {
		return err
	}
	at.policy, at.sampler, at.reviser = start, start, start
	last := func(role string, before int) (models.Ref, error) {
		return r.Policy.committed(ctx, run.IterPath(before), role)
	}
	switch n := at.number; {
	case n == baseReviser:
		return nil
	case n == adaptiveReviser:
		at.reviser, err = last("reviser", baseReviser)
		return err
	default:
		if at.reviser, err = last("reviser", adaptiveReviser); err != nil {
			return err
		}
		if n > adaptiveReviser+1 {
			if at.policy, err = last("policy", n-1); err != nil {
				return err
			}
		}
	}
	at.sampler = at.policy
	if r.SEFT.Source != nil {
		at.sampler, err = r.SEFT.Source.open(ctx, "", r.Seed)
	}
	return err
}

// planSEFT checks every phase.
func (r Recipe) planSEFT() error {
	if r.Iterations <= adaptiveReviser+1 {
		return configErrorf("iterations", "%d is not at least 3: two train the revisers, each further one is a round", r.Iterations)
	}
	if r.Pairs == nil {
		return configErrorf("pairs", "is missing; the revisers are trained on preference pairs")
	}
	if !slices.Contains([]string{"", "none"}, r.Pairs.Reference) || r.Pairs.Teacher {
		return configErrorf("pairs", "reference and teacher are not read by a reviser")
	}
	for n := range adaptiveReviser + 2 {
		if _, err := r.at(n).Plan(); err != nil {
			return err
		}
	}
	return nil
}
