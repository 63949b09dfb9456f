package losses

// SFT is the negative log-likelihood of the tokens,
//
//	L = −mean_t log π_θ(y_t|s_t)
//
// over every response but the rejected ones of pairs. Gradient: a_t = 1/N, d = −1/N at y_t.
type SFT struct{ Reduce }

// DefaultSFT pools all tokens.
func DefaultSFT() SFT { return SFT{Reduce{Reduction: "token_mean"}} }

// Spec asks for the sampled token only.
func (l SFT) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample, Chosen}, Inputs: []*Input{ResponseTokens}}
}

// Eval adds the loss of the window.
func (l SFT) Eval(mb *Microbatch, g *Grad) float64 {
	tot := &mb.Totals
	tokens := tot.Tokens - tot.RoleTokens[Rejected]
	responses := tot.Responses - tot.RoleResponses[Rejected]
	loss := 0.0
	for t := mb.Lo; t < mb.Hi; t++ {
		b := mb.Response[t]
		if !mb.Used(t) || mb.RoleOf(b) == Rejected {
			continue
		}
		loss += nll(mb, g, t, mb.WeightOf(b)*l.weight(tokens, responses, mb.Length(b)), "sft/nll")
	}
	return loss
}

// nll adds w times the negative log-likelihood of row t's token.
func nll(mb *Microbatch, g *Grad, t int, w float64, metric string) float64 {
	i := mb.Sampled(t)
	g.LogP(t, i, -w)
	g.Metrics.Add(metric, -mb.Listed.LogP[i], 1)
	return -w * mb.Listed.LogP[i]
}
