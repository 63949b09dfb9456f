package losses

import "math"

// OPD is on-policy distillation in its full form (GKD, arXiv 2306.13649, with the reverse KL): on the student's own samples,
//
//	L = mean_t KL(π_θ ‖ π_T)
//
// The teacher is sparse, as DCKD has it: its most probable tokens and one bucket with the rest, probabilities clamped, no gradient
// through a clamped student entry. With s and t the student's and the teacher's entries and b(v) the entry of token v,
// dKL/dz_v = π(v) (log s_b(v) − log t_b(v) − KL). The policy-gradient form is advantage kind opd with loss ppo or reinforce.
type OPD struct {
	StudentFloor float64 `json:"student_floor" range:"[1e-30,0.1]" doc:"the student's probabilities are clamped from below at it"`
	TeacherFloor float64 `json:"teacher_floor" range:"[1e-30,0.1]" doc:"the teacher's probabilities are clamped from below at it"`
	Ceiling      float64 `json:"ceiling" range:"[0.5,1]" doc:"the probabilities of both are clamped from above at it"`
	Reduce
}

// DefaultOPD clamps as DCKD does.
func DefaultOPD() OPD {
	return OPD{StudentFloor: 1e-7, TeacherFloor: 1e-8, Ceiling: 0.99999999, Reduce: Reduce{Reduction: "token_mean"}}
}

// Spec asks for the teacher's sparse distribution over the student's samples.
func (l OPD) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Sample}, Rest: TeacherRest,
		Inputs: []*Input{ResponseTokens, TeacherIDs, TeacherProb, TeacherRestProb}}
}

// Eval adds the loss of the window.
func (l OPD) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	l.eachRow(mb, func(t, b int, w float64) {
		w *= mb.WeightOf(b)
		span := mb.TeacherOf(t)
		// term is one entry's part of the KL and its derivative by the student's entry, 0 where that is clamped.
		term := func(logp, teacher float64) (kl, slope float64) {
			p := math.Exp(logp)
			s, q := clamp(p, l.StudentFloor, l.Ceiling), clamp(teacher, l.TeacherFloor, l.Ceiling)
			gap := math.Log(s) - math.Log(q)
			if s == p {
				slope = gap + 1
			}
			return s * gap, slope
		}
		kl := 0.0
		for i := span.Lo; i < span.Hi; i++ {
			x, slope := term(mb.Listed.LogP[i], mb.Listed.Prob[i])
			kl += x
			g.LogP(t, i, w*slope*math.Exp(mb.Listed.LogP[i]))
		}
		x, slope := term(mb.Rows.RestLogP[t], mb.Rows.TeacherRest[t])
		kl += x
		// The bucket R = 1 − Σ listed has dR/dz = (1 − R) π off the list, less π where a token is listed.
		g.Softmax(t, w*slope*-math.Expm1(mb.Rows.RestLogP[t]))
		for i := span.Lo; i < span.Hi; i++ {
			g.Logit(i, -w*slope*math.Exp(mb.Listed.LogP[i]))
		}
		loss += w * kl
		g.Metrics.Add("opd/kl", kl, 1)
	})
	return loss
}
