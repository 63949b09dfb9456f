package evaluate

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/transforms/series"
)

// TestBestOfKIsTheMeanOverAllChoices holds the estimate against every choice of k responses.
func TestBestOfKIsTheMeanOverAllChoices(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for range 60 {
		n := 1 + r.IntN(7)
		scores, outcomes := make([]float64, n), make([]float64, n)
		for i := range n {
			scores[i], outcomes[i] = float64(r.IntN(4)), float64(r.IntN(2)) // with ties
		}
		for k := 1; k <= n; k++ {
			sum, count := 0.0, 0.0
			for choice := range 1 << n {
				var s, o []float64
				for i := range n {
					if choice>>i&1 == 1 {
						s, o = append(s, scores[i]), append(o, outcomes[i])
					}
				}
				if len(s) == k {
					sum, count = sum+o[BestOf(s)], count+1
				}
			}
			golden.CloseTo(t, fmt.Sprintf("best of %d of %v with %v", k, scores, outcomes), BestOfK(scores, outcomes, k), sum/count, 1e-12)
		}
		golden.CloseTo(t, "best of 1", BestOfK(scores, outcomes, 1), Over(outcomes).Mean, 1e-12)
	}
}

func TestDecileLenCountsTheTokens(t *testing.T) {
	for n := range 200 {
		var want [Deciles]int
		for i := range n {
			want[Decile(i, n)]++
		}
		for d := range Deciles {
			if got := decileLen(d, n); got != want[d] {
				t.Fatalf("decile %d of %d tokens has %d, want %d", d, n, got, want[d])
			}
		}
	}
}

// TestFiguresAreTheFormulas: with every prompt once, each figure is what the formula gives.
func TestFiguresAreTheFormulas(t *testing.T) {
	c := everything()
	s := sumsOf(t, c, valued(t, 1, 30))
	rep, l := c.Report(s), c.layOut(s)
	one := l.ones()
	all := l.calibration(-1).at(one)
	golden.CloseTo(t, "ece", all[0], *rep.Calibration.ECE, 1e-9) // responses here are short enough to be kept whole
	golden.CloseTo(t, "brier", all[1], *rep.Calibration.Brier, 1e-9)
	golden.CloseTo(t, "prefix auc", all[2], *rep.Calibration.AUC, 1e-3)
	for d := range Deciles {
		golden.CloseTo(t, "brier of a decile", l.calibration(d).at(one)[1], *rep.ByDecile[d].Brier, 1e-9)
	}
	var scores, outcomes []float64
	for _, p := range s.Prompts {
		for _, r := range p.Responses {
			scores, outcomes = append(scores, r.Mean), append(outcomes, r.Outcome)
		}
	}
	golden.CloseTo(t, "auc", *rep.Final.AUC.Value, *auc(scores, outcomes), 1e-12)
	if rep.Final.AUC.N != len(scores) || rep.Final.AUC.StdErr == nil {
		t.Errorf("%+v", rep.Final)
	}
	for k, rule := range Rules {
		f := l.stepFigures(k).at(one)
		golden.CloseTo(t, rule+" best", f[0], rep.Steps[k].Best.F1, 1e-12)
		golden.CloseTo(t, rule+" held out", f[1], rep.Steps[k].HeldOut.F1, 1e-12)
		if rep.Steps[k].HeldOut.StdErr == nil || *rep.Steps[k].HeldOut.StdErr <= 0 {
			t.Errorf("%s: no standard error", rule)
		}
	}
	last := rep.BestOfN[len(rep.BestOfN)-1]
	if last.K != 4 || last.N >= 30 || last.Score != "mean_value" {
		t.Errorf("best of n: %+v", rep.BestOfN)
	}
	golden.CloseTo(t, "best of 1 is the mean outcome", rep.BestOfN[0].Mean, func() float64 {
		var means []float64
		for _, p := range s.Prompts {
			var o []float64
			for _, r := range p.Responses {
				o = append(o, r.Outcome)
			}
			if len(o) > 0 {
				means = append(means, Over(o).Mean)
			}
		}
		return Over(means).Mean
	}(), 1e-12)
}

