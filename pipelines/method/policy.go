package method

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
)

func init() {
	Register("policy", Kind{
		Summary: "rollouts of the policy, outcomes, advantages, an update: reinforcement learning",
		Reads: []string{"tokenize", "rollout", "label", "audit", "rewards", "reward", "reward_models", "reference", "mixed", "pairs",
			"importance", "advantage", "target", "update", "evaluate"},
		New: newPolicy,
	})
}

// policyMethod iterates over rollouts of a policy and updates it.
type policyMethod struct {
	rounds
	engine engine
	run    *run.Dir
}

func newPolicy(r recipe.Recipe) (Method, error) {
	if err := trainable(r.Policy, "policy.path"); err != nil {
		return nil, err
	}
	if r.Reward != nil && (r.Reward.Update != nil || r.Reward.Refresh != nil) {
		if err := trainableReward(r); err != nil {
			return nil, err
		}
	}
	m := &policyMethod{rounds: newRounds(r, append(chain.Learning(r), chain.Update(r, chain.PolicyRole, r.Pairs != nil))...)}
	return m, m.checkSampling()
}

// Models are the policy and the reward model that the iteration before left, and the reference.
func (m *policyMethod) Models(ctx context.Context, d *run.Dir, it *chain.Iteration) error {
	m.run = d
	if err := m.window(ctx, d, it); err != nil {
		return err
	}
	if err := m.policy(ctx, d, it, true); err != nil {
		return err
	}
	if m.r.Reward != nil {
		var err error
		if m.r.Scheduled() != nil {
			err = m.serving(ctx, d, it)
		} else {
			err = m.reward(ctx, d, it, m.r.Reward.Update != nil)
		}
		if err != nil {
			return err
		}
		if it.RewardState == "" && (m.r.Reward.Path != "" || m.r.Reward.New != nil) {
			if err := Promoted(ctx, it.Reward.Path); err != nil {
				return fmt.Errorf("reward.path: %w", err)
			}
		}
	}
	if err := m.rewardModels(ctx, it); err != nil {
		return err
	}
	if err := m.reference(ctx, d, it); err != nil || m.r.Rollout.Engine == nil {
		return err
	}
	return m.engine.give(ctx, m.base, d, it)
}

// Updates are that of the reward model, where it is trained on every batch, that of the policy, and that of a refresh.
func (m *policyMethod) Updates() []Training {
	var out []Training
	if m.r.Reward != nil && m.r.Reward.Update != nil {
		out = append(out, Training{"reward.update", chain.RewardRole, m.r.RewardStart(), *m.r.Reward.Update})
	}
	out = append(out, Training{"update", chain.PolicyRole, m.r.Policy, m.r.Update})
	if f := m.r.Scheduled(); f != nil {
		out = append(out, Training{"reward.refresh.update", chain.RewardRole, m.r.RewardStart(), f.Update})
	}
	return out
}

// Start is the policy that the run starts from.
func (m *policyMethod) Start(it chain.Iteration) (measure.Subject, bool) {
	return measure.Subject{Policy: it.Policy, Reference: it.Policy}, true
}

// Note says when a margin cannot be reached.
func (m *policyMethod) Note(measured run.Measurement) string { return marginNote(m.r, measured) }

// trainable says of a model that is trained that it is on this machine.
func trainable(m recipe.Model, path string) error {
	if m.Remote() {
		return setting.Errorf(path, "an endpoint cannot be trained; name the model's directory")
	}
	return nil
}

func trainableReward(r recipe.Recipe) error {
	if err := trainable(r.Reward.Model, "reward.path"); err != nil {
		return err
	}
	if r.Reward.Path == "" && r.Reward.New == nil && r.Policy.Remote() {
		return setting.Errorf("reward.path", "is missing, so that training would start from the policy, which is an endpoint and cannot be "+
			"trained; name the directory of a model")
	}
	return nil
}
