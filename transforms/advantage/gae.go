package advantage

import (
	"math"

	"github.com/millrace/millrace/transforms/series"
)

// WhitenEps is added to the variance when advantages are whitened (algorithms.md 3.3).
const WhitenEps = 1e-8

// GroupGAE writes generalised advantage estimates over the responses of one prompt, normalised within the group
// (IPVRM/DistRL eq. 27-29; GAE, arXiv 1506.02438; algorithms.md 3.3 `group`):
//
//	delta^ = (delta - mean) / (std + eps)      a_t = Σ_{i>=t} rate^(i-t) delta^_i,   rate = gamma·lambda
//
// delta are the normalised TD advantages of the sampled tokens, packed: response b owns delta[start[b]:start[b+1]].
// Responses for which keep is false are in no statistic and get 0. It returns the mean and standard deviation it used.
func GroupGAE(a, delta []float64, start []int, keep []bool, rate, eps float64) (mean, std float64) {
	var m series.Moments
	for b, ok := range keep {
		if ok {
			for _, d := range delta[start[b]:start[b+1]] {
				m.Add(d)
			}
		}
	}
	mean, std = m.Mean(), m.Std()
	path(a, delta, start, keep, mean, std, rate, eps)
	return mean, std
}

// BatchGAE writes generalised advantage estimates with the constants of the whole batch, before whitening (released code
// of IPVRM/DistRL; algorithms.md 3.3 `batch`): delta^ = (td - mean) / (sigmaV + eps). td are raw TD advantages whose last of every
// response was set to 0 ([ZeroLast]).
func BatchGAE(a, td []float64, start []int, keep []bool, mean, sigmaV, rate, eps float64) {
	path(a, td, start, keep, mean, sigmaV, rate, eps)
}

func path(a, delta []float64, start []int, keep []bool, mean, std, rate, eps float64) {
	for b, ok := range keep {
		row := a[start[b]:start[b+1]]
		for t, d := range delta[start[b]:start[b+1]] {
			row[t] = 0
			if ok {
				row[t] = (d - mean) / (std + eps)
			}
		}
		series.Discounted(row, row, rate)
	}
}

// Whiten replaces a by (a - mean) / sqrt(sampleVar + 1e-8) on the responses that keep marks.
func Whiten(a []float64, start []int, keep []bool, mean, sampleVar float64) {
	scale := math.Sqrt(sampleVar + WhitenEps)
	for b, ok := range keep {
		if ok {
			for t := start[b]; t < start[b+1]; t++ {
				a[t] = (a[t] - mean) / scale
			}
		}
	}
}

// Combine writes the advantage of every sampled token (algorithms.md 3.4): cOut times the outcome advantage of its response plus
// cGAE times its own gae. Responses for which keep is false get 0.
func Combine(a, outcome, gae []float64, start []int, keep []bool, cOut, cGAE float64) {
	for b, ok := range keep {
		for t := start[b]; t < start[b+1]; t++ {
			a[t] = 0
			if ok {
				a[t] = cOut*outcome[b] + cGAE*gae[t]
			}
		}
	}
}
