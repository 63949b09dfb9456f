package method

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// judge compares the model's ranking with chance.
func judge(g recipe.Gate, e measure.Evaluation, score string) run.Promotion {
	p := run.Promotion{Margin: g.Margin}
	several := 0
	for _, prompt := range e.Sums.Prompts {
		if prompt.N > 1 {
			several++
		}
	}
	switch {
	case several > 0:
		p.Measure, p.Chance = "best_of_n", e.Random.Mean
		for _, b := range e.BestOf {
			if b.Score == score {
				p.Value, p.StdErr = b.Mean, b.StdErr
			}
		}
	case e.Calibration != nil && e.Calibration.AUC != nil:
		p.Measure, p.Value, p.Chance = "auc", *e.Calibration.AUC, 0.5
	default:
		p.Measure, p.Why = "auc", "cannot be measured: held-out outcomes are all alike"
		return p
	}
	what := fmt.Sprintf("%s %.3f on held-out prompts (standard error %.3f)", p.Measure, p.Value, p.StdErr)
	switch {
	case p.Value < p.Chance+g.Margin:
		p.Why = fmt.Sprintf("%s is not at least chance (%.3f) plus the margin %.3f", what, p.Chance, g.Margin)
	case g.Margin >= 0 && p.Value-2*p.StdErr <= p.Chance: // a negative margin turns the gate off
		p.Why = fmt.Sprintf("%s is within two standard errors of chance (%.3f); measure on more prompts", what, p.Chance)
	default:
		p.Promoted = true
		p.Why = fmt.Sprintf("%s is at least chance (%.3f) plus the margin %.3f", what, p.Chance, g.Margin)
		if g.Margin >= 0 {
			p.Why += ", and more than two standard errors above chance"
		}
	}
	return p
}

// RefusedError says that a reward model did not pass its gate.
type RefusedError struct{ Path, Why string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the reward model %s was not promoted: %s; a policy trained on it would learn noise. Train it longer, "+
		"or refresh again with a lower gate.margin; a negative one turns the gate off", e.Path, e.Why)
}

// Gates refuses a recipe whose policy would learn from a reward model that its refresh did not promote, as a run of it would.
func Gates(ctx context.Context, r recipe.Recipe) error {
	if r.Kind == "policy" && r.Reward != nil && r.Reward.Path != "" && !r.Reward.Remote() {
		if err := Promoted(ctx, r.Reward.Path); err != nil {
			return setting.In("reward.path", err)
		}
	}
	for i, m := range r.RewardModels {
		if m.Remote() {
			continue
		}
		if err := Promoted(ctx, m.Path); err != nil {
			return setting.In(fmt.Sprintf("reward_models[%d]", i), err)
		}
	}
	return nil
}

// Promoted refuses a reward model whose refresh did not promote it. A model without such a record is the user's own.
func Promoted(ctx context.Context, model string) error {
	p, err := run.ReadPromotion(ctx, files.Parent(model))
	if err != nil || p == nil || p.Promoted {
		return err
	}
	return &RefusedError{Path: model, Why: p.Why}
}
