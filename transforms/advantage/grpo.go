package advantage

// GRPO is the outcome relative to the group (arXiv 2402.03300; algorithms.md 4.6). A group all right or all wrong has advantage 0 and
// counts in the denominators of the losses (algorithms.md 4.12), unless only mixed groups are learned from.
type GRPO struct {
	Learned
	Eps float64 `json:"eps" range:"[0,1]" doc:"added to the standard deviation"`
}

func init() { Register("grpo", GRPO{Learned: Learned{Groups: All}, Eps: 1e-6}) }

// Inputs are outcomes and the group.
func (c GRPO) Inputs() Inputs { return Inputs{Outcome: true, Group: true, Learned: c.Learned} }

// Over gives every token the relative outcome.
func (c GRPO) Over(*Totals) func([]Response) {
	return func(group []Response) {
		for k := range group {
			r := &group[k]
			r.Constant(Relative(r.Outcome, r.GroupMean, r.GroupStd, c.Eps))
		}
	}
}
