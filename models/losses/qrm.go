package losses

// QRM trains token-level Q-functions from pairs (arXiv 2505.23363),
//
//	L = −log σ(β (mean_t Z_t^w − mean_t Z_t^l) − γ)
//
// mean over pairs. Z_t is the output of a scalar head on the hidden row after token t (qrm), or log π_φ(y_t|s_t)
// (qrm_lm, which gives a Q for every candidate). Gradient: dL/dZ_t = ∓β σ(−margin)/T of its side.
type QRM struct {
	Beta  float64 `json:"beta" range:"(0,inf)" doc:"β, the scale of the scores"`
	Gamma float64 `json:"gamma" range:"[0,inf)" doc:"γ, the margin between the mean scores of chosen and rejected"`
}

// QRMLM is QRM on log-probs.
type QRMLM struct{ QRM }

// DefaultQRM holds the paper's settings.
func DefaultQRM() QRM { return QRM{Beta: 0.2, Gamma: 2} }

// DefaultQRMLM holds the paper's settings.
func DefaultQRMLM() QRMLM { return QRMLM{DefaultQRM()} }

// Spec asks for the scalar head after each token.
func (l QRM) Spec() Spec {
	return Spec{Heads: Scalar, Roles: []Role{Chosen, Rejected}, Coupling: Pair, After: true, Inputs: []*Input{ResponseTokens}}
}

// Spec asks for the sampled token only.
func (l QRMLM) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Chosen, Rejected}, Coupling: Pair, Inputs: []*Input{ResponseTokens}}
}

// Eval adds the loss of the window.
func (l QRM) Eval(mb *Microbatch, g *Grad) float64 {
	return l.eval(mb, g, "qrm", func(t int) float64 { return mb.Rows.Value[t] }, g.Scalar)
}

// Eval adds the loss of the window.
func (l QRMLM) Eval(mb *Microbatch, g *Grad) float64 {
	return l.eval(mb, g, "qrm_lm",
		func(t int) float64 { return mb.Listed.LogP[mb.Sampled(t)] },
		func(t int, d float64) { g.LogP(t, mb.Sampled(t), d) })
}

func (l QRM) eval(mb *Microbatch, g *Grad, name string, z func(t int) float64, add func(t int, d float64)) float64 {
	mean := func(b int) float64 {
		sum := 0.0
		for t := mb.Start[b]; t < mb.Start[b+1]; t++ {
			if mb.Used(t) {
				sum += z(t)
			}
		}
		return sum / float64(mb.Length(b))
	}
	spread := func(b int, d float64) {
		d /= float64(mb.Length(b))
		for t := mb.Start[b]; t < mb.Start[b+1]; t++ {
			if mb.Used(t) {
				add(t, d)
			}
		}
	}
	loss := 0.0
	lo, hi := mb.PairsIn()
	for p := lo; p < hi; p++ {
		w, ok := pairWeight(mb, p)
		if !ok {
			continue
		}
		gap := mean(2*p) - mean(2*p+1)
		margin := l.Beta*gap - l.Gamma
		loss += w * softplus(-margin)
		d := w * l.Beta * sigmoid(-margin)
		spread(2*p, -d)
		spread(2*p+1, d)
		g.Metrics.Add(name+"/accuracy", boolean(gap > 0), 1)
		g.Metrics.Add(name+"/gap", gap, 1)
	}
	return loss
}
