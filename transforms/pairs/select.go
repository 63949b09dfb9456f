package pairs

import (
	"cmp"
	"fmt"
	"slices"
)

// Pair names two responses of a group by index.
type Pair struct{ Chosen, Rejected int }

// Strategies are the ways to choose pairs (algorithms.md 2).
var Strategies = []string{"best_worst", "all"}

// Select pairs correct with incorrect responses of one prompt. Only responses with an outcome take part (valid).
//
//	best_worst  the correct response of the highest score against the incorrect one of the lowest, then the second best
//	            against the second worst, as long as both exist
//	all         every correct response against every incorrect one, such that a cap uses each response about equally often
//
// scores ranks the responses of a class; nil keeps their order, and ties go to the first. At most limit pairs are made
// (limit < 1: one for best_worst, no limit for all). Pairs depend on nothing but the arguments.
func Select(strategy string, outcomes []float64, valid []bool, scores []float64, limit int) ([]Pair, error) {
	var right, wrong []int
	for i, r := range outcomes {
		switch {
		case !valid[i]:
		case r > 0.5:
			right = append(right, i)
		default:
			wrong = append(wrong, i)
		}
	}
	var out []Pair
	switch strategy {
	case "best_worst":
		if scores != nil {
			byScore(right, scores, 1)
			byScore(wrong, scores, -1)
		}
		for i := range min(max(limit, 1), len(right), len(wrong)) {
			out = append(out, Pair{right[i], wrong[i]})
		}
	case "all":
		for shift := range wrong {
			for i, c := range right {
				if limit > 0 && len(out) == limit {
					return out, nil
				}
				out = append(out, Pair{c, wrong[(i+shift)%len(wrong)]})
			}
		}
	default:
		return nil, fmt.Errorf("strategy %q is not one of %q", strategy, Strategies)
	}
	return out, nil
}

// byScore orders indices by descending sign·score, equal ones as they were.
func byScore(indices []int, scores []float64, sign float64) {
	slices.SortStableFunc(indices, func(a, b int) int { return cmp.Compare(sign*scores[b], sign*scores[a]) })
}
