package recipe

import (
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/target"
)

// Distill names the teachers of a student, the policy of the recipe (arXiv 2502.17927; algorithms.md 4.4). Preference pairs are
// made of responses of the reference teacher.
type Distill struct {
	Teacher   Model              `json:"teacher" doc:"aligned by DPO or by reinforcement learning"`
	Reference *Model             `json:"reference,omitempty" doc:"the teacher before it was aligned; without one the teacher samples the pairs"`
	DCKD      *target.DCKDConfig `json:"dckd,omitempty" doc:"the teacher's distribution over both sides of the pairs"`
	ADPA      *target.ADPAConfig `json:"adpa,omitempty" doc:"the teachers' log-ratio over the student's own responses"`
	OPD       *target.DCKDConfig `json:"opd,omitempty" doc:"the teacher's distribution over the student's own responses, for loss opd"`
	Samples   int                `json:"samples" range:"[1,65536]" doc:"responses of the student to each prompt, for adpa"`
}

// SetDefaults samples two responses.
func (d *Distill) SetDefaults() { *d = Distill{Samples: 2} }

// Validate checks what the parts ask of each other.
func (d Distill) Validate() error {
	if d.ADPA != nil && d.Reference == nil {
		return setting.Errorf("reference", "is missing; adpa compares the teacher with itself before it was aligned")
	}
	if d.Reference != nil {
		if err := d.Reference.Named(); err != nil {
			return setting.In("reference", err)
		}
	}
	return setting.In("teacher", d.Teacher.Named())
}
