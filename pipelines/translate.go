package pipelines

import (
	"context"

	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Translate shows the Dataflow job of the recipe's first iteration, without a network, credentials or the models.
func (r Recipe) Translate(ctx context.Context) (runners.Translation, error) {
	dir := stage.JoinPath(r.Run, "iter-00000")
	at := iteration{dir: dir, work: stage.JoinPath(dir, workName), meta: schemas.Meta{Run: "plan", Seed: r.Seed},
		policy: r.Policy.ref()}
	if r.Reward != nil {
		at.reward = r.Reward.Model.ref()
	}
	if r.Frozen != nil {
		at.frozen = r.Frozen.ref()
	}
	p, f := r.flow(at)
	for _, n := range r.chain() {
		n.add(f)
	}
	return runners.Translate(ctx, p, r.Runner)
}
