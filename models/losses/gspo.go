package losses

// GSPO clips the ratio of a whole response, its geometric mean over tokens (arXiv 2507.18071),
//
//	s_i = exp(mean_t (log π_θ(y_t) − log π_old(y_t)))
//	L   = −mean_i min(s_i A_i, clip(s_i, 1−eps_low, 1+eps_high) A_i)
//
// A_i is the mean of the response's advantages, which for outcomes relative to the group are all alike. A masked row is in no mean.
// Gradient: d = −A_i s_i/(B T_i) at y_t of every row where the unclipped branch is active, a_t = −d.
type GSPO struct {
	EpsLow      float64 `json:"eps_low" range:"[0,1]" doc:"the response's ratio is clipped at 1 - eps_low from below"`
	EpsHigh     float64 `json:"eps_high" range:"[0,inf)" doc:"the response's ratio is clipped at 1 + eps_high from above"`
	MaxLogRatio float64 `json:"max_log_ratio" range:"[0.01,80]" doc:"bound of |log s|, beyond which there is no gradient"`
}

// DefaultGSPO holds the paper's bounds.
func DefaultGSPO() GSPO { return GSPO{EpsLow: 3e-4, EpsHigh: 4e-4, MaxLogRatio: 20} }

// Spec asks for the sampled tokens of whole responses, their old log-probs and advantages.
func (l GSPO) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample}, Coupling: Response, Inputs: []*Input{ResponseTokens, OldLogP, Advantage}}
}

// MeasuresKL says that gspo/kl is the mean of log π_old − log π.
func (GSPO) MeasuresKL() {}

// Eval adds the loss of the window.
func (l GSPO) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	clip := Clip{EpsLow: l.EpsLow, EpsHigh: l.EpsHigh, MaxLogRatio: l.MaxLogRatio}
	for t := mb.Lo; t < mb.Hi; t = mb.Start[mb.Response[t]+1] {
		b := mb.Response[t]
		n := float64(mb.Length(b))
		if n == 0 || mb.RoleOf(b) != Sample {
			continue
		}
		logp, old, advantage := 0.0, 0.0, 0.0
		for r := mb.Start[b]; r < mb.Start[b+1]; r++ {
			if mb.Used(r) {
				i := mb.Sampled(r)
				logp, old = logp+mb.Listed.LogP[i], old+mb.Listed.OldLogP[i]
				advantage += mb.Rows.Advantage[r]
			}
		}
		ratio, u, slope, branch := clip.Surrogate(logp/n, old/n, advantage/n)
		w := mb.WeightOf(b) / mb.Totals.RoleResponses[Sample]
		loss -= w * u
		for r := mb.Start[b]; r < mb.Start[b+1]; r++ {
			if mb.Used(r) {
				g.LogP(r, mb.Sampled(r), -w*slope/n)
			}
		}
		g.Metrics.Add("gspo/clip_fraction", boolean(branch != Unclipped), 1)
		g.Metrics.Add("gspo/kl", (old-logp)/n, 1)
		g.Metrics.Add("gspo/ratio", ratio, 1)
	}
	return loss
}
