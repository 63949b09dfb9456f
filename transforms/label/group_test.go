package label

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
)

func TestStatisticsGolden(t *testing.T) {
	for _, c := range golden.Load(t, "combined_advantage.json").Cases {
		rewards := golden.Get[[]float64](t, c.In, "rewards")
		n := golden.Get[int](t, c.Params, "n")
		mu := golden.Get[golden.Tensor](t, c.Out, "mu").Data
		sd := golden.Get[golden.Tensor](t, c.Out, "sd").Data
		mixed := golden.Get[golden.Tensor](t, c.Out, "mixed").Data
		for g := range mu {
			got := Statistics(rewards[g*n:(g+1)*n], slices.Repeat([]bool{true}, n), false)
			what := fmt.Sprintf("%s group %d ", c.Name, g)
			golden.CloseTo(t, what+"mu", got.Mean, mu[g], 1e-9)
			golden.CloseTo(t, what+"sd", got.Std, sd[g], 1e-9)
			if got.Mixed() != (mixed[g] != 0) {
				t.Errorf("%smixed = %v", what, got.Mixed())
			}
		}
	}
}

func TestStatisticsLeavesAbstentionsOut(t *testing.T) {
	got := Statistics([]float64{1, 0, 1, 0}, []bool{true, false, true, false}, false)
	if got != (Group{Mean: 1, Std: 0, Valid: 2}) {
		t.Errorf("got %+v", got)
	}
	if got := Statistics([]float64{1, 1}, []bool{false, false}, true); got != (Group{}) || got.Mixed() {
		t.Errorf("a group without outcomes: %+v", got)
	}
}

func TestStatisticsOrderAndBessel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		n := 2 + r.IntN(12)
		x, valid := make([]float64, n), make([]bool, n)
		for i := range x {
			x[i], valid[i] = r.NormFloat64(), r.IntN(4) > 0
		}
		want, bessel := Statistics(x, valid, false), Statistics(x, valid, true)
		r.Shuffle(n, func(i, j int) { x[i], x[j], valid[i], valid[j] = x[j], x[i], valid[j], valid[i] })
		if Statistics(x, valid, false) != want || Statistics(x, valid, true) != bessel {
			t.Fatal("the order of the responses changes the statistics")
		}
		if k := float64(want.Valid); k > 1 {
			golden.CloseTo(t, "sample std", bessel.Std, want.Std*math.Sqrt(k/(k-1)), 1e-12)
		}
	}
}
