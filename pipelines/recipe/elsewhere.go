package recipe

import (
	"fmt"
	"slices"

	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/importance"
)

// SampledElsewhere reports whether another engine samples than the one that is trained, so that its log-probs are not the trainer's.
func (r Recipe) SampledElsewhere() bool { return r.Rollout.Engine != nil }

// linear are the losses that are linear in the advantages of tokens, and those that read none: what a weight multiplies there is the loss
// of a token (algorithms.md 4.9).
var linear = []string{"ppo", "cispo", "reinforce", "distrl", "gspo", "reference_kl", "entropy", "value", "outcome_value", "sft"}

// elsewhere holds an engine and its weights to the rest of the recipe.
func (r Recipe) elsewhere() error {
	engine := r.Rollout.Engine
	switch {
	case engine == nil && r.Importance == nil:
		return nil
	case engine == nil:
		return setting.Errorf("importance", "nothing else than the policy samples; rollout.engine names a server that does")
	case r.Kind != "policy":
		return setting.Errorf("rollout.engine", "is read by kind policy, which gives it new weights; name an endpoint as policy.path here")
	case r.Prompts.Answers():
		return setting.Errorf("rollout.engine", "nothing is sampled: the source of prompts brings responses")
	case r.Policy.New != nil:
		return setting.Errorf("policy.new", "the server cannot have random weights that the run draws; name a model directory")
	case r.Mixed != nil && r.Mixed.Backfill != nil && engine.MaxStaleness > 0:
		return setting.Errorf("mixed.backfill", "rounds of one iteration go by one policy; leave rollout.engine.max_staleness at 0")
	case r.Importance == nil:
		return nil
	case r.Advantage == nil:
		return setting.Errorf("importance", "weighs advantages, and the recipe has none (section advantage)")
	}
	for i, l := range r.Update.Losses {
		at := fmt.Sprintf("update.losses[%d]", i)
		if !slices.Contains(linear, l.Name) {
			return setting.Errorf(at, "%s is not linear in the advantages, which importance weights multiply; it goes with none", l.Name)
		}
		if l.Name == "gspo" && r.Importance.Level == importance.Token {
			return setting.Errorf("importance.level", "token: loss gspo takes a response as a whole; want sequence or geometric")
		}
	}
	return nil
}
