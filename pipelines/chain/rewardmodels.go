package chain

import (
	"slices"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/transforms/score"
	"github.com/millrace/millrace/transforms/value"
)

// RewardModelRole is the role of a reward model beside that of section reward.
func RewardModelRole(name string) string { return RewardRole + "_" + name }

// severalReadReference reports whether a reward model beside that of section reward has log-ratios to a frozen reference.
func severalReadReference(r recipe.Recipe) bool {
	return slices.ContainsFunc(r.RewardModels, func(m recipe.RewardModel) bool { return m.Value.Reference() == value.Frozen })
}

// several scores rows with the reward models beside that of section reward, and says how far all of them are apart.
func several(r recipe.Recipe) (nodes []Node) {
	if severalReadReference(r) && (r.Reward == nil || r.Reward.Value.Reference() != value.Frozen) {
		nodes = append(nodes, scored(score.Config{Role: score.Reference}, func(m Models) models.Ref { return m.Reference }))
	}
	for _, m := range r.RewardModels {
		c := score.Config{Role: score.Reward, As: m.Name}
		if m.Value.OnHead() {
			c.Role = score.QValue
		}
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
