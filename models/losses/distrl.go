package losses

import "math"

// DistRL is the candidate term of distribution-level RL (arXiv 2604.13197, eq. 11): the clipped surrogate of every
// candidate token c under its TD advantage, weighted by π_old(c|s_t),
//
//	released: L = −Σ_{t,c} π_old(c) u_{t,c} / Σ_{t,c} π_old(c)                  (the default)
//	paper:    L = −mean over responses of (1/T) Σ_t Σ_c π_old(c) u_{t,c}
//
// The whole objective is 1·ppo + 0.1·distrl. The last token of a response, where the outcome lands, has no candidate
// update; without any candidate the loss is 0. Gradient: d_c = −W_c A_c ρ_c on the unclipped branch, a_t = −Σ_c d_c.
type DistRL struct {
	Clip
	Mode string `json:"mode" enum:"released,paper" doc:"denominator of the weights: the candidates' mass in the batch (released), or tokens and responses (paper)"`
}

// DefaultDistRL holds the settings of the released code.
func DefaultDistRL() DistRL {
	return DistRL{Clip{EpsLow: 0.2, EpsHigh: 0.2, DualClip: 3, MaxLogRatio: 20}, "released"}
}

// Spec asks for the candidates with their old log-probs and advantages.
func (l DistRL) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample}, Inputs: []*Input{CandidateIDs, CandidateOldLogP, CandidateAdvantage}}
}

// Eval adds the loss of the window.
func (l DistRL) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	seq := Reduce{Reduction: "seq_mean"}
	seq.eachRow(mb, func(t, b int, w float64) {
		if mb.Last(t) {
			return
		}
		if l.Mode == "released" {
			w = 1 / mb.Totals.CandidateMass
		}
		w *= mb.WeightOf(b)
		span := mb.CandidatesOf(t)
		for i := span.Lo; i < span.Hi; i++ {
			old := mb.Listed.OldLogP[i]
			_, u, slope, branch := l.Surrogate(mb.Listed.LogP[i], old, mb.Listed.Advantage[i])
			p := math.Exp(old)
			loss -= w * p * u
			g.LogP(t, i, -w*p*slope)
			g.Metrics.Add("distrl/clip_fraction", boolean(branch != Unclipped), 1)
		}
		g.Metrics.Add("distrl/candidates", float64(span.Len()), 1)
	})
	return loss
}
