package losses

import "math"

// ReferenceKL keeps a policy near a frozen reference by a KL term in the loss, as GRPO has it (arXiv 2402.03300, eq. 4),
// estimated from the sampled tokens alone. With x = log π_θ(y_t) − log π_ref(y_t),
//
//	L = mean_t k_t,  k_t = x (k1) | x²/2 (k2) | e^−x + x − 1 (k3)
//
// |x| is bounded by max_log_ratio, without gradient outside. Gradient: dk/dx at y_t, that is 1 | x | 1 − e^−x over N.
type ReferenceKL struct {
	Estimator   string  `json:"estimator" enum:"k1,k2,k3" doc:"of the KL, of the log-ratio x: k1 is x, k2 is x²/2, k3 is e^-x + x - 1"`
	MaxLogRatio float64 `json:"max_log_ratio" range:"[0.01,80]" doc:"bound of |x|, beyond which there is no gradient"`
	Reduce
}

// DefaultReferenceKL is GRPO's estimator.
func DefaultReferenceKL() ReferenceKL { return ReferenceKL{"k3", 20, Reduce{Reduction: "token_mean"}} }

// Spec asks for the sampled token under the reference.
func (l ReferenceKL) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample}, Inputs: []*Input{ResponseTokens, ReferenceLogP}}
}

// Eval adds the loss of the window.
func (l ReferenceKL) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	l.eachRow(mb, func(t, b int, w float64) {
		i := mb.Sampled(t)
		logRatio := mb.Listed.LogP[i] - mb.Listed.RefLogP[i]
		x := clamp(logRatio, -l.MaxLogRatio, l.MaxLogRatio)
		k, slope := x, 1.0
		switch l.Estimator {
		case "k2":
			k, slope = x*x/2, x
		case "k3":
			k, slope = math.Expm1(-x)+x, -math.Expm1(-x)
		}
		if x != logRatio {
			slope = 0
		}
		w *= mb.WeightOf(b)
		loss += w * k
		g.LogP(t, i, w*slope)
		g.Metrics.Add("reference_kl/kl", k, 1)
	})
	return loss
}

// MeasuresKL says that reference_kl/kl is the estimate.
func (ReferenceKL) MeasuresKL() {}
