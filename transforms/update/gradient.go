package update

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// In gradient mode the replicas share one step. Every denominator of the loss is that of the whole batch, so the replicas' losses
// and gradients are parts that are added, whatever the reduction, and any number of replicas takes the same step up to rounding.

// gradientPart is what a replica tells of its part of the step, beside the gradient.
type gradientPart struct {
	Loss    float64        `json:"loss"`
	Units   int            `json:"units"`
	Totals  losses.Totals  `json:"totals"` // of the whole batch
	Metrics losses.Metrics `json:"metrics"`
}

const gradientFile = "gradient.json"

// counted is what one replica's rows add to the denominators. Totals is JSON: Beam's schema knows no arrays.
type counted struct {
	Replica int
	Totals  string
}

// countRows counts the rows of one replica.
func countRows(job Job, batches []stage.Batch) (losses.Totals, error) {
	loss, err := job.Loss()
	if err != nil {
		return losses.Totals{}, err
	}
	t := &trainer{config: job.Config, spec: loss.Spec()}
	units, _, err := unitsOf(batches, t.spec, job.Temperature)
	if err != nil {
		return losses.Totals{}, err
	}
	return t.count(units)
}

// oneGradient computes the replica's part of the gradient and returns what leaves it.
func (r *replica) oneGradient(ctx context.Context, units []unit, totals losses.Totals) (leave func(dir string) error, err error) {
	part := gradientPart{Units: len(units), Totals: totals}
	if part.Loss, part.Metrics, err = r.gradient(ctx, units, totals); err != nil {
		return nil, err
	}
	return func(dir string) error {
		raw, err := json.Marshal(part)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, gradientFile), raw, 0o644); err != nil {
			return err
		}
		return r.leave(dir, r.model.Grads(), len(units))
	}, nil
}

// mergeGradients adds the replicas' gradients in their order and takes the step; without a row there is none.
func (r *replica) mergeGradients(ctx context.Context, dirs []string, state string, steps *bytes.Buffer) error {
	sum := make([]float32, len(r.model.Params()))
	var step gradientPart
	for _, dir := range dirs {
		err := files.ReadDirectory(ctx, dir, func(dir string) error {
			gradient, _, err := readResult(dir, len(sum))
			if err != nil {
				return err
			}
			kernels.Add(sum, gradient)
			raw, err := os.ReadFile(filepath.Join(dir, gradientFile))
			if err != nil {
				return err
			}
			var part gradientPart
			if err := json.Unmarshal(raw, &part); err != nil {
				return fmt.Errorf("%s: %w", filepath.Join(dir, gradientFile), err)
			}
			step.Loss, step.Units, step.Totals = step.Loss+part.Loss, step.Units+part.Units, part.Totals
			step.Metrics.Merge(part.Metrics)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if step.Units > 0 {
		record := StepRecord{Loss: step.Loss, Rate: r.state.Rate(), Units: step.Units, Tokens: step.Totals.Tokens, Metrics: map[string]float64{}}
		for _, m := range step.Metrics {
			record.Metrics[m.Name] = m.Mean()
		}
		var err error
		if record.GradNorm, err = r.state.Step(r.model.Params(), sum); err != nil {
			return err
		}
		record.Step = r.state.Steps()
		line, err := json.Marshal(record)
		if err != nil {
			return err
		}
		steps.Write(append(line, '\n'))
	}
	return r.state.Save(filepath.Join(state, stateName(0)))
}
