package tokenize

import (
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// Ids are held to the vocabulary, and to the text where there is one; else the text is theirs.
func TestGivenIDs(t *testing.T) {
	dir := t.TempDir()
	tok, err := tokenizer.NewBytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.Save(dir); err != nil {
		t.Fatal(err)
	}
	encode := func(text string) []int32 {
		ids, err := tok.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	ids := make([]uuid.UUID, 5)
	for i := range ids {
		ids[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i)})
	}
	prompts := [][]int32{encode("one"), encode("two"), encode("three"), encode("four"), encode("five")}
	responses := [][]int32{append(encode(" yes"), tok.EOS()[0]), encode("no"), {1 << 20}, nil, encode("much too long a response")}
	b, err := schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.PromptID.From(ids), schemas.PromptTokens.FromRows(prompts),
		schemas.ResponseTokens.FromRows(responses))
	if err != nil {
		t.Fatal(err)
	}
	out, dead := stagetest.Run(t, Given{MaxTokens: 16, AddPrompt: true, AddResponse: true, Tokenizer: dir}, b)
	stagetest.Dead(t, dead, schemas.ReasonBadToken, schemas.ReasonEmpty, schemas.ReasonTooLong)
	if out.NumRows() != 2 || schemas.Prompt.Of(out).At(0) != "one" || schemas.Response.Of(out).At(0) != " yes" {
		t.Fatalf("%d rows, %q, %q", out.NumRows(), schemas.Prompt.Of(out).At(0), schemas.Response.Of(out).At(0))
	}
	if ends := schemas.TokenEnds.Of(out).Row(0); len(ends) != 5 || ends[4] != 4 {
		t.Error(ends)
	}
	texts := []string{"yes", "nay", "three", "four", "five"}
	b, err = b.With(schemas.Prompt.From(texts), schemas.Response.From(texts))
	if err != nil {
		t.Fatal(err)
	}
	out, dead = stagetest.Run(t, Given{MaxTokens: 64, Tokenizer: dir}, b.Slice(0, 2))
	stagetest.Dead(t, dead, schemas.ReasonMismatch)
	if out.NumRows() != 1 || schemas.Response.Of(out).At(0) != "yes" || schemas.TokenEnds.Of(out).Valid(0) {
		t.Errorf("%d rows; a text that is not spelled to the byte has no token ends", out.NumRows())
	}
}
