package revise

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
)

func TestLabelsGolden(t *testing.T) {
	for _, c := range golden.Load(t, "seft_labels.json").Cases {
		better, worse := golden.Get[golden.Tensor](t, c.In, "logp_w").Data, golden.Get[golden.Tensor](t, c.In, "logp_l").Data
		lw, ll := golden.Get[[]int](t, c.In, "lengths_w"), golden.Get[[]int](t, c.In, "lengths_l")
		var meanW, meanL, gains []float64
		for p := range lw {
			meanW, meanL = append(meanW, Mean(better[:lw[p]])), append(meanL, Mean(worse[:ll[p]]))
			gains = append(gains, Gain(better[:lw[p]], worse[:ll[p]]))
			better, worse = better[lw[p]:], worse[ll[p]:]
		}
		median := Median(gains)
		golden.Close(t, c.Name+" mean_w", meanW, golden.Get[golden.Tensor](t, c.Out, "mean_w").Data, 1e-9)
		golden.Close(t, c.Name+" mean_l", meanL, golden.Get[golden.Tensor](t, c.Out, "mean_l").Data, 1e-9)
		golden.Close(t, c.Name+" gain", gains, golden.Get[golden.Tensor](t, c.Out, "gain").Data, 1e-9)
		golden.CloseTo(t, c.Name+" median", median, golden.Get[float64](t, c.Out, "median"), 1e-9)
		for p, want := range golden.Get[[]string](t, c.Out, "label") {
			if got := Split(gains[p], median); got != want {
				t.Errorf("%s: pair %d is %q, want %q", c.Name, p, got, want)
			}
		}
	}
}

func TestMedianSplitsInHalf(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := 1; n < 30; n++ {
		x := make([]float64, n)
		for i := range x {
			x[i] = r.NormFloat64()
		}
		before := slices.Clone(x)
		m, major := Median(x), 0
		for _, g := range x {
			if Split(g, m) == Major {
				major++
			}
		}
		if major != n/2 || !slices.Equal(x, before) {
			t.Errorf("%d of %d pairs are Major", major, n)
		}
	}
	if Median(nil) != 0 || Gain(nil, []float64{-2, -4}) != 3 {
		t.Error("empty input")
	}
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		no, minor, major, threshold float64
		want                        string
	}{
		{0.45, 0.3, 0.25, 0.5, Minor}, {0.45, 0.2, 0.35, 0.5, Major}, {0.5, 0.25, 0.25, 0.5, No},
		{0.9, 0.05, 0.05, 0.5, No}, {0, 0.5, 0.5, 0.5, Minor},
		{0.6, 0.3, 0.1, 0.7, Minor}, {0.75, 0.15, 0.1, 0.7, No}, {0.2, 0.5, 0.3, 0.1, No},
		{0, 0.5, 0.5, 0, No}, {0.9, 0.1, 0, 1, Minor}, {1, 0, 0, 1, No},
	} {
		if got := Decide(c.no, c.minor, c.major, c.threshold); got != c.want {
			t.Errorf("Decide(%v, %v, %v, %v) = %s, want %s", c.no, c.minor, c.major, c.threshold, got, c.want)
		}
	}
}
