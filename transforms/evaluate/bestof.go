package evaluate

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
