package recipe

import (
	"github.com/millrace/millrace/transforms/revise"
	"github.com/millrace/millrace/transforms/update"
)

// SEFT fine-tunes a policy on its own responses as a reviser corrects them (arXiv 2406.10813; algorithms.md 4.5).
type SEFT struct {
	Reviser  revise.Config `json:"reviser" doc:"how responses are revised"`
	Pairs    int           `json:"pairs" range:"[1,2147483647]" doc:"prompts that the revisers' pairs are made of; prompts.count is that of a round"`
	Samples  int           `json:"samples" range:"[2,65536]" doc:"responses to each of them"`
	Base     update.Config `json:"base" doc:"training of the base reviser"`
	Adaptive update.Config `json:"adaptive" doc:"training of the adaptive reviser"`
	Source   *Model        `json:"source,omitempty" doc:"answers the prompts of a round in the policy's place"`
	Greedy   bool          `json:"greedy" doc:"the prompts of a round are answered greedily; the revisers' pairs and evaluations stay as rollout says"`
}

// SetDefaults holds the paper's settings.
func (s *SEFT) SetDefaults() {
	*s = SEFT{Reviser: revise.Default(1024), Pairs: 500, Samples: 8, Base: update.Default(), Adaptive: update.Default()}
}
