package pipelines

import (
	"context"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Translate shows the Dataflow job of the recipe's first iteration, without a network, credentials or the models.
func (r Recipe) Translate(ctx context.Context) (runners.Translation, error) {
	dir := stage.JoinPath(r.Run, "iter-00000")
	at := iteration{dir: dir, work: stage.JoinPath(dir, workName), meta: schemas.Meta{Run: "plan", Seed: r.Seed},
		policy: models.Ref{Path: r.Policy.Path}, reward: models.Ref{}, frozen: models.Ref{}}
	if r.Reward != nil {
		at.reward.Path = r.Reward.Path
	}
	if r.Frozen != nil {
		at.frozen.Path = r.Frozen.Path
	}
	p, f := r.flow(at)
	for _, n := range r.chain() {
		n.add(f)
	}
	return runners.Translate(ctx, p, r.Runner)
}
