package label

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// row is one response of the test batches.
type row struct {
	prompt, answer, response, finish string
	tokens                           []int32 // nil: one a byte, and an end token
}

func responses(t testing.TB, rows ...row) stage.Batch {
	t.Helper()
	n := len(rows)
	promptIDs, ids := make([]uuid.UUID, n), make([]uuid.UUID, n)
	prompts, answers, texts, finish, has := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]bool, n)
	tokens, ends := make([][]int32, n), make([][]int32, n)
	for i, r := range rows {
		promptIDs[i] = uuid.NewSHA1(uuid.Nil, []byte(r.prompt))
		ids[i] = uuid.NewSHA1(promptIDs[i], []byte{byte(i)})
		prompts[i], answers[i], has[i], texts[i], finish[i] = r.prompt, r.answer, r.answer != "", r.response, r.finish
		if finish[i] == "" {
			finish[i] = "stop"
		}
		if tokens[i] = r.tokens; tokens[i] == nil {
			tokens[i] = make([]int32, len(r.response)+1)
			for k := range tokens[i] {
				ends[i] = append(ends[i], int32(min(k+1, len(r.response))))
			}
		}
	}
	b, err := schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.PromptID.From(promptIDs), schemas.Prompt.From(prompts),
		schemas.Answer.From(answers, has...),
		schemas.ResponseID.From(ids), schemas.ResponseTokens.FromRows(tokens), schemas.Response.From(texts), schemas.TokenEnds.FromRows(ends),
		schemas.FinishReason.From(finish))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func texts(v schemas.Texts) []string {
	var out []string
	for i := range v.Len() {
		if v.Valid(i) {
			out = append(out, v.At(i))
		} else {
			out = append(out, "null")
		}
	}
	return out
}

func numbers(v schemas.Scalars[float32]) []float32 {
	var out []float32
	for i := range v.Len() {
		if x, ok := v.At(i); ok {
			out = append(out, x)
		} else {
			out = append(out, -1)
		}
	}
	return out
}

func flags(v schemas.Flags) []bool {
	var out []bool
	for i := range v.Len() {
		out = append(out, v.At(i))
	}
	return out
}

func labelBatch(t testing.TB) stage.Batch {
	return responses(t,
		row{prompt: "p", answer: "4", response: "so 4"},
		row{prompt: "p", answer: "4", response: "so 5"},
		row{prompt: "p", answer: "4", response: "no idea"},
		row{prompt: "p", answer: "4", response: "so 4", finish: "length"},
		row{prompt: "q", answer: "", response: "7", finish: "length"},
		row{prompt: "q", answer: "", response: "8", tokens: []int32{}},
		row{prompt: "r", answer: "1", response: "1"},
		row{prompt: "r", answer: "1", response: "1", finish: "error"},
		row{prompt: "r", answer: "1", response: "1.0"},
	)
}

