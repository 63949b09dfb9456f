package rollout

import (
	"context"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	_ "github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/local/localtest"
	_ "github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/serve"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// made counts the models of this process: each has weights of its own, as models stay open by their content.
var made uint64

// tiny is a model of bytes with a chat template and random weights.
func tiny(t *testing.T) (models.Ref, tokenizer.Tokenizer) {
	t.Helper()
	tok, err := tokenizer.NewBytes()
	if err != nil {
		t.Fatal(err)
	}
	made++
	m, err := transformer.New(transformer.Config{ModelType: "llama", Vocab: tok.VocabSize(), Hidden: 16, Intermediate: 24, Layers: 2, Heads: 2,
		KVHeads: 1, HeadDim: 8,
		MaxPositions: 256, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}}, made, false)
	if err != nil {
		t.Fatal(err)
	}
	return localtest.Save(t, m, tok), tok
}

// batch has a prompt that is a text and one that came as messages.
func batch(t *testing.T) stage.Batch {
	t.Helper()
	ids := []uuid.UUID{uuid.NewSHA1(uuid.NameSpaceOID, []byte("a")), uuid.NewSHA1(uuid.NameSpaceOID, []byte("b"))}
	b, err := schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.PromptID.From(ids), schemas.Prompt.From([]string{"What is 1+1?", "s\n\nu"}),
		schemas.Messages.From([]string{"", `[{"role":"system","content":"s"},{"role":"user","content":"u"}]`}, false, true))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func config() Config {
	c := Default()
	c.Samples, c.MaxNewTokens, c.CandidateMinP = 4, 40, 0.001
	return c
}

func TestPromptsAreWrittenOutByTheTemplate(t *testing.T) {
	policy, tok := tiny(t)
	chat := tokenizer.Prompting{Template: true, System: "Be brief.", Instruction: "\nBox it."}
	out, dead := stagetest.Run(t, Sampler{Config: config(), Chat: chat, Policy: policy, Seed: 7}, batch(t))
	if dead.NumRows() != 0 || out.NumRows() != 8 {
		t.Fatalf("%d rows, %d dead", out.NumRows(), dead.NumRows())
	}
	want := []string{"<bos>system\nBe brief.<eos><bos>user\nWhat is 1+1?\nBox it.<eos><bos>assistant\n",
		"<bos>system\ns<eos><bos>user\nu\nBox it.<eos><bos>assistant\n"}
	for i := range out.NumRows() {
		if got := tok.Decode(schemas.PromptTokens.Of(out).Row(i)); got != want[i/4] {
			t.Errorf("row %d: %q, want %q", i, got, want[i/4])
		}
	}
	plain, _ := stagetest.Run(t, Sampler{Config: config(), Policy: policy, Seed: 7}, batch(t))
	if got := tok.Decode(schemas.PromptTokens.Of(plain).Row(4)); got != tok.Decode(tok.Prefix())+"s\n\nu" {
		t.Errorf("without a template: %q", got)
	}
}

// TestStopStrings: a response ends with the token that completes the first stop string, from MinNewTokens on, and up to
// there it is the response without stop strings.
func TestStopStrings(t *testing.T) {
	policy, tok := tiny(t)
	c := config()
	c.Samples, c.MinNewTokens = 12, 5
	free, _ := stagetest.Run(t, Sampler{Config: c, Policy: policy, Seed: 7}, batch(t))
	stops := []string{"a", "T", "\x00", "9"}
	c.StopStrings = stops
	cut, dead := stagetest.Run(t, Sampler{Config: c, Policy: policy, Seed: 7}, batch(t))
	if dead.NumRows() != 0 || cut.NumRows() != free.NumRows() {
		t.Fatalf("%d rows, %d dead (%s), want %d rows", cut.NumRows(), dead.NumRows(), schemas.DeadMessage.Of(dead).At(0), free.NumRows())
	}
	stopped := 0
	for i := range cut.NumRows() {
		got, all := schemas.ResponseTokens.Of(cut).Row(i), schemas.ResponseTokens.Of(free).Row(i)
		at := slices.IndexFunc(all[c.MinNewTokens:], func(id int32) bool { // control tokens are matched as they are written
			return slices.ContainsFunc(stops, func(stop string) bool { return strings.Contains(tok.Token(id), stop) })
		})
		want := all
		if at >= 0 {
			want = all[:c.MinNewTokens+at+1]
			stopped++
		}
		if !slices.Equal(got, want) {
			t.Errorf("row %d: %q, want %q of %q", i, tok.Decode(got), tok.Decode(want), tok.Decode(all))
		}
		if at >= 0 && schemas.FinishReason.Of(cut).At(i) != "stop" {
			t.Errorf("row %d finished by %s", i, schemas.FinishReason.Of(cut).At(i))
		}
	}
	if stopped == 0 {
		t.Errorf("no stop string was ever sampled, such as %q", tok.Decode(schemas.ResponseTokens.Of(free).Row(0)))
	}
}

