package update

import (
	"context"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Window sets rows aside that are longer than the model takes that is to learn from them. Rows that a policy sampled, or that were encoded
// for it, fit the policy; a reward model made from another model may take less.
//
// In and out: rows of responses, or of pairs.
type Window struct {
	Model models.Ref `json:"model"`

	window int
}

func init() { stage.Register[Window]() }

// Contract says which column is needed; none is added.
func (c *Window) Contract() schemas.Contract {
	return schemas.Contract{Name: "window", Needs: []schemas.Descriptor{schemas.PromptTokens}}
}

// Setup reads how much the model takes.
func (c *Window) Setup(ctx context.Context) (err error) {
	c.window, err = models.Window(ctx, c.Model)
	return err
}

// Map sets rows aside.
func (c *Window) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	if c.window == 0 {
		return b, nil
	}
	prompts := schemas.PromptTokens.Of(b)
	for _, column := range []schemas.List[int32]{schemas.ResponseTokens, schemas.ChosenTokens, schemas.RejectedTokens} {
		if !b.Has(column) {
			continue
		}
		tokens := column.Of(b)
		for i := range b.NumRows() {
			if n := len(prompts.Row(i)) + len(tokens.Row(i)); n > c.window {
				dead.Rowf(i, schemas.ReasonTooLong, "%d tokens of prompt and %s, and the model that is trained on them takes at most %d", n,
					column.Name, c.window)
			}
		}
	}
	return b, nil
}
