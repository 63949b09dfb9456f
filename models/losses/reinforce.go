package losses

// Reinforce is the score-function estimator (Williams 1992),
//
//	L = −mean_t A_t log π_θ(y_t|s_t)
//
// with A_t the ready advantage column: outcome minus a baseline (none, the group's mean, the mean of the other rollouts,
// which is RLOO, arXiv 2402.14740), or Q-RM's token weights. Gradient: d = −A_t/N at y_t, a_t = A_t/N.
type Reinforce struct{ Reduce }

// DefaultReinforce pools all tokens.
func DefaultReinforce() Reinforce { return Reinforce{Reduce{Reduction: "token_mean"}} }

// Spec asks for the sampled token and its advantage.
func (l Reinforce) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample}, Inputs: []*Input{ResponseTokens, Advantage}}
}

// Eval adds the loss of the window.
func (l Reinforce) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	l.eachRow(mb, func(t, b int, w float64) {
		i := mb.Sampled(t)
		w *= mb.WeightOf(b) * mb.Rows.Advantage[t]
		loss -= w * mb.Listed.LogP[i]
		g.LogP(t, i, -w)
		g.Metrics.Add("reinforce/advantage", mb.Rows.Advantage[t], 1)
	})
	return loss
}
