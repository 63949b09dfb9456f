package pipelines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/value"
)

// Gate decides whether a trained reward model may serve.
type Gate struct {
	// Margin is by how much the model must rank better than chance on held-out prompts: Best-of-N above the mean accuracy
	// where prompts have several responses (and then by more than two standard errors), else the area under the curve of its
	// last prefix value above one half.
	Margin float64 `json:"margin"`
}

// Promotion is what became of a trained reward model, written beside it.
type Promotion struct {
	Promoted bool    `json:"promoted"`
	Measure  string  `json:"measure"` // best_of_n or auc
	Value    float64 `json:"value"`
	StdErr   float64 `json:"std_err,omitempty"` // of value, over prompts
	Chance   float64 `json:"chance"`
	Margin   float64 `json:"margin"`
	Why      string  `json:"why"`
}

const promotionName = "promotion.json"

// decide writes the promotion of an iteration's reward model.
func (r Recipe) decide(ctx context.Context, at iteration, m Measurement) error {
	p := Promotion{Margin: r.Gate.Margin, Why: "was not measured: evaluate.every is 0"}
	if e := m.Evaluation; e != nil {
		p = r.Gate.judge(*e, r.Reward.bestOfScore())
	}
	raw, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return stage.WriteFile(ctx, stage.JoinPath(at.dir, promotionName), append(raw, '\n'), false)
}

// judge compares the model's ranking with chance.
func (g Gate) judge(e Evaluation, score string) Promotion {
	p := Promotion{Margin: g.Margin}
	several := 0
	for _, prompt := range e.Sums.Prompts {
		if prompt.N > 1 {
			several++
		}
	}
	switch {
	case several > 0:
		p.Measure, p.Chance = "best_of_n", e.Avg.Mean
		for _, b := range e.BestOf {
			if b.Score == score {
				p.Value, p.StdErr = b.Mean, b.StdErr
			}
		}
	case e.Calibration != nil && e.Calibration.AUC != nil:
		p.Measure, p.Value, p.Chance = "auc", *e.Calibration.AUC, 0.5
	default:
		p.Measure, p.Why = "auc", "cannot be measured: held-out outcomes are all alike"
		return p
	}
	what := fmt.Sprintf("%s %.3f on held-out prompts (standard error %.3f)", p.Measure, p.Value, p.StdErr)
	switch {
	case p.Value < p.Chance+g.Margin:
		p.Why = fmt.Sprintf("%s is not at least chance (%.3f) plus the margin %.3f", what, p.Chance, g.Margin)
	case g.Margin >= 0 && p.Value-2*p.StdErr <= p.Chance: // a negative margin turns the gate off
		p.Why = fmt.Sprintf("%s is within two standard errors of chance (%.3f); measure on more prompts", what, p.Chance)
	default:
		p.Promoted = true
		p.Why = fmt.Sprintf("%s is at least chance (%.3f) plus the margin %.3f", what, p.Chance, g.Margin)
		if g.Margin >= 0 {
			p.Why += ", and more than two standard errors above chance"
		}
	}
	return p
}

// marginWarning says when a margin cannot be reached: a right response's mean log-ratio is at most the reference's mean
// -log p, so a larger margin / beta is never met and drags every value down.
func (r Recipe) marginWarning(m Measurement) string {
	reach, ok := m.Metrics[referenceNLL]
	if !ok {
		return ""
	}
	terms := r.Update.Losses
	if r.Reward != nil && r.Reward.Update != nil {
		terms = append(slices.Clone(terms), r.Reward.Update.Losses...)
	}
	for _, t := range terms {
		l, err := losses.New(t.Name, t.Config)
		if err != nil {
			continue
		}
		var margin, beta float64
		switch l := l.(type) {
		case losses.IPVRM:
			margin, beta = l.Margin, l.Beta
		case losses.IPVRMOnline:
			margin, beta = l.Margin, l.Beta
		default:
			continue
		}
		if margin/beta > reach {
			return fmt.Sprintf("warning: %s: margin %g / beta %g = %.3g nats a token, but right responses can reach only %.3g (the policy's mean -log p); a margin of 0 suits a policy this certain",
				t.Name, margin, beta, margin/beta, reach)
		}
	}
	return ""
}

// bestOfScore is the column by whose last number Best-of-N goes.
func (r Reward) bestOfScore() string {
	switch r.Value.Kind {
	case value.ImplicitPRM, value.DPORM:
		return "value"
	}
	return "mean_value"
}

// RefreshResult is what a refresh left.
type RefreshResult struct {
	Run        string            `json:"run"`
	Model      string            `json:"model"` // directory
	Digest     string            `json:"digest"`
	Precision  kernels.Precision `json:"precision,omitempty"` // that it was trained and measured in
	Promotion  Promotion         `json:"promotion"`
	Evaluation *Evaluation       `json:"evaluation"`
}

// ReadRefresh reads the result of the last iteration of a refresh.
func ReadRefresh(ctx context.Context, dir string) (RefreshResult, error) {
	run := &RunDir{Path: dir}
	last, _, err := run.Iteration(ctx, -1)
	if err != nil {
		return RefreshResult{}, err
	}
	out := RefreshResult{Run: dir, Model: stage.JoinPath(last, "reward")}
	raw, err := stage.ReadFile(ctx, stage.JoinPath(last, promotionName), maxStateBytes)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out.Promotion); err != nil {
		return out, fmt.Errorf("%s: %w", stage.JoinPath(last, promotionName), err)
	}
	measured, err := stage.ReadLines[Measurement](ctx, stage.JoinPath(last, metricsName))
	if err != nil {
		return out, err
	}
	if len(measured) > 0 {
		out.Evaluation = measured[len(measured)-1].Evaluation
	}
	if out.Evaluation == nil {
		out.Evaluation = &Evaluation{}
	}
	r, err := run.Recipe(ctx)
	if err != nil {
		return out, err
	}
	ref, err := r.rewardStart().OpenAt(ctx, out.Model)
	out.Digest, out.Precision = ref.Digest, ref.Precision
	return out, err
}

// RefusedError says that a reward model did not pass its gate.
type RefusedError struct{ Path, Why string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("reward.path: the reward model %s was not promoted: %s; a policy trained on it would learn noise. Train it longer, or lower gate.margin and refresh again", e.Path, e.Why)
}

// promoted refuses a reward model whose refresh did not promote it. A model without such a record is the user's own.
func promoted(ctx context.Context, model string) error {
	path := stage.JoinPath(stage.ParentPath(model), promotionName)
	raw, err := stage.ReadFile(ctx, path, maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var p Promotion
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if p.Promoted {
		return nil
	}
	return &RefusedError{Path: model, Why: p.Why}
}
