package value

import (
	"math"

	"github.com/millrace/millrace/transforms/series"
)

// LogRatios writes l[t] = logp[t] - reference[t], the token log-ratio of a reward model to its reference. l may be logp.
func LogRatios(l, logp, reference []float64) {
	for t := range l {
		l[t] = logp[t] - reference[t]
	}
}

// Prefix writes the implicit values of the prefixes of one response (IPVRM, arXiv 2604.13197; algorithms.md 1.1):
//
//	V_t = beta · Σ_{i<=t} l_i      mean_t = V_t / t
//
// l holds the log-ratios of its tokens; v and mean, of the same length, are overwritten and may not be l.
func Prefix(v, mean, l []float64, beta float64) {
	series.Running(v, l)
	for t := range v {
		v[t] *= beta
		mean[t] = v[t] / float64(t+1)
	}
}

// Scores writes the values of a reward model with a scalar head (Q-RM; a value head): the value of a prefix is the head's
// output z after its last token, its mean value the mean of the outputs so far (Q-RM's score of a response, algorithms.md 5).
func Scores(v, mean, z []float64) {
	series.Running(mean, z)
	for t := range v {
		v[t] = z[t]
		mean[t] /= float64(t + 1)
	}
}

// Correct writes p[t] = sigmoid(x[t]), the probability that the response will turn out correct. x is the mean value for
// IPVRM, the value itself for Implicit PRM and for an outcome value head.
func Correct(p, x []float64) {
	for t := range p {
		p[t] = series.Sigmoid(x[t])
	}
}

// Probability writes exp(x), of log-probs x.
func Probability(p, x []float64) {
	for t := range p {
		p[t] = math.Min(1, math.Exp(x[t]))
	}
}
