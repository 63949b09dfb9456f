package evaluate

import (
	"cmp"
	"slices"
)

// BestOf picks the response of the highest score; ties go to the first. It returns -1 of none.
func BestOf(scores []float64) int {
	best := -1
	for i, s := range scores {
		if best < 0 || s > scores[best] {
			best = i
		}
	}
	return best
}

// BestOfK estimates without bias the outcome of the best by score of k responses, from the n that there are: the mean, over
// all choices of k of them, of the outcome of the one that [BestOf] picks. With the responses ranked by falling score,
// equal ones in their order, the one of rank i (from 0) is picked by C(n-1-i, k-1) of the C(n, k) choices. k is in [1, n].
func BestOfK(scores, outcomes []float64, k int) float64 {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	n := len(order)
	sum, share := 0.0, float64(k)/float64(n) // C(n-1, k-1) / C(n, k)
	for i, r := range order[:n-k+1] {
		sum += share * outcomes[r]
		share *= float64(n-k-i) / float64(n-1-i)
	}
	return sum
}
