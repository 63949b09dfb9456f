// Package deduplicate takes out responses that their prompt has already: a copy counts as often as it is there, in the statistics of its
// group as in a loss.
//
// In: rows of responses. Out: of equal ones of a prompt the first. The others are filtered, and counted.
package deduplicate

import (
	"context"
	"encoding/binary"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Config says which responses are equal.
type Config struct {
	By string `json:"by" enum:"text,tokens" doc:"responses to a prompt are equal that have the same text, in any Unicode normal form and with any white space, or the same tokens"`
}

// Choices of a Config.
const (
	ByText   = "text"
	ByTokens = "tokens"
)

// Default compares texts.
func Default() Config { return Config{By: ByText} }

// About is the section in a sentence.
func (Config) About() string { return "take each response to a prompt once" }

const name = "deduplicate"

// Contract says which columns are needed.
func (c *Config) Contract() schemas.Contract {
	needs := []schemas.Descriptor{schemas.PromptID, schemas.Response}
	if c.By == ByTokens {
		needs[1] = schemas.ResponseTokens
	}
	return schemas.Contract{Name: name, Needs: needs}
}

// Setup does nothing.
func (c *Config) Setup(context.Context) error { return nil }

// Map filters prompt by prompt.
func (c *Config) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	groups, err := b.Groups()
	if err != nil {
		return b, err
	}
	key := c.key(b)
	for _, g := range groups {
		seen := map[string]bool{}
		for i := g.Lo; i < g.Hi; i++ {
			k := key(i)
			if seen[k] {
				dead.Filter(i)
				stage.Count(ctx, name, "repeated", 1)
			}
			seen[k] = true
		}
	}
	return b, nil
}

// key gives what equal rows share.
func (c *Config) key(b stage.Batch) func(row int) string {
	if c.By == ByTokens {
		tokens := schemas.ResponseTokens.Of(b)
		return func(i int) string {
			var out []byte
			for _, id := range tokens.Row(i) {
				out = binary.LittleEndian.AppendUint32(out, uint32(id))
			}
			return string(out)
		}
	}
	texts := schemas.Response.Of(b)
	return func(i int) string { return strings.Join(strings.Fields(norm.NFC.String(texts.At(i))), " ") }
}
