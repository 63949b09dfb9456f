package evaluate

import (
	"math"

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
