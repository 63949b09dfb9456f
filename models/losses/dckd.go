package losses

import "math"

// DCKD is dual-constrained knowledge distillation (arXiv 2502.17927), on the two sides of preference pairs,
//
//	L = NLL(y_w) + l_c·KL(π_T‖π_θ | y_w) + l_r·KL(π_T‖π_θ | y_l)
//
// each a mean over pooled tokens. The teacher is sparse: its most probable tokens and one bucket with the rest, and the KL
// is over these; probabilities are clamped, not renormalised, and a clamped student entry has no gradient. With t and s
// the teacher's and the student's entries, dKL/dz_v = π(v)(Σ_k t_k − t_b(v)/s_b(v)), b(v) the entry of token v: for the
// bucket, a takes −t_r/s_r and the listed tokens t_r π(v)/s_r back.
type DCKD struct {
	LC           float64 `json:"l_c" range:"[0,inf)" doc:"weight of the KL on the chosen response"`
	LR           float64 `json:"l_r" range:"[0,inf)" doc:"weight of the KL on the rejected response"`
	StudentFloor float64 `json:"student_floor" range:"[1e-30,0.1]" doc:"the student's probabilities are clamped from below at it"`
	TeacherFloor float64 `json:"teacher_floor" range:"[1e-30,0.1]" doc:"the teacher's probabilities are clamped from below at it"`
	Ceiling      float64 `json:"ceiling" range:"[0.5,1]" doc:"the probabilities of both are clamped from above at it"`
}

// DefaultDCKD holds the settings of the paper and its released code.
func DefaultDCKD() DCKD {
	return DCKD{LC: 0.1, LR: 0.1, StudentFloor: 1e-7, TeacherFloor: 1e-8, Ceiling: 0.99999999}
}

// Spec asks for the teacher's sparse distribution on both sides.
func (l DCKD) Spec() Spec {
	return Spec{Heads: LM, Roles: []Role{Chosen, Rejected}, Rest: TeacherRest,
		Inputs: []*Input{ResponseTokens, TeacherIDs, TeacherProb, TeacherRestProb}}
}

// Eval adds the loss of the window.
func (l DCKD) Eval(mb *Microbatch, g *Grad) float64 {
	loss := 0.0
	for t := mb.Lo; t < mb.Hi; t++ {
		b := mb.Response[t]
		role := mb.RoleOf(b)
		if !mb.Used(t) || role == Sample {
			continue
		}
		w, strength := mb.WeightOf(b)/mb.Totals.RoleTokens[role], l.LR
		if role == Chosen {
			strength = l.LC
			loss += nll(mb, g, t, w, "dckd/nll")
		}
		if strength == 0 {
			continue
		}
		kl := l.kl(mb, g, t, w*strength)
		loss += w * strength * kl
		g.Metrics.Add("dckd/kl_"+role.String(), kl, 1)
	}
	return loss
}

// kl adds w times the gradient of the row's KL and returns the KL.
func (l DCKD) kl(mb *Microbatch, g *Grad, t int, w float64) float64 {
	span := mb.TeacherOf(t)
	kl := 0.0
	for i := span.Lo; i < span.Hi; i++ {
		teacher := clamp(mb.Listed.Prob[i], l.TeacherFloor, l.Ceiling)
		student, free := l.student(mb.Listed.LogP[i])
		kl += teacher * (math.Log(teacher) - math.Log(student))
		if free {
			g.LogP(t, i, -w*teacher)
		}
	}
	teacher := clamp(mb.Rows.TeacherRest[t], l.TeacherFloor, l.Ceiling)
	student, free := l.student(mb.Rows.RestLogP[t])
	kl += teacher * (math.Log(teacher) - math.Log(student))
	if free {
		ratio := teacher / student
		g.Softmax(t, w*(teacher-ratio))
		for i := span.Lo; i < span.Hi; i++ {
			g.Logit(i, w*ratio*math.Exp(mb.Listed.LogP[i]))
		}
	}
	return kl
}

// student is a clamped entry of the student, and whether the clamp leaves it alone.
func (l DCKD) student(logp float64) (p float64, free bool) {
	p = math.Exp(logp)
	c := clamp(p, l.StudentFloor, l.Ceiling)
	return c, c == p
}
