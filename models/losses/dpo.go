package losses

// DPO learns from pairs of responses to one prompt (arXiv 2305.18290),
//
//	L = −log σ(β (Σ_t l_t^w − Σ_t l_t^l)),  l_t = log π_θ(y_t) − log π_ref(y_t)
//
// mean over pairs. Gradient: ∓β σ(−margin) at every token of the chosen and the rejected response, margin the argument
// of σ. As dpo_rm, β larger and the pairs correct against incorrect, it is the reward model baseline DPO-RM.
type DPO struct {
	Beta      float64 `json:"beta" range:"(0,inf)" doc:"β, the scale of the summed log-ratios"`
	Reference string  `json:"reference" enum:"old,frozen" doc:"π_ref: old, the policy that sampled the responses, or frozen, a reference model (the reference_ columns)"`

	name string // of its metrics
}

// DefaultDPO holds the β that ADPA's teachers are trained with (arXiv 2502.17927).
func DefaultDPO() DPO { return DPO{Beta: 0.01, Reference: "frozen", name: "dpo"} }

// DefaultDPORM holds the β of the reward model baseline (arXiv 2604.13197).
func DefaultDPORM() DPO { return DPO{Beta: 0.05, Reference: "old", name: "dpo_rm"} }

// Ratio is the scale of the log-ratios.
func (l DPO) Ratio() (beta float64, reference string) { return l.Beta, l.Reference }

// Spec asks for the sampled tokens of both sides under the model and the reference.
func (l DPO) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Chosen, Rejected}, Coupling: Pair, Inputs: []*Input{ResponseTokens, referenceInput(l.Reference)}}
}

// Eval adds the loss of the window.
func (l DPO) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	lo, hi := mb.PairsIn()
	for p := lo; p < hi; p++ {
		w, ok := pairWeight(mb, p)
		if !ok {
			continue
		}
		margin := l.Beta * (sumLogRatio(mb, 2*p, l.Reference) - sumLogRatio(mb, 2*p+1, l.Reference))
		loss += w * softplus(-margin)
		d := w * l.Beta * sigmoid(-margin)
		addResponse(mb, g, 2*p, -d)
		addResponse(mb, g, 2*p+1, d)
		g.Metrics.Add(l.name+"/accuracy", boolean(margin > 0), 1)
		g.Metrics.Add(l.name+"/margin", margin, 1)
	}
	return loss
}

// pairWeight is the weight of pair p in the batch mean; a pair with a side that is masked out is not in the loss.
func pairWeight(mb *Microbatch, p int) (w float64, ok bool) {
	if mb.Length(2*p) == 0 || mb.Length(2*p+1) == 0 {
		return 0, false
	}
	return mb.WeightOf(2*p) / mb.Totals.Pairs, true
}
