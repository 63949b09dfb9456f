package revise

import (
	"context"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Adopted puts the revisions in the place of the responses.
type Adopted struct{}

// Adopt makes supervised rows of revised responses: rows with revised_tokens in; out, a row a response, with
// the revision as response_tokens.
func Adopt(s beam.Scope, revised stage.Rows) (rows, dead stage.Rows) {
	return stage.Apply(s, Adopted{}, revised)
}

func init() { stage.Register[Adopted]() }

// Contract says which columns are needed and added.
func (c *Adopted) Contract() schemas.Contract {
	kept := []schemas.Descriptor{schemas.PromptID, schemas.PromptTokens, schemas.ResponseID}
	return schemas.Contract{Name: "revise_adopt", Rows: schemas.OtherRows, Drops: true, Origin: []schemas.ID{schemas.ResponseID},
		Needs: append(slices.Clone(kept), schemas.RevisedTokens), Adds: append(slices.Clone(kept), schemas.ResponseTokens)}
}

// Setup does nothing.
func (c *Adopted) Setup(context.Context) error { return nil }

// Map copies the revisions.
func (c *Adopted) Map(_ context.Context, b stage.Batch, _ *stage.DeadLetters) (stage.Batch, error) {
	prompts, revised := make([][]int32, b.NumRows()), make([][]int32, b.NumRows())
	for i := range revised {
		prompts[i], revised[i] = schemas.PromptTokens.Of(b).Row(i), schemas.RevisedTokens.Of(b).Row(i)
	}
	return schemas.NewRecord(b.Meta(), schemas.PromptID.From(schemas.PromptID.Of(b)), schemas.PromptTokens.FromRows(prompts),
		schemas.ResponseID.From(schemas.ResponseID.Of(b)), schemas.ResponseTokens.FromRows(revised))
}
