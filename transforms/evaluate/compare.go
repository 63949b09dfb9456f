package evaluate

import (
	"math"
	"slices"

	"github.com/google/uuid"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/millrace/millrace/transforms/series"
)

// Comparison is a paired comparison of two runs on the same prompts.
type Comparison struct {
	A          Estimate    `json:"a"`
	B          Estimate    `json:"b"`
	Difference Estimate    `json:"difference"` // of B - A, prompt by prompt
	Interval   *[2]float64 `json:"interval"`   // confidence interval of the difference; nil with fewer than two prompts
	Confidence float64     `json:"confidence"`
	Verdict    string      `json:"verdict"` // "a" or "b" is better, or "undecided": the interval holds 0
}

// Verdicts of a comparison.
const (
	BetterA   = "a"
	BetterB   = "b"
	Undecided = "undecided"
)

// Compare ranks two runs by one value a prompt (such as avg@k), a[i] and b[i] belonging to the same prompt. The interval
// is that of the mean of the differences over prompts, with Student's t at the given confidence such as 0.95. Where it
// holds 0, or there are fewer than two prompts, the runs are not ranked.
func Compare(a, b []float64, confidence float64) Comparison {
	var d series.Moments
	for i := range a {
		d.Add(b[i] - a[i])
	}
	c := Comparison{A: Over(a), B: Over(b), Difference: estimate(d), Confidence: confidence, Verdict: Undecided}
	if d.N < 2 {
		return c
	}
	half := c.Difference.StdErr * distuv.StudentsT{Sigma: 1, Nu: float64(d.N - 1)}.Quantile((1+confidence)/2)
	c.Interval = &[2]float64{c.Difference.Mean - half, c.Difference.Mean + half}
	switch {
	case c.Interval[0] > 0:
		c.Verdict = BetterB
	case c.Interval[1] < 0:
		c.Verdict = BetterA
	}
	return c
}

func estimate(m series.Moments) Estimate {
	e := Estimate{Mean: m.Mean(), N: int(m.N)}
	if m.N > 0 {
		e.StdErr = math.Sqrt(m.SampleVar() / float64(m.N))
	}
	return e
}

// ComparePrompts ranks two runs by the share of right responses on the prompts that both have.
func ComparePrompts(a, b []PromptResult, confidence float64) Comparison {
	inB := map[uuid.UUID]PromptResult{}
	for _, p := range b {
		inB[p.ID] = p
	}
	var xs, ys []float64
	for _, p := range slices.SortedFunc(slices.Values(a), byID) {
		if q, ok := inB[p.ID]; ok && p.N > 0 && q.N > 0 {
			xs = append(xs, float64(p.Correct)/float64(p.N))
			ys = append(ys, float64(q.Correct)/float64(q.N))
		}
	}
	return Compare(xs, ys, confidence)
}

// leastPrompts is how many prompts a resampled interval takes; with fewer it is too narrow to rank by.
const leastPrompts = 10

// FigureComparison is a paired comparison of two reward models by one figure, on the prompts that both have.
type FigureComparison struct {
	Figure     string      `json:"figure"`
	A          *float64    `json:"a"`
	B          *float64    `json:"b"`
	Difference *float64    `json:"difference"` // B - A
	Interval   *[2]float64 `json:"interval"`   // of the difference, percentiles over resampled prompts; nil with fewer than ten
	Confidence float64     `json:"confidence"`
	Prompts    int         `json:"prompts"`
	Verdict    string      `json:"verdict"` // "a" or "b" is better, or "undecided": the interval holds 0, or there is none
}

// CompareModels holds two reward models against each other, figure by figure, on the prompts that both have: prompts are
// drawn again for both at once, so what is common to them cancels. cfgA and cfgB are what the models were measured with.
func CompareModels(cfgA, cfgB Config, sumsA, sumsB Sums, confidence float64) []FigureComparison {
	in := map[uuid.UUID]int{}
	for _, p := range sumsA.Prompts {
		in[p.ID] |= 1
	}
	for _, p := range sumsB.Prompts {
		in[p.ID] |= 2
	}
	common := func(s Sums) Sums {
		s.Prompts = slices.DeleteFunc(slices.Clone(s.Prompts), func(p PromptResult) bool { return in[p.ID] != 3 })
		return s
	}
	a, b := cfgA.layOut(common(sumsA)), cfgB.layOut(common(sumsB))
	n := len(a.prompts)
	var out []FigureComparison
	var pairs [][2]figures
	for _, f := range a.compared() {
		for _, g := range b.compared() {
			if slices.Equal(f.names, g.names) {
				pairs = append(pairs, [2]figures{f, g})
				for range f.names {
					out = append(out, FigureComparison{Confidence: confidence, Prompts: n, Verdict: Undecided})
				}
			}
		}
	}
	differences := make([][]float64, len(out))
	evaluate := func(w []float64, take func(k int, name string, x, y float64)) {
		k := 0
		for _, p := range pairs {
			x, y := p[0].at(w), p[1].at(w)
			for j, name := range p[0].names {
				take(k, name, x[j], y[j])
				k++
			}
		}
	}
	evaluate(a.ones(), func(k int, name string, x, y float64) {
		out[k].Figure = name
		out[k].A, out[k].B, out[k].Difference = figure(x, nil, 0).Value, figure(y, nil, 0).Value, figure(y-x, nil, 0).Value
	})
	if n >= leastPrompts {
		resample(n, func(w []float64) {
			evaluate(w, func(k int, _ string, x, y float64) {
				if series.AllFinite(y - x) {
					differences[k] = append(differences[k], y-x)
				}
			})
		})
	}
	for k := range out {
		out[k].rank(differences[k])
	}
	return out
}

// rank fills in interval and verdict from the differences of resampled prompts.
func (c *FigureComparison) rank(differences []float64) {
	if c.Difference == nil || len(differences) < Resamples*9/10 {
		return
	}
	slices.Sort(differences)
	at := func(q float64) float64 { return stat.Quantile(q, stat.LinInterp, differences, nil) }
	lower := slices.Contains(lowerIsBetter, c.Figure)
	c.Interval = &[2]float64{at((1 - c.Confidence) / 2), at((1 + c.Confidence) / 2)}
	switch {
	case c.Interval[0] > 0 && !lower, c.Interval[1] < 0 && lower:
		c.Verdict = BetterB
	case c.Interval[1] < 0 && !lower, c.Interval[0] > 0 && lower:
		c.Verdict = BetterA
	}
}
