package method

import (
	"context"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/external"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// Train has another program update the model, where the recipe says so: that of section update, the one training of an iteration that
// comes after its pipelines.
func (b base) Train(ctx context.Context, d *run.Dir, it chain.Iteration, show progress.Run) error {
	if b.r.Update.External == nil {
		return nil
	}
	role := chain.PolicyRole
	if b.r.Kind == "refresh" {
		role = chain.RewardRole
	}
	u := external.Update{Job: chain.UpdateJob(b.r, role, it), Run: d.Path, Iteration: it, Keep: b.r.Keep}
	return u.Do(ctx, show)
}

// trainedElsewhere refuses updates that cannot be handed to another program.
func trainedElsewhere(r recipe.Recipe, all []Training) error {
	for _, t := range all {
		switch e := t.Config.External; {
		case e == nil:
		case t.Path != "update":
			return setting.Errorf(t.Path+".external", "this update is amid the pipeline of an iteration, or of a model that is gone with it; "+
				"only section update can be handed to another program")
		case r.Kind == "evolve":
			return setting.Errorf("update.external", "a run of kind evolve trains all its models itself")
		case e.Dir == "" && files.IsURL(r.Run):
			return setting.Errorf("update.external.dir", "is empty, and run is in a bucket; name a directory that the trainer shares with this "+
				"machine")
		}
	}
	return nil
}
