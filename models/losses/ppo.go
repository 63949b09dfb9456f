package losses

import "github.com/millrace/millrace/schemas/setting"

// PPO is the clipped token surrogate of PPO and GRPO (arXiv 1707.06347, 2402.03300),
//
//	ρ_t = π_θ(y_t|s_t)/π_old(y_t|s_t)
//	u_t = min(ρ_t A_t, clip(ρ_t, 1−eps_low, 1+eps_high) A_t);  if A_t < 0: u_t = max(u_t, dual_clip·A_t)
//	L   = −mean_t u_t
//
// PPO and GRPO differ only in their advantage column. Gradient: d = −A_t ρ_t/N at y_t and a_t = A_t ρ_t/N where the
// unclipped branch is active, else 0.
type PPO struct {
	Clip
	Reduce
}

// DefaultPPO holds the settings of the DistRL paper's released code (arXiv 2604.13197).
func DefaultPPO() PPO {
	return PPO{Clip{EpsLow: 0.2, EpsHigh: 0.28, DualClip: 3, MaxLogRatio: 20}, Reduce{Reduction: "token_mean"}}
}

// Validate checks both parts.
func (l PPO) Validate() error { return setting.First(l.Clip.Validate(), l.Reduce.Validate()) }

// Spec asks for the sampled token, its old log-prob and its advantage.
func (l PPO) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample}, Inputs: []*Input{ResponseTokens, OldLogP, Advantage}}
}

// Eval adds the loss of the window.
func (l PPO) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	l.eachRow(mb, func(t, b int, w float64) {
		i := mb.Sampled(t)
		logp, old := mb.Listed.LogP[i], mb.Listed.OldLogP[i]
		ratio, u, slope, branch := l.Surrogate(logp, old, mb.Rows.Advantage[t])
		w *= mb.WeightOf(b)
		loss -= w * u
		g.LogP(t, i, -w*slope)
		g.Metrics.Add("ppo/clip_fraction", boolean(branch == Clipped), 1)
		g.Metrics.Add("ppo/dual_clip_fraction", boolean(branch == DualClipped), 1)
		g.Metrics.Add("ppo/kl", old-logp, 1)
		g.Metrics.Add("ppo/ratio", ratio, 1)
	})
	return loss
}

// MeasuresKL says that ppo/kl is the mean of log π_old − log π.
func (PPO) MeasuresKL() {}
