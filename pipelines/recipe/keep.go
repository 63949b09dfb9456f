package recipe

import (
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/rollout"
)

// Keep says which iterations of a run keep their models. Of the others the weights go once a later iteration is committed; rows,
// metrics and manifests stay. States of optimizers stay where the run goes on from, and nowhere else.
type Keep struct {
	Last  int  `json:"last" range:"[1,1e9]" doc:"the last so many iterations keep their models"`
	Every int  `json:"every" range:"[0,1e9]" doc:"and every so many of them, counted from the first: those after 10, 20, 30 iterations; 0: none"`
	Best  bool `json:"best" doc:"and the best by evaluate.best"`
}

// SetDefaults keeps the last two and the best.
func (k *Keep) SetDefaults() { *k = Keep{Last: 2, Best: true} }

// Keeps reports whether an iteration keeps its models when so many are done; best is the best so far, below 0 where none is known.
func (k Keep) Keeps(iteration, done, best int) bool {
	return iteration >= done-k.Last || k.Every > 0 && (iteration+1)%k.Every == 0 || k.Best && iteration == best
}

// retained holds what goes of old iterations to the rest of the recipe.
func (r Recipe) retained() error {
	switch {
	case r.Retain == nil:
		return nil
	case r.Kind == "evolve":
		return setting.Errorf("keep", "is not read: a run of kind evolve goes on from models of its first iterations")
	case r.Rollout.Engine != nil && r.Rollout.Engine.Reload != rollout.ReloadNone && r.Rollout.Engine.Every > r.Retain.Last:
		return setting.Errorf("keep.last", "is %d, and the engine samples with weights of up to %d iterations before (rollout.engine.every)",
			r.Retain.Last, r.Rollout.Engine.Every)
	case r.Retain.Best && !r.Measures():
		return setting.Errorf("keep.best", "no iteration is measured (evaluate.every is 0), so none is the best; set keep.best to false")
	}
	return nil
}
