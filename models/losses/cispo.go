package losses

import "math"

// CISPO clips the weight of a token instead of its gradient (MiniMax-M1, arXiv 2506.13585),
//
//	L = −mean_t sg(clip(ρ_t, 1−eps_low, 1+eps_high)) A_t log π_θ(y_t|s_t)
//
// sg: without gradient, so every token learns. Gradient: d = −clip(ρ_t) A_t/N at y_t, a_t = −d.
type CISPO struct {
	EpsLow      float64 `json:"eps_low" range:"[0,1]" doc:"the ratio's weight is at least 1 - eps_low; 1: no lower bound"`
	EpsHigh     float64 `json:"eps_high" range:"[0,inf)" doc:"the ratio's weight is at most 1 + eps_high"`
	MaxLogRatio float64 `json:"max_log_ratio" range:"[0.01,80]" doc:"bound of |log ρ|"`
	Reduce
}

// DefaultCISPO holds the paper's form: bounded above alone.
func DefaultCISPO() CISPO {
	return CISPO{EpsLow: 1, EpsHigh: 4, MaxLogRatio: 20, Reduce: Reduce{Reduction: "token_mean"}}
}

// Spec asks for the sampled token, its old log-prob and its advantage.
func (l CISPO) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample}, Inputs: []*Input{ResponseTokens, OldLogP, Advantage}}
}

// MeasuresKL says that cispo/kl is the mean of log π_old − log π.
func (CISPO) MeasuresKL() {}

// Weight is the clipped ratio of a token.
func (l CISPO) Weight(logp, oldLogP float64) float64 {
	ratio := math.Exp(clamp(logp-oldLogP, -l.MaxLogRatio, l.MaxLogRatio))
	return clamp(ratio, 1-l.EpsLow, 1+l.EpsHigh)
}

// Eval adds the loss of the window.
func (l CISPO) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	l.eachRow(mb, func(t, b int, w float64) {
		i := mb.Sampled(t)
		logp, old := mb.Listed.LogP[i], mb.Listed.OldLogP[i]
		weight := l.Weight(logp, old)
		w *= mb.WeightOf(b) * weight * mb.Rows.Advantage[t]
		loss -= w * logp
		g.LogP(t, i, -w)
		g.Metrics.Add("cispo/clip_fraction", boolean(weight != math.Exp(clamp(logp-old, -l.MaxLogRatio, l.MaxLogRatio))), 1)
		g.Metrics.Add("cispo/kl", old-logp, 1)
		g.Metrics.Add("cispo/weight", weight, 1)
	})
	return loss
}

// StopsGradient says that the clipped ratio has no gradient, so the loss is no potential of what is added to it.
func (CISPO) StopsGradient() {}
