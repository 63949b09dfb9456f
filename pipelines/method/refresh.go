package method

import (
	"context"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
)

func init() {
	Register("refresh", Kind{
		Summary: "train a reward model, measure it on held-out prompts, promote it or not",
		Reads:   []string{"tokenize", "rollout", "label", "reward", "reference", "pairs", "update", "evaluate", "gate"},
		New:     newRefresh,
	})
}

// refresh trains a reward model, on rollouts of the policy or on given solutions.
type refresh struct {
	rounds
}

func newRefresh(r recipe.Recipe) (Method, error) {
	switch {
	case r.Reward == nil:
		return nil, setting.Errorf("reward", "is missing; a refresh trains the model of this section")
	case r.Reward.Update != nil:
		return nil, setting.Errorf("reward.update", "is not read: a refresh trains the reward model by section update")
	case r.Reward.Refresh != nil:
		return nil, setting.Errorf("reward.refresh", "is not read: a run of kind refresh trains the reward model in every iteration")
	}
	if err := trainableReward(r); err != nil {
		return nil, err
	}
	m := &refresh{newRounds(r, append(chain.Learning(r), chain.Update(r, chain.RewardRole, r.Pairs != nil))...)}
	return m, m.checkSampling()
}

// Models are the policy, which stays as it is, and the reward model that the iteration before left.
func (m *refresh) Models(ctx context.Context, d *run.Dir, it *chain.Iteration) error {
	if err := m.window(ctx, d, it); err != nil {
		return err
	}
	if err := m.policy(ctx, d, it, false); err != nil {
		return err
	}
	if err := m.reward(ctx, d, it, true); err != nil {
		return err
	}
	return m.reference(ctx, d, it)
}

// Updates is that of the reward model.
func (m *refresh) Updates() []Training {
	return []Training{{"update", chain.RewardRole, m.r.RewardStart(), m.r.Update}}
}

// Subject is the reward model that the iteration left, measured on responses of the policy, or on those that the source brings.
func (m *refresh) Subject(ctx context.Context, it chain.Iteration) (measure.Subject, error) {
	reward, err := chain.Committed(ctx, m.r.RewardStart(), it.Dir, chain.RewardRole)
	return measure.Subject{Policy: it.Policy, Reward: reward, Reference: it.Reference}, err
}

// Decide writes the promotion of the reward model.
func (m *refresh) Decide(ctx context.Context, it chain.Iteration, measured run.Measurement) error {
	p := run.Promotion{Margin: m.r.Gate.Margin, Why: "was not measured: evaluate.every is 0"}
	if e := measured.Evaluation; e != nil {
		p = judge(m.r.Gate, *e, m.r.Reward.Value.Kind.Ranks())
	}
	return run.WritePromotion(ctx, it.Dir, p)
}

// Note says when a margin cannot be reached.
func (m *refresh) Note(measured run.Measurement) string { return marginNote(m.r, measured) }
