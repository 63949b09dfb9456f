package target

import (
	"math"

	"github.com/millrace/millrace/transforms/series"
)

// VocabEstimate spreads what is known about a few tokens over the vocabulary so that the expected advantage under the old
// policy is about zero (LCO, arXiv 2603.00963; algorithms.md 4.3 `vocab estimate`):
//
//	A'_k = A_k · (1 - pi_old(k))        rest = -Σ_k pi_old(k) A'_k / max(1 - Σ_k pi_old(k), minRest)
//
// a holds the known advantages of one row and is overwritten with A'; oldLogp are those tokens' log-probs under the old
// policy. The returned rest is the advantage of every token that is not listed.
func VocabEstimate(a, oldLogp []float64, minRest float64) (rest float64) {
	mass, expected := 0.0, 0.0
	for k := range a {
		p := math.Exp(oldLogp[k])
		a[k] *= -math.Expm1(oldLogp[k])
		mass += p
		expected += p * a[k]
	}
	return -expected / max(1-mass, minRest)
}

// Dense scales the advantages of one row's candidates to unit standard deviation (LCO with a dense reward model; algorithms.md 4.3):
// a / std with Bessel's correction, 0 with fewer than two candidates or without spread. With centre, as LCO-MSE and
// LCO-LCH want it, the row's mean is subtracted first. It returns the standard deviation, 0 where there was none.
func Dense(a []float64, centre bool) (std float64) {
	mean, std := spread(a)
	if !centre {
		mean = 0
	}
	for k := range a {
		if std == 0 {
			a[k] = 0
		} else {
			a[k] = (a[k] - mean) / std
		}
	}
	return std
}

// spread is the mean and the sample standard deviation of a few numbers in their order, which is fixed, so that no exact sums
// are needed. Differences from the first number are taken before anything is rounded: equal numbers have no spread at all.
func spread(a []float64) (mean, std float64) {
	if len(a) < 2 {
		return 0, 0 // all become 0
	}
	sum, squares := 0.0, 0.0
	for _, x := range a {
		sum += x - a[0]
	}
	mean = sum / float64(len(a))
	for _, x := range a {
		d := x - a[0] - mean
		squares += d * d
	}
	if std = math.Sqrt(squares / float64(len(a)-1)); std < series.TinyStd {
		std = 0
	}
	return a[0] + mean, std
}
