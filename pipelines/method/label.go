package method

import (
	"context"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
)

func init() {
	Register("label", Kind{
		Summary: "rows without an update: rollouts, verdicts, values, advantages",
		Reads:   []string{"tokenize", "rollout", "label", "reward", "reference", "mixed", "advantage", "target"},
		New:     newLabel,
	})
}

// labelMethod ends in rows: nothing is trained.
type labelMethod struct{ rounds }

func newLabel(r recipe.Recipe) (Method, error) {
	if r.Reward != nil && r.Reward.Update != nil {
		return nil, setting.Errorf("reward.update", "is not read: a run of kind label trains nothing")
	}
	m := &labelMethod{newRounds(r, append(chain.Learning(r), chain.End())...)}
	m.judge = !r.Prompts.Brings(schemas.Outcome) // verdicts are what such a run is for
	return m, m.checkSampling()
}

// Models are those of the recipe, in every iteration.
func (m *labelMethod) Models(ctx context.Context, d *run.Dir, it *chain.Iteration) error {
	if err := m.window(ctx, d, it); err != nil {
		return err
	}
	if err := m.policy(ctx, d, it, false); err != nil {
		return err
	}
	if m.r.Reward != nil {
		if err := m.reward(ctx, d, it, false); err != nil {
			return err
		}
	}
	return m.reference(ctx, d, it)
}

// Updates are none.
func (m *labelMethod) Updates() []Training { return nil }
