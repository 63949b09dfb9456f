package recipe

import (
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/pairs"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/replay"
	"github.com/millrace/millrace/transforms/update"
)

// Refresh trains the reward model of a run again now and then, on what the run has sampled: batch refresh (arXiv 2604.13197). The model
// that results serves from then on where it passes its gate; else the one before goes on.
type Refresh struct {
	Every   int           `json:"every" range:"[1,1e9]" doc:"iterations between refreshes; the first is before iteration every, counted from 0"`
	Batches int           `json:"batches" range:"[1,1e6]" doc:"it is trained on the rows of so many iterations, the last ones"`
	Pairs   *pairs.Config `json:"pairs,omitempty" doc:"preference pairs of these rows, for losses that compare two responses"`
	Update  update.Config `json:"update" doc:"losses and optimizer steps of a refresh"`
	Gate    Gate          `json:"gate" doc:"whether the trained model may serve"`
}

// SetDefaults refreshes every ten iterations on all that was sampled since.
func (r *Refresh) SetDefaults() {
	*r = Refresh{Every: 10, Batches: 10, Update: update.Default(), Gate: Gate{Margin: 0.1}}
}

// Gated reports whether a refresh is measured before its model may serve.
func (r Refresh) Gated() bool { return r.Gate.Margin >= 0 }

// Due reports whether a refresh comes before an iteration.
func (r Refresh) Due(iteration int) bool { return iteration > 0 && iteration%r.Every == 0 }

// From is the first iteration whose rows a refresh before an iteration is trained on.
func (r Refresh) From(iteration int) int { return max(0, iteration-r.Batches) }

// Scheduled is the refresh of a recipe, nil where it has none.
func (r Recipe) Scheduled() *Refresh {
	if r.Reward == nil {
		return nil
	}
	return r.Reward.Refresh
}

// Refreshing is the recipe of a refresh within the run: it trains the reward model on rows that lie in dirs, count prompts in all.
func (r Recipe) Refreshing(dirs []string, count int) Recipe {
	f := *r.Reward.Refresh
	reward := *r.Reward
	reward.Refresh, reward.Update = nil, nil
	r.Kind, r.Reward, r.Update, r.Pairs, r.Gate = "refresh", &reward, f.Update, f.Pairs, f.Gate
	r.Rewards, r.Audit, r.Advantage, r.Target, r.Mixed, r.Importance, r.Extra = nil, nil, nil, nil, nil, nil, nil
	r.Rollout.Engine, r.RewardModels = nil, nil
	r.Prompts = prompts.Config{Source: "batch", Split: "all", Count: count, PerRecord: r.Prompts.PerRecord,
		Of: replay.Batch{Path: dirs, Keep: []string{schemas.Outcome.Name}, Exhausted: "stop"}}
	return r
}

// refreshed holds a scheduled refresh to the rest of the recipe.
func (r Recipe) refreshed() error {
	f := r.Scheduled()
	switch {
	case f == nil:
		return nil
	case r.Reward.Update != nil:
		return setting.Errorf("reward.refresh", "is given and so is reward.update, which trains the model on every batch; want one of them")
	case r.Reward.Path == "" && r.Reward.New == nil && (r.Advantage == nil || !r.Advantage.Inputs().Outcome):
		return setting.Errorf("reward.path", "is empty, so until the first refresh the reward model is the policy, whose log-ratios to itself "+
			"are all 0, and advantages go by nothing else; name a reward model, or an advantage that goes by outcomes too, such as combined")
	case f.Gated() && r.Evaluate.Split == r.Prompts.Split:
		return setting.Errorf("evaluate.split", "%q is what prompts.split trains on, and refreshes are measured on evaluate.split "+
			"(reward.refresh.gate); name another", r.Evaluate.Split)
	}
	return nil
}
