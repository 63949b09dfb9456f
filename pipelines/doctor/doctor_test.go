package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/prompts"
)

// examine reads lines as a file of rows.
func examine(t *testing.T, change func(*Config), lines ...string) (Report, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	f, _, err := prompts.File{Path: prompts.Paths{path}, Ungrouped: true}.Fill(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New("math", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{File: f, Right: 0.5, Verifier: v}
	if change != nil {
		change(&c)
	}
	return Examine(context.Background(), c)
}

// found is the finding of a kind.
func found(r Report, kind string) Finding {
	for _, f := range r.Findings {
		if f.Kind == kind {
			return f
		}
	}
	return Finding{}
}

// row is a line of a dump as verl writes it.
func row(input, output, gold string, score float64) string {
	raw, _ := json.Marshal(map[string]any{"input": input, "output": output, "gts": gold, "score": score, "step": 1})
	return string(raw)
}

// TestFindings: a dump with one of each fault is read as such, and one without is not.
func TestFindings(t *testing.T) {
	question := "Natalia sold clips to 48 of her friends in April, and then half as many in May. How many did she sell?"
	lines := []string{
		row(question, "48 / 2 = 24, and 48 + 24 = 72. The answer is \\boxed{72}", "72", 1),
		row(question, "She sold \\boxed{72}", "72", 0), // the verifier says right
		row(question, "Natalia sold clips to 48 of her friends in April, and half as many in May.", "72", 1),
		row(question, "  ", "72", 0),
		row("What is 1+1?", "\\boxed{2}", "2", 1),
		row("What is 1+1?", " \\boxed{2}\n", "2", 1),
		row("What is 1+2?", "\\boxed{4}", "3", 0),
		row("What is 1+2?", "\\boxed{5}", "3", -1),
		row("What is 1+1?", "it is \\boxed{2}", "2", 1), // apart from its group
		`{"input": "no answer", "output": "x", "step": 1, "score": 1}`,
		`{"input": "no score", "output": "\\boxed{1}", "gts": "1", "step": 1}`,
		`{"input": "gold", "output": "\\boxed{1}", "gts": "???(((", "step": 1, "score": 0}`,
		`{"input": 7`, `{"input": {"x": 1}, "output": "y", "gts": "1"}`,
	}
	r, err := examine(t, nil, lines...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Rows != 14 || r.Responses != 12 || r.Columns["outcome"] != "score" {
		t.Errorf("%d rows, %d responses, %v", r.Rows, r.Responses, r.Columns)
	}
	for kind, want := range map[string]struct {
		n, of int
		row   string
	}{
		"score_right_verifier_wrong": {1, 9, "rows.jsonl:3"},
		"score_wrong_verifier_right": {1, 9, "rows.jsonl:2"},
		"restates_question":          {1, 11, "rows.jsonl:3"},
		"empty_response":             {1, 12, "rows.jsonl:4"},
		"all_right_given":            {1, 3, "rows.jsonl:5"},
		"all_wrong_given":            {1, 3, "rows.jsonl:7"},
		"all_right_verified":         {1, 3, "rows.jsonl:5"},
		"repeated_prompts":           {1, 6, "rows.jsonl:5"},
		"repeated_responses":         {1, 12, "rows.jsonl:6"},
		"missing_answer":             {1, 12, "rows.jsonl:10"},
		"missing_score":              {1, 12, "rows.jsonl:11"},
		"score_range":                {1, 12, "rows.jsonl:8"},
		"unreadable_unreadable":      {1, 14, "rows.jsonl:13"},
		"unreadable_bad_type":        {1, 14, "rows.jsonl:14"},
		"finish_unknown":             {12, 12, ""},
	} {
		f := found(r, kind)
		if f.Count != want.n || f.Of != want.of || want.row != "" && (len(f.Examples) == 0 || f.Examples[0].Row != want.row) {
			t.Errorf("%s: %d of %d, %+v; want %d of %d at %s", kind, f.Count, f.Of, f.Examples, want.n, want.of, want.row)
		}
		if f.Count > 0 && (f.Meaning == "" || f.Advice == "" || f.Severity == "") {
			t.Errorf("%s says nothing: %+v", kind, f)
		}
	}
	if !r.Failing() || r.Findings[0].Severity != Error {
		t.Errorf("a dump with broken lines has as its first finding %+v", r.Findings[0])
	}
	clean, err := examine(t, nil, row("What is 1+1?", "it is \\boxed{2}", "2", 1), row("What is 1+1?", "it is \\boxed{3}", "2", 0))
	if err != nil || clean.Failing() || len(clean.Findings) != 1 {
		t.Errorf("a good dump has %+v, %v", clean.Findings, err)
	}
}

// TestUnparsableAnswers: a reference answer that the verifier cannot read is named.
func TestUnparsableAnswers(t *testing.T) {
	v, err := verify.New("tolerance", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := examine(t, func(c *Config) { c.Verifier = v }, row("q", "12", "a word", 1), row("r", "12", "12", 1))
	if f := found(r, "unparsable_answer"); err != nil || f.Count != 1 || f.Of != 2 {
		t.Errorf("%+v, %v", r.Findings, err)
	}
}

// TestLogProbs: values that are no log-probs are found, and that nobody says what they are.
func TestLogProbs(t *testing.T) {
	line := func(prompt, logprobs, more string) string {
		return fmt.Sprintf(`{"prompt": %q, "answer": "2", "completion": "it is 2", "prompt_ids": [1], "completion_ids": [2, 3], "logprobs": %s%s}`,
			prompt, logprobs, more)
	}
	lines := []string{line("a", "[-1, -0.5]", `, "temperature": 0.7`), line("b", "[-1, -9999]", ""), line("c", "[NaN, -1]", ""),
		line("d", "[0.3, -1]", ""), line("e", "[-1]", ""), line("f", "[]", ""), line("g", "[-Infinity, 0]", "")}
	r, err := examine(t, nil, lines...)
	if err != nil {
		t.Fatal(err)
	}
	for kind, n := range map[string]int{"logprobs_undefined": 6, "logprobs_impossible": 3, "logprobs_positive": 1, "logprobs_length": 1,
		"logprobs_missing": 1} {
		if f := found(r, kind); f.Count != n {
			t.Errorf("%s: %+v, want %d", kind, f, n)
		}
	}
	if f := found(r, "logprobs_undefined"); !strings.Contains(f.Advice, `"temperature"`) {
		t.Errorf("nothing is said of the column temperature: %s", f.Advice)
	}
	said, err := examine(t, func(c *Config) { c.LogProbs = "raw" }, lines...)
	if err != nil || found(said, "logprobs_undefined").Count != 0 || found(said, "logprobs_impossible").Count != 3 {
		t.Errorf("%+v, %v", said.Findings, err)
	}
}

// TestLengths: what was cut off, and whether longer is better.
func TestLengths(t *testing.T) {
	var lines []string
	for i := range 40 {
		raw, _ := json.Marshal(map[string]any{"prompt": fmt.Sprint("p", i/4), "answer": "1", "response": strings.Repeat("x", 10+i),
			"reward": i % 40 / 20, "finish_reason": map[bool]string{true: "length", false: "stop"}[i%5 == 0]})
		lines = append(lines, string(raw))
	}
	r, err := examine(t, nil, lines...)
	if err != nil {
		t.Fatal(err)
	}
	l := r.Lengths
	if l == nil || l.Truncated != 8 || l.Max != 49 || l.Median != 29 || l.Right != 39.5 || l.Wrong != 19.5 || *l.Correlation < 0.86 ||
		*l.Correlation > 0.87 {
		t.Errorf("%+v, %v", l, *l.Correlation)
	}
	if f := found(r, "truncated"); f.Count != 8 || f.Severity != Warning {
		t.Errorf("%+v", f)
	}
	if f := found(r, "length_correlation"); f.Count != 40 || !strings.HasPrefix(f.Meaning, "Longer") {
		t.Errorf("%+v", f)
	}
	var same []string
	for _, ids := range []string{"[1, 2]", "[1, 2, 3, 4]", "[2, 2, 3, 4]", "[3, 2, 3, 4]"} {
		same = append(same, `{"prompt": "q", "answer": "1", "response": "x", "prompt_ids": [1], "response_ids": `+ids+`}`)
	}
	if r, err = examine(t, nil, same...); err != nil || found(r, "same_longest").Count != 3 {
		t.Errorf("%+v, %v", r.Findings, err)
	}
}

// TestTwoVerifiers: --against is held against the verifier.
func TestTwoVerifiers(t *testing.T) {
	exact, err := verify.New("exact", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := examine(t, func(c *Config) { c.Against = exact }, row("q", "\\boxed{2}", "2.0", 1), row("q", "5", "5", 1))
	if f := found(r, "verifier_right_against_wrong"); err != nil || f.Count != 1 || f.Of != 2 || r.Against.Right != 1 {
		t.Errorf("%+v, %v", r.Findings, err)
	}
}

// TestBounds: of more prompts than are kept a part stands for all, the same in every run.
func TestBounds(t *testing.T) {
	defer func(n int) { maxPrompts = n }(maxPrompts)
	maxPrompts = 64
	var lines []string
	for i := range 2000 {
		lines = append(lines, row(fmt.Sprint("q", i), "\\boxed{1}", "1", float64(i%4/2)), row(fmt.Sprint("q", i), "\\boxed{2}", "1", 0))
	}
	r, err := examine(t, nil, lines...)
	if err != nil {
		t.Fatal(err)
	}
	f := found(r, "all_wrong_given")
	if r.Prompts != 2000 || r.SampledPrompts > 1.0/16 || f.Of > 64 || f.Of < 20 || f.Share < 0.25 || f.Share > 0.75 {
		t.Errorf("%d prompts, a share of %v kept, %d of %d groups wrong; want about half", r.Prompts, r.SampledPrompts, f.Count, f.Of)
	}
	again, err := examine(t, nil, lines...)
	a, _ := json.Marshal(r.Findings)
	b, _ := json.Marshal(again.Findings)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("another report: %s, %v", b, err)
	}
}

// TestTextIsInert: what rows hold does not act on a terminal.
func TestTextIsInert(t *testing.T) {
	r, err := examine(t, nil, row("q\x1b]0;title\x07\u202e", "\x1b[2J \u202e \\boxed{3}", "2", 1), `{"input": "\u001b[31m", "output": 7.5, "gts": ["\u001b", "b"]}`)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r.Text(&out)
	if strings.ContainsAny(out.String(), "\x1b\x07\u202e") || !strings.Contains(out.String(), `\x1b[2J`) {
		t.Errorf("%q", out.String())
	}
}

// TestIDs: rows of one prompt with ids of their own are no group.
func TestIDs(t *testing.T) {
	line := func(id, problem string) string {
		return fmt.Sprintf(`{"id": %q, "problem": %q, "steps": ["a"], "label": -1, "final_answer_correct": true}`, id, problem)
	}
	r, err := examine(t, nil, line("1", "p"), line("2", "q"), line("3", "p"))
	if err != nil || r.Prompts != 3 || found(r, "repeated_prompts").Count != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestUnknownScore: a column of scores that no row has is a mistake of the caller.
func TestUnknownScore(t *testing.T) {
	_, err := examine(t, func(c *Config) { c.Score = "scores" }, row("q", "a", "1", 1))
	if has := (*setting.Error)(nil); !errors.As(err, &has) || !strings.Contains(has.Why, "score") {
		t.Errorf("%v", err)
	}
}

// TestPage: docs/doctor.md has every kind of finding.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	for _, name := range sources {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`Kind: "([a-z_]+)"( \+ by)?`).FindAllStringSubmatch(string(text), -1) {
			kinds++
			for _, end := range map[bool][]string{true: {"given", "verified"}, false: {""}}[m[2] != ""] {
				if !strings.Contains(string(page), "`"+m[1]+end) {
					t.Errorf("docs/doctor.md does not name %s", m[1]+end)
				}
			}
		}
	}
	if kinds < 20 {
		t.Errorf("%d kinds of findings are found in the code", kinds)
	}
}

// TestLogs: logs of requests and responses are read as rows, with what they say of their log-probs.
func TestLogs(t *testing.T) {
	line := func(temperature float64, content string) string {
		return fmt.Sprintf(`{"request": {"temperature": %v, "messages": [{"role": "user", "content": "1+1?"}]}, "answer": "2", "response": {"prompt_token_ids": [1], `+
			`"choices": [{"message": {"content": %q, "role": "assistant"}, "token_ids": [5], "logprobs": {"content": [{"logprob": -0.5}]}}]}}`, temperature,
			content)
	}
	failed := `{"custom_id": "a", "response": null, "error": {"code": "expired"}}`
	r, err := examine(t, nil, line(1, `\boxed{2}`), line(1, `\boxed{3}`), failed)
	if err != nil || r.Responses != 2 || found(r, "unreadable_model").Count != 1 || found(r, "logprobs_undefined").Count != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = examine(t, nil, line(1, "2"), line(0.5, "3"))
	if err != nil || found(r, "logprobs_undefined").Count != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}
