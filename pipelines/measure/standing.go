package measure

import (
	"context"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/evaluate"
)

// Standing is where a policy stands on the prompts that a recipe takes: whether there is something to learn from its own responses. A
// prompt whose responses are all right or all wrong gives no advantage over the group.
type Standing struct {
	Split     string            `json:"split"`
	Prompts   int               `json:"prompts"`
	Samples   int               `json:"samples"` // responses a prompt
	Right     evaluate.Estimate `json:"right"`   // mean share of right responses
	Mixed     evaluate.Estimate `json:"mixed"`   // share of the prompts that have right and wrong responses
	Truncated float64           `json:"truncated"`
}

// Stand samples responses to the first n prompts of a recipe as the recipe does, and judges them.
func Stand(ctx context.Context, r recipe.Recipe, policy models.Ref, n int, work string) (Standing, error) {
	r.Evaluate.Split, r.Evaluate.Prompts, r.Evaluate.Samples = r.Prompts.Split, n, r.Rollout.Samples
	if !chain.Judges(HeldOut(r, false)) {
		return Standing{}, setting.Errorf("prompts.source", "%q brings outcomes, so no response of the policy is judged", r.Prompts.Source)
	}
	e, err := Measure(ctx, r, Subject{Policy: policy}, work)
	if err != nil {
		return Standing{}, err
	}
	out := Standing{Split: r.Evaluate.Split, Prompts: e.Prompts, Samples: r.Evaluate.Samples, Right: e.Avg,
		Truncated: float64(e.Report.Truncated) / float64(max(1, e.Responses))}
	mixed := make([]float64, len(e.Sums.Prompts))
	for i, p := range e.Sums.Prompts {
		if p.Correct > 0 && p.Correct < p.N {
			mixed[i] = 1
		}
	}
	out.Mixed = evaluate.Over(mixed)
	return out, nil
}
