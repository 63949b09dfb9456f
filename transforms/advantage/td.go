package advantage

import (
	"math"

	"github.com/millrace/millrace/transforms/series"
)

// TD writes the temporal-difference advantage of each token, sampled or candidate (IPVRM/DistRL, arXiv 2604.13197;
// spec 3.1):
//
//	a = V(s ⊕ c) - V(s) = beta · (log pi_phi(c|s) - log pi_ref(c|s))
//
// logp are log-probs under the reward model, reference those under the policy that sampled (or a frozen reference).
func TD(a, logp, reference []float64, beta float64) {
	for i := range a {
		a[i] = beta * (logp[i] - reference[i])
	}
}

// ZeroLast sets the last advantage of a response to 0, as the released code does before it sums them into values: there
// the outcome lands, not a change of expectation.
func ZeroLast(td []float64) {
	if n := len(td); n > 0 {
		td[n-1] = 0
	}
}

// Kept returns how many leading slots of a row's candidates stay under the cut of spec 3.1. oldLogp holds the log-probs
// of the row's slots under the policy that sampled: slot 0 is the sampled token and always stays; the others, in
// descending order, stay while their probability is at least pMin, up to k slots in all (k < 1: no limit).
func Kept(oldLogp []float64, k int, pMin float64) int {
	if k < 1 || k > len(oldLogp) {
		k = len(oldLogp)
	}
	for i := 1; i < k; i++ {
		if math.Exp(oldLogp[i]) < pMin {
			return i
		}
	}
	return k
}

// Normalise divides TD advantages by the spread of the batch's prefix values: a / (sigmaV + eps) (spec 3.2).
func Normalise(dst, a []float64, sigmaV, eps float64) {
	for i := range dst {
		dst[i] = a[i] / (sigmaV + eps)
	}
}

// SigmaV is the standard deviation of a batch's prefix values; 1 when there are fewer than two of them.
func SigmaV(values series.Moments) float64 {
	if values.N < 2 {
		return 1
	}
	return values.Std()
}
