package advantage

import (
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/series"
)

// TD writes the temporal-difference advantage of each token, sampled or candidate (IPVRM/DistRL, arXiv 2604.13197;
// algorithms.md 3.1):
//
//	a = V(s ⊕ c) - V(s) = beta · (log pi_phi(c|s) - log pi_ref(c|s))
//
// logp are log-probs under the reward model, reference those under the policy that sampled (or a frozen reference).
func TD(a, logp, reference []float64, beta float64) {
	for i := range a {
		a[i] = beta * (logp[i] - reference[i])
	}
}

// ZeroLast sets the last advantage of a response to 0, as the released code does before it sums them into values: there
// the outcome lands, not a change of expectation.
func ZeroLast(td []float64) {
	if n := len(td); n > 0 {
		td[n-1] = 0
	}
}

// Normalise divides TD advantages by the spread of the batch's prefix values: a / (sigmaV + eps) (algorithms.md 3.2).
func Normalise(dst, a []float64, sigmaV, eps float64) {
	for i := range dst {
		dst[i] = a[i] / (sigmaV + eps)
	}
}

// SigmaV is the standard deviation of a batch's prefix values; 1 when there are fewer than two of them.
func SigmaV(values series.Moments) float64 {
	if values.N < 2 {
		return 1
	}
	return values.Std()
}

// Difference is the TD advantage of every sampled token as it is, of the values of a reward model (algorithms.md 3.1): for rows that are
// scored and handed on, and for losses that want no outcome. Every response has it, whatever its outcome.
type Difference struct {
	Normalised bool    `json:"normalised" doc:"divide by the standard deviation of the batch's prefix values (algorithms.md 3.2)"`
	Eps        float64 `json:"eps" range:"[0,1]" doc:"added to the standard deviation"`

	Beta      float64 `json:"beta,omitempty" follows:"reward.value.beta"`
	Reference string  `json:"reference,omitempty" follows:"reward.value.reference"`
	// Scores: the values are scores of tokens, which are their own differences.
	Scores string `json:"scores,omitempty" follows:"reward.value.kind"`
}

func init() { Register("td", Difference{Eps: 1e-6}) }

// WithValues scales log-ratios as the reward model's values do.
func (c Difference) WithValues(v Values) Estimator {
	c.Beta, c.Reference, c.Scores = v.Beta, v.Reference, v.Scores
	return c
}

// Inputs are log-probs under the reward model and its reference, or scores.
func (c Difference) Inputs() Inputs {
	in := Inputs{Learned: Learned{Groups: All, KeepTruncated: true}, Batch: c.Normalised}
	switch {
	case c.Scores != "":
		in.LogP = []schemas.List[float32]{schemas.RewardLogP}
	case c.Reference == Frozen:
		in.LogP = []schemas.List[float32]{schemas.RewardLogP, schemas.ReferenceLogP}
	default:
		in.LogP = []schemas.List[float32]{schemas.RewardLogP, schemas.OldLogP}
	}
	return in
}

func (c Difference) write(r *Response) {
	if c.Scores != "" {
		copy(r.Advantage, r.LogP[0])
		return
	}
	TD(r.Advantage, r.LogP[0], r.LogP[1], c.Beta)
}

// Sum takes in what the spread of the values is made of.
func (c Difference) Sum(r *Response, into *Totals) {
	if c.Normalised {
		c.write(r)
		into.AddTD(r.Advantage, 1)
	}
}

// Over writes the differences.
func (c Difference) Over(batch *Totals) func([]Response) {
	return func(group []Response) {
		for k := range group {
			if r := &group[k]; r.Keep {
				c.write(r)
				if c.Normalised {
					Normalise(r.Advantage, r.Advantage, SigmaV(batch.Value), c.Eps)
				}
			}
		}
	}
}