// TestHalvesGoByPrompts: with one item a prompt the held-out threshold is that of HeldOut.
func TestHalvesGoByPrompts(t *testing.T) {
	c := everything()
	r := rand.New(rand.NewPCG(9, 4))
	var s Sums
	var scores [][]float64
	var labels []int
	for i := range 40 {
		id := uuid.UUID{byte(i)}
		item := Item{ID: id, PromptID: id, StepEnds: []int{2, 5, 9}, Values: []float64{r.NormFloat64(), r.NormFloat64(), r.NormFloat64()},
			FirstError: r.IntN(4) - 1}
		s.Prompts, s.Items = append(s.Prompts, PromptResult{ID: id, N: 1}), append(s.Items, item)
		x, err := scoresAt("sum_diff", item.Values, item.StepEnds, BetaEval)
		if err != nil {
			t.Fatal(err)
		}
		scores, labels = append(scores, x), append(labels, item.FirstError)
	}
	r.Shuffle(len(s.Items), func(i, j int) { s.Items[i], s.Items[j] = s.Items[j], s.Items[i] })
	chosen, held := HeldOut(scores, labels, ReleasedGrid)
	got := c.Report(s).Steps[1]
	if *got.Chosen.Threshold != *chosen.Threshold || got.HeldOut.F1 != held.F1 || got.HeldOut.NErr+got.HeldOut.NOK != 20 {
		t.Errorf("held out %+v of threshold %v, want %+v of %v", got.HeldOut, *got.Chosen.Threshold, held, *chosen.Threshold)
	}
}

// TestErrorsByCertainty: errors are parted by the least probability of a token in the first wrong step, and counted on the half of the
// prompts on which the threshold was not chosen.
func TestErrorsByCertainty(t *testing.T) {
	c := everything()
	c.Rules, c.Beta = []string{"sum_diff"}, 0.5
	var s, policy Sums
	// Even prompts choose the threshold: one right solution, one whose second step scores low. Odd ones are counted.
	for i, x := range []struct {
		first      int
		score, own float64 // of the second step; the policy's log-prob there
	}{{-1, 1, 0}, {1, -3, -2}, {1, -1, -3}, {1, -3, -0.1}, {-1, 1, 0}, {1, 1, -0.1}, {1, -1, -3}, {1, -3, math.Log(0.5)}, {1, -1, -3},
		{1, -3, -0.7}} {
		id := uuid.UUID{byte(i)}
		s.Prompts = append(s.Prompts, PromptResult{ID: id, N: 1})
		item := Item{ID: id, PromptID: id, StepEnds: []int{2, 4}, Values: []float64{1, 1 + x.score}, FirstError: x.first}
		s.Items = append(s.Items, item)
		item.Least = []float64{0, x.own / c.Beta}
		policy.Items = append(policy.Items, item)
	}
	policy.Items = policy.Items[:len(policy.Items)-1] // how sure the policy was of the last is not known
	got := c.ErrorsByCertainty(s, c.Certainty(policy))
	if len(got) != 1 || got[0].Rule != "sum_diff" || *got[0].Unsure.Value != 1 || got[0].Unsure.N != 1 ||
		*got[0].Confident.Value != 2./3 || got[0].Confident.N != 3 {
		t.Errorf("%s", text(t, got))
	}
	if none := c.ErrorsByCertainty(s, nil); none[0].Unsure.Value != nil || none[0].Confident.N != 0 {
		t.Errorf("%s", text(t, none))
	}
}

// TestLongResponsesAreThinned: ten evenly spaced tokens stand for all, and weigh as much.
func TestLongResponsesAreThinned(t *testing.T) {
	c := everything()
	l := &laid{c: c, prompts: []PromptResult{{Responses: []ValuedResponse{{Outcome: 1, Tokens: 1000}, {Outcome: 0, Tokens: 7}}}}}
	for d := range Deciles {
		l.prompts[0].Responses[0].Deciles[d] = slices.Repeat([]float32{0.5}, keptOfDecile)
		if n := decileLen(d, 7); n > 0 {
			l.prompts[0].Responses[1].Deciles[d] = slices.Repeat([]float32{0.25}, n)
		}
	}
	got := l.calibration(-1).at([]float64{1})
	golden.CloseTo(t, "brier", got[1], (1000*0.25+7*0.0625)/1007, 1e-12)
}

func TestStandardErrorOfAMeanIsTheUsualOne(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	l := &laid{prompts: make([]PromptResult, 80)}
	var x []float64
	for range l.prompts {
		x = append(x, r.NormFloat64())
	}
	i := -1
	f := l.perPrompt("mean", func(PromptResult) (float64, bool) { i++; return x[i], true })
	got := stdErrs(len(x), []figures{f})[0][0]
	if want := Over(x).StdErr; got == nil || math.Abs(*got-want) > 0.1*want {
		t.Errorf("standard error %v, want about %v", *got, want)
	}
	if e := stdErrs(1, []figures{f})[0][0]; e != nil {
		t.Error("one prompt has a standard error")
	}
}