func TestOutcome(t *testing.T) {
	out, dead := stagetest.Run(t, Default("tolerance"), labelBatch(t))
	stagetest.Dead(t, dead, schemas.ReasonEmpty, schemas.ReasonModel)
	want := []string{"correct", "incorrect", "unparsable_response", "truncated", "unparsable_answer", "correct", "correct"}
	if got := texts(schemas.Verdict.Of(out)); !slices.Equal(got, want) {
		t.Errorf("verdicts %v, want %v", got, want)
	}
	if got, want := numbers(schemas.Outcome.Of(out)), []float32{1, 0, 0, 0, -1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
	if got, want := numbers(schemas.GroupMean.Of(out)), []float32{0.25, 0.25, 0.25, 0.25, -1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("group means %v, want %v", got, want)
	}
	if got := numbers(schemas.GroupStd.Of(out)); got[0] != 0.4330127 || got[5] != 0 {
		t.Errorf("group standard deviations %v", got)
	}
	if got, want := flags(schemas.GroupValid.Of(out)), []bool{true, true, true, false, false, false, false}; !slices.Equal(got, want) {
		t.Errorf("group_valid %v, want %v", got, want)
	}
	if got := texts(schemas.Extracted.Of(out)); got[0] != "4" || got[2] != "null" {
		t.Errorf("extracted %v", got)
	}
	if got := out.Meta().Lineage["outcome"]; !strings.HasPrefix(got, "tolerance-2/math-5") {
		t.Errorf("lineage %q does not name the verifier", got)
	}
}

func TestOutcomeOptions(t *testing.T) {
	c := Default("tolerance")
	c.UnparsableResponse, c.Std, c.Workers = AsAbstain, SampleStd, 1
	out, _ := stagetest.Run(t, c, labelBatch(t))
	if got := numbers(schemas.Outcome.Of(out)); got[2] != -1 {
		t.Errorf("outcomes %v; an unparsable response should abstain", got)
	}
	if got := numbers(schemas.GroupStd.Of(out)); got[0] != 0.57735026 {
		t.Errorf("sample standard deviation of 1, 0, 0 is %v", got[0])
	}
	c.MaxTokens, c.StopTokens = 3, []int32{9}
	out, _ = stagetest.Run(t, c, responses(t,
		row{prompt: "p", answer: "4", response: "4", finish: "unknown", tokens: []int32{1, 2, 3}},
		row{prompt: "p", answer: "4", response: "4", finish: "unknown", tokens: []int32{1, 2, 9}},
		row{prompt: "p", answer: "4", response: "4", finish: "unknown", tokens: []int32{1, 2}},
		row{prompt: "p", answer: "4", response: "4", finish: "stop", tokens: []int32{1, 2, 3}}))
	if got, want := texts(schemas.Verdict.Of(out)), []string{"truncated", "correct", "correct", "correct"}; !slices.Equal(got, want) {
		t.Errorf("verdicts %v, want %v", got, want)
	}
}

func TestOutcomeOnTheProvingGround(t *testing.T) {
	right := "a5*2=0\nb0*6=0\n#0"
	in := responses(t,
		row{prompt: "5a*2b*6=", answer: "0", response: right},
		row{prompt: "5a*2b*6=", answer: "0", response: "a5*2=0\nb0*6=1\n#1"},
		row{prompt: "5a*2b*6=", answer: "0", response: right, tokens: []int32{1, 2}},
		row{prompt: "1a+1=", answer: "3", response: "a1+1=2\n#2"})
	out, dead := stagetest.Pipeline(t, Default("proving_ground"), in)
	stagetest.Dead(t, dead)
	want := []string{"correct", "incorrect", "correct", "unparsable_answer"}
	if got := texts(schemas.Verdict.Of(out)); !slices.Equal(got, want) {
		t.Errorf("verdicts %v, want %v", got, want)
	}
	first, ends := schemas.FirstError.Of(out), schemas.StepEnds.Of(out)
	if !slices.Equal(first.Values[:3], []int32{-1, 1, -1}) || first.Valid(3) {
		t.Errorf("first errors %v", first.Values)
	}
	if !slices.Equal(ends.Row(0), []int32{7, 14, 17}) || ends.Valid(2) {
		t.Errorf("step ends %v, %v", ends.Row(0), ends.Row(2))
	}
}

func TestOutcomeOfTextChains(t *testing.T) {
	const prompt = "What is (12 + 35) * 2?"
	in := responses(t,
		row{prompt: prompt, answer: "94", response: "35+12 = 47\n47 * 2 = 94\nAnswer: 94"},
		row{prompt: prompt, answer: "94", response: "12 + 35 = 47\n47 * 2 = 84\nAnswer: 84"},
		row{prompt: prompt, answer: "94", response: "12 + 35 = 47\nAnswer: 94"},
		row{prompt: prompt, answer: "94", response: "Answer: (12 + 35) * 2"},
		row{prompt: prompt, answer: "95", response: "Answer: 95"},
		row{prompt: "What is love?", answer: "94", response: "Answer: 94"})
	out, dead := stagetest.Pipeline(t, Default("text_chains"), in)
	stagetest.Dead(t, dead)
	want := []string{"correct", "incorrect", "correct", "incorrect", "unparsable_answer", "unparsable_answer"}
	if got := texts(schemas.Verdict.Of(out)); !slices.Equal(got, want) {
		t.Errorf("verdicts %v, want %v", got, want)
	}
	first, ends := schemas.FirstError.Of(out), schemas.StepEnds.Of(out)
	if !slices.Equal(first.Values[:4], []int32{-1, 1, 1, 0}) || first.Valid(4) || first.Valid(5) {
		t.Errorf("first errors %v", first.Values)
	}
	if !slices.Equal(ends.Row(0), []int32{11, 23, 34}) {
		t.Errorf("step ends %v", ends.Row(0))
	}
}

func TestOutcomeOnTheEmbeddedRunner(t *testing.T) {
	wantOut, wantDead := stagetest.Run(t, Default("tolerance"), labelBatch(t))
	out, dead := stagetest.Pipeline(t, Default("tolerance"), labelBatch(t))
	stagetest.Same(t, "rows", out, wantOut)
	stagetest.Same(t, "dead letters", dead, wantDead)
}

func TestKeepMixed(t *testing.T) {
	labeled, _ := stagetest.Run(t, Default("tolerance"), responses(t,
		row{prompt: "mixed", answer: "1", response: "1"}, row{prompt: "mixed", answer: "1", response: "2"},
		row{prompt: "right", answer: "1", response: "1"}, row{prompt: "right", answer: "1", response: "1"},
		row{prompt: "wrong", answer: "1", response: "2"}, row{prompt: "wrong", answer: "1", response: "2"},
		row{prompt: "cut", answer: "1", response: "1"}, row{prompt: "cut", answer: "1", response: "1", finish: "length"},
		row{prompt: "unknown", response: "1"}))
	for truncated, want := range map[string][]string{TruncatedFilter: {"mixed", "mixed", "cut", "cut"}, TruncatedPrompt: {"mixed", "mixed"}} {
		c := DefaultMixed()
		c.Truncated = truncated
		out, dead := stagetest.Pipeline(t, c, labeled)
		stagetest.Dead(t, dead)
		if got := texts(schemas.Prompt.Of(out)); !slices.Equal(got, want) {
			t.Errorf("%s: kept %v, want %v", truncated, got, want)
		}
	}
	if out, _ := stagetest.Run(t, DefaultMixed(), labeled); out.NumRows() != 4 {
		t.Errorf("%d rows kept, want 4", out.NumRows())
	}
}

// What a recipe has, config.yaml and the workers get too: the options that are not the kind's defaults.
func TestVerifierConfig(t *testing.T) {
	for _, text := range []string{`{"kind":"math"}`, `{"kind":"proving_ground"}`, `{"kind":"text_chains"}`, `{"kind":"choice","options":{"options":"AB"}}`,
		`{"kind":"math","options":{"decimals":2,"limits":{"Steps":50}}}`, `{"kind":"regex","options":{"group":1,"pattern":"(a)"}}`} {
		var tree map[string]any
		if err := json.Unmarshal([]byte(text), &tree); err != nil {
			t.Fatal(err)
		}
		var decoded, sent VerifierConfig
		if err := setting.Decode(tree, &decoded, "label.verifier"); err != nil {
			t.Error(err)
			continue
		}
		raw, err := json.Marshal(decoded)
		if err != nil || string(raw) != text {
			t.Errorf("%s becomes %s, %v", text, raw, err)
		}
		if err := json.Unmarshal(raw, &sent); err != nil || sent != decoded {
			t.Errorf("%s comes to a worker as %+v, %v", text, sent, err)
		}
		if _, err := newJudge(sent); err != nil {
			t.Error(err)
		}
	}
	for want, tree := range map[string]map[string]any{
		"label.verifier.kind: ":                {"kind": "maths"},
		"label.verifier.options.decimal: ":     {"kind": "math", "options": map[string]any{"decimal": 2}},
		"label.verifier.options.seconds: ":     {"kind": "command", "options": map[string]any{"command": []any{"x"}, "seconds": 0}},
		"label.verifier.options.compare.url: ": {"kind": "json", "options": map[string]any{"compare": "http"}},
		"label.verifier.options: are not read": {"kind": "proving_ground", "options": map[string]any{"steps": 3}},
	} {
		var c VerifierConfig
		if err := setting.Decode(tree, &c, "label.verifier"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want an error that starts with %s", err, want)
		}
	}
	if err := setting.Check(Default("regex")); err == nil || !strings.HasPrefix(err.Error(), "verifier.options.pattern: ") {
		t.Errorf("a pattern that is missing: %v", err)
	}
}

func TestConfigsAreValidated(t *testing.T) {
	for want, err := range map[string]error{
		"verifier.kind": setting.Check(Config{UnparsableResponse: AsIncorrect, Std: Population}),
		"verifier.options.options": func() error {
			c := Default("choice")
			c.Verifier.Options = verify.ChoiceConfig{Options: "x"}
			return setting.Check(c)
		}(),
		"unparsable_response": func() error { c := Default("exact"); c.UnparsableResponse = "zero"; return setting.Check(c) }(),
		"std":                 func() error { c := Default("exact"); c.Std = "n"; return setting.Check(c) }(),
		"low":                 setting.Check(MixedConfig{Low: -1}),
		"high":                setting.Check(MixedConfig{Low: 0.5, High: 0.4, Truncated: TruncatedFilter}),
		"truncated":           setting.Check(MixedConfig{High: 1}),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want one of %s", err, want)
		}
	}
	if setting.Check(Default("exact")) != nil || setting.Check(DefaultMixed()) != nil {
		t.Error("the defaults are refused")
	}
}

// Beam never tears a stage down: what a verifier started ends with the scope of the pipeline.
func TestProcessesEndWithThePipeline(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	ctx, end := models.Scope(t.Context())
	var c Config
	const program = `["sh", "-c", "while read line; do echo '{\"verdict\": \"correct\"}'; done"]`
	if err := json.Unmarshal([]byte(`{"verifier": {"kind": "command", "options": {"command": `+program+`}}}`), &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	j, err := c.verifier.judge(ctx, question{answer: "5", hasAnswer: true, response: verify.Response{Text: "5"}})
	if begun, _ := os.ReadDir(dir); err != nil || j.verdict != verify.Correct || len(begun) != 1 {
		t.Fatalf("%+v, %v, %d folders", j, err, len(begun))
	}
	end()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%d folders are left", len(left))
	}
}
