package stage_test

import (
	"context"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Repeats gives the share of response tokens that repeat the token before them, as mean_value: 0 for none, near 1 for a
// response stuck in a loop.
type Repeats struct {
	Filter float32 `json:"filter" range:"[0,1]" doc:"responses with a larger share are taken out; 0: none"`
}

func init() { stage.Register[Repeats]() }

// Contract says which columns are read and added.
func (c *Repeats) Contract() schemas.Contract {
	return schemas.Contract{
		Name:  "repeats",
		Needs: []schemas.Descriptor{schemas.ResponseTokens},
		Adds:  []schemas.Descriptor{schemas.MeanValue},
	}
}

// Setup would load a model.
func (c *Repeats) Setup(context.Context) error { return nil }

// Map adds the column.
func (c *Repeats) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	tokens := schemas.ResponseTokens.Of(b) // offsets and values over Arrow's memory
	shares := make([]float32, len(tokens.Values))
	for i := range tokens.Len() {
		row, at := tokens.Row(i), tokens.Offsets[i]-tokens.Offsets[0]
		if len(row) == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "a response without tokens has no repetitions")
			continue
		}
		repeated := 0
		for t := range row {
			if t > 0 && row[t] == row[t-1] {
				repeated++
			}
			shares[int(at)+t] = float32(repeated) / float32(t+1)
		}
		if c.Filter > 0 && shares[int(at)+len(row)-1] > c.Filter {
			dead.Filter(i)
		}
	}
	return b.With(schemas.MeanValue.From(tokens.Starts(), shares[:tokens.Total()]))
}