// model draws prompts of eight responses whose scores say their outcomes with a given strength.
func model(seed uint64, prompts int, strength float64) Sums {
	truth, noise := rand.New(rand.NewPCG(7, 7)), rand.New(rand.NewPCG(seed, 8))
	var s Sums
	for i := range prompts {
		p := PromptResult{ID: uuid.NewSHA1(uuid.Nil, []byte{byte(i), byte(i >> 8)}), N: 8}
		for range 8 {
			o := float64(truth.IntN(2))
			x := strength*(o-0.5) + noise.NormFloat64()
			v := ValuedResponse{Outcome: o, Mean: x, Value: x, Tokens: 10}
			for d := range v.Deciles {
				v.Deciles[d] = []float32{float32(series.Sigmoid(x * float64(d) / 9))}
			}
			p.Responses = append(p.Responses, v)
		}
		s.Prompts = append(s.Prompts, p)
	}
	return s
}

func verdicts(c []FigureComparison) map[string]string {
	out := map[string]string{}
	for _, f := range c {
		out[f.Figure] = f.Verdict
	}
	return out
}

func TestCompareModels(t *testing.T) {
	c := Default()
	c.Values = true
	weak, strong := model(1, 60, 0.3), model(2, 60, 2)
	got := verdicts(CompareModels(c, c, weak, strong, 0.95))
	for _, f := range []string{"best_of_8", "auc", "auc_within_prompts", "brier", "prefix_auc"} {
		if got[f] != BetterB {
			t.Errorf("%s: verdict %q, want the stronger model", f, got[f])
		}
	}
	if v := verdicts(CompareModels(c, c, strong, weak, 0.95)); v["brier"] != BetterA || v["auc"] != BetterA {
		t.Errorf("the other way round: %v", v)
	}
	if got["best_of_1"] != Undecided {
		t.Errorf("best of one response: %q", got["best_of_1"])
	}
	for f, v := range verdicts(CompareModels(c, c, weak, weak, 0.95)) {
		if v != Undecided {
			t.Errorf("%s: a model is better than itself", f)
		}
	}
	few := model(2, 9, 2)
	for _, f := range CompareModels(c, c, weak, few, 0.95) {
		if f.Verdict != Undecided || f.Interval != nil || f.Prompts != 9 {
			t.Errorf("nine prompts: %+v", f)
		}
	}
	apart := model(2, 30, 2)
	for i := range apart.Prompts {
		apart.Prompts[i].ID = uuid.New()
	}
	raw, err := json.Marshal(CompareModels(c, c, weak, apart, 0.95))
	if err != nil {
		t.Fatal(err) // a NaN would be here
	}
	_ = raw
}

// TestCompareModelsKeepsItsLevel: of pairs of equally good models, about one in twenty is ranked at 95%.
func TestCompareModelsKeepsItsLevel(t *testing.T) {
	c := Default()
	c.Values, c.K = true, []int{8}
	const trials = 24
	ranked := map[string]int{}
	for i := range trials {
		for f, v := range verdicts(CompareModels(c, c, model(uint64(10+2*i), 40, 0.8), model(uint64(11+2*i), 40, 0.8), 0.95)) {
			if v != Undecided {
				ranked[f]++
			}
		}
	}
	for f, n := range ranked {
		if n > trials/4 { // a binomial of 24 at 5% is above 6 once in five thousand
			t.Errorf("%s ranks %d of %d equal pairs", f, n, trials)
		}
	}
}

func TestTruthFigures(t *testing.T) {
	c := everything()
	c.Truth = true
	p := []float64{0.1, 0.3, 0.8, 0.9}
	truth := []float64{0, 0.5, 0.75, 1}
	var s Sums
	for i := range p {
		id := uuid.UUID{byte(i)}
		s.Prompts = append(s.Prompts, PromptResult{ID: id, N: 1})
		s.Items = append(s.Items, Item{ID: id, PromptID: id, StepEnds: []int{1, 2}, Values: []float64{0, 0}, P: []float64{p[i], 0.5},
			Truth: truth[i : i+1], FirstError: -1, Outcome: float64(i / 2)})
	}
	got := c.Report(s).Truth
	if got.R.N != 4 || got.Responses != 4 {
		t.Errorf("%+v", got)
	}
	// By hand: means 0.525 and 0.5625; covariance sum 0.46875, squares 0.4475 and 0.546875.
	golden.CloseTo(t, "r", *got.R.Value, 0.46875/math.Sqrt(0.4475*0.546875), 1e-9)
	golden.CloseTo(t, "ece", *got.ECE.Value, (0.1+0.2+0.05+0.1)/4, 1e-9)
	golden.CloseTo(t, "brier", *got.Brier.Value, (0.01+0.04+0.0025+0.01)/4, 1e-9)
	golden.CloseTo(t, "auc", *got.AUC.Value, 1, 0)
	golden.CloseTo(t, "auc of the truth", *got.BestAUC.Value, 1, 0)
}
