package method_test

import (
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipes"
)

// Prism waits in a busy loop, which takes a core, for a stage whose results nobody reads (stage.End), and for one that works
// while it has a side input (stage.ApplyWith). No pipeline of ours may hold one.
func TestNoStageKeepsPrismBusy(t *testing.T) {
	for _, e := range recipes.All() {
		r, err := parse([]byte(e.Text), nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := method.New(r)
		if err != nil {
			t.Fatal(err)
		}
		it := chain.NewIteration("plan", 1, 0, t.TempDir())
		it.Policy = models.Ref{Path: "policy"}
		c, err := m.Chain(it)
		if err != nil {
			t.Fatal(err)
		}
		p, f := chain.New(it, 0)
		f.Add(c.Nodes...)
		edges, _, err := p.Build()
		if err != nil {
			t.Fatal(err)
		}
		readers := map[*graph.Node][]*graph.MultiEdge{}
		for _, edge := range edges {
			for _, in := range edge.Input {
				readers[in.From] = append(readers[in.From], edge)
			}
		}
		// leaves reports whether what a transform emits leaves the stage that it is fused into.
		var leaves func(*graph.MultiEdge) bool
		leaves = func(edge *graph.MultiEdge) bool {
			for _, out := range edge.Output {
				for _, next := range readers[out.To] {
					if next.Op != graph.ParDo || next.Input[0].From != out.To || leaves(next) {
						return true
					}
				}
			}
			return false
		}
		for _, edge := range edges {
			if edge.Op != graph.ParDo {
				continue
			}
			if !leaves(edge) && !fusedWithOne(edge, readers, leaves) {
				t.Errorf("recipe %s: nobody reads what %s/%s emits", e.Name, edge.Scope().Label, edge.Name())
			}
			if len(edge.Input) == 1 {
				continue
			}
			for _, out := range edge.Output {
				for _, next := range readers[out.To] {
					if next.Op == graph.ParDo {
						t.Errorf("recipe %s: %s works in a stage with a side input, that of %s", e.Name, next.Name(), edge.Name())
					}
				}
			}
		}
	}
}

// fusedWithOne reports whether another reader of the same rows, which is in the same stage, has results that are read.
func fusedWithOne(edge *graph.MultiEdge, readers map[*graph.Node][]*graph.MultiEdge, leaves func(*graph.MultiEdge) bool) bool {
	for _, other := range readers[edge.Input[0].From] {
		if other != edge && leaves(other) {
			return true
		}
	}
	return false
}
