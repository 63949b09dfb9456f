package method

import (
	"context"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
)

func init() {
	Register("train", Kind{
		Summary: "train the policy on given or sampled responses: SFT, DPO",
		Reads:   []string{"tokenize", "rollout", "label", "reference", "pairs", "importance", "update", "evaluate"},
		New:     newTrain,
	})
}

// train trains the policy on responses that the source brings, or that it samples itself.
type train struct {
	rounds
}

func newTrain(r recipe.Recipe) (Method, error) {
	if err := trainable(r.Policy, "policy.path"); err != nil {
		return nil, err
	}
	m := &train{newRounds(r, append(chain.Learning(r), chain.Update(r, chain.PolicyRole, r.Pairs != nil))...)}
	return m, m.checkSampling()
}

// Models are the policy that the iteration before left, and the reference.
func (m *train) Models(ctx context.Context, d *run.Dir, it *chain.Iteration) error {
	if err := m.window(ctx, d, it); err != nil {
		return err
	}
	if err := m.policy(ctx, d, it, true); err != nil {
		return err
	}
	return m.reference(ctx, d, it)
}

// Updates is that of the policy.
func (m *train) Updates() []Training {
	return []Training{{"update", chain.PolicyRole, m.r.Policy, m.r.Update}}
}
