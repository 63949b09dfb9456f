package advantage

import (
	"math"

	"github.com/millrace/millrace/transforms/series"
)

// TokenRewards writes the reward of every token of one response under PPO with a KL penalty (arXiv 1707.06347; spec 4.6):
// r_t = -cKL·k_t, plus the outcome at the last token; k_t = log pi_old - log pi_ref, or its absolute value with abs, as
// Q-RM's code has it.
func TokenRewards(r, oldLogp, refLogp []float64, outcome, cKL float64, abs bool) {
	for t := range r {
		k := oldLogp[t] - refLogp[t]
		if abs {
			k = math.Abs(k)
		}
		r[t] = -cKL * k
	}
	if n := len(r); n > 0 {
		r[n-1] += outcome
	}
}

// ValueGAE writes the one-step errors, advantages and returns of one response from token rewards r and the value head's
// outputs v at rollout time, v[t] being the value of the prefix before token t (spec 4.6):
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
