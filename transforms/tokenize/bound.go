package tokenize

import (
	"context"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// bound is the length that prompt and response have at most, together, and what sets it.
type bound struct {
	tokens int
	by     string
}

// boundOf is max_tokens, or the window of the model where that is shorter: a longer row would end the update that reads it.
func boundOf(ctx context.Context, model string, maxTokens int) (bound, error) {
	window, err := models.Window(ctx, models.Ref{Path: model})
	if err != nil {
		return bound{}, err
	}
	if window > 0 && window < maxTokens {
		return bound{window, "the model takes at most"}, nil
	}
	return bound{maxTokens, "max_tokens is"}, nil
}

// holds sets a row aside that is longer.
func (b bound) holds(tokens, row int, dead *stage.DeadLetters) bool {
	if tokens > b.tokens {
		dead.Rowf(row, schemas.ReasonTooLong, "%d tokens, %s %d", tokens, b.by, b.tokens)
	}
	return tokens <= b.tokens
}
