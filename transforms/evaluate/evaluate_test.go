package evaluate

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/transforms/series"
)

const tol = 1e-9

func data(t *testing.T, v golden.Values, key string) golden.Tensor {
	t.Helper()
	return golden.Get[golden.Tensor](t, v, key)
}

func TestPassAtKAndBestOfGolden(t *testing.T) {
	for _, c := range golden.Load(t, "pass_at_k_bon.json").Cases {
		switch golden.Get[string](t, c.Params, "kind") {
		case "pass_at_k":
			n, ks := golden.Get[int](t, c.In, "n"), golden.Get[[]int](t, c.In, "k")
			var got []float64
			perK := make([][]float64, len(ks))
			for _, correct := range golden.Get[[]int](t, c.In, "correct") {
				for i, k := range ks {
					got = append(got, PassAtK(n, correct, k))
					perK[i] = append(perK[i], got[len(got)-1])
				}
			}
			var means []float64
			for _, x := range perK {
				means = append(means, Over(x).Mean)
			}
			golden.Close(t, c.Name, got, data(t, c.Out, "pass_at_k").Data, tol)
			golden.Close(t, c.Name+" mean", means, data(t, c.Out, "mean_over_prompts").Data, tol)
		case "avg_at_k":
			outcomes := data(t, c.In, "outcomes")
			var per []float64
			for row := range slices.Chunk(outcomes.Data, outcomes.Shape[1]) {
				per = append(per, Over(row).Mean)
			}
			golden.Close(t, c.Name, per, data(t, c.Out, "avg_at_k_per_prompt").Data, tol)
			golden.CloseTo(t, c.Name, Over(per).Mean, golden.Get[float64](t, c.Out, "avg_at_k"), tol)
		case "best_of_n":
			scores, outcomes := data(t, c.In, "scores"), data(t, c.In, "outcomes").Data
			n := scores.Shape[1]
			var picked []int
			var won []float64
			for i := range scores.Shape[0] {
				best := BestOf(scores.Data[i*n:][:n])
				picked, won = append(picked, best), append(won, outcomes[i*n+best])
			}
			if want := golden.Get[[]int](t, c.Out, "picked"); !slices.Equal(picked, want) {
				t.Errorf("%s: picked %v, want %v", c.Name, picked, want)
			}
			golden.CloseTo(t, c.Name, Over(won).Mean, golden.Get[float64](t, c.Out, "accuracy"), tol)
		}
	}
}

func TestPassAtKProperties(t *testing.T) {
	for n := 1; n <= 12; n++ {
		for c := 0; c <= n; c++ {
			last := 0.0
			for k := 1; k <= n; k++ {
				p := PassAtK(n, c, k)
				if p < last-1e-15 || p < 0 || p > 1 {
					t.Fatalf("pass@%d of %d of %d = %v, pass@%d = %v", k, c, n, p, k-1, last)
				}
				last = p
			}
			golden.CloseTo(t, "pass@1", PassAtK(n, c, 1), float64(c)/float64(n), 1e-12)
		}
	}
	if BestOf(nil) != -1 {
		t.Error("the best of none")
	}
}

func sameCalibration(t *testing.T, what string, got Calibration, want map[string]*float64) {
	t.Helper()
	if float64(got.N) != *want["n"] {
		t.Errorf("%s: n = %d, want %v", what, got.N, *want["n"])
	}
	for name, g := range map[string]*float64{"ece": got.ECE, "brier": got.Brier, "auc": got.AUC} {
		w := want[name]
		if (g == nil) != (w == nil) {
			t.Errorf("%s: %s is %v, want %v", what, name, g, w)
		} else if g != nil {
			golden.CloseTo(t, what+" "+name, *g, *w, tol)
		}
	}
}

