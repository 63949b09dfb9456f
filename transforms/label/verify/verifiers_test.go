package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

func decideWith(t *testing.T, name, config, gold, response string) Result {
	t.Helper()
	v, err := New(name, json.RawMessage(config))
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Verify(context.Background(), Gold{gold}, Response{Text: response})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRegistry(t *testing.T) {
	for _, c := range []struct {
		name, config, gold, response string
		want                         Verdict
	}{
		{"math", ``, "1/2", "\\boxed{0.5}", Correct},
		{"math", `{"decimals": 2}`, "1/3", "\\boxed{0.33}", Correct},
		{"math", `{"limits": {"Steps": 50}}`, "\\sqrt{2}", "\\boxed{\\sqrt{3}}", Budget},
		{"exact", ``, "Paris", "The answer is Paris.", Correct},
		{"exact", ``, "Paris", "The answer is paris.", Incorrect},
		{"exact", `{"ignore_case": true, "whole": true}`, "the cat  sat", " The cat sat\n", Correct},
		{"exact", ``, "", "x", UnparsableAnswer},
		{"tolerance", `{"absolute": 0.01, "relative": 0}`, "3.14159", "\\boxed{\\pi}", Correct},
		{"tolerance", `{"absolute": 0.01, "relative": 0}`, "3.14159", "\\boxed{3.2}", Incorrect},
		{"tolerance", `{"absolute": 0, "relative": 0.01}`, "1000", "about 1,005 metres", Correct},
		{"tolerance", ``, "1000", "\\boxed{x+y}", UnparsableResponse},
		{"tolerance", ``, "x+y", "5", UnparsableAnswer},
		{"choice", ``, "C", "I think (C) is right, so the answer is (C).", Correct},
		{"choice", ``, "C", "\\boxed{B}", Incorrect},
		{"choice", `{"options": "AB"}`, "C", "\\boxed{B}", UnparsableAnswer},
		{"choice", ``, "C", "none of them", UnparsableResponse},
		{"json", ``, "42", "Here: {\"a\": 1} and then ```json\n{\"answer\": 42}\n```", Correct},
		{"json", `{"path": "result.0.value", "compare": "math"}`, "1/2", "{\"result\": [{\"value\": \"0.5\"}]}", Correct},
		{"json", `{"path": "result.1"}`, "1", "{\"result\": [1]}", UnparsableResponse},
		{"json", ``, "1", "no object", UnparsableResponse},
		{"json", ``, "1", strings.Repeat("{[", 1<<16), UnparsableResponse},
		{"regex", `{"pattern": "score: (\\d+)", "group": 1}`, "7", "score: 3 ... score: 7", Correct},
		{"regex", `{"pattern": "(a+)+$", "compare": "exact"}`, "7", strings.Repeat("a", 1<<16) + "b", UnparsableResponse},
	} {
		if r := decideWith(t, c.name, c.config, c.gold, c.response); r.Verdict != c.want {
			t.Errorf("%s %s: gold %q, response %q: %s, want %s (%s)", c.name, c.config, c.gold, short(c.response), r.Verdict, c.want, r.Reason)
		}
	}
	for _, c := range []struct{ name, config, says string }{
		{"maths", ``, `did you mean "math"?`}, {"exact", `{"case": 1}`, "case: unknown key"}, {"regex", `{"pattern": "("}`, "pattern"},
		{"regex", `{"pattern": "a", "group": 2}`, "captures"}, {"choice", `{"options": "a"}`, "options"}, {"json", `{"path": ""}`, "path"},
		{"command", ``, "command"}, {"http", `{"url": "file:///x"}`, "url"}, {"tolerance", `{"absolute": -1}`, "absolute: -1 is not in"},
		{"json", `{"compare": "regex"}`, "compare.pattern"},
	} {
		if _, err := New(c.name, json.RawMessage(c.config)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %s: error %v, want one with %q", c.name, c.config, err, c.says)
		}
	}
}

func TestVersions(t *testing.T) {
	a, _ := New("math", nil)
	b, _ := New("math", json.RawMessage(`{"decimals": 3}`))
	if a.Version() != MathVersion || b.Version() == a.Version() {
		t.Errorf("versions %q and %q", a.Version(), b.Version())
	}
}

func TestAudit(t *testing.T) {
	a, _ := New("math", nil)
	b, _ := New("exact", nil)
	var in strings.Builder
	for i := 0; i < 1000; i++ {
		gold, response := fmt.Sprint(i), fmt.Sprintf("\\boxed{%d}", i)
		if i%100 == 7 {
			response = fmt.Sprintf("\\boxed{%d.0}", i)
		}
		line, _ := json.Marshal(map[string]string{"answer": gold, "response": response})
		in.Write(line)
		in.WriteByte('\n')
	}
	var out strings.Builder
	sum, err := Audit(context.Background(), a, b, strings.NewReader(in.String()), &out)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Pairs != 1000 || sum.Differ != 10 || sum.Verdicts["correct"]["incorrect"] != 10 || sum.Verdicts["correct"]["correct"] != 990 {
		t.Errorf("%+v", sum)
	}
	line := 0
	for _, l := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var d Disagreement
		if err := json.Unmarshal([]byte(l), &d); err != nil {
			t.Fatal(err)
		}
		if d.Line <= line || d.A.Verdict != Correct || d.B.Verdict != Incorrect {
			t.Errorf("%+v after line %d", d, line)
		}
		line = d.Line
	}
	for _, bad := range []string{"{", `{"gold": "1"}`, `{"gold": 1, "response": "1"}`} {
		if _, err := Audit(context.Background(), a, b, strings.NewReader("{\"gold\":\"1\",\"response\":\"1\"}\n"+bad+"\n"),
			io.Discard); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestOutcome(t *testing.T) {
	for v, want := range map[Verdict][2]float32{Correct: {1, 1}, Incorrect: {0, 1}, UnparsableResponse: {0, 1}, Truncated: {0, 1},
		UnparsableAnswer: {0, 0}, Budget: {0, 0}} {
		o, known := v.Outcome(Abstains{})
		if o != want[0] || known != (want[1] == 1) {
			t.Errorf("%s: %v %v", v, o, known)
		}
		var back Verdict
		text, _ := v.MarshalText()
		if err := back.UnmarshalText(text); err != nil || back != v {
			t.Errorf("%s: %v %v", v, back, err)
		}
	}
	if _, known := UnparsableResponse.Outcome(Abstains{UnparsableResponse: true}); known {
		t.Error("asked to abstain on unparsable responses, and did not")
	}
}
