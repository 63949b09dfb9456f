package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
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

// TestAgreement holds the verdicts against Math-Verify's on the shared cases: at least 99.5 percent the same. An anchor
// of null agrees with every verdict but correct.
func TestAgreement(t *testing.T) {
	cases := goldenCases(t)
	m := NewMath(MathConfig{})
	differ := 0
	for _, c := range cases {
		r, err := m.Verify(context.Background(), Gold{c.Gold}, Response{Text: c.Response})
		if err != nil {
			t.Fatal(err)
		}
		want := c.Anchor != nil && *c.Anchor
		if (r.Verdict == Correct) != want {
			differ++
			t.Logf("%s: gold %q: %s (%s) from %q, anchor %v", c.Kind, c.Gold, r.Verdict, r.Rule+r.Reason, r.Extracted, want)
		}
	}
	if share := float64(len(cases)-differ) / float64(len(cases)); share < 0.995 {
		t.Errorf("agreement %.4f on %d cases, want at least 0.995", share, len(cases))
	}
}
