package recipe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/update"
	"github.com/millrace/millrace/transforms/value"
)

// contradictions finds settings that another section denies. The error is at the one and names the other.
func (r Recipe) contradictions() error {
	return setting.First(r.splits(), r.rewardLosses(), r.groups(), r.onPolicy(), r.klMeasured(), r.composed(), r.backfilled(),
		r.elsewhere(), r.evaluated(), r.refreshed(), r.several(), r.retained())
}

// Measures reports whether iterations are measured on held-out prompts.
func (r Recipe) Measures() bool { return r.Evaluate.Every > 0 && r.Kind != "label" }

func (r Recipe) splits() error {
	switch {
	case r.Kind == "label": // whose section evaluate is nobody's
	case r.Evaluate.Split == "":
		return setting.Errorf("evaluate.split", "is empty; name the split of held-out prompts")
	case r.Measures() && r.Evaluate.Split == r.Prompts.Split:
		return setting.Errorf("evaluate.split", "%q is what prompts.split trains on; held-out prompts need another split", r.Evaluate.Split)
	}
	return nil
}

// rewardLosses holds the losses that train a reward model to what its values are made of.
func (r Recipe) rewardLosses() error {
	if r.Reward == nil {
		return nil
	}
	trains := r.Reward.Update != nil || r.Reward.Refresh != nil
	if r.Reward.Path == "" && r.Reward.New == nil && !trains && r.Kind != "refresh" && r.Reward.Value.Reference() == value.Old {
		return setting.Errorf("reward.path", "is empty, so the reward model is the policy itself, and log-ratios to the policy "+
			"(reward.value.reference old) "+
			"are all 0; name a reward model")
	}
	trained := map[string]*update.Config{"reward.update": r.Reward.Update}
	if f := r.Reward.Refresh; f != nil {
		trained["reward.refresh.update"] = &f.Update
	}
	if r.Kind == "refresh" {
		trained = map[string]*update.Config{"update": &r.Update}
	}
	v := r.Reward.Value
	for at, u := range trained {
		if u == nil {
			continue
		}
		for i, term := range u.Losses {
			path := at + fmt.Sprintf(".losses[%d]", i)
			if by := v.Kind.TrainedBy(); !slices.Contains(by, term.Name) {
				return setting.Errorf(path+".name", "%s does not train values of kind %s, which reward.value.kind says they are; %s does", term.Name,
					v.Name, strings.Join(by, " or "))
			}
			beta, reference, ok := scaleOf(term)
			if !ok {
				continue
			}
			if beta != v.Kind.Scale() {
				return setting.Errorf("reward.value.beta", "is %v, and %s.beta is %v; the values and the loss that trains them are scaled alike",
					v.Kind.Scale(), path, beta)
			}
			if reference != v.Reference() {
				return setting.Errorf("reward.value.reference", "is %s, and %s.reference is %s; log-ratios are taken to one model", v.Reference(),
					path, reference)
			}
		}
	}
	return nil
}

// scaleOf is the beta and the reference of a loss of log-ratios; false where it has neither.
func scaleOf(term update.Term) (beta float64, reference string, ok bool) {
	l, err := losses.New(term.Name, term.Config)
	if err != nil {
		return 0, "", false // which Check has said
	}
	r, ok := l.(losses.LogRatio)
	if !ok {
		return 0, "", false
	}
	beta, reference = r.Ratio()
	return beta, reference, true
}

// groups holds what is relative to a prompt's other responses to their number.
func (r Recipe) groups() error {
	if r.Rollout.Samples != 1 || r.Kind != "policy" {
		return nil
	}
	for _, d := range r.Prompts.Of.Columns() {
		if d.Describe().Name == "response" {
			return nil // the source brings as many as it has
		}
	}
	switch {
	case r.Advantage != nil && r.Advantage.Grouped():
		return setting.Errorf("rollout.samples", "is 1, and advantage.kind %s compares a response with the others of its prompt; want at "+
			"least 2", r.Advantage.Kind)
	case r.Pairs != nil:
		return setting.Errorf("rollout.samples", "is 1, and section pairs compares two responses of a prompt; want at least 2")
	case r.Mixed != nil:
		return setting.Errorf("rollout.samples", "is 1, and section mixed keeps prompts with right and wrong responses; want at least 2")
	}
	return nil
}

func (r Recipe) backfilled() error {
	if b := r.Backfill(); b != nil && b.Rounds*r.Prompts.Count < b.Groups {
		return setting.Errorf("mixed.backfill.groups", "%d groups cannot come of %d rounds of %d prompts (prompts.count)", b.Groups, b.Rounds,
			r.Prompts.Count)
	}
	return nil
}

// composed holds the parts of a reward to what reads them and what they read.
func (r Recipe) composed() error {
	if len(r.Rewards) == 0 {
		return nil
	}
	if err := label.CheckParts(r.Rewards); err != nil {
		return setting.In("rewards", err)
	}
	if r.Advantage == nil || !r.Advantage.Inputs().Outcome {
		return setting.Errorf("rewards", "nothing reads a reward: advantages go by outcomes, and by rewards in their place, where "+
			"advantage.kind is one such as grpo")
	}
	return nil
}
