package run

import (
	"context"
	"slices"

	"github.com/millrace/millrace/transforms/files"
)

// Promotion is what became of a trained reward model, written beside it.
type Promotion struct {
	Promoted bool    `json:"promoted"`
	Measure  string  `json:"measure"` // best_of_n or auc
	Value    float64 `json:"value"`
	StdErr   float64 `json:"std_err,omitempty"` // of value, over prompts
	Chance   float64 `json:"chance"`
	Margin   float64 `json:"margin"`
	Why      string  `json:"why"`

	// Of a refresh within a run.
	Model   string    `json:"model,omitempty"`   // what was trained, as lineage names it
	From    string    `json:"from,omitempty"`    // what its training started from: the model that served before
	Batches []int     `json:"batches,omitempty"` // iterations whose rows it was trained on
	Serving *Standing `json:"serving,omitempty"` // what the model that served before reaches on the same responses
}

// Standing is what a reward model was measured to reach.
type Standing struct {
	Value  float64 `json:"value"`
	StdErr float64 `json:"std_err,omitempty"`
}

// PromotionName is the file of a promotion in an iteration's directory.
const PromotionName = "promotion.json"

// WritePromotion leaves a promotion in a directory.
func WritePromotion(ctx context.Context, dir string, p Promotion) error {
	return writeState(ctx, files.Join(dir, PromotionName), p, false)
}

// ReadPromotion reads the promotion of a directory; nil where there is none.
func ReadPromotion(ctx context.Context, dir string) (*Promotion, error) {
	return readState[Promotion](ctx, files.Join(dir, PromotionName))
}

// ReadPromotions reads those of all committed iterations, by iteration.
func (run *Dir) ReadPromotions(ctx context.Context) (map[int]Promotion, error) {
	done, err := run.Committed(ctx)
	if err != nil {
		return nil, err
	}
	having, err := run.having(ctx, PromotionName)
	if err != nil {
		return nil, err
	}
	out := map[int]Promotion{}
	for _, i := range having {
		if i >= len(done) {
			break
		}
		p, err := ReadPromotion(ctx, run.IterPath(i))
		if err != nil {
			return nil, err
		}
		out[i] = *p
	}
	return out, nil
}

// Serving is the last of the first so many iterations whose refresh left the reward model that serves after them, -1 where none did.
func (run *Dir) Serving(ctx context.Context, iterations int) (int, error) {
	having, err := run.having(ctx, PromotionName)
	if err != nil {
		return -1, err
	}
	for _, i := range slices.Backward(having) {
		if i >= iterations {
			continue
		}
		if p, err := ReadPromotion(ctx, run.IterPath(i)); err != nil || p.Promoted {
			return i, err
		}
	}
	return -1, nil
}

// into puts a refresh within the run among the metrics of its iteration.
func (p Promotion) into(metrics map[string]float64) {
	promoted := 0.0
	if p.Promoted {
		promoted = 1
	}
	metrics["refresh/promoted"] = promoted
	if p.Measure != "" {
		metrics["refresh/value"], metrics["refresh/chance"] = p.Value, p.Chance
	}
	if p.Serving != nil {
		metrics["refresh/serving"] = p.Serving.Value
	}
}
