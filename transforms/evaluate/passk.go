package evaluate

import "github.com/millrace/millrace/transforms/series"

// PassAtK estimates without bias the probability that at least one of k responses is correct, from n responses of which
// c are (Chen et al., arXiv 2107.03374): 1 - C(n-c, k)/C(n, k), as a product that cannot overflow. k must not exceed n.
func PassAtK(n, c, k int) float64 {
	if n-c < k {
		return 1
	}
	miss := 1.0
	for i := n - c + 1; i <= n; i++ {
		miss *= 1 - float64(k)/float64(i)
	}
	return 1 - miss
}

// Estimate is a mean over prompts with its standard error.
type Estimate struct {
	Mean   float64 `json:"mean"`
	StdErr float64 `json:"std_err"` // sample standard deviation over prompts / sqrt(n); 0 with one prompt
	N      int     `json:"n"`       // prompts
}

// Over estimates the mean of one value a prompt.
func Over(perPrompt []float64) Estimate { return estimate(series.MomentsOf(perPrompt)) }
