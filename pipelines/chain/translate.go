package chain

import (
	"context"

	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/transforms/files"
)

// Translate shows the Dataflow job of a chain's first iteration, without a network, credentials or the models.
func (c Chain) Translate(ctx context.Context, r recipe.Recipe) (runners.Translation, error) {
	it := NewIteration("plan", r.Seed, 0, files.Join(r.Run, "iter-00000"))
	it.Policy = r.Policy.Ref()
	if r.Reward != nil {
		it.Reward = r.Reward.Model.Ref()
	}
	if r.Reference != nil {
		it.Reference = r.Reference.Ref()
	}
	p, f := New(it, r.Limits.MaxRecordBytes)
	f.Add(c.Nodes...)
	return runners.Translate(ctx, p, r.Runner)
}
