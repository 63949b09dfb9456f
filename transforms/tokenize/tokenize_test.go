package tokenize

import (
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

func batch(t *testing.T, prompts, responses []string) stage.Batch {
	t.Helper()
	ids := make([]uuid.UUID, len(prompts))
	for i, p := range prompts {
		ids[i] = uuid.NewSHA1(uuid.NameSpaceOID, []byte(p))
	}
	b, err := schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.PromptID.From(ids), schemas.Prompt.From(prompts),
		schemas.Response.From(responses))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGivenResponses(t *testing.T) {
	dir := t.TempDir()
	tok, err := tokenizer.NewBytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.Save(dir); err != nil {
		t.Fatal(err)
	}
	end := tok.Decode(tok.EOS()[:1])
	in := batch(t, []string{"p", "q", "much too long a prompt"}, []string{"short", "a response of more than that", "r"})
	for name, c := range map[string]struct {
		encoder Encoder
		want    []string // prompt and response
		dead    []schemas.Reason
	}{
		"longer rows are set aside": {Encoder{Config: Config{MaxTokens: 12, EOS: true}}, []string{"p|short" + end},
			[]schemas.Reason{schemas.ReasonTooLong, schemas.ReasonTooLong}},
		"longer rows are cut off": {Encoder{Config: Config{MaxTokens: 12, EOS: true, Truncate: true}},
			[]string{"p|short" + end, "q|a response "[:13]},
			[]schemas.Reason{schemas.ReasonTooLong}},
		"in the template": {Encoder{Config: Config{MaxTokens: 26, EOS: true}, Chat: tokenizer.Prompting{Template: true, Instruction: "!"}},
			[]string{"<bos>user\np!<eos><bos>assistant\n|short" + end}, []schemas.Reason{schemas.ReasonTooLong, schemas.ReasonTooLong}},
	} {
		t.Run(name, func(t *testing.T) {
			c.encoder.Tokenizer = dir
			out, dead := stagetest.Run(t, c.encoder, in)
			stagetest.Dead(t, dead, c.dead...)
			if out.NumRows() != len(c.want) {
				t.Fatalf("%d rows, want %d", out.NumRows(), len(c.want))
			}
			for i, want := range c.want {
				if got := tok.Decode(schemas.PromptTokens.Of(out).Row(i)) + "|" + tok.Decode(schemas.ResponseTokens.Of(out).Row(i)); got != want {
					t.Errorf("row %d: %q, want %q", i, got, want)
				}
			}
		})
	}
}
