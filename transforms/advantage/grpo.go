package advantage

import "github.com/millrace/millrace/transforms/series"

// GRPO is the outcome relative to the group (arXiv 2402.03300; algorithms.md 4.6). A group all right or all wrong has advantage 0 and
// counts in the denominators of the losses (algorithms.md 4.12), unless only mixed groups are learned from.
type GRPO struct {
	Learned
	Eps float64 `json:"eps" range:"[0,1]" doc:"added to the standard deviation"`
	InReward
}

func init() {
	Register("grpo", GRPO{Learned: Learned{Groups: All}, Eps: 1e-6, InReward: InReward{KL: K1}})
}

// Inputs are outcomes and the group.
func (c GRPO) Inputs() Inputs {
	return Inputs{Outcome: true, Group: true, Learned: c.Learned, LogP: c.logp()}
}

// Over gives every token the relative outcome.
func (c GRPO) Over(*Totals) func([]Response) {
	return func(group []Response) {
		if c.CKL == 0 {
			for k := range group {
				r := &group[k]
				r.Constant(Relative(r.Outcome, r.GroupMean, r.GroupStd, c.Eps))
			}
			return
		}
		// The mean and the deviation of the penalised rewards.
		rewards, known := c.rewards(group)
		var m series.Moments
		for k, ok := range known {
			if ok {
				m.Add(rewards[k])
			}
		}
		for k := range group {
			group[k].Constant(Relative(rewards[k], m.Mean(), m.Std(), c.Eps))
		}
	}
}
