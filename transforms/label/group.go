package label

import "github.com/millrace/millrace/transforms/series"

// Group holds the outcome statistics of the responses to one prompt.
type Group struct {
	Mean  float64 // mu(x), over the responses that have an outcome; 0 when none has
	Std   float64 // sd(x), over the same; 0 when all are equal
	Valid int     // how many responses have an outcome
}

// Mixed reports whether the group has both right and wrong responses, 0 < mu < 1: the only groups from which a
// group-relative advantage can learn.
func (g Group) Mixed() bool { return g.Mean > 0 && g.Mean < 1 }

// Statistics computes mean and standard deviation of the outcomes of one prompt over the responses for which valid is
// true. A response whose verifier abstained is in no statistic; a truncated one counts, as incorrect. The standard
// deviation is the population one; with bessel it divides by n-1 as TRL's GRPO does. Both are exact sums rounded once, so
// the order of the responses does not matter.
func Statistics(outcomes []float64, valid []bool, bessel bool) Group {
	var m series.Moments
	for i, r := range outcomes {
		if valid[i] {
			m.Add(r)
		}
	}
	g := Group{Mean: m.Mean(), Std: m.Std(), Valid: int(m.N)}
	if bessel {
		g.Std = m.SampleStd()
	}
	return g
}
