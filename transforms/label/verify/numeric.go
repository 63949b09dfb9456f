package verify

import (
	"context"
	"errors"
	"math/big"

	"github.com/millrace/millrace/transforms/label/verify/expr"
)

// ToleranceConfig configures the numeric comparison: correct when |response - gold| <= Absolute + Relative |gold|.
type ToleranceConfig struct {
	Absolute    float64 `json:"absolute" range:"[0,1e300]" doc:"distance that counts as equal"`
	Relative    float64 `json:"relative" range:"[0,1e300]" doc:"distance that counts as equal, as a share of the reference answer, beside the absolute one"`
	Expressions bool    `json:"expressions" doc:"an expression that still has an operation to do is an answer where the reference answer is a number"`
}

// Tolerance compares two numbers up to a tolerance.
type Tolerance struct {
	cfg  ToleranceConfig
	math *Math
}

func init() { Register("tolerance", ToleranceConfig{Absolute: 1e-6, Relative: 1e-6}) }

// New makes the verifier.
func (c ToleranceConfig) New() (Verifier, error) { return &Tolerance{c, NewMath(MathConfig{})}, nil }

// Version names the rules and the configuration.
func (t *Tolerance) Version() string {
	return version("tolerance-2", ToleranceConfig{Absolute: 1e-6, Relative: 1e-6}, t.cfg) + "/" + t.math.Version()
}

// Verify evaluates both answers and compares.
func (t *Tolerance) Verify(_ context.Context, gold Gold, response Response) (Result, error) {
	g := t.math.goldAnswer(narrow(gold.Answer))
	want, reason, budget := t.real(g)
	switch {
	case budget:
		return Result{Verdict: Budget, Gold: short(g.text), Reason: "the gold answer is too large"}, nil
	case reason != "":
		return Result{Verdict: UnparsableAnswer, Gold: short(g.text), Reason: reason}, nil
	}
	rest, _ := afterThinking(narrow(tail(response.Text)))
	r, from := t.math.responseAnswer(rest, g, response.Truncated)
	if from == "" {
		return missing(response, g.text), nil
	}
	res := Result{Rule: "tolerance", Extracted: short(r.text), From: from, Gold: want.Text('g', 20)}
	got, reason, budget := t.real(r)
	switch {
	case budget:
		res.Verdict, res.Reason = Budget, "the answer is too large"
		return res, nil
	case reason != "":
		res.Verdict, res.Reason = UnparsableResponse, reason
		return res, nil
	}
	res.Canonical = got.Text('g', 20)
	factor, ok := expr.Answers(g.node, r.node, t.cfg.Expressions)
	if !ok {
		res.Verdict, res.Rule = Incorrect, "unfinished or in another unit"
		return res, nil
	}
	if factor != nil {
		got = new(big.Float).Mul(got, new(big.Float).SetPrec(got.Prec()).SetRat(factor))
	}
	allowed := new(big.Float).Mul(big.NewFloat(t.cfg.Relative), new(big.Float).Abs(want))
	allowed.Add(allowed, big.NewFloat(t.cfg.Absolute))
	off := new(big.Float).Sub(got, want)
	res.Verdict = Incorrect
	if off.Abs(off).Cmp(allowed) <= 0 {
		res.Verdict = Correct
	}
	return res, nil
}

func (t *Tolerance) real(a answer) (v *big.Float, reason string, budget bool) {
	if errors.Is(a.err, expr.ErrBudget) {
		return nil, "", true
	}
	if a.node == nil {
		return nil, a.err.Error(), false
	}
	v, ok, err := expr.Real(a.node, t.math.limits)
	if err != nil {
		return nil, "", true
	}
	if !ok {
		return nil, "not a number: " + short(a.text), false
	}
	return v, "", false
}
