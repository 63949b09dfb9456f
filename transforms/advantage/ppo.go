package advantage

import (
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/series"
)

// PPO is the GAE over the policy's own value head, with a KL penalty in the token rewards (arXiv 1707.06347; algorithms.md 4.6).
type PPO struct {
	Learned
	Gamma  float64 `json:"gamma" range:"[0,1]" doc:"discount"`
	Lambda float64 `json:"lambda" range:"[0,1]" doc:"of the GAE"`
	CKL    float64 `json:"c_kl" range:"[0,1e6]" doc:"weight of the KL penalty; 0 needs no reference"`
	KL     string  `json:"kl" enum:"k1,abs" doc:"the penalty of a token: the log-ratio, or its absolute value"`
	Whiten bool    `json:"whiten" doc:"whiten over the batch"`
}

// Penalties of PPO.
const (
	K1  = "k1"
	Abs = "abs"
)

func init() {
	Register("ppo", PPO{Learned: Learned{Groups: All}, Gamma: 1, Lambda: 0.95, CKL: 0.05, KL: K1, Whiten: true})
}

// Inputs are outcomes, the value head, and log-probs for the penalty.
func (c PPO) Inputs() Inputs {
	return Inputs{Outcome: true, Learned: c.Learned, LogP: penaltyLogP(c.CKL), CriticValue: true, Return: true, Batch: c.Whiten}
}

// penaltyLogP are the columns of a KL penalty, none where its weight is 0.
func penaltyLogP(weight float64) []schemas.List[float32] {
	if weight == 0 {
		return nil
	}
	return []schemas.List[float32]{schemas.OldLogP, schemas.ReferenceLogP}
}

// penaltyOf are the log-probs of a KL penalty; without one the log-ratio does not matter.
func penaltyOf(r *Response) (policy, reference []float64) {
	if len(r.LogP) == 2 {
		return r.LogP[0], r.LogP[1]
	}
	zero := make([]float64, r.Tokens)
	return zero, zero
}

// estimate is the GAE of a response and the target of the value head.
func (c PPO) estimate(r *Response) (gae, ret []float64) {
	rewards, delta := make([]float64, r.Tokens), make([]float64, r.Tokens)
	gae, ret = make([]float64, r.Tokens), make([]float64, r.Tokens)
	policy, reference := penaltyOf(r)
	TokenRewards(rewards, policy, reference, r.Outcome, c.CKL, c.KL == Abs)
	ValueGAE(delta, gae, ret, rewards, r.CriticValue, c.Gamma, c.Lambda)
	return gae, ret
}

// Sum takes in the advantages that are whitened.
func (c PPO) Sum(r *Response, into *Totals) {
	gae, _ := c.estimate(r)
	into.Add("gae", gae)
}

// Over writes advantages and returns.
func (c PPO) Over(batch *Totals) func([]Response) {
	white := batch.Moments["gae"]
	return func(group []Response) {
		for k := range group {
			r := &group[k]
			if !r.Keep {
				continue
			}
			r.Advantage, r.Return = c.estimate(r)
			if c.Whiten {
				Whiten(r.Advantage, []int{0, r.Tokens}, []bool{true}, white.Mean(), white.SampleVar())
			}
		}
	}
}

// TokenRewards writes the reward of every token of one response under PPO with a KL penalty (arXiv 1707.06347; algorithms.md 4.6):
// r_t = -cKL·k_t, plus the outcome at the last token; k_t = log pi_old - log pi_ref, or its absolute value with abs, as
// Q-RM's code has it.
func TokenRewards(r, oldLogp, refLogp []float64, outcome, cKL float64, abs bool) {
	for t := range r {
		r[t] = -cKL * logRatio(oldLogp[t], refLogp[t], abs)
	}
	if n := len(r); n > 0 {
		r[n-1] += outcome
	}
}

// ValueGAE writes the one-step errors, advantages and returns of one response from token rewards r and the value head's
// outputs v at rollout time, v[t] being the value of the prefix before token t (algorithms.md 4.6):
//
//	delta_t = r_t + gamma·v_{t+1} - v_t,  v_{T+1} = 0;   a_t = Σ_{i>=t} (gamma·lambda)^(i-t) delta_i;   ret_t = a_t + v_t
func ValueGAE(delta, a, ret, r, v []float64, gamma, lambda float64) {
	for t := range r {
		next := 0.0
		if t+1 < len(v) {
			next = v[t+1]
		}
		delta[t] = r[t] + gamma*next - v[t]
	}
	series.Discounted(a, delta, gamma*lambda)
	for t := range a {
		ret[t] = a[t] + v[t]
	}
}
