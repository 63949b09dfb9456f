package losses

import "math"

// ADPA is advantage-guided distillation (arXiv 2502.17927). On chosen responses and on the student's own samples ŷ,
//
//	L = NLL(y_w) − γ mean_t Σ_a π_θ(a|s_t) A(s_t, a)
//
// A the log-ratio of the DPO teacher to its reference over the teacher's most probable tokens, 0 elsewhere: the
// teacher_advantage column. Gradient on a sample: d_a = −γ π(a) A(a)/N, a_t = γ Σ_b π(b) A(b)/N. ADPA+ is ADPA started
// from the DCKD student.
type ADPA struct {
	Gamma float64 `json:"gamma" range:"[0,inf)" doc:"weight of the expected advantage on the student's own samples"`
	// Reduce is that of the samples' term; the likelihood is always pooled over tokens.
	Reduce
}

// DefaultADPA holds the paper's settings.
func DefaultADPA() ADPA { return ADPA{1.6, Reduce{Reduction: "token_mean"}} }

// Spec asks for the teacher's advantages on the student's samples.
func (l ADPA) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample, Chosen},
		Inputs: []*Input{ResponseTokens}, SampleInputs: []*Input{TeacherIDs, TeacherAdvantage}}
}

// Eval adds the loss of the window.
func (l ADPA) Eval(mb *Microbatch, g *Grad) float64 {
	tot := &mb.Totals
	loss := 0.0
	for t := mb.Lo; t < mb.Hi; t++ {
		b := mb.Response[t]
		if !mb.Used(t) {
			continue
		}
		switch mb.RoleOf(b) {
		case Chosen:
			loss += nll(mb, g, t, mb.WeightOf(b)/tot.RoleTokens[Chosen], "adpa/nll")
		case Sample:
			w := l.Gamma * mb.WeightOf(b) * l.weight(tot.RoleTokens[Sample], tot.RoleResponses[Sample], mb.Length(b))
			expected := 0.0
			span := mb.TeacherOf(t)
			for i := span.Lo; i < span.Hi; i++ {
				term := math.Exp(mb.Listed.LogP[i]) * mb.Listed.Advantage[i]
				expected += term
				g.LogP(t, i, -w*term)
			}
			loss -= w * expected
			g.Metrics.Add("adpa/expected_advantage", expected, 1)
		}
	}
	return loss
}
