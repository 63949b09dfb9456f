package revise

import (
	"slices"

	"github.com/millrace/millrace/transforms/series"
)

// The revision labels.
const (
	No    = "No Revise"
	Minor = "Minor Revise"
	Major = "Major Revise"
)

// Gain is what the base reviser would gain by replacing a worse response by the better one (algorithms.md 4.5): the mean log-prob
// per token of y_w given x and y_l, minus that of y_l itself. A response without tokens has no mean; its side counts 0.
func Gain(logpBetter, logpWorse []float64) float64 { return Mean(logpBetter) - Mean(logpWorse) }

// Mean is the mean log-prob per token.
func Mean(logp []float64) float64 { return series.MomentsOf(logp).Mean() }

// Median is the middle value; with an even count the mean of the middle two, of none 0. x is unchanged.
func Median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	switch n := len(s); {
	case n == 0:
		return 0
	case n%2 == 1:
		return s[n/2]
	default:
		return (s[n/2-1] + s[n/2]) / 2
	}
}

// Split labels the worse response of a pair by its gain: above the threshold (the median over all pairs) a Major Revise,
// else a Minor one. The better response of every pair is a No Revise.
func Split(gain, threshold float64) string {
	if gain > threshold {
		return Major
	}
	return Minor
}

// Decide picks the label from the reviser's probabilities of the three. No is weighed against Minor and Major together: half of all
// training labels are No and the other half is split in two, so the most probable single label would be No nearly always. It takes at
// least the threshold's share of the three to be No; one half is the even weighing. A tie of Minor and Major goes to Minor.
func Decide(no, minor, major, threshold float64) string {
	if no*(1-threshold) >= (minor+major)*threshold {
		return No
	}
	return Revision(minor, major)
}

// Revision picks the label of a response that is revised in any case.
func Revision(minor, major float64) string {
	if minor >= major {
		return Minor
	}
	return Major
}
