package kinds

import (
	"context"
	"strings"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// LetterCount is how many letters a prompt has.
var LetterCount = schemas.NewColumn[int32](schemas.Column{Name: "letter_count", Stage: "letters", Shape: "[N]",
	Doc: "Letters of the prompt."})

// Letters counts the letters of prompts; a prompt that adds nine is a fault, so that there is one to be seen.
type Letters struct{}

func init() { stage.Register[Letters]() }

// Contract says which columns are read and added.
func (l *Letters) Contract() schemas.Contract {
	return schemas.Contract{Name: "letters", Needs: []schemas.Descriptor{schemas.Prompt}, Adds: []schemas.Descriptor{LetterCount}}
}

// Setup does nothing.
func (l *Letters) Setup(context.Context) error { return nil }

// Map counts.
func (l *Letters) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	texts := schemas.Prompt.Of(b)
	out := make([]int32, b.NumRows())
	for i := range out {
		if strings.Contains(texts.At(i), "+9") {
			dead.Rowf(i, schemas.ReasonTooLong, "nine is too many")
		}
		out[i] = int32(len(texts.At(i)))
	}
	return b.With(LetterCount.From(out))
}
