package value

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/series"
	"github.com/millrace/millrace/transforms/stage"
)

// Disagreement is the stage that says how far several reward models are apart: the standard deviation of their p_correct after each
// token, over all of them (not a sample's).
type Disagreement struct {
	Of []string `json:"of"` // names of the models; "" is that of section reward
}

// Disagree adds reward_disagreement: rows with the values of several reward models in.
func Disagree(s beam.Scope, d Disagreement, valued stage.Rows) (out, dead stage.Rows) {
	return stage.Apply(s, d, valued)
}

func init() { stage.Register[Disagreement]() }

// Validate wants two models.
func (d Disagreement) Validate() error {
	if len(d.Of) < 2 {
		return setting.Errorf("of", "%d reward models; at least two can disagree", len(d.Of))
	}
	return nil
}

func (d Disagreement) reads() (out []schemas.List[float32]) {
	for _, name := range d.Of {
		out = append(out, schemas.OfModel(schemas.PCorrect, name))
	}
	return out
}

// Contract says which columns are needed and added.
func (d *Disagreement) Contract() schemas.Contract {
	c := schemas.Contract{Name: "disagreement", Needs: []schemas.Descriptor{schemas.ResponseTokens},
		Adds: []schemas.Descriptor{schemas.RewardDisagreement}}
	for _, p := range d.reads() {
		c.Needs = append(c.Needs, p)
	}
	return c
}

// Setup does nothing.
func (d *Disagreement) Setup(context.Context) error { return nil }

// Map works token by token.
func (d *Disagreement) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	tokens, columns := schemas.ResponseTokens.Of(b), d.reads()
	out := make([][]float32, b.NumRows())
rows:
	for i := range out {
		of := make([][]float64, len(columns))
		for k, c := range columns {
			var ok bool
			if of[k], ok = stage.PerToken(c, c.Of(b), i, len(tokens.Row(i)), dead); !ok {
				continue rows
			}
		}
		out[i] = make([]float32, len(tokens.Row(i)))
		for t := range out[i] {
			var m series.Moments
			for k := range of {
				m.Add(of[k][t])
			}
			out[i][t] = float32(m.Std())
		}
	}
	return b.With(schemas.RewardDisagreement.FromRows(out))
}
