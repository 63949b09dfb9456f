package advantage

// DrGRPO is the reward less the mean of the group, undivided (Dr. GRPO, arXiv 2503.20783; algorithms.md 4.12). Its loss sums tokens and
// divides by the responses times a constant length: reduction dr_grpo.
type DrGRPO struct {
	Learned
	InReward
}

func init() { Register("dr_grpo", DrGRPO{Learned: Learned{Groups: All}, InReward: InReward{KL: K1}}) }

// Inputs are outcomes.
func (c DrGRPO) Inputs() Inputs {
	return Inputs{Outcome: true, Learned: c.Learned, Compares: true, LogP: c.logp()}
}

// Over gives every token the reward less the mean.
func (c DrGRPO) Over(*Totals) func([]Response) { return c.over(MeanBaseline) }
