package advantage

import "github.com/millrace/millrace/schemas"

// OPD is on-policy distillation as a policy gradient (algorithms.md 4.11): the teacher's log-prob of each sampled token less the
// student's, with discount 0. No outcome is read.
type OPD struct{ Learned }

func init() { Register("opd", OPD{Learned{Groups: All}}) }

// Inputs are the log-probs of both.
func (c OPD) Inputs() Inputs {
	return Inputs{Learned: c.Learned, LogP: []schemas.List[float32]{schemas.TeacherLogP, schemas.OldLogP}}
}

// Over subtracts them.
func (c OPD) Over(*Totals) func([]Response) {
	return func(group []Response) {
		for k := range group {
			if r := &group[k]; r.Keep {
				TD(r.Advantage, r.LogP[0], r.LogP[1], 1)
			}
		}
	}
}
