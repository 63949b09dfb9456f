package advantage

// Reinforce is the outcome, less the mean of the group where the baseline says so (algorithms.md 4.6).
type Reinforce struct {
	Learned
	Baseline string `json:"baseline" enum:"none,mean" doc:"what is taken off the outcome: nothing, or the mean of the prompt's responses"`
	InReward
}

// Baselines of Reinforce.
const (
	NoBaseline = "none"
	GroupMean  = "mean"
)

// RLOO is the outcome less the mean of the prompt's other responses (arXiv 2402.14740; algorithms.md 4.6).
type RLOO struct {
	Learned
	InReward
}

func init() {
	Register("reinforce", Reinforce{Learned: Learned{Groups: All}, Baseline: NoBaseline, InReward: InReward{KL: K1}})
	Register("rloo", RLOO{Learned: Learned{Groups: All}, InReward: InReward{KL: K1}})
}

// Inputs are outcomes.
func (c Reinforce) Inputs() Inputs {
	return Inputs{Outcome: true, Learned: c.Learned, Compares: c.Baseline == GroupMean, LogP: c.logp()}
}

// Inputs are outcomes.
func (c RLOO) Inputs() Inputs {
	return Inputs{Outcome: true, Learned: c.Learned, Compares: true, LogP: c.logp()}
}

// Over gives every token the outcome less the baseline.
func (c Reinforce) Over(*Totals) func([]Response) {
	if c.Baseline == GroupMean {
		return c.over(MeanBaseline)
	}
	return c.over(func(baseline, _ []float64, _ []bool) { clear(baseline) })
}

// Over gives every token the outcome less that of the others.
func (c RLOO) Over(*Totals) func([]Response) { return c.over(LeaveOneOut) }

// over takes a baseline off; a truncated response has none of its own to learn from but counts in that of the others.
func (c InReward) over(baseline func(baseline, rewards []float64, keep []bool)) func([]Response) {
	return func(group []Response) {
		rewards, known := c.rewards(group)
		base := make([]float64, len(group))
		baseline(base, rewards, known)
		for k := range group {
			group[k].Constant(rewards[k] - base[k])
		}
	}
}
