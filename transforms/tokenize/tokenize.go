// Package tokenize turns the texts of imported rows into tokens, so that solutions sampled elsewhere can be scored and
// trained on.
//
// In: rows with prompt and response as text. Out: the same rows with prompt_tokens and response_tokens. Rows that Millrace
// sampled itself have their tokens already; their text is never encoded again.
package tokenize

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Config says how texts become tokens.
type Config struct {
	MaxTokens int  `json:"max_tokens" range:"[2,inf)" doc:"tokens of prompt and response together, or the model's window where that is shorter; longer rows are set aside"`
	Truncate  bool `json:"truncate" doc:"cut longer responses off there instead, without an end token"`
	EOS       bool `json:"eos" doc:"end every response with the token that ends a sampled one"`
}

// Default ends responses with the end token and sets rows above 4,096 tokens aside.
func Default() Config { return Config{MaxTokens: 4096, EOS: true} }

// Encoder is the stage.
type Encoder struct {
	Config
	Chat      tokenizer.Prompting `json:"chat"` // how prompts are put to the model
	Tokenizer string              `json:"tokenizer"`

	tok      tokenizer.Tokenizer
	prompter *tokenizer.Prompter
	bound    bound
}

func init() { stage.Register[Encoder]() }

// Contract says which columns are needed and added.
func (c *Encoder) Contract() schemas.Contract {
	return schemas.Contract{Name: "tokenize", Needs: []schemas.Descriptor{schemas.Prompt, schemas.Response},
		Adds: []schemas.Descriptor{schemas.PromptTokens, schemas.ResponseTokens, schemas.TokenEnds}}
}

// Lineage names the settings, not the path the tokenizer lay at.
func (c *Encoder) Lineage() string { return "tokenize@" + stage.Digest([]any{c.Config, c.Chat})[:16] }

// Setup loads the tokenizer.
func (c *Encoder) Setup(ctx context.Context) (err error) {
	if c.tok, err = tokenizer.Open(ctx, models.Ref{Path: c.Tokenizer}); err != nil {
		return err
	}
	if c.prompter, err = tokenizer.NewPrompter(c.tok, c.Chat); err != nil {
		return fmt.Errorf("chat: %w", err)
	}
	c.bound, err = boundOf(ctx, c.Tokenizer, c.MaxTokens)
	return err
}

// Map encodes the batch.
func (c *Encoder) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	prompts, messages, responses := schemas.Prompt.Of(b), schemas.MessagesOf(b), schemas.Response.Of(b)
	promptTokens, responseTokens := make([][]int32, b.NumRows()), make([][]int32, b.NumRows())
	tokenEnds, spelled := make([][]int32, b.NumRows()), make([]bool, b.NumRows())
	for i := range b.NumRows() {
		prompt, err := c.prompter.Encode(prompts.At(i), messages(i))
		if err != nil {
			dead.Row(i, schemas.ReasonBadToken, fmt.Errorf("prompt: %w", err))
			continue
		}
		response, err := c.tok.Encode(responses.At(i))
		if err != nil {
			dead.Row(i, schemas.ReasonBadToken, fmt.Errorf("response: %w", err))
			continue
		}
		if len(response) == 0 || len(prompt) == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "the prompt has %d tokens and the response %d; both need at least one", len(prompt), len(response))
			continue
		}
		text, ends := tokenizer.DecodeEnds(c.tok, response)
		if end := c.prompter.End(); c.EOS && len(end) > 0 {
			response, ends = append(response, end[0]), append(ends, int32(len(text)))
		}
		if c.Truncate && len(prompt) < c.bound.tokens {
			response = response[:min(len(response), c.bound.tokens-len(prompt))]
		}
		if !c.bound.holds(len(prompt)+len(response), i, dead) {
			continue
		}
		promptTokens[i], responseTokens[i] = prompt, response
		if spelled[i] = text == responses.At(i); spelled[i] { // else a normaliser has changed it
			tokenEnds[i] = ends
		}
	}
	return b.With(schemas.PromptTokens.FromRows(promptTokens), schemas.ResponseTokens.FromRows(responseTokens),
		schemas.TokenEnds.FromRows(tokenEnds, spelled...))
}
