// Package length is a stage of another module: it adds how long a response is, in tokens, and sets aside what is too long.
package length

import (
	"context"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Length is the column that the stage adds.
var Length = schemas.NewColumn[int32](schemas.Column{Name: "length", Stage: "length", Shape: "[N]", Unit: "tokens",
	Doc: "Tokens of the response."})

// Config is the stage, and the section `length` of a recipe.
type Config struct {
	Max int `json:"max" range:"[1,inf)" doc:"longer responses are set aside"`
}

func init() { chain.Register("length", Config{Max: 1 << 20}) }

// Contract says which columns are read and added.
func (c *Config) Contract() schemas.Contract {
	return schemas.Contract{Name: "length", Needs: []schemas.Descriptor{schemas.ResponseTokens}, Adds: []schemas.Descriptor{Length}}
}

// Setup does nothing.
func (c *Config) Setup(context.Context) error { return nil }

// Map counts tokens.
func (c *Config) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	tokens := schemas.ResponseTokens.Of(b)
	out := make([]int32, b.NumRows())
	for i := range out {
		out[i] = int32(len(tokens.Row(i)))
		if len(tokens.Row(i)) > c.Max {
			dead.Rowf(i, schemas.ReasonTooLong, "the response has %d tokens, length.max is %d", len(tokens.Row(i)), c.Max)
		}
	}
	return b.With(Length.From(out))
}