func TestCalibrationGolden(t *testing.T) {
	for _, c := range golden.Load(t, "calibration.json").Cases {
		bins := golden.Get[int](t, c.Params, "bins")
		if golden.Get[string](t, c.Params, "kind") == "flat" {
			got := Calibrate(data(t, c.In, "p").Data, data(t, c.In, "y").Data, bins)
			want := map[string]*float64{}
			for _, key := range []string{"n", "ece", "brier", "auc"} {
				want[key] = golden.Get[*float64](t, c.Out, key)
			}
			sameCalibration(t, c.Name, got, want)
			continue
		}
		lengths, vbar := golden.Get[[]int](t, c.In, "lengths"), data(t, c.In, "vbar").Data
		p, decile := make([]float64, len(vbar)), []float64{}
		for i, v := range vbar {
			p[i] = series.Sigmoid(v)
		}
		for _, n := range lengths {
			for i := range n {
				decile = append(decile, float64(Decile(i, n)))
			}
		}
		golden.Close(t, c.Name+" p", p, data(t, c.Out, "p").Data, tol)
		golden.Close(t, c.Name+" decile", decile, data(t, c.Out, "decile").Data, 0)
		all, deciles := ByDecile(p, lengths, data(t, c.In, "rewards").Data, bins)
		sameCalibration(t, c.Name+" all", all, golden.Get[map[string]*float64](t, c.Out, "all"))
		for d, want := range golden.Get[[]map[string]*float64](t, c.Out, "per_decile") {
			sameCalibration(t, fmt.Sprint(c.Name, " decile ", d), deciles[d], want)
		}
	}
}

func TestCalibrationDoesNotDependOnOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		n := 2 + r.IntN(40)
		p, y := make([]float64, n), make([]float64, n)
		for i := range p {
			p[i], y[i] = math.Round(r.Float64()*20)/20, float64(r.IntN(2))
		}
		before := Calibrate(p, y, 10)
		r.Shuffle(n, func(i, j int) { p[i], p[j], y[i], y[j] = p[j], p[i], y[j], y[i] })
		after := Calibrate(p, y, 10)
		a, _ := json.Marshal(before)
		b, _ := json.Marshal(after)
		if string(a) != string(b) {
			t.Fatalf("%s and %s", a, b)
		}
		wins, pairs := 0.0, 0.0
		for i := range p {
			for j := range p {
				if y[i] == 1 && y[j] == 0 {
					pairs++
					if p[i] > p[j] {
						wins++
					} else if p[i] == p[j] {
						wins += 0.5
					}
				}
			}
		}
		if pairs > 0 {
			golden.CloseTo(t, "auc", *after.AUC, wins/pairs, 1e-12)
		}
	}
}

func TestProcessBenchGolden(t *testing.T) {
	for _, c := range golden.Load(t, "processbench_f1.json").Cases {
		grid := Grid{golden.Get[float64](t, c.Params, "grid_low"), golden.Get[float64](t, c.Params, "grid_high"),
			golden.Get[int](t, c.Params, "grid_points")}
		lengths, labels := golden.Get[[]int](t, c.In, "lengths"), golden.Get[[]int](t, c.In, "labels")
		ends := golden.Get[[][]int](t, c.In, "step_ends")
		for _, rule := range Rules {
			want := golden.Get[golden.Values](t, c.Out, rule)
			wantScores := golden.Get[[][]float64](t, want, "scores")
			what := c.Name + " " + rule + " "
			l := data(t, c.In, "l").Data
			var scores [][]float64
			for i, n := range lengths {
				s, err := StepScores(rule, l[:n], ends[i], golden.Get[float64](t, c.Params, "beta_eval"))
				if err != nil {
					t.Fatal(err)
				}
				golden.Close(t, fmt.Sprint(what, "scores of item ", i), s, wantScores[i], tol)
				scores, l = append(scores, s), l[n:]
			}
			sameThreshold := func(name string, got, want *float64) {
				t.Helper()
				if (got == nil) != (want == nil) {
					t.Errorf("%s%s is %v, want %v", what, name, got, want)
				} else if got != nil {
					golden.CloseTo(t, what+name, *got, *want, tol)
				}
			}
			best := BestF1(scores, labels, grid)
			sameThreshold("best_threshold", best.Threshold, golden.Get[*float64](t, want, "best_threshold"))
			golden.CloseTo(t, what+"best_f1", best.F1, golden.Get[float64](t, want, "best_f1"), tol)
			if best.Threshold != nil {
				golden.CloseTo(t, what+"acc_ok", best.Correct, golden.Get[float64](t, want, "acc_ok"), tol)
				golden.CloseTo(t, what+"acc_err", best.Erroneous, golden.Get[float64](t, want, "acc_err"), tol)
				for i, p := range golden.Get[[]int](t, want, "predictions") {
					if got := Predict(scores[i], *best.Threshold); got != p {
						t.Errorf("%sprediction %d is %d, want %d", what, i, got, p)
					}
				}
			}
			chosen, test := HeldOut(scores, labels, grid)
			sameThreshold("half_threshold", chosen.Threshold, golden.Get[*float64](t, want, "half_threshold"))
			golden.CloseTo(t, what+"half_choose_f1", chosen.F1, golden.Get[float64](t, want, "half_choose_f1"), tol)
			golden.CloseTo(t, what+"half_f1", test.F1, golden.Get[float64](t, want, "half_f1"), tol)
		}
	}
}

