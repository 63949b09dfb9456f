package update

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/heads"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/optim"
	"github.com/millrace/millrace/models/transformer"
)

// trainer takes optimiser steps on one model.
type trainer struct {
	config     Config
	lm, scalar losses.Loss // the parts of the loss on either head; nil without
	spec       losses.Spec
	model      models.Trainable
	state      *optim.AdamW

	head    heads.LM
	targets []target // models whose logits the target row blends
	rows    []float32
	dRows   []float32
	dHidden []float32
	grad    losses.Grad
}

// target is a frozen model of the target row.
type target struct {
	name      string
	model     *transformer.Model
	workspace transformer.Workspace
	rows      []float32
}

// newTrainer checks that the model has the heads that the loss needs.
func newTrainer(c Config, loss losses.Loss, model models.Trainable, targets []target) (*trainer, error) {
	t := &trainer{config: c, spec: loss.Spec(), model: model, targets: targets, state: optim.New(c.Optimizer, len(model.Params()))}
	t.lm, t.scalar = losses.Split(loss)
	if w, _ := model.ScalarHead(); t.scalar != nil && w == nil {
		return nil, errors.New("the loss needs a scalar head, and the model has none")
	}
	return t, nil
}

// step takes one optimiser step.
func (t *trainer) step(ctx context.Context, step []unit) (StepRecord, error) {
	totals, err := t.count(step)
	if err != nil {
		return StepRecord{}, err
	}
	loss, metrics, err := t.gradient(ctx, step, totals)
	if err != nil {
		return StepRecord{}, err
	}
	record := StepRecord{Loss: loss, Units: len(step), Tokens: totals.Tokens, Rate: t.state.Rate(), Metrics: map[string]float64{}}
	for _, m := range metrics {
		record.Metrics[m.Name] = m.Mean()
	}
	record.GradNorm, err = t.state.Step(t.model.Params(), t.model.Grads())
	record.Step = t.state.Steps()
	return record, err
}

// count counts the denominators of a step's loss, which must be known before the first gradient.
func (t *trainer) count(step []unit) (totals losses.Totals, err error) {
	for _, part := range microbatches(step, t.config.MicrobatchTokens) {
		_, mb, err := fill(part, t.spec)
		if err != nil {
			return totals, err
		}
		totals.Add(mb)
	}
	return totals, nil
}

// gradient sets the model's gradients to those of the units' part of a loss with the given denominators, and returns that part
// and what was measured on the way.
func (t *trainer) gradient(ctx context.Context, units []unit, totals losses.Totals) (loss float64, metrics losses.Metrics, err error) {
	t.model.ZeroGrads()
	for _, part := range microbatches(units, t.config.MicrobatchTokens) {
		if err := ctx.Err(); err != nil {
			return 0, nil, err
		}
		sequences, mb, err := fill(part, t.spec)
		if err != nil {
			return 0, nil, err
		}
		mb.Totals = totals
		l, err := t.accumulate(sequences, mb)
		if err != nil {
			return 0, nil, err
		}
		loss += l
		metrics.Merge(t.grad.Metrics)
		t.grad.Metrics = nil
	}
	return loss, metrics, t.finite(loss, metrics)
}

// finite refuses a loss, or a metric of one, that is no number; of a gradient the optimizer says it.
func (t *trainer) finite(loss float64, metrics losses.Metrics) error {
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		names := make([]string, len(t.config.Losses))
		for i, term := range t.config.Losses {
			names[i] = term.Name
		}
		return fmt.Errorf("the loss (%s) is %v", strings.Join(names, " + "), loss)
	}
	for _, m := range metrics {
		if x := m.Mean(); math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("metric %s of the loss is %v", m.Name, x)
		}
	}
	return nil
}

// accumulate runs one microbatch forward and backward and returns its part of the loss.
func (t *trainer) accumulate(sequences []models.Sequence, mb *losses.Microbatch) (float64, error) {
	batch := models.Pack(sequences)
	hidden, err := t.model.Forward(batch)
	if err != nil {
		return 0, err
	}
	d := t.model.HiddenSize()
	t.dHidden = resized(t.dHidden, len(hidden))
	clear(t.dHidden)
	total := 0.0
	if t.lm != nil {
		rows := scoringRows(sequences, false)
		t.rows, t.dRows = gather(t.rows, hidden, rows, d), resized(t.dRows, len(rows)*d)
		targets, err := t.targetRows(batch, rows)
		if err != nil {
			return 0, err
		}
		t.head.D, t.head.Precision = d, t.model.Precision()
		t.head.W, t.head.DW = t.model.Head()
		loss, err := t.head.Run(t.lm, mb, t.rows, targets, t.dRows, &t.grad)
		if err != nil {
			return 0, err
		}
		total += loss
		scatterAdd(t.dHidden, t.dRows, rows, d)
	}
	if t.scalar != nil {
		rows := scoringRows(sequences, t.spec.After)
		t.rows, t.dRows = gather(t.rows, hidden, rows, d), resized(t.dRows, len(rows)*d)
		var head heads.ScalarHead
		head.W, head.DW = t.model.ScalarHead()
		loss, err := head.Run(t.scalar, mb, t.rows, t.dRows, &t.grad)
		if err != nil {
			return 0, err
		}
		total += loss
		scatterAdd(t.dHidden, t.dRows, rows, d)
	}
	return total, t.model.Backward(t.dHidden)
}

// targetRows runs the frozen models of the target row over the same sequences.
func (t *trainer) targetRows(batch models.Packed, rows []int) (map[string]heads.Target, error) {
	out := map[string]heads.Target{}
	for i := range t.targets {
		m := &t.targets[i]
		hidden, err := m.model.Forward(&m.workspace, batch)
		if err != nil {
			return nil, fmt.Errorf("%s model: %w", m.name, err)
		}
		d := m.model.HiddenSize()
		m.rows = gather(m.rows, hidden, rows, d)
		out[m.name] = heads.Target{D: d, Hidden: m.rows, W: m.model.LMHead(), Precision: m.model.Precision()}
	}
	return out, nil
}

// scoringRows lists the packed rows whose hidden state chose the response tokens; with after, those that come after them.
func scoringRows(sequences []models.Sequence, after bool) []int {
	var rows []int
	at := 0
	for _, s := range sequences {
		first := at + len(s.Prompt) - 1
		if after {
			first++
		}
		for t := range s.Response {
			rows = append(rows, first+t)
		}
		at += len(s.Prompt) + len(s.Response)
	}
	return rows
}

// gather copies rows of x [.,d] side by side.
func gather(dst, x []float32, rows []int, d int) []float32 {
	dst = resized(dst, len(rows)*d)
	for i, r := range rows {
		copy(dst[i*d:(i+1)*d], x[r*d:(r+1)*d])
	}
	return dst
}

// scatterAdd adds the rows of x to the named rows of dst; it is the transpose of gather.
func scatterAdd(dst, x []float32, rows []int, d int) {
	for i, r := range rows {
		kernels.Add(dst[r*d:(r+1)*d], x[i*d:(i+1)*d])
	}
}

func resized(s []float32, n int) []float32 { return slices.Grow(s[:0], n)[:n] }
