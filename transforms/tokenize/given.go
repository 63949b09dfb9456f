package tokenize

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Given is the stage of rows that come with the token ids of prompt and response: it holds them to the vocabulary and derives the text,
// which is never encoded again. A row whose text is not what its ids spell is set aside: its ids are of another tokenizer.
//
// In: rows with prompt_tokens and response_tokens. Out: the same rows with token_ends, and with prompt and response where these come as
// ids alone.
type Given struct {
	MaxTokens   int    `json:"max_tokens"` // of prompt and response together
	AddPrompt   bool   `json:"add_prompt,omitempty"`
	AddResponse bool   `json:"add_response,omitempty"`
	Tokenizer   string `json:"tokenizer"`

	tok   tokenizer.Tokenizer
	bound bound
}

func init() { stage.Register[Given]() }

// Contract says which columns are needed and added.
func (c *Given) Contract() schemas.Contract {
	out := schemas.Contract{Name: "tokenize", Needs: []schemas.Descriptor{schemas.PromptTokens, schemas.ResponseTokens},
		Adds: []schemas.Descriptor{schemas.TokenEnds}}
	if c.AddPrompt {
		out.Adds = append(out.Adds, schemas.Prompt)
	}
	if c.AddResponse {
		out.Adds = append(out.Adds, schemas.Response)
	} else {
		out.Needs = append(out.Needs, schemas.Response)
	}
	return out
}

// Lineage names the settings, not the path the tokenizer lay at.
func (c *Given) Lineage() string {
	return "ids@" + stage.Digest([]any{c.MaxTokens, c.AddPrompt, c.AddResponse})[:16]
}

// Setup loads the tokenizer.
func (c *Given) Setup(ctx context.Context) (err error) {
	if c.tok, err = tokenizer.Open(ctx, models.Ref{Path: c.Tokenizer}); err != nil {
		return err
	}
	c.bound, err = boundOf(ctx, c.Tokenizer, c.MaxTokens)
	return err
}

// Map checks and decodes the batch.
func (c *Given) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	promptTokens, responseTokens := schemas.PromptTokens.Of(b), schemas.ResponseTokens.Of(b)
	given := func(int) string { return "" }
	if !c.AddResponse {
		given = schemas.Response.Of(b).At
	}
	n := b.NumRows()
	prompts, responses, ends, spelled := make([]string, n), make([]string, n), make([][]int32, n), make([]bool, n)
	for i := range n {
		prompt, response := promptTokens.Row(i), responseTokens.Row(i)
		if len(prompt) == 0 || len(response) == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "the prompt has %d tokens and the response %d; both need at least one", len(prompt), len(response))
			continue
		}
		if err := errors.Join(c.known("prompt_tokens", prompt), c.known("response_tokens", response)); err != nil {
			dead.Row(i, schemas.ReasonBadToken, err)
			continue
		}
		if !c.bound.holds(len(prompt)+len(response), i, dead) {
			continue
		}
		if c.AddPrompt {
			prompts[i] = c.tok.Decode(prompt)
		}
		responses[i], ends[i] = tokenizer.TextEnds(c.tok, response)
		said := given(i)
		spelled[i] = c.AddResponse || said == responses[i]
		if !spelled[i] && strings.TrimSpace(said) != strings.TrimSpace(responses[i]) &&
			strings.TrimSpace(said) != strings.TrimSpace(c.tok.Decode(response)) {
			dead.Rowf(i, schemas.ReasonMismatch, "the ids spell %.60q and the text is %.60q: they are of another tokenizer", responses[i], said)
		}
	}
	out := []schemas.Filled{schemas.TokenEnds.FromRows(ends, spelled...)}
	if c.AddPrompt {
		out = append(out, schemas.Prompt.From(prompts))
	}
	if c.AddResponse {
		out = append(out, schemas.Response.From(responses))
	}
	return b.With(out...)
}

// known refuses ids that are outside the vocabulary.
func (c *Given) known(column string, ids []int32) error {
	for t, id := range ids {
		if id < 0 || int(id) >= c.tok.VocabSize() {
			return fmt.Errorf("%s: item %d is %d, and the vocabulary has %d tokens", column, t, id, c.tok.VocabSize())
		}
	}
	return nil
}
