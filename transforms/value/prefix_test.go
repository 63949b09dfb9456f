package value

import (
	"math"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
)

func TestPrefixGolden(t *testing.T) {
	for _, file := range []string{"ipvrm_offline.json", "ipvrm_online.json", "implicit_prm.json"} {
		for _, c := range golden.Load(t, file).Cases {
			beta := golden.Get[float64](t, c.Params, "beta")
			logp := golden.Get[golden.Tensor](t, c.Out, "logp").Data
			ref := golden.Get[golden.Tensor](t, c.In, "ref_logp").Data
			n := len(logp)
			l, v, mean, p := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
			LogRatios(l, logp, ref)
			scores := []float64{}
			at := 0
			for _, length := range golden.Get[[]int](t, c.In, "lengths") {
				to := at + length
				Prefix(v[at:to], mean[at:to], l[at:to], beta)
				if length > 0 {
					scores = append(scores, v[to-1])
				}
				at = to
			}
			golden.Close(t, c.Name+" l", l, golden.Get[golden.Tensor](t, c.Out, "l").Data, 1e-9)
			golden.Close(t, c.Name+" V", v, golden.Get[golden.Tensor](t, c.Out, "V").Data, 1e-9)
			if c.Out.Has("vbar") {
				Correct(p, mean)
				golden.Close(t, c.Name+" vbar", mean, golden.Get[golden.Tensor](t, c.Out, "vbar").Data, 1e-9)
				golden.Close(t, c.Name+" p_correct", p, golden.Get[golden.Tensor](t, c.Out, "p_correct").Data, 1e-9)
			} else {
				p = make([]float64, len(scores))
				Correct(p, scores)
				golden.Close(t, c.Name+" score", scores, golden.Get[golden.Tensor](t, c.Out, "score").Data, 1e-9)
				golden.Close(t, c.Name+" p_correct", p, golden.Get[golden.Tensor](t, c.Out, "p_correct").Data, 1e-9)
			}
		}
	}
}

// TestResponseScores holds the score that each kind of reward model gives a whole response.
func TestResponseScores(t *testing.T) {
	for _, c := range golden.Load(t, "pass_at_k_bon.json").Cases {
		if golden.Get[string](t, c.Params, "kind") != "scores" {
			continue
		}
		beta := golden.Get[float64](t, c.Params, "beta")
		l := golden.Get[golden.Tensor](t, c.In, "l").Data
		z := golden.Get[golden.Tensor](t, c.In, "Z").Data
		var ipvrm, sum, qrm []float64
		v, mean := make([]float64, len(l)), make([]float64, len(l))
		at := 0
		for _, length := range golden.Get[[]int](t, c.In, "lengths") {
			to := at + length
			Prefix(v[at:to], mean[at:to], l[at:to], beta)
			ipvrm, sum = append(ipvrm, mean[to-1]), append(sum, v[to-1])
			Scores(v[at:to], mean[at:to], z[at:to])
			qrm = append(qrm, mean[to-1])
			at = to
		}
		for name, got := range map[string][]float64{"ipvrm": ipvrm, "implicit_prm": sum, "dpo_rm": sum, "q_rm": qrm} {
			golden.Close(t, c.Name+" "+name, got, golden.Get[golden.Tensor](t, c.Out, name).Data, 1e-9)
		}
	}
}

func TestScoresKeepTheHeadsOutput(t *testing.T) {
	v, mean := make([]float64, 3), make([]float64, 3)
	Scores(v, mean, []float64{1, -3, 5})
	golden.Close(t, "value", v, []float64{1, -3, 5}, 0)
	golden.Close(t, "mean value", mean, []float64{1, -1, 1}, 0)
	p := make([]float64, 2)
	Correct(p, []float64{-800, 800})
	if p[0] != 0 || p[1] != 1 || math.IsNaN(p[0]) {
		t.Errorf("extreme values: %v", p)
	}
}
