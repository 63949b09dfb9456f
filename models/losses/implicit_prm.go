package losses

// ImplicitPRM trains a reward model whose only signal is the outcome of whole responses (arXiv 2412.01981),
//
//	L = BCE(σ(β Σ_t l_t), r),  l_t = log π_φ(y_t) − log π_ref(y_t)
//
// mean over responses. Gradient: dL/dl_t = β (σ(β Σ l) − r) at every token. A response without an outcome is skipped.
type ImplicitPRM struct {
	Beta      float64 `json:"beta" range:"(0,inf)" doc:"β, the scale of the summed log-ratio"`
	Reference string  `json:"reference" enum:"old,frozen" doc:"π_ref: old, the policy that sampled the responses, or frozen, a reference model (the reference_ columns)"`
}

// DefaultImplicitPRM holds the paper's β.
func DefaultImplicitPRM() ImplicitPRM { return ImplicitPRM{Beta: 0.05, Reference: "old"} }

// Ratio is the scale of the log-ratios.
func (l ImplicitPRM) Ratio() (beta float64, reference string) { return l.Beta, l.Reference }

// Spec asks for the sampled token under the model and the reference, and the outcome.
func (l ImplicitPRM) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample}, Coupling: Response, Inputs: []*Input{ResponseTokens, referenceInput(l.Reference), Outcome}}
}

// Eval adds the loss of the window.
func (l ImplicitPRM) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	lo, hi := mb.ResponsesIn()
	for b := lo; b < hi; b++ {
		correct, ok := mb.OutcomeOf(b)
		if !ok || mb.Length(b) == 0 {
			continue
		}
		w := mb.WeightOf(b) / mb.Totals.LabelledResponses
		score := l.Beta * sumLogRatio(mb, b, l.Reference)
		loss += w * binaryCrossEntropy(score, correct)
		addResponse(mb, g, b, w*l.Beta*(sigmoid(score)-correct))
		g.Metrics.Add("implicit_prm/accuracy", boolean((2*correct-1)*score > 0), 1)
		g.Metrics.Add("implicit_prm/p_correct", sigmoid(score), 1)
	}
	return loss
}

// binaryCrossEntropy is −r log σ(u) − (1 − r) log(1 − σ(u)); its derivative is σ(u) − r.
func binaryCrossEntropy(u, r float64) float64 { return r*softplus(-u) + (1-r)*softplus(u) }
