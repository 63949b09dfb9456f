package update

import (
	"context"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// Where another program takes the steps, the update of a pipeline ends with the rows that program is given: those that can enter the
// loss, with the columns that the loss reads.

// Column says what a column of a batch is to the losses.
type Column struct {
	Name string `json:"name"`
	// Input is what of the losses it fills, by the name that they give it; "" of ids and masks.
	Input string `json:"input,omitempty"`
	// Role of the responses that it belongs to: sample, chosen or rejected; "" of what all of a row share.
	Role string `json:"role,omitempty"`
	// Of says what it has a number of: row, token, candidate (a list a token, the sampled one first) or teacher (a list a token).
	Of string `json:"of"`
	// LogP says what the log-probs of the column are.
	LogP *schemas.LogPDefinition `json:"logp,omitempty"`
}

// Columns lists what the rows of a batch, of responses or of pairs, are handed over with. Masks are there where the rows have them.
func (j Job) Columns(pairs bool) ([]Column, error) {
	loss, err := j.Loss()
	if err != nil {
		return nil, err
	}
	spec := loss.Spec()
	id := schemas.ResponseID.Name
	if pairs {
		id = schemas.PairID.Name
	}
	out := []Column{{Name: schemas.PromptID.Name, Of: "row"}, {Name: id, Of: "row"}, {Name: schemas.PromptTokens.Name, Of: "token"}}
	for _, s := range sidesOf(spec, pairs, j.Temperature) {
		for _, in := range inputsOf(spec, s) {
			c := Column{Name: s.column(in), Input: in.Name, Role: s.role.String(), Of: "token"}
			switch in.Per {
			case losses.PerResponse:
				c.Of = "row"
			case losses.PerCandidate:
				c.Of = "candidate"
			case losses.PerTeacher:
				c.Of = "teacher"
			}
			if d, ok := schemas.ByName(c.Name); ok && d.LogProb {
				def := s.definition(in)
				c.LogP = &def
			}
			out = append(out, c)
		}
	}
	if !pairs {
		if slices.Contains(spec.Inputs, losses.Advantage) {
			out = append(out, Column{Name: schemas.TokenMask.Name, Of: "token"})
		}
		out = append(out, Column{Name: schemas.LossMask.Name, Of: "token"})
	}
	return out, nil
}

func init() { beam.RegisterDoFn(&handFn{}) }

// Hand passes on the rows that can enter the loss, responses and pairs apart, with the columns that it reads. What cannot is counted as
// an update counts it. It panics, while the pipeline is built, when the settings are wrong or a column is known not to be there.
func Hand(s beam.Scope, job Job, in stage.Rows) (responses, pairs stage.Rows) {
	if err := setting.First(job.Needed(), setting.Check(job)); err != nil {
		panic("update of " + job.Role + ": " + err.Error())
	}
	if known := in.Known; known != nil {
		c, err := job.Contract(known.Has(schemas.ChosenTokens.Name))
		if err == nil {
			_, err = known.Then(c)
		}
		if err != nil {
			panic(err.Error())
		}
	}
	a, b := beam.ParDo2(s.Scope("update_"+job.Role), &handFn{Job: ship(job)}, in.PCollection)
	return stage.Rows{PCollection: a}, stage.Rows{PCollection: b}
}

type handFn struct {
	Job shipped
}

// ProcessElement passes on the rows of a batch.
func (f *handFn) ProcessElement(ctx context.Context, b stage.Batch, responses, pairs func(stage.Batch)) error {
	job, err := f.Job.open()
	if err != nil {
		return err
	}
	loss, err := job.Loss()
	if err != nil {
		return err
	}
	ofPairs := b.Has(schemas.ChosenTokens)
	units, left, err := unitsOf([]stage.Batch{b}, loss.Spec(), job.Temperature)
	if err != nil {
		return err
	}
	for column, n := range left {
		stage.Count(ctx, "update_"+job.Role, "rows_left_out", n)
		stage.Count(ctx, "update_"+job.Role, WithoutPrefix+column, n)
	}
	stage.Count(ctx, "update_"+job.Role, "rows_used", len(units))
	if len(units) == 0 {
		return nil
	}
	columns, err := job.Columns(ofPairs)
	if err != nil {
		return err
	}
	var keep []schemas.Descriptor
	for _, c := range columns {
		if d, ok := schemas.ByName(c.Name); ok && b.Has(d) {
			keep = append(keep, d)
		}
	}
	if b, err = b.Select(unique(keep)...); err != nil {
		return err
	}
	rows := make([]int, len(units))
	for i, u := range units {
		rows[i] = u.row
	}
	slices.Sort(rows)
	if b, err = b.Take(rows); err != nil {
		return err
	}
	if ofPairs {
		pairs(b)
	} else {
		responses(b)
	}
	return nil
}
