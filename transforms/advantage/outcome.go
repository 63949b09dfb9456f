package advantage

import "github.com/millrace/millrace/transforms/series"

// Relative is GRPO's group-relative outcome advantage (arXiv 2402.03300; algorithms.md 4.6): (r - mu) / (sd + eps).
func Relative(r, mu, sd, eps float64) float64 { return (r - mu) / (sd + eps) }

// MeanBaseline writes the mean reward of one prompt's responses as the baseline of each (algorithms.md 4.6). Responses for which
// keep is false neither count nor get one (0).
func MeanBaseline(baseline, rewards []float64, keep []bool) {
	var m series.Moments
	for i, ok := range keep {
		if ok {
			m.Add(rewards[i])
		}
	}
	mean := m.Mean()
	for i, ok := range keep {
		baseline[i] = 0
		if ok {
			baseline[i] = mean
		}
	}
}

// LeaveOneOut writes RLOO's baseline (arXiv 2402.14740; algorithms.md 4.6): the mean reward of the other responses to the same
// prompt, 0 when there is no other. Responses for which keep is false neither count nor get one (0).
func LeaveOneOut(baseline, rewards []float64, keep []bool) {
	for i, own := range keep {
		var others series.Moments
		for j, ok := range keep {
			if own && ok && j != i {
				others.Add(rewards[j])
			}
		}
		baseline[i] = others.Mean()
	}
}