// TestBestF1IsThatOfTheWholeGrid holds the sweep against scoring at every threshold.
func TestBestF1IsThatOfTheWholeGrid(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		grid := Grid{-1, 1, 2 + r.IntN(60)}
		var scores [][]float64
		var labels []int
		for range 1 + r.IntN(12) {
			s := make([]float64, 1+r.IntN(5))
			for i := range s {
				s[i] = float64(r.IntN(9)) / 8
			}
			scores, labels = append(scores, s), append(labels, r.IntN(len(s)+2)-1)
		}
		want := F1{F1: -1}
		for j := range grid.Points {
			if f := FixedF1(scores, labels, grid.at(j)); f.F1 > want.F1 {
				want = f
			}
		}
		a, _ := json.Marshal(BestF1(scores, labels, grid))
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			t.Fatalf("sweep %s, every threshold %s, scores %v labels %v", a, b, scores, labels)
		}
	}
}

func TestStepScoresRefuseBadSteps(t *testing.T) {
	for _, ends := range [][]int{{0}, {3}, {2, 1}, {1, 1}} {
		if _, err := StepScores("sum", []float64{1, 2}, ends, 1); err == nil {
			t.Errorf("step ends %v of two tokens are accepted", ends)
		}
	}
	if _, err := StepScores("median", []float64{1}, []int{1}, 1); err == nil {
		t.Error("an unknown rule is accepted")
	}
}

func TestCompare(t *testing.T) {
	// Differences 1, 2, 3, 4: mean 2.5, standard error sqrt(5/3)/2; Student's t at 0.975 with 3 degrees is 3.182446305.
	c := Compare([]float64{0, 0, 0, 0}, []float64{1, 2, 3, 4}, 0.95)
	half := 3.182446305284263 * math.Sqrt(5.0/3) / 2
	golden.Close(t, "interval", c.Interval[:], []float64{2.5 - half, 2.5 + half}, 1e-9)
	if c.Verdict != BetterB || c.Difference.N != 4 {
		t.Errorf("%+v", c)
	}
	if c := Compare([]float64{1, 2, 3, 4}, []float64{0, 0, 0, 0}, 0.95); c.Verdict != BetterA {
		t.Errorf("%+v", c)
	}
	if c := Compare([]float64{0, 1, 0, 1}, []float64{1, 0, 1, 0.5}, 0.95); c.Verdict != Undecided {
		t.Errorf("overlapping runs are ranked: %+v", c)
	}
	one := Compare([]float64{0}, []float64{1}, 0.95)
	if one.Verdict != Undecided || one.Interval != nil {
		t.Errorf("one prompt ranks two runs: %+v", one)
	}
	if _, err := json.Marshal(one); err != nil {
		t.Error(err)
	}
}

// TestCompareKeepsItsLevel: of pairs of equal runs, about one in twenty is ranked at 95%.
func TestCompareKeepsItsLevel(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	ranked, trials := 0, 2000
	for range trials {
		a, b := make([]float64, 12), make([]float64, 12)
		for i := range a {
			a[i], b[i] = r.NormFloat64(), r.NormFloat64()
		}
		if Compare(a, b, 0.95).Verdict != Undecided {
			ranked++
		}
	}
	if share := float64(ranked) / float64(trials); share < 0.03 || share > 0.07 {
		t.Errorf("%.3f of equal pairs are ranked", share)
	}
}
