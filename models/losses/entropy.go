package losses

// Entropy is a bonus for a spread policy (A3C, arXiv 1602.01783),
//
//	L = −mean_t H(π_θ(·|s_t)),  H = −Σ_v π(v) log π(v)
//
// whose weight in update.losses is the coefficient. Its gradient has a form of its own, the fourth number of a row:
// dL/dz_t = e_t π_t ∘ (log π_t + H_t), e_t = 1/N.
type Entropy struct{ Reduce }

// DefaultEntropy pools all tokens.
func DefaultEntropy() Entropy { return Entropy{Reduce{Reduction: "token_mean"}} }

// Spec asks for nothing but the sampled responses.
func (l Entropy) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample}, Inputs: []*Input{ResponseTokens}}
}

// Eval adds the loss of the window.
func (l Entropy) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	l.eachRow(mb, func(t, b int, w float64) {
		w *= mb.WeightOf(b)
		loss -= w * mb.Rows.Entropy[t]
		g.Entropy(t, w)
	})
	return loss
}
