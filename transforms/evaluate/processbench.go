package evaluate

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/millrace/millrace/transforms/series"
)

// Rules are the ways to score a step from the running sums of token scores at step ends (ProcessBench, arXiv 2412.06559;
// algorithms.md 5), as the IPVRM authors' code takes them, of log-ratios and of a scalar head's outputs alike. AllRules are besides
// the least token score of the step (min) and that of its last token (last).
var (
	Rules    = []string{"sum", "sum_diff", "mean", "mean_diff"}
	AllRules = append(slices.Clone(Rules), "min", "last")
)

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

// scores are those of the steps of an item under a rule.
func (i Item) scores(rule string) []float64 {
	at := i.Values
	switch rule {
	case "min":
		at = i.Least
	case "last":
		at = i.Last
	default:
		out, _ := scoresAt(rule, at, i.StepEnds, BetaEval) // Add let no step ends in that do not grow
		return out
	}
	out := make([]float64, len(at))
	for k, x := range at {
		out[k] = series.Sigmoid(BetaEval * x)
	}
	return out
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
	StdErr    *float64 `json:"std_err,omitempty"`
	Erroneous float64  `json:"acc_err"` // share of erroneous items whose first wrong step is predicted
	Correct   float64  `json:"acc_ok"`  // share of correct items for which no step is
	NErr      int      `json:"n_err"`   // erroneous items
	NOK       int      `json:"n_ok"`    // correct items
}

// FixedF1 scores the items at a threshold; labels hold the index of the first wrong step, -1 of a correct item.
func FixedF1(scores [][]float64, labels []int, threshold float64) F1 {
	var t hits
	for i, label := range labels {
		t.count(label >= 0, Predict(scores[i], threshold) == label, 1)
	}
	return t.f1(threshold)
}

// hits counts items, and those predicted right, of each kind.
type hits struct{ err, ok, hitErr, hitOK float64 }

func (h *hits) count(erroneous, hit bool, weight float64) {
	if erroneous {
		h.err += weight
	} else {
		h.ok += weight
	}
	if hit {
		h.hit(erroneous, weight)
	}
}

func (h *hits) hit(erroneous bool, weight float64) {
	if erroneous {
		h.hitErr += weight
	} else {
		h.hitOK += weight
	}
}

// harmonic is the F1; 0 without one of the kinds.
func (h *hits) harmonic() float64 {
	if h.err == 0 || h.ok == 0 {
		return 0
	}
	erroneous, correct := h.hitErr/h.err, h.hitOK/h.ok
	if erroneous+correct == 0 {
		return 0
	}
	return 2 * erroneous * correct / (erroneous + correct)
}

func (h *hits) f1(threshold float64) F1 {
	if h.err == 0 || h.ok == 0 {
		return F1{NErr: int(h.err), NOK: int(h.ok)}
	}
	return F1{Threshold: &threshold, F1: h.harmonic(), Erroneous: h.hitErr / h.err, Correct: h.hitOK / h.ok, NErr: int(h.err), NOK: int(h.ok)}
}

// BestF1 scores the items at every threshold of the grid and returns the best, the first of equals.
func BestF1(scores [][]float64, labels []int, grid Grid) F1 {
	return newSweep(scores, labels, grid).best(nil).f1()
}

// HeldOut chooses the threshold on the items of even index and scores those of odd index with it. test.F1 is 0 when
// either half lacks erroneous or correct items.
func HeldOut(scores [][]float64, labels []int, grid Grid) (chosen, test F1) {
	weights := func(half int) []float64 {
		w := make([]float64, len(labels))
		for i := range w {
			if i%2 == half {
				w[i] = 1
			}
		}
		return w
	}
	return newSweep(scores, labels, grid).heldOut(weights(0), weights(1))
}

// sweep finds the F1 of weighted items at all thresholds of a grid.
//
// An item's prediction is s only for thresholds above score s and at most the lowest score before it, so each item is
// right on one interval of the grid, and one pass over the interval ends finds all counts.
type sweep struct {
	grid      Grid
	lo, hi    []int // item i is right at thresholds lo[i] to hi[i]-1
	erroneous []bool
	turns     []turn // in the order of thresholds, the first at 0
}

// turn is a threshold at which items become right or wrong.
type turn struct {
	at         int
	begin, end []int // items
}

func newSweep(scores [][]float64, labels []int, grid Grid) *sweep {
	s := &sweep{grid: grid, lo: make([]int, len(labels)), hi: make([]int, len(labels)), erroneous: make([]bool, len(labels))}
	byAt := map[int]*turn{0: {}}
	find := func(at int) *turn {
		if byAt[at] == nil {
			byAt[at] = &turn{at: at}
		}
		return byAt[at]
	}
	for i, label := range labels {
		s.erroneous[i] = label >= 0
		lo, hi := 0, grid.Points
		switch {
		case label >= len(scores[i]):
			continue // a label no prediction can match
		case label >= 0:
			lo = grid.above(scores[i][label])
			if label > 0 {
				hi = grid.above(slices.Min(scores[i][:label]))
			}
		case len(scores[i]) > 0:
			hi = grid.above(slices.Min(scores[i]))
		}
		if lo < hi {
			s.lo[i], s.hi[i] = lo, hi
			begin, end := find(lo), find(hi)
			begin.begin, end.end = append(begin.begin, i), append(end.end, i)
		}
	}
	for _, at := range slices.Sorted(maps.Keys(byAt)) {
		if at < grid.Points {
			s.turns = append(s.turns, *byAt[at])
		}
	}
	return s
}

// found is a point of the grid with its counts.
type found struct {
	grid Grid
	at   int
	hits
}

func (f found) f1() F1 { return f.hits.f1(f.grid.at(f.at)) }

// best is the best threshold where item i counts w[i] times; nil counts each once.
func (s *sweep) best(w []float64) found {
	now := s.none(w)
	best, top := now, -1.0
	for _, t := range s.turns {
		for _, i := range t.begin {
			now.hit(s.erroneous[i], weightOf(w, i))
		}
		for _, i := range t.end {
			now.hit(s.erroneous[i], -weightOf(w, i))
		}
		now.at = t.at
		if f := now.harmonic(); f > top {
			best, top = now, f
		}
	}
	return best
}

// at counts the items at one point of the grid.
func (s *sweep) at(j int, w []float64) found {
	f := s.none(w)
	f.at = j
	for i := range s.erroneous {
		if s.lo[i] <= j && j < s.hi[i] {
			f.hit(s.erroneous[i], weightOf(w, i))
		}
	}
	return f
}

// heldOut chooses the threshold under weights and scores with it under others.
func (s *sweep) heldOut(choose, test []float64) (chosen, held F1) {
	c := s.best(choose)
	if c.err == 0 || c.ok == 0 {
		return c.f1(), F1{}
	}
	return c.f1(), s.at(c.at, test).f1()
}

func (s *sweep) none(w []float64) found {
	f := found{grid: s.grid}
	for i, e := range s.erroneous {
		f.count(e, false, weightOf(w, i))
	}
	return f
}

func weightOf(w []float64, i int) float64 {
	if w == nil {
		return 1
	}
	return w[i]
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
