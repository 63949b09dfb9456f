package tokenize

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
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

// narrow is a model of which only the window is known.
const narrow = "narrow"

func init() {
	models.RegisterFormat(models.Format{Name: narrow, Window: func(string) (int, error) { return 12, nil },
		Match: func(path string) bool { _, err := os.Stat(filepath.Join(path, narrow)); return err == nil }})
}

// What the model cannot read whole is set aside, or cut off, wherever max_tokens stands.
func TestWindowBounds(t *testing.T) {
	dir := t.TempDir()
	tok, err := tokenizer.NewBytes()
	if err == nil {
		err = errors.Join(tok.Save(dir), os.WriteFile(filepath.Join(dir, narrow), nil, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	in := batch(t, []string{"p", "q"}, []string{"short", "a response of more than that"})
	out, dead := stagetest.Run(t, Encoder{Config: Config{MaxTokens: 4096, EOS: true}, Tokenizer: dir}, in)
	if stagetest.Dead(t, dead, schemas.ReasonTooLong); out.NumRows() != 1 {
		t.Errorf("%d rows, want 1", out.NumRows())
	}
	if said := schemas.DeadMessage.Of(dead).At(0); !strings.Contains(said, "the model takes at most 12") {
		t.Errorf("it says %q", said)
	}
	out, dead = stagetest.Run(t, Encoder{Config: Config{MaxTokens: 4096, EOS: true, Truncate: true}, Tokenizer: dir}, in)
	if stagetest.Dead(t, dead); out.NumRows() != 2 || len(schemas.ResponseTokens.Of(out).Row(1)) != 11 {
		t.Errorf("cut off: %d rows, %d tokens, want 2 and 11", out.NumRows(), len(schemas.ResponseTokens.Of(out).Row(1)))
	}
	given, err := in.With(schemas.PromptTokens.FromRows([][]int32{{5}, {5}}), schemas.ResponseTokens.FromRows([][]int32{make([]int32, 11),
		make([]int32, 12)}))
	if err != nil {
		t.Fatal(err)
	}
	out, dead = stagetest.Run(t, Given{MaxTokens: 4096, AddPrompt: true, AddResponse: true, Tokenizer: dir}, given)
	if stagetest.Dead(t, dead, schemas.ReasonTooLong); out.NumRows() != 1 {
		t.Errorf("given: %d rows, want 1", out.NumRows())
	}
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
