package target

import (
	"math"

	"github.com/millrace/millrace/transforms/series"
)

// VocabEstimate spreads what is known about a few tokens over the vocabulary so that the expected advantage under the old
// policy is about zero (LCO, arXiv 2603.00963; spec 4.3 `vocab estimate`):
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

// Dense scales the advantages of one row's candidates to unit standard deviation (LCO with a dense reward model; spec 4.3):
// a / std with Bessel's correction, 0 with fewer than two candidates or without spread. With centre, as LCO-MSE and
// LCO-LCH want it, the row's mean is subtracted first. It returns the standard deviation, 0 where there was none.
func Dense(a []float64, centre bool) (std float64) {
	m := series.MomentsOf(a)
	std = m.SampleStd()
	mean := 0.0
	if centre {
		mean = m.Mean()
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
