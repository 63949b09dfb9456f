package main

import (
	"math"

	"github.com/millrace/millrace/transforms/evaluate"
)

// confidence of every interval on the page.
const confidence = 0.95

// spread is what a row of values, one a seed, comes to.
type spread struct {
	n        int
	mean, sd float64 // sd: sample standard deviation, NaN below two values
}

func (s spread) stdErr() float64 { return s.sd / math.Sqrt(float64(s.n)) }

// spreadOf leaves out what was not measured (NaN).
func spreadOf(xs []float64) spread {
	known := make([]float64, 0, len(xs))
	for _, x := range xs {
		if !math.IsNaN(x) {
			known = append(known, x)
		}
	}
	if len(known) == 0 {
		return spread{0, math.NaN(), math.NaN()}
	}
	e := evaluate.Over(known)
	s := spread{e.N, e.Mean, e.StdErr * math.Sqrt(float64(e.N))}
	if s.n < 2 {
		s.sd = math.NaN()
	}
	return s
}

// pair is the comparison of two methods over the seeds that have both.
type pair struct {
	diff       []float64 // of b - a by seed, NaN where one is missing
	above      int       // seeds on which b is above a
	comparison evaluate.Comparison
}

func paired(a, b []float64) pair {
	p := pair{diff: make([]float64, len(a))}
	var xs, ys []float64
	for i := range a {
		p.diff[i] = b[i] - a[i]
		if math.IsNaN(p.diff[i]) {
			continue
		}
		xs, ys = append(xs, a[i]), append(ys, b[i])
		if b[i] > a[i] {
			p.above++
		}
	}
	p.comparison = evaluate.Compare(xs, ys, confidence)
	return p
}
