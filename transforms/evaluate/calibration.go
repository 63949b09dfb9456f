package evaluate

import (
	"maps"
	"math"
	"slices"

	"github.com/millrace/millrace/transforms/series"
)

// Deciles is how many parts a response is cut into by position.
const Deciles = 10

// Calibration says how well probabilities p agree with outcomes y in 0..1 (algorithms.md 5).
type Calibration struct {
	N     int      `json:"n"`
	ECE   *float64 `json:"ece"`   // expected calibration error; nil of nothing
	Brier *float64 `json:"brier"` // mean of (p - y)²; nil of nothing
	AUC   *float64 `json:"auc"`   // probability that a right one has the higher p, ties half; nil with one class

	StdErr *CalibrationErrors `json:"std_err,omitempty"` // over resampled prompts
}

// CalibrationErrors are the standard errors of a Calibration; nil where one cannot be told.
type CalibrationErrors struct {
	ECE   *float64 `json:"ece"`
	Brier *float64 `json:"brier"`
	AUC   *float64 `json:"auc"`
}

// Calibrate compares probabilities with outcomes. The expected calibration error takes bins of equal width, value p lying
// in bin min(floor(bins·p), bins-1), and weighs |mean y - mean p| of each by its count.
func Calibrate(p, y []float64, bins int) Calibration {
	if len(p) == 0 {
		return Calibration{}
	}
	gap, brier := make([]series.Sum, bins), series.Sum{}
	for i := range p {
		d := y[i] - p[i]
		gap[bin(p[i], bins)].Add(d)
		brier.AddProduct(d, d)
	}
	n := float64(len(p))
	ece := 0.0
	for _, g := range gap {
		ece += math.Abs(g.Value()) / n
	}
	mean := brier.Value() / n
	return Calibration{N: len(p), ECE: &ece, Brier: &mean, AUC: auc(p, y)}
}

// auc counts the pairs of a right and a wrong one that p orders as it should.
func auc(p, y []float64) *float64 {
	byP := map[float64]tally{}
	for i := range p {
		c := byP[p[i]]
		if y[i] > 0.5 {
			c.Right++
		} else {
			c.Wrong++
		}
		byP[p[i]] = c
	}
	var ranked []tally
	for _, x := range slices.Sorted(maps.Keys(byP)) {
		ranked = append(ranked, byP[x])
	}
	return rankedAUC(ranked)
}

// tally counts the right and wrong ones of equal p.
type tally struct{ Right, Wrong int64 }

// rankedAUC is the area under the curve from tallies of increasing p; nil with one class.
func rankedAUC(ranked []tally) *float64 {
	var below, right, won float64
	for _, c := range ranked {
		r, w := float64(c.Right), float64(c.Wrong)
		won += r * (below + w/2)
		below += w
		right += r
	}
	if right == 0 || below == 0 {
		return nil
	}
	v := won / (right * below)
	return &v
}

// Decile is the tenth of a response of length tokens in which its token t (from 0) lies: floor(10 t / length).
func Decile(t, length int) int { return Deciles * t / length }

// decileLen is the number of tokens in one tenth of a response.
func decileLen(d, length int) int {
	return (length*(d+1)+Deciles-1)/Deciles - (length*d+Deciles-1)/Deciles
}

// ByDecile calibrates the probabilities of all prefixes of packed responses against the responses' outcomes, over all
// tokens and by position.
func ByDecile(p []float64, lengths []int, outcomes []float64, bins int) (all Calibration, deciles [Deciles]Calibration) {
	var ps, ys [Deciles][]float64
	y := make([]float64, 0, len(p))
	at := 0
	for b, n := range lengths {
		for t := range n {
			d := Decile(t, n)
			ps[d], ys[d] = append(ps[d], p[at]), append(ys[d], outcomes[b])
			y = append(y, outcomes[b])
			at++
		}
	}
	for d := range deciles {
		deciles[d] = Calibrate(ps[d], ys[d], bins)
	}
	return Calibrate(p, y, bins), deciles
}
