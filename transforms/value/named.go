package value

import (
	"context"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Named is the stage for one reward model among several: its columns have the model's name.
type Named struct {
	Config Config `json:"values"`
	As     string `json:"as"`
}

// ApplyNamed computes prefix values of one reward model among several: rows of scored responses in, the same with value_NAME,
// mean_value_NAME and p_correct_NAME out.
func ApplyNamed(s beam.Scope, n Named, scored stage.Rows) (valued, dead stage.Rows) {
	return stage.Apply(s, n, scored)
}

func init() { stage.Register[Named]() }

// Contract says which columns are needed and added.
func (n *Named) Contract() schemas.Contract { return n.contract() }

// Setup does nothing.
func (n *Named) Setup(context.Context) error { return nil }

// Map computes the values row by row.
func (n *Named) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	return n.values(b, dead)
}

func (n Named) contract() schemas.Contract {
	value, mean, correct := n.writes()
	contract := schemas.Contract{Name: "value", Needs: []schemas.Descriptor{schemas.ResponseTokens},
		Adds: []schemas.Descriptor{value, mean, correct}, Reads: map[string]schemas.LogPDefinition{}}
	if n.As != "" {
		contract.Name += "_" + n.As
	}
	for _, in := range n.reads() {
		contract.Needs = append(contract.Needs, in)
		if in.LogProb {
			contract.Reads[in.Name] = schemas.FullLogP("")
		}
	}
	return contract
}

// reads are the columns of the values: those that the model has written have its name.
func (n Named) reads() []schemas.List[float32] {
	out := slices.Clone(n.Config.Kind.Columns())
	for i, c := range out {
		if c.Name == schemas.RewardLogP.Name || c.Name == schemas.QValue.Name {
			out[i] = schemas.OfModel(c, n.As)
		}
	}
	return out
}

func (n Named) writes() (value, mean, correct schemas.List[float32]) {
	return schemas.OfModel(schemas.Value, n.As), schemas.OfModel(schemas.MeanValue, n.As), schemas.OfModel(schemas.PCorrect, n.As)
}

func (n Named) values(b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	tokens := schemas.ResponseTokens.Of(b)
	columns := n.reads()
	ownOf := stage.OwnOf(b)
	scores := OfTokens(n.Config.Kind)
	rows := b.NumRows()
	values, means, probs := make([][]float32, rows), make([][]float32, rows), make([][]float32, rows)
rows:
	for i := range rows {
		length := len(tokens.Row(i))
		if length == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "the response has no tokens")
			continue
		}
		own := ownOf(i, length)
		if own.Len() == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "loss_mask says that the policy wrote none of the response's %d tokens", length)
			continue
		}
		in := make([][]float64, len(columns))
		for k, col := range columns {
			var ok bool
			if in[k], ok = stage.PerToken(col, col.Of(b), i, length, dead); !ok {
				continue rows
			}
			in[k] = stage.Pick(own, in[k])
		}
		v, mean, p := make([]float64, own.Len()), make([]float64, own.Len()), make([]float64, own.Len())
		n.Config.Kind.Write(v, mean, p, in)
		if scores {
			v = stage.Spread(own, v)
		} else {
			v = stage.Hold(own, v, 0)
		}
		mean, p = stage.Hold(own, mean, 0), stage.Hold(own, p, 0.5)
		values[i] = stage.Narrow(schemas.Value.Name, v, i, dead)
		means[i] = stage.Narrow(schemas.MeanValue.Name, mean, i, dead)
		probs[i] = stage.Narrow(schemas.PCorrect.Name, p, i, dead)
	}
	value, mean, correct := n.writes()
	return b.With(value.FromRows(values), mean.FromRows(means), correct.FromRows(probs))
}
