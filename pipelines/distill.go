package pipelines

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/rollout"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/target"
	"github.com/millrace/millrace/transforms/update"
)

// Distill names the teachers of a student, the policy of the recipe (arXiv 2502.17927; spec 4.4). Preference pairs are made
// of responses of the reference teacher.
type Distill struct {
	Teacher   Model  `json:"teacher"`             // aligned by DPO or by reinforcement learning
	Reference *Model `json:"reference,omitempty"` // the teacher before it was aligned; without one the teacher samples the pairs

	DCKD *target.DCKDConfig `json:"dckd,omitempty"` // the teacher's distribution over both sides of the pairs
	ADPA *target.ADPAConfig `json:"adpa,omitempty"` // the teachers' log-ratio over the student's own responses
	// Samples are the responses of the student to each prompt, for ADPA.
	Samples int `json:"samples"`
}

func defaultDistill(tree map[string]any) *Distill {
	d := &Distill{Samples: 2}
	if _, ok := tree["dckd"].(map[string]any); ok {
		c := target.DefaultDCKD()
		d.DCKD = &c
	}
	if _, ok := tree["adpa"].(map[string]any); ok {
		c := target.DefaultADPA()
		d.ADPA = &c
	}
	return d
}

func (d Distill) validate() error {
	if err := d.Teacher.validate(); err != nil {
		return fmt.Errorf("teacher.%w", err)
	}
	if d.Reference != nil {
		if err := d.Reference.validate(); err != nil {
			return fmt.Errorf("reference.%w", err)
		}
	}
	if d.DCKD != nil {
		if err := d.DCKD.Validate(); err != nil {
			return fmt.Errorf("dckd.%w", err)
		}
	}
	if d.ADPA != nil {
		if err := d.ADPA.Validate(); err != nil {
			return fmt.Errorf("adpa.%w", err)
		}
	}
	switch {
	case d.ADPA != nil && d.Reference == nil:
		return errors.New("reference: is missing; adpa compares the teacher with itself before it was aligned")
	case d.Samples < 1:
		return fmt.Errorf("samples: %d is not at least 1", d.Samples)
	}
	return nil
}

// teachers opens the models of a distillation.
func (r Recipe) teachers(ctx context.Context, at *iteration) (err error) {
	if at.teacher, err = r.Distill.Teacher.open(ctx, "", r.Seed); err != nil {
		return err
	}
	at.sampler = at.teacher
	if r.Distill.Reference != nil {
		if at.teacherReference, err = r.Distill.Reference.open(ctx, "", r.Seed); err != nil {
			return err
		}
		at.sampler = at.teacherReference
	}
	return nil
}

// dckdNode asks the teacher for its distribution at every token, before pairs are made.
func (r Recipe) dckdNode() node {
	c := *r.Distill.DCKD
	return node{(&target.Distribution{}).Contract(), func(f *flow) { f.then(target.DCKD(f.scope, c, f.at.teacher, f.rows)) }}
}

// The files that keep the student's own responses with their targets.
const studentName = "student"

// The key that keeps the student's random numbers apart from those of the model that samples the pairs.
const studentKey = 1

// studentNodes are ADPA's second stream: the student answers the same prompts, and both teachers judge every token.
func (r Recipe) studentNodes() []node {
	c, config := *r.Distill.ADPA, r.sampling()
	config.Samples = r.Distill.Samples
	sampler := rollout.Sampler{Config: config, Chat: r.Chat}
	return []node{
		{r.Prompts.Contract(), func(f *flow) {
			f.then(prompts.Read(f.scope, r.Prompts, r.window(f.at)))
		}},
		{sampler.Contract(), func(f *flow) {
			s := sampler
			s.Policy, s.Seed = f.at.policy, uint64(keyed.New(f.at.seed).With(studentKey))
			f.then(stage.ApplyOnce(f.scope, s, f.store, f.rows))
		}},
		{(&target.LogRatio{}).Contract(), func(f *flow) {
			f.then(target.ADPA(f.scope, c, f.at.teacher, f.at.teacherReference, f.rows))
		}},
		{schemas.Contract{Name: "keep_" + studentName}, func(f *flow) {
			recordio.Write(f.scope, recordio.Output{Dir: f.at.dir, Name: studentName}, f.store, f.rows)
		}},
	}
}

// joinStudent adds the student's stream to the pairs that the update reads.
func (r Recipe) joinStudent(f *flow) {
	student := &flow{scope: f.scope.Scope(studentName), at: f.at, store: f.store}
	for _, n := range r.studentNodes() {
		n.add(student)
	}
	f.dead = append(f.dead, student.dead...)
	f.rows = beam.Flatten(f.scope, f.rows, student.rows)
}

// planStudent checks that the student's stream brings what the update reads of samples.
func (r Recipe) planStudent() error {
	contract, err := update.Job{Config: r.Update, Role: r.trains()}.Contract(false)
	if err != nil {
		return err
	}
	var contracts []schemas.Contract
	for _, n := range r.studentNodes() {
		contracts = append(contracts, n.contract)
	}
	_, err = schemas.Chain(nil, append(contracts, contract)...)
	return err
}
