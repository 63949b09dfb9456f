package verify

import (
	"context"
	"testing"
	"unicode/utf8"
)

// FuzzVerify: any two texts get a verdict; a gold answer never contradicts itself, boxed or bare; the same pair has the
// same result again.
func FuzzVerify(f *testing.F) {
	for _, p := range bombs() {
		if len(p[0]) < 200 && len(p[1]) < 200 {
			f.Add(p[0], p[1])
		}
	}
	for _, p := range [][2]string{
		{"\\frac{1}{2}", "The answer is $0.5$."}, {"\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\boxed{[[1,2],[3,4]]}"},
		{"x\\in[-2,7]", "-2 \\le x \\le 7"}, {"4:30p.m.", "16:30"}, {"{(E)}", "(E) 5"}, {"4210_{7}", "1477"},
		{"1\\pm\\sqrt{5}", "x=1+\\sqrt5 or x=1-\\sqrt5"},
		{"0.\\overline{3}", "1/3"}, {"\\{x|x>2\\}", "(2,\\infty)"}, {"{5 \\choose 2}", "10"}, {"March 5, 2020", "2020-03-05"}, {"]1,2[", "(1,2)"},
		{"\\sum_{k=1}^{10}k^2", "385"}, {"|x|<2", "(-2,2)"}, {"\\sin^2 30^\\circ", "25\\%"}, {"f(x)=\\ln x", "\\log_e x"},
		{"5\\text{ cm}^2", "0.0005 m^2"}, {"2 hours 30 minutes", "150 min"}, {"a \\equiv 3 \\pmod 7", "3"}, {"x>3 \\text{ or } x<1", "1<x<3"},
		{"1, 2, \\ldots, n", "1,2,3,...,n"}, {"\\text{Alice }5, \\text{ Bob }3", "Bob: 3, Alice: 5"}, {"A,C", "故选：AC"}, {"\\ge 3", "at least 3"},
		{"5'6\"", "5 ft 6 in"}, {"0.(3)", "0.333..."}, {"\\frac xy", "x\\div y"}, {"7 R 4", "11\\text{ to }3"}, {"\\$5", "US$ 500 cents"},
	} {
		f.Add(p[0], p[1])
	}
	m := NewMath(MathConfig{})
	f.Fuzz(func(t *testing.T, gold, response string) {
		a, err := m.Verify(context.Background(), Gold{gold}, Response{Text: response})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := m.Verify(context.Background(), Gold{gold}, Response{Text: response})
		if a != b {
			t.Fatalf("%+v, then %+v", a, b)
		}
		if !utf8.ValidString(a.Extracted) || !utf8.ValidString(a.Gold) || !utf8.ValidString(a.Canonical) {
			t.Fatalf("result is no text: %+v", a)
		}
		if r, _ := m.Verify(context.Background(), Gold{gold}, Response{Text: gold}); r.Verdict != Correct && r.Verdict != UnparsableAnswer {
			t.Fatalf("gold %q against itself: %+v", gold, r)
		}
		// an answer that was understood is the same answer in a box
		if g := m.goldAnswer(gold); g.node != nil {
			r, _ := m.Verify(context.Background(), Gold{g.text}, Response{Text: "\\boxed{" + g.text + "}"})
			if r.Verdict == Incorrect && r.Extracted == short(g.text) {
				t.Fatalf("gold %q against itself in a box: %+v", g.text, r)
			}
		}
	})
}
