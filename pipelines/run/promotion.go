package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/millrace/millrace/pipelines/commit"
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
	raw, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return files.Write(ctx, files.Join(dir, PromotionName), append(raw, '\n'), false)
}

// ReadPromotion reads the promotion of a directory; nil where there is none.
func ReadPromotion(ctx context.Context, dir string) (*Promotion, error) {
	path := files.Join(dir, PromotionName)
	raw, err := files.Read(ctx, path, MaxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = commit.CheckPath(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	var p Promotion
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &p, nil
}

// ReadPromotions reads those of all committed iterations, by iteration.
func (run *Dir) ReadPromotions(ctx context.Context) (map[int]Promotion, error) {
	done, err := run.Committed(ctx)
	if err != nil {
		return nil, err
	}
	out := map[int]Promotion{}
	for _, i := range done {
		p, err := ReadPromotion(ctx, run.IterPath(i))
		if err != nil {
			return nil, err
		}
		if p != nil {
			out[i] = *p
		}
	}
	return out, nil
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
