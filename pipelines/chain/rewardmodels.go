package chain

import (
	"slices"

	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/transforms/score"
	"github.com/millrace/millrace/transforms/value"
)

// RewardModelRole is the role of a reward model beside that of section reward.
func RewardModelRole(name string) string { return RewardRole + "_" + name }

// rewardReadsReference reports whether the reward model of section reward has log-ratios to a frozen reference, and so brings its
// log-probs.
func rewardReadsReference(r recipe.Recipe) bool {
	return r.Reward != nil && r.Reward.Value.Reference() == value.Frozen
}

// ValuesReadReference reports whether any reward model has log-ratios to a frozen reference.
func ValuesReadReference(r recipe.Recipe) bool {
	return rewardReadsReference(r) ||
		slices.ContainsFunc(r.RewardModels, func(m recipe.RewardModel) bool { return m.Value.Reference() == value.Frozen })
}

// scorerOf says as what a model scores whose values are made so.
func scorerOf(v value.Config, candidates bool) score.Config {
	if v.OnHead() {
		return score.Config{Role: score.QValue}
	}
	return score.Config{Role: score.Reward, Candidates: candidates}
}

// several scores rows with the reward models beside that of section reward, and says how far all of them are apart.
func several(r recipe.Recipe) (nodes []Node) {
	if ValuesReadReference(r) && !rewardReadsReference(r) {
		nodes = append(nodes, referenced())
	}
	for _, m := range r.RewardModels {
		c := scorerOf(m.Value, false)
		c.As = m.Name
		v := value.Named{Config: m.Value, As: m.Name}
		nodes = append(nodes,
			Node{Contract: c.Contract(), Section: "reward_models", Opens: []string{RewardModelRole(m.Name)}, Add: func(f *Flow) {
				f.Then(score.Apply(f.Scope, c, f.It.RewardModels[m.Name], f.Rows))
			}},
			Node{Contract: (&v).Contract(), Section: "reward_models", Add: func(f *Flow) { f.Then(value.ApplyNamed(f.Scope, v, f.Rows)) }})
	}
	if of := r.Scorers(); len(r.RewardModels) > 0 && len(of) > 1 {
		d := value.Disagreement{Of: of}
		nodes = append(nodes, Node{Contract: (&d).Contract(), Section: "reward_models", Add: func(f *Flow) {
			f.Then(value.Disagree(f.Scope, d, f.Rows))
		}})
	}
	return nodes
}
