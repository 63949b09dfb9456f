package chain

import (
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/transforms/pairs"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/update"
)

// RefreshName is that of a refresh within a run: of its pipeline, and of what it sets aside.
const RefreshName = "refresh"

// Refresh is a refresh within a run: rows that the run has left, what the losses read beside them, and the update of the reward model.
// Its rows are kept already, by the iterations that sampled them.
func Refresh(r recipe.Recipe) []Node {
	nodes := Source(r, false)
	if readsReference(r) {
		nodes = append(nodes, referenced())
	}
	if r.Pairs != nil {
		p := *r.Pairs
		nodes = append(nodes, Node{Contract: (&p).Contract(), Section: "reward.refresh.pairs", Add: func(f *Flow) {
			f.Then(pairs.Apply(f.Scope, p, f.Rows))
		}})
	}
	contract, _ := UpdateJob(r, RewardRole, Iteration{}).Contract(r.Pairs != nil)
	return append(nodes, Node{Contract: contract, Section: "reward.refresh.update", Add: func(f *Flow) {
		j := UpdateJob(r, RewardRole, f.It)
		f.Then(stage.Apply(f.Scope, update.Window{Model: j.Model}, f.Rows))
		f.WriteDead(DeadName + "-" + RefreshName)
		update.Apply(f.Scope, j, f.Store, f.Rows)
	}})
}