// TestEndpointGivesTheSameRows: the rows of a policy behind an endpoint are those of the policy at hand, bit for bit, with
// chat template, stop strings, least number of tokens and candidates.
func TestEndpointGivesTheSameRows(t *testing.T) {
	policy, tok := tiny(t)
	model, err := models.Acquire(context.Background(), policy)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Release()
	s, err := serve.New(model, serve.Options{Name: "tiny", Digest: policy.Digest, Tokenizer: tok})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := httptest.NewServer(s)
	defer server.Close()
	c := config()
	c.StopStrings, c.MinNewTokens, c.TopP = []string{"a", "Tx", "9"}, 3, 0.9
	chat := tokenizer.Prompting{Template: true}
	here, _ := stagetest.Run(t, Sampler{Config: c, Chat: chat, Policy: policy, Seed: 7}, batch(t))
	endpoint := models.Ref{Path: server.URL + "/v1?tokenizer=" + url.QueryEscape(policy.Path), Digest: policy.Digest}
	there, _ := stagetest.Run(t, Sampler{Config: c, Chat: chat, Policy: endpoint, Seed: 7}, batch(t))
	stagetest.Same(t, "rows", there, here)
}

// defined is a policy whose log-probs follow the sampling.
type defined struct{ models.Model }

func (defined) LogPAt(s models.Sampling) (temperature, topP float64, topK int) {
	return float64(s.Temperature), float64(s.TopP), s.TopK
}

func (d defined) Generate(ctx context.Context, q []models.GenerateRequest) ([]models.GenerateResult, error) {
	return d.Model.Generate(ctx, q)
}

// TestLogProbsCarryTheirDefinition: what a policy says its log-probs are of stands beside them, and a stage that reads others
// refuses.
func TestLogProbsCarryTheirDefinition(t *testing.T) {
	policy, _ := tiny(t)
	inner, err := models.Acquire(t.Context(), policy)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Release()
	models.RegisterFormat(models.Format{Name: "defined", Match: func(path string) bool { return filepath.Base(path) == "defined" },
		Open: func(context.Context, models.Ref) (models.Model, error) { return defined{inner.Model}, nil }})
	dir := filepath.Join(t.TempDir(), "defined")
	if err := os.CopyFS(dir, os.DirFS(policy.Path)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.json"} { // so that no other format opens it
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	c := config()
	c.Temperature, c.TopP, c.TopK = 0.5, 0.75, 9
	out, _ := stagetest.Run(t, Sampler{Config: c, Policy: models.Ref{Path: dir}, Seed: 7}, batch(t))
	have, ok := schemas.LogPOf(out, schemas.OldLogP)
	if !ok || have.Temperature != 0.5 || have.TopP != 0.75 || have.TopK != 9 || have.Model == "" || schemas.FullLogP("").Matches(have) {
		t.Errorf("%v %v", ok, have)
	}
}

func TestNoTemplate(t *testing.T) {
	policy, _ := tiny(t)
	if err := tokenizer.NewProvingGround(false).Save(policy.Path); err != nil {
		t.Fatal(err)
	}
	policy.Digest = ""
	s := Sampler{Config: config(), Chat: tokenizer.Prompting{Template: true}, Policy: policy}
	if err := s.Setup(context.Background()); err == nil || !strings.Contains(err.Error(), "chat: ") {
		t.Errorf("error %v", err)
	}
}

func TestSpeed(t *testing.T) {
	s, ok := SpeedOf([]stage.Counts{{Stage: "label"},
		{Stage: "rollout", Other: map[string]int64{"responses": 4, "sampled_tokens": 300, "sampling_us": 2_000_000, "first_token_us": 40_000}}})
	if !ok || s.PerSecond != 150 || s.FirstToken.Milliseconds() != 10 || s.Tokens != 300 {
		t.Errorf("%v %+v", ok, s)
	}
	if _, ok := SpeedOf([]stage.Counts{{Stage: "rollout"}}); ok {
		t.Error("a run that sampled nothing has a speed")
	}
}
