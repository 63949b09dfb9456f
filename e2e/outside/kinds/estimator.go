// Package kinds has one of each thing that a recipe chooses by name, each a file.
package kinds

import "github.com/millrace/millrace/transforms/advantage"

// Sign is an estimator of advantages: 1 for responses above the mean of their group, -1 for those below.
type Sign struct {
	advantage.Learned
	Scale float64 `json:"scale" range:"(0,inf)" doc:"size of an advantage"`
}

func init() {
	advantage.Register("sign", Sign{Learned: advantage.Learned{Groups: advantage.Mixed}, Scale: 1})
}

// Inputs are outcomes and the group.
func (s Sign) Inputs() advantage.Inputs {
	return advantage.Inputs{Outcome: true, Group: true, Learned: s.Learned}
}

// Over gives every token the same advantage.
func (s Sign) Over(*advantage.Totals) func([]advantage.Response) {
	return func(group []advantage.Response) {
		for k := range group {
			x := s.Scale
			if group[k].Outcome < group[k].GroupMean {
				x = -x
			}
			group[k].Constant(x)
		}
	}
}
