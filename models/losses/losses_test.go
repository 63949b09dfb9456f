package losses_test

import (
	"math"
	"testing"

	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/losses/losstest"
)

// The last token of a response carries the outcome; DistRL passes over it even when it lists candidates.
func TestDistRLPassesOverTheLastToken(t *testing.T) {
	mb := losses.NewMicrobatch([]int{2, 1}, []int32{0, 1, 2})
	mb.Candidates = []losses.Span{{Lo: 0, Hi: 1}, {Lo: 1, Hi: 2}, {Lo: 2, Hi: 3}}
	mb.Listed.OldLogP, mb.Listed.Advantage = []float64{-1, -1, -1}, []float64{1, 1, 1}
	mb.Totals.Add(mb)
	if want := math.Exp(-1); mb.Totals.CandidateMass != want {
		t.Errorf("candidate mass %v, want %v", mb.Totals.CandidateMass, want)
	}
	d := losstest.Dense{V: 3, Logits: make([]float64, 9)}
	_, dz, _ := d.Eval(build(t, "distrl", nil), mb)
	if dz[0] == 0 {
		t.Error("a token that is not the last has no gradient")
	}
	for i, x := range dz[3:] {
		if x != 0 {
			t.Errorf("the last token has gradient %v at %d", x, i)
		}
	}
}

// Two responses, of 1 and 3 tokens, with log-prob -ln 2 everywhere: the mean is ln 2 however it is taken; sums are not.
func TestReductions(t *testing.T) {
	for reduction, want := range map[string]float64{
		"token_mean": 1, "dapo": 1, "bnpo": 1, "seq_mean": 1, "grpo": 1,
		"seq_sum": 2,        // (1 + 3)/2
		"dr_grpo": 4.0 / 20, // 4 tokens over 2 responses of at most 10
	} {
		mb := losses.NewMicrobatch([]int{1, 3}, []int32{0, 0, 1, 1})
		mb.Totals.Add(mb)
		loss, _, _ := losstest.Dense{V: 2, Logits: make([]float64, 8)}.Eval(build(t, "sft",
			map[string]any{"reduction": reduction, "max_tokens": 10}), mb)
		if math.Abs(loss-want*math.Ln2) > 1e-12 {
			t.Errorf("%s: %v, want %v ln 2", reduction, loss, want)
		}
	}
	// Where the terms differ, so do the two means: the single token of the first response is half of seq_mean.
	for reduction, want := range map[string]float64{"token_mean": 1.0 / 4, "seq_mean": 1.0 / 2} {
		mb := losses.NewMicrobatch([]int{1, 3}, []int32{0, 0, 1, 1})
		mb.Rows.Advantage = []float64{1, 0, 0, 0}
		mb.Totals.Add(mb)
		loss, _, _ := losstest.Dense{V: 2, Logits: make([]float64, 8)}.Eval(build(t, "reinforce", map[string]any{"reduction": reduction}), mb)
		if math.Abs(loss-want*math.Ln2) > 1e-12 {
			t.Errorf("reinforce, %s: %v, want %v ln 2", reduction, loss, want)
		}
	}
}

func TestSurrogateBoundsTheRatio(t *testing.T) {
	c := losses.Clip{EpsLow: 0.2, EpsHigh: 0.2, MaxLogRatio: 20}
	for _, x := range []struct{ logp, advantage, ratio, slope float64 }{
		{19, -1, math.Exp(19), -math.Exp(19)},
		{21, -1, math.Exp(20), 0},
		{-19, 1, math.Exp(-19), math.Exp(-19)},
		{-21, 1, math.Exp(-20), 0},
	} {
		ratio, u, slope, branch := c.Surrogate(x.logp, 0, x.advantage)
		if ratio != x.ratio || u != x.ratio*x.advantage || slope != x.slope || branch != losses.Unclipped {
			t.Errorf("log ratio %v, A %v: ρ %v, u %v, slope %v, branch %v", x.logp, x.advantage, ratio, u, slope, branch)
		}
	}
}
