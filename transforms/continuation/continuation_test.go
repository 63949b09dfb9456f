package continuation

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	_ "github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/provingground"
	"github.com/millrace/millrace/transforms/stage"
)

// policy is the quickstart's, which is right a third of the time.
const policy = "../../pipelines/quickstart/policy"

// rows are responses to one prompt, with the places of their steps.
func rows(t *testing.T, responses ...string) stage.Batch {
	t.Helper()
	tok, err := tokenizer.Load(policy)
	if err != nil {
		t.Fatal(err)
	}
	const prompt = "5a+2b+6c-6="
	chain, err := provingground.Parse(prompt)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(text string) []int32 {
		ids, err := tok.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	n := len(responses)
	ids, samples, prompts, promptTokens, tokens, ends := make([]uuid.UUID, n), make([]int32, n), make([]string, n), make([][]int32, n),
		make([][]int32, n), make([][]int32, n)
	for i, r := range responses {
		ids[i], samples[i], prompts[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i)}), int32(i), prompt
		promptTokens[i], tokens[i] = encode(prompt), append(encode(r), tok.EOS()[0])
		for _, end := range chain.Judge(r).StepEnds {
			ends[i] = append(ends[i], int32(end))
		}
	}
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(make([]uuid.UUID, n)), schemas.Prompt.From(prompts),
		schemas.Answer.From(make([]string, n), make([]bool, n)...), schemas.ResponseID.From(ids), schemas.Sample.From(samples),
		schemas.PromptTokens.FromRows(promptTokens), schemas.ResponseTokens.FromRows(tokens), schemas.StepEnds.FromRows(ends))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func run(t *testing.T, c Config, b stage.Batch) [][]float32 {
	t.Helper()
	s := Continuer{Config: c, Judge: Judge{Kind: "proving_ground"}, Policy: models.Ref{Path: policy}, Seed: 3}
	if err := s.Setup(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer s.Teardown()
	result, err := stage.Run(context.Background(), &s, b)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]float32
	for i := range result.Out[0].NumRows() {
		out = append(out, schemas.StepTruth.Of(result.Out[0]).Row(i))
	}
	return out
}

func config() Config {
	return Config{Continuations: 200, Responses: 2, Sampling: models.Sampling{Temperature: 1, MaxNewTokens: 45, CandidateK: 3}}
}

// TestTruthOfSteps: after a wrong step hardly any continuation is right, before the end of the right working nearly all are;
// rows and batches do not matter.
func TestTruthOfSteps(t *testing.T) {
	right, wrong := "a5+2=7\nb7+6=3\nc3-6=7\n#7", "a5+2=7\nb7+6=4\nc4-6=8\n#8"
	got := run(t, config(), rows(t, right, wrong, right))
	if len(got[0]) != 3 || len(got[1]) != 3 || len(got[2]) != 0 {
		t.Fatalf("%d, %d and %d step ends, want 3, 3 and none of the third response", len(got[0]), len(got[1]), len(got[2]))
	}
	if got[0][2] < 0.9 || got[1][2] > 0.1 || got[1][1] > 0.2 {
		t.Errorf("truth %v of the right working, %v after a wrong step", got[0], got[1])
	}
	for _, x := range append(got[0], got[1]...) {
		if n := float64(x) * 200; math.Abs(n-math.Round(n)) > 1e-3 {
			t.Errorf("%v is no share of 200", x)
		}
	}
	if alone := run(t, config(), rows(t, right)); alone[0][1] != got[0][1] {
		t.Errorf("alone %v, among others %v", alone[0], got[0])
	}
	short := config()
	short.MaxNewTokens = 16 // two steps, and no room for the rest
	if got := run(t, short, rows(t, right)); len(got[0]) != 2 || got[0][1] != 0 {
		t.Errorf("cut-off continuations count as right: %v", got[0])
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"continuations": func(c *Config) { c.Continuations = 0 }, "responses": func(c *Config) { c.Responses = 0 },
		"max_new_tokens": func(c *Config) { c.MaxNewTokens = 0 },
	} {
		c := config()
		change(&c)
		if err := setting.Check(c); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("error %v, want one of %s", err, want)
		}
	}
}
