package advantage

import "github.com/millrace/millrace/transforms/series"

// TD writes the temporal-difference advantage of each token, sampled or candidate (IPVRM/DistRL, arXiv 2604.13197;
// algorithms.md 3.1):
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

// Normalise divides TD advantages by the spread of the batch's prefix values: a / (sigmaV + eps) (algorithms.md 3.2).
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
