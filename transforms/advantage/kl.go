package advantage

import (
	"math"

	"github.com/millrace/millrace/schemas"
)

// InReward is a KL penalty in the reward of a response, as verl's use_kl_in_reward has it (algorithms.md 4.12): of every token
// −c_kl k_t, k_t = log π_old − log π_ref, is added to what the response earns. Baselines and deviations are then those of the
// penalised rewards.
type InReward struct {
	CKL float64 `json:"c_kl" range:"[0,1e6]" doc:"weight of a KL penalty in the reward; 0 needs no reference"`
	KL  string  `json:"kl" enum:"k1,abs" doc:"the penalty of a token: the log-ratio, or its absolute value"`
}

func (c InReward) logp() []schemas.List[float32] { return penaltyLogP(c.CKL) }

// rewards are those of a group's responses, and which have one: a response with an outcome. One whose log-probs are not known, since
// nothing is learned from it, has its outcome alone.
func (c InReward) rewards(group []Response) (rewards []float64, known []bool) {
	rewards, known = make([]float64, len(group)), make([]bool, len(group))
	for k := range group {
		r := &group[k]
		rewards[k], known[k] = c.reward(r), r.Labelled
	}
	return rewards, known
}

func (c InReward) reward(r *Response) float64 {
	x := r.Outcome
	if c.CKL == 0 || len(r.LogP) < 2 {
		return x
	}
	for t, logp := range r.LogP[0] {
		x -= c.CKL * logRatio(logp, r.LogP[1][t], c.KL == Abs)
	}
	return x
}

// logRatio is k_t of a KL penalty: log pi_old - log pi_ref, or its absolute value with abs, as Q-RM's code has it.
func logRatio(policy, reference float64, abs bool) float64 {
	k := policy - reference
	if abs {
		k = math.Abs(k)
	}
	return k
}
