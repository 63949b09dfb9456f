package advantage

// ReinforcePP normalises rewards over the whole batch instead of the group (REINFORCE++, arXiv 2501.03262; algorithms.md 4.12):
//
//	A_t = (r − mean) / (std + eps)
//
// with mean and population standard deviation over all response tokens of the batch. With a baseline the group's mean is taken off
// first, and the batch then divides (the paper's form for several responses a prompt).
type ReinforcePP struct {
	Learned
	Baseline bool    `json:"baseline" doc:"take the mean of the prompt's responses off first"`
	Eps      float64 `json:"eps" range:"[0,1]" doc:"added to the standard deviation"`
	InReward
}

func init() {
	Register("reinforce_pp", ReinforcePP{Learned: Learned{Groups: All}, Eps: 1e-8, InReward: InReward{KL: K1}})
}

// Inputs are outcomes.
func (c ReinforcePP) Inputs() Inputs {
	return Inputs{Outcome: true, Learned: c.Learned, Compares: c.Baseline, LogP: c.logp(), Batch: true}
}

// SumGroup takes in the rewards of a prompt's responses, once for each token.
func (c ReinforcePP) SumGroup(group []Response, into *Totals) {
	for k, x := range c.centred(group) {
		if group[k].Keep {
			tokens := make([]float64, group[k].Tokens)
			for t := range tokens {
				tokens[t] = x
			}
			into.Add("reward", tokens)
		}
	}
}

func (c ReinforcePP) centred(group []Response) []float64 {
	rewards, known := c.rewards(group)
	if c.Baseline {
		base := make([]float64, len(group))
		MeanBaseline(base, rewards, known)
		for k := range rewards {
			rewards[k] -= base[k]
		}
	}
	return rewards
}

// Over gives every token of a response its normalised reward.
func (c ReinforcePP) Over(batch *Totals) func([]Response) {
	moments := batch.Moments["reward"]
	mean, std := moments.Mean(), moments.Std()
	return func(group []Response) {
		for k, x := range c.centred(group) {
			group[k].Constant((x - mean) / (std + c.Eps))
		}
	}
}
