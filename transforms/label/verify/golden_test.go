package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
)

type goldenCase struct {
	Gold     string `json:"gold"`
	Response string `json:"response"`
	Kind     string `json:"kind"`
	Anchor   *bool  `json:"math_verify"`
}

func goldenCases(t testing.TB) []goldenCase {
	f, err := os.Open(golden.Path(t, "golden", "verifier.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []goldenCase
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var c goldenCase
		if err := json.Unmarshal(sc.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAgreement holds the verdicts against Math-Verify's on the shared cases: all the same. An anchor of null agrees
// with every verdict but correct. A response that ends in an open box was cut off there.
func TestAgreement(t *testing.T) {
	cases := goldenCases(t)
	m := NewMath(MathConfig{})
	differ := 0
	for _, c := range cases {
		r, err := m.Verify(context.Background(), Gold{c.Gold}, Response{Text: c.Response, Truncated: endsInBox(c.Response)})
		if err != nil {
			t.Fatal(err)
		}
		want := c.Anchor != nil && *c.Anchor
		if (r.Verdict == Correct) != want {
			differ++
			t.Logf("%s: gold %q: %s (%s) from %q, anchor %v", c.Kind, c.Gold, r.Verdict, r.Rule+r.Reason, r.Extracted, want)
		}
	}
	if differ > 0 {
		t.Errorf("%d of %d verdicts differ", differ, len(cases))
	}
}

func endsInBox(s string) bool {
	_, end, _ := lastBoxed(s, false)
	return end < 0
}

// judgeCases holds the verifiers against a file of judged cases.
func judgeCases(t *testing.T, path string) Agreement {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum, err := Judge(context.Background(), KindOf("math", NewMath(MathConfig{})), f)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range sum.FalsePositives {
		t.Errorf("line %d: gold %q, response %q: correct (%s), and is not", c.Line, c.Gold, c.Response, c.Result.Rule)
	}
	return sum
}

// TestReports: answers that other verifiers were reported to judge wrongly. None is judged correct that is not; those
// that are correct and not judged so are the products and sums that are left undone.
func TestReports(t *testing.T) {
	sum := judgeCases(t, golden.Path(t, "golden", "verifier_reports.jsonl"))
	for _, c := range sum.FalseNegatives {
		t.Logf("line %d: gold %q, response %q: %s (%s)", c.Line, c.Gold, c.Response, c.Result.Verdict, c.Result.Rule+c.Result.Reason)
	}
	if sum.Share < 0.97 {
		t.Errorf("agreement %.4f on %d cases, want at least 0.97", sum.Share, sum.Cases)
	}
}

// TestKinds: cases of each kind of answer that the rules tell apart, right ones and wrong ones.
func TestKinds(t *testing.T) {
	sum := judgeCases(t, filepath.Join("testdata", "kinds.jsonl"))
	for _, c := range sum.FalseNegatives {
		t.Errorf("line %d: gold %q, response %q: %s (%s), and is correct", c.Line, c.Gold, c.Response, c.Result.Verdict,
			c.Result.Rule+c.Result.Reason)
	}
}

func TestJudgeRefuses(t *testing.T) {
	for text, says := range map[string]string{"": "no case", "{": "line 1", `{"gold": "1", "response": "1"}`: "correct", `{"gold": 1, "response": "1", "correct": true}`: "line 1"} {
		if _, err := Judge(context.Background(), KindOf("math", NewMath(MathConfig{})),
			strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: error %v, want one with %q", text, err, says)
		}
	}
}

// TestExploits: what docs/verifier.md lists as known ways to earn without an answer earns nothing, with and without a
// box around the whole.
func TestExploits(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "verifier.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "<!-- exploits -->")
	table, _, closed := strings.Cut(table, "<!-- end of exploits -->")
	if !found || !closed {
		t.Fatal("the page has no table of exploits")
	}
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 || !strings.Contains(cells[3], "`") {
			continue
		}
		text := func(i int) string { return strings.Trim(cells[i+1], "` ") }
		rows++
		r, err := NewMath(MathConfig{}).Verify(context.Background(), Gold{text(2)}, Response{Text: text(3), Prompt: text(1)})
		if err != nil || r.Verdict == Correct {
			t.Errorf("gold %q, response %q: %s (%s), %v", text(2), text(3), r.Verdict, r.Rule, err)
		}
	}
	if rows < 30 {
		t.Errorf("%d exploits read", rows)
	}
	for _, c := range [][2]string{{"118", "\\boxed{45+73}"}, {"81", "\\boxed{3^4}"}} { // the setting
		if r, _ := NewMath(MathConfig{Expressions: true}).Verify(context.Background(), Gold{c[0]}, Response{Text: c[1]}); r.Verdict != Correct {
			t.Errorf("with expressions: %+v", r)
		}
	}
	echo := Response{Text: "\\boxed{x^2-x}", Prompt: "Factor $x^2-x$."}
	if r, _ := NewMath(MathConfig{Echoes: true}).Verify(context.Background(), Gold{"x(x-1)"}, echo); r.Verdict != Correct {
		t.Errorf("with echoes: %+v", r)
	}
}
