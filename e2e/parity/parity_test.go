// Package parity holds the losses and advantages to what TRL and verl compute, on fixtures that their own code wrote
// (parity.py). docs/parity.md explains the settings that match.
package parity

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/transforms/advantage"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/series"
)

// Both libraries add constants of 1e-8 to denominators.
const tol = 1e-7

type fixtures struct {
	Lengths                              []int
	Width, Group                         int
	MaxCompletionLength                  int `json:"max_completion_length"`
	Gamma, Lambda                        float64
	Rewards, Advantages, Values, Returns []float64
	LogP                                 []float64 `json:"logp"`
	OldLogP                              []float64 `json:"old_logp"`
	ReferenceLogP                        []float64 `json:"reference_logp"`
	OldValues                            []float64 `json:"old_values"`
	Cases                                []libraryCase
	Statistics                           map[string][]float64
}

type libraryCase struct {
	Library, Name string
	Config        map[string]any
	Loss          float64
	Grad          []float64
}

func load(t *testing.T) fixtures {
	raw, err := os.ReadFile("fixtures.json")
	if err != nil {
		t.Fatal(err)
	}
	var f fixtures
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// ours are the terms that match a case of a library.
func ours(t *testing.T, f fixtures, c libraryCase) []losses.Term {
	clip := func(reduction string, tokens int, dual float64) losses.Term {
		return losses.Term{Name: "ppo", Weight: 1, Config: map[string]any{"reduction": reduction, "max_tokens": tokens, "dual_clip": dual}}
	}
	switch {
	case c.Config["cliprange_value"] != nil:
		return []losses.Term{{Name: "value", Weight: 1, Config: map[string]any{"eps_v": c.Config["cliprange_value"]}}}
	case c.Config["kl"] != nil:
		return []losses.Term{{Name: "reference_kl", Weight: 1, Config: map[string]any{"estimator": c.Config["kl"]}}}
	case c.Library == "verl":
		reduction := map[any]string{"token-mean": "token_mean", "seq-mean-token-mean": "seq_mean", "seq-mean-token-sum": "seq_sum",
			"seq-mean-token-sum-norm": "dr_grpo"}[c.Config["loss_agg_mode"]]
		return []losses.Term{clip(reduction, f.Width, 3)}
	case c.Library == "trl":
		reduction := c.Config["loss_type"].(string)
		dual, _ := c.Config["delta"].(float64)
		terms := []losses.Term{clip(reduction, f.MaxCompletionLength, dual)}
		if beta := c.Config["beta"].(float64); beta > 0 {
			terms = append(terms, losses.Term{Name: "reference_kl", Weight: beta, Config: map[string]any{"reduction": reduction}})
		}
		return terms
	}
	t.Fatalf("no loss for %s %s", c.Library, c.Name)
	return nil
}

func TestLossesAndGradients(t *testing.T) {
	f := load(t)
	for _, c := range f.Cases {
		t.Run(c.Library+" "+c.Name, func(t *testing.T) {
			l, err := losses.Build(ours(t, f, c))
			if err != nil {
				t.Fatal(err)
			}
			mb := losses.NewMicrobatch(f.Lengths, make([]int32, len(f.LogP)))
			mb.Listed.LogP, mb.Listed.OldLogP, mb.Listed.RefLogP = f.LogP, f.OldLogP, f.ReferenceLogP
			mb.Rows.Advantage, mb.Rows.Value, mb.Rows.OldValue, mb.Rows.Return = f.Advantages, f.Values, f.OldValues, f.Returns
			mb.Totals.Add(mb)
			if err := mb.Check(l.Spec()); err != nil {
				t.Fatal(err)
			}
			g := losses.NewGrad(mb)
			golden.CloseTo(t, "loss", l.Eval(mb, g), c.Loss, tol)
			grad := g.Listed
			if l.Spec().Heads == losses.Scalar {
				grad = g.Value
			}
			golden.Close(t, "gradient", grad, c.Grad, tol)
		})
	}
}

func TestAdvantages(t *testing.T) {
	f := load(t)
	keep := make([]bool, len(f.Rewards))
	for i := range keep {
		keep[i] = true
	}
	start := []int{0}
	for _, n := range f.Lengths {
		start = append(start, start[len(start)-1]+n)
	}
	var sample, released, population, rloo []float64
	for lo := 0; lo < len(f.Rewards); lo += f.Group {
		group := f.Rewards[lo : lo+f.Group]
		bessel, plain := label.Statistics(group, keep[lo:lo+f.Group], true), label.Statistics(group, keep[lo:lo+f.Group], false)
		baseline := make([]float64, f.Group)
		advantage.LeaveOneOut(baseline, group, keep[lo:lo+f.Group])
		for i, r := range group {
			sample = append(sample, advantage.Relative(r, bessel.Mean, bessel.Std, 1e-6))
			released = append(released, advantage.Relative(r, bessel.Mean, bessel.Std, 1e-4))
			population = append(population, advantage.Relative(r, plain.Mean, plain.Std, 1e-6))
			rloo = append(rloo, r-baseline[i])
		}
	}
	golden.Close(t, "verl's GRPO advantage, std: sample", sample, f.Statistics["verl_grpo"], tol)
	golden.Close(t, "TRL's GRPO advantage, std: sample, eps: 1e-4", released, f.Statistics["trl_grpo"], tol)
	golden.Close(t, "verl's RLOO advantage", rloo, f.Statistics["verl_rloo"], tol)
	for i, p := range population {
		if f.Statistics["verl_grpo"][i] != 0 && p == f.Statistics["verl_grpo"][i] {
			t.Errorf("the population standard deviation gives the same advantage %v", p)
		}
	}

	n := len(f.LogP)
	gae, returns, delta, rewards := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	for b, r := range f.Rewards {
		lo, hi := start[b], start[b+1]
		rewards[hi-1] = r
		advantage.ValueGAE(delta[lo:hi], gae[lo:hi], returns[lo:hi], rewards[lo:hi], f.OldValues[lo:hi], f.Gamma, f.Lambda)
	}
	golden.Close(t, "verl's returns", returns, f.Statistics["verl_returns"], tol)
	m := series.MomentsOf(gae)
	advantage.Whiten(gae, start, keep, m.Mean(), m.SampleVar())
	golden.Close(t, "verl's whitened GAE", gae, f.Statistics["verl_gae"], tol)
}
