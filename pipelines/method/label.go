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
		Reads:   []string{"tokenize", "rollout", "label", "reward", "reward_models", "reference", "mixed", "advantage", "target"},
		New:     newLabel, NoPolicy: true,
	})
}

// labelMethod ends in rows: nothing is trained.
type labelMethod struct{ rounds }

func newLabel(r recipe.Recipe) (Method, error) {
	if r.Reward != nil && r.Reward.Update != nil {
		return nil, setting.Errorf("reward.update", "is not read: a run of kind label trains nothing")
	}
	if r.Scheduled() != nil {
		return nil, setting.Errorf("reward.refresh", "is not read: a run of kind label trains nothing")
	}
	if r.Policy.Empty() {
		if why := needsModel(r); why != "" {
			return nil, setting.Errorf("policy", "is not given, and %s; name a model, or a directory with its tokenizer", why)
		}
	}
	m := &labelMethod{newRounds(r, append(chain.Learning(r), chain.End())...)}
	m.judge = !r.Prompts.Brings(schemas.Outcome) // verdicts are what such a run is for
	return m, m.checkSampling()
}

// needsModel says for what a recipe needs a policy, "" where given responses are judged as texts.
func needsModel(r recipe.Recipe) string {
	switch {
	case chain.Samples(r):
		return "responses are sampled"
	case stepsAsked(r):
		return "continuations of responses are sampled (steps)"
	case r.Reward != nil:
		return "a reward model scores tokens"
	case r.Advantage != nil:
		return "advantages are of tokens"
	case !r.Prompts.Brings(schemas.Response):
		return "responses come as token ids alone"
	case r.Label.MaxTokens > 0:
		return "label.max_tokens counts tokens"
	case len(r.Rewards) > 0:
		return "rewards are of responses as tokens"
	case r.Audit != nil:
		return "an audit is of responses as tokens"
	}
	return ""
}

// stepsAsked reports whether a recipe labels steps by continuations.
func stepsAsked(r recipe.Recipe) bool {
	_, ok := r.Extra[chain.StepsSection]
	return ok
}

// Models are those of the recipe, in every iteration.
func (m *labelMethod) Models(ctx context.Context, d *run.Dir, it *chain.Iteration) error {
	if err := m.window(ctx, d, it); err != nil {
		return err
	}
	if m.r.Policy.Empty() {
		return nil
	}
	if err := m.policy(ctx, d, it, false); err != nil {
		return err
	}
	if m.r.Reward != nil {
		if err := m.reward(ctx, d, it, false); err != nil {
			return err
		}
	}
	if err := m.rewardModels(ctx, it); err != nil {
		return err
	}
	return m.reference(ctx, d, it)
}

// Updates are none.
func (m *labelMethod) Updates() []Training { return nil }
