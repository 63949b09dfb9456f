package evaluate

import (
	"fmt"
	"math"
	"slices"

	"github.com/millrace/millrace/transforms/series"
)

// Rules are the ways to score a step from the prefix values at step ends (ProcessBench, arXiv 2412.06559; spec 5).
var Rules = []string{"sum", "sum_diff", "mean", "mean_diff"}

// BetaEval is the beta of the values that ProcessBench scores use.
const BetaEval = 0.001

// StepScores writes the score of every step of one response. l are the token log-ratios, ends the 1-based index of each
// step's last token, increasing and within l. With V = beta·Σ l at a step's end, the score is sigmoid of
//
//	sum        V                        sum_diff   V - V of the previous step
//	mean       V / tokens so far        mean_diff  (V - V of the previous step) / tokens of the step
//
// the last two divided by sqrt(beta), as the released code does.
func StepScores(rule string, l []float64, ends []int, beta float64) ([]float64, error) {
	v := make([]float64, len(l))
	series.Running(v, l)
	at := make([]float64, len(ends))
	for s, end := range ends {
		if end < 1 || end > len(l) {
			return nil, fmt.Errorf("step %d ends at token %d of %d", s, end, len(l))
		}
		at[s] = v[end-1]
	}
	return scoresAt(rule, at, ends, beta)
}

// scoresAt is [StepScores] from the sums of log-ratios at the step ends.
func scoresAt(rule string, at []float64, ends []int, beta float64) ([]float64, error) {
	scores := make([]float64, len(ends))
	before, last := 0.0, 0
	for s, end := range ends {
		if end <= last {
			return nil, fmt.Errorf("step %d ends at token %d, the one before at %d", s, end, last)
		}
		now := beta * at[s]
		x := now
		switch rule {
		case "sum":
		case "sum_diff":
			x -= before
		case "mean":
			x = x / float64(end) / math.Sqrt(beta)
		case "mean_diff":
			x = (x - before) / float64(end-last) / math.Sqrt(beta)
		default:
			return nil, fmt.Errorf("rule %q is not one of %q", rule, Rules)
		}
		scores[s] = series.Sigmoid(x)
		before, last = now, end
	}
	return scores, nil
}

// Predict is the first step that scores below the threshold, -1 when none does.
func Predict(scores []float64, threshold float64) int {
	return slices.IndexFunc(scores, func(s float64) bool { return s < threshold })
}

// Grid is a range of equally spaced thresholds.
type Grid struct {
	Low, High float64
	Points    int
}

// ReleasedGrid is the one results are reported with.
var ReleasedGrid = Grid{-1, 1, 10000}

func (g Grid) at(j int) float64 {
	return g.Low + float64(j)*(g.High-g.Low)/float64(g.Points-1)
}

// F1 tells how well the first wrong step is found at one threshold.
type F1 struct {
	Threshold *float64 `json:"threshold"` // nil: without both erroneous and correct items there is none
	F1        float64  `json:"f1"`        // harmonic mean of the two accuracies, 0 when both are 0
	Erroneous float64  `json:"acc_err"`   // share of erroneous items whose first wrong step is predicted
	Correct   float64  `json:"acc_ok"`    // share of correct items for which no step is
}

// FixedF1 scores the items at a threshold; labels hold the index of the first wrong step, -1 of a correct item.
func FixedF1(scores [][]float64, labels []int, threshold float64) F1 {
	var hit, count [2]float64
	for i, label := range labels {
		kind := 0
		if label >= 0 {
			kind = 1
		}
		count[kind]++
		if Predict(scores[i], threshold) == label {
			hit[kind]++
		}
	}
	if count[0] == 0 || count[1] == 0 {
		return F1{}
	}
	return harmonic(hit[1]/count[1], hit[0]/count[0], threshold)
}

func harmonic(erroneous, correct, threshold float64) F1 {
	f := F1{Threshold: &threshold, Erroneous: erroneous, Correct: correct}
	if erroneous+correct > 0 {
		f.F1 = 2 * erroneous * correct / (erroneous + correct)
	}
	return f
}

// BestF1 scores the items at every threshold of the grid and returns the best, the first of equals.
//
// An item's prediction is s only for thresholds above score s and at most the lowest score before it, so each item is
// right on one interval of the grid, and one sweep over the interval ends finds all counts.
func BestF1(scores [][]float64, labels []int, grid Grid) F1 {
	erroneous, correct := make([]int, grid.Points+1), make([]int, grid.Points+1)
	var nErr, nOK int
	for i, label := range labels {
		lo, hi := 0, grid.Points
		if label >= 0 {
			nErr++
			if label >= len(scores[i]) {
				continue // a label no prediction can match
			}
			lo = grid.above(scores[i][label])
			if label > 0 {
				hi = grid.above(slices.Min(scores[i][:label]))
			}
		} else {
			nOK++
			if len(scores[i]) > 0 {
				hi = grid.above(slices.Min(scores[i]))
			}
		}
		if lo < hi {
			right := correct
			if label >= 0 {
				right = erroneous
			}
			right[lo]++
			right[hi]--
		}
	}
	if nErr == 0 || nOK == 0 {
		return F1{}
	}
	best := F1{F1: -1}
	hitErr, hitOK := 0, 0
	for j := range grid.Points {
		hitErr += erroneous[j]
		hitOK += correct[j]
		if f := harmonic(float64(hitErr)/float64(nErr), float64(hitOK)/float64(nOK), grid.at(j)); f.F1 > best.F1 {
			best = f
		}
	}
	return best
}

// above is the index of the first threshold above x.
func (g Grid) above(x float64) int {
	lo, hi := 0, g.Points
	for lo < hi {
		if mid := (lo + hi) / 2; g.at(mid) > x {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// HeldOut chooses the threshold on the items of even index and scores those of odd index with it. test.F1 is 0 when
// either half lacks erroneous or correct items.
func HeldOut(scores [][]float64, labels []int, grid Grid) (chosen, test F1) {
	var halves [2][][]float64
	var halfLabels [2][]int
	for i := range labels {
		halves[i%2], halfLabels[i%2] = append(halves[i%2], scores[i]), append(halfLabels[i%2], labels[i])
	}
	chosen = BestF1(halves[0], halfLabels[0], grid)
	if chosen.Threshold == nil {
		return chosen, F1{}
	}
	return chosen, FixedF1(halves[1], halfLabels[1], *chosen.Threshold)
}
