package advantage

// Reinforce is the outcome, less the mean of the group where the baseline says so (algorithms.md 4.6).
type Reinforce struct {
	Learned
	Baseline string `json:"baseline" enum:"none,mean" doc:"what is taken off the outcome: nothing, or the mean of the prompt's responses"`
}

// Baselines of Reinforce.
const (
	NoBaseline = "none"
	GroupMean  = "mean"
)

// RLOO is the outcome less the mean of the prompt's other responses (arXiv 2402.14740; algorithms.md 4.6).
type RLOO struct {
	Learned
}

func init() {
	Register("reinforce", Reinforce{Learned: Learned{Groups: All}, Baseline: NoBaseline})
	Register("rloo", RLOO{Learned: Learned{Groups: All}})
}

// Inputs are outcomes.
func (c Reinforce) Inputs() Inputs {
	return Inputs{Outcome: true, Learned: c.Learned, Compares: c.Baseline == GroupMean}
}

// Inputs are outcomes.
func (c RLOO) Inputs() Inputs { return Inputs{Outcome: true, Learned: c.Learned, Compares: true} }

// Over gives every token the outcome less the baseline.
func (c Reinforce) Over(*Totals) func([]Response) {
	if c.Baseline == GroupMean {
		return over(MeanBaseline)
	}
	return over(func(baseline, _ []float64, _ []bool) { clear(baseline) })
}

// Over gives every token the outcome less that of the others.
func (c RLOO) Over(*Totals) func([]Response) { return over(LeaveOneOut) }

// over takes a baseline off; a truncated response has none of its own to learn from but counts in that of the others.
func over(baseline func(baseline, rewards []float64, keep []bool)) func([]Response) {
	return func(group []Response) {
		outcome, labelled, base := make([]float64, len(group)), make([]bool, len(group)), make([]float64, len(group))
		for k, r := range group {
			outcome[k], labelled[k] = r.Outcome, r.Labelled
		}
		baseline(base, outcome, labelled)
		for k := range group {
			group[k].Constant(outcome[k] - base[k])
		}
	}
}
