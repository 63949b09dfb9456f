package target

import (
	"math"
	"slices"
)

// Sparse writes a teacher's distribution at one position as it is stored for DCKD (ADPA paper, arXiv 2502.17927; algorithms.md 4.4):
// the probabilities of its most probable tokens, and of all other tokens together. logp are the listed tokens' log-probs,
// restLogp the log of the mass off the list. Log-probs that round above 0 give at most 1.
func Sparse(prob, logp []float64, restLogp float64) (rest float64) {
	for k := range prob {
		prob[k] = math.Min(1, math.Exp(logp[k]))
	}
	return math.Min(1, math.Exp(restLogp))
}

// Clip bounds ADPA advantages to an interval, as the released trainer does by passing them through its probability clamp.
type Clip struct{ Low, High float64 }

// ReleasedClip is that clamp.
var ReleasedClip = Clip{1e-8, 1 - 1e-8}

// TeacherAdvantage writes ADPA's advantage of each of the DPO teacher's most probable tokens at one position (arXiv
// 2502.17927; algorithms.md 4.4):
//
//	A(s, a) = log max(pi_dpo(a|s), floor) - log max(pi_refT(a|s), floor)
//
// a and p, of the same length, are the teacher's tokens and probabilities, refIDs and refP those of the reference teacher
// (the same teacher before DPO). A token the reference does not list takes the smallest of p as its reference probability
// (released code). clip is nil for advantages as they are (the default).
func TeacherAdvantage(a []float64, ids []int32, p []float64, refIDs []int32, refP []float64, floor float64, clip *Clip) {
	if len(p) == 0 {
		return
	}
	smallest := slices.Min(p)
	for k, id := range ids {
		ref := smallest
		if at := slices.Index(refIDs, id); at >= 0 {
			ref = refP[at]
		}
		a[k] = math.Log(max(p[k], floor)) - math.Log(max(ref, floor))
		if clip != nil {
			a[k] = min(max(a[k], clip.Low), clip.High)
		}
	}
}
