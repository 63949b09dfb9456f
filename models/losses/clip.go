package losses

import (
	"math"

	"github.com/millrace/millrace/schemas/setting"
)

// Branch says which part of the clipped surrogate a token is on.
type Branch int8

const (
	Unclipped   Branch = iota
	Clipped            // beyond the trust region in the direction of its advantage: no gradient
	DualClipped        // a negative advantage at a ratio above the dual clip: no gradient
)

// Clip is PPO's clipped surrogate of one token (arXiv 1707.06347) with the asymmetric bounds of DAPO (2503.14476) and the
// dual clip (1912.09729). Policy losses embed it.
type Clip struct {
	EpsLow      float64 `json:"eps_low" range:"[0,1]" doc:"the ratio ρ is clipped at 1 - eps_low from below"`
	EpsHigh     float64 `json:"eps_high" range:"[0,inf)" doc:"the ratio ρ is clipped at 1 + eps_high from above"`
	DualClip    float64 `json:"dual_clip" range:"[0,inf)" doc:"a negative advantage A costs at most dual_clip · A; above 1, or 0: off"`
	MaxLogRatio float64 `json:"max_log_ratio" range:"[0.01,80]" doc:"bound of |log ρ|, beyond which there is no gradient"`
}

// Validate checks the dual clip, which has no meaning between 0 and 1.
func (c Clip) Validate() error {
	if c.DualClip != 0 && c.DualClip <= 1 {
		return setting.Errorf("dual_clip", "%v is neither 0 (off) nor above 1", c.DualClip)
	}
	return nil
}

// Surrogate returns ρ, u = min(ρA, clip(ρ)A) bounded below by DualClip·A where A < 0, du/dlog π, and the branch. At a tie
// the unclipped branch is the active one.
func (c Clip) Surrogate(logp, oldLogP, advantage float64) (ratio, u, slope float64, branch Branch) {
	logRatio := logp - oldLogP
	inside := math.Abs(logRatio) <= c.MaxLogRatio
	ratio = math.Exp(clamp(logRatio, -c.MaxLogRatio, c.MaxLogRatio))
	u = ratio * advantage
	if clipped := clamp(ratio, 1-c.EpsLow, 1+c.EpsHigh) * advantage; clipped < u {
		u, branch = clipped, Clipped
	}
	if floor := c.DualClip * advantage; c.DualClip != 0 && advantage < 0 && u < floor {
		u, branch = floor, DualClipped
	}
	if branch == Unclipped && inside {
		slope = u
	}
	return ratio, u, slope, branch
}
