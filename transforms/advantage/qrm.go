package advantage

import (
	"slices"

	"github.com/millrace/millrace/schemas"
)

// QRM uses the token scores of Q-RM as the weights of REINFORCE (arXiv 2505.23363; algorithms.md 1.5).
type QRM struct {
	Learned
	Centre     bool `json:"centre" doc:"subtract the batch mean of the scores too"`
	Candidates bool `json:"candidates" doc:"scores of the candidate tokens too, as they are; of values q_rm_lm, which have them"`
	tokenScores
}

// tokenScores is the column of the scores: that of a scalar head, or log-probs in the form q_rm_lm.
type tokenScores struct {
	Scores string `json:"scores,omitempty" follows:"reward.value.kind"`
}

func (s tokenScores) columns() []schemas.List[float32] {
	if s.Scores == schemas.RewardLogP.Name {
		return []schemas.List[float32]{schemas.RewardLogP}
	}
	return []schemas.List[float32]{schemas.QValue}
}

// QRMPPO uses them in PPO: the scores less a KL penalty and less a value head.
type QRMPPO struct {
	Learned
	CKL    float64 `json:"c_kl" range:"[0,1e6]" doc:"weight of the KL penalty; 0 needs no reference"`
	CV     float64 `json:"c_v" range:"[0,1e6]" doc:"weight of the value head"`
	Centre bool    `json:"centre" doc:"subtract the batch means of scores and values too"`
	tokenScores
}

func init() {
	Register("q_rm", QRM{Learned: Learned{Groups: All}})
	Register("q_rm_ppo", QRMPPO{Learned: Learned{Groups: All}, CKL: 0.01, CV: 0.01})
}

// Inputs are token scores.
func (c QRM) Inputs() Inputs {
	in := Inputs{Learned: c.Learned, Scores: c.columns(), Batch: true, Candidates: c.Candidates}
	if c.Candidates {
		in.CandidateLogP = []schemas.Nested[float32]{schemas.CandidateRewardLogP}
	}
	return in
}

// WithValues takes the scores from where the reward model's values take them.
func (c QRM) WithValues(v Values) Estimator {
	c.Scores = v.Scores
	return c
}

// WithValues takes the scores from where the reward model's values take them.
func (c QRMPPO) WithValues(v Values) Estimator {
	c.Scores = v.Scores
	return c
}

// Sum takes in the scores.
func (c QRM) Sum(r *Response, into *Totals) { into.Add("score", r.Score) }

// Over scales the scores.
func (c QRM) Over(batch *Totals) func([]Response) {
	mean, std := batch.scale("score", c.Centre)
	return func(group []Response) {
		for k := range group {
			if r := &group[k]; r.Keep {
				Scaled(r.Advantage, r.Score, mean, std)
				if c.Candidates {
					r.Candidate = slices.Clone(r.CandidateLogP[0])
				}
			}
		}
	}
}

// Inputs are token scores, the value head, and log-probs for the penalty.
func (c QRMPPO) Inputs() Inputs {
	return Inputs{Learned: c.Learned, Scores: c.columns(), CriticValue: true, LogP: penaltyLogP(c.CKL), Return: true, Batch: true}
}

// Sum takes in scores and values.
func (c QRMPPO) Sum(r *Response, into *Totals) {
	into.Add("score", r.Score)
	into.Add("head", r.CriticValue)
}

// Over writes advantages, and the penalised scores as returns.
func (c QRMPPO) Over(batch *Totals) func([]Response) {
	mean, std := batch.scale("score", c.Centre)
	headMean, headStd := batch.scale("head", c.Centre)
	return func(group []Response) {
		for k := range group {
			r := &group[k]
			if !r.Keep {
				continue
			}
			policy, reference := penaltyOf(r)
			Scaled(r.Advantage, r.Score, mean, std)
			Penalised(r.Advantage, r.Advantage, policy, reference, c.CKL)
			r.Return = slices.Clone(r.Advantage)
			v := make([]float64, r.Tokens)
			Scaled(v, r.CriticValue, headMean, headStd)
			OverValue(r.Advantage, r.Advantage, v, c.CV)
		}
	}
}

// Scaled writes (x - mean) / std, x divided by the batch's standard deviation of its kind (Q-RM, arXiv 2505.23363; algorithms.md
// 1.5): token scores q_t = Z_t / std(Z), values V_t / std(V). The mean is 0 where nothing is to be centred; std 0, values
// without spread, leaves them undivided.
func Scaled(dst, x []float64, mean, std float64) {
	if std == 0 {
		std = 1
	}
	for t := range dst {
		dst[t] = (x[t] - mean) / std
	}
}

// Penalised writes q'_t = q_t - cKL·|log pi_old - log pi_ref|, Q-RM's token reward for PPO and its value head's target.
func Penalised(dst, q, oldLogp, refLogp []float64, cKL float64) {
	for t := range dst {
		dst[t] = q[t] - cKL*logRatio(oldLogp[t], refLogp[t], true)
	}
}

// OverValue writes Q-RM's advantage for PPO, a_t = q'_t - cV·v_t, v being the scaled values ([Scaled]).
func OverValue(a, q, v []float64, cV float64) {
	for t := range a {
		a[t] = q[t] - cV*v[t]
	}
}
