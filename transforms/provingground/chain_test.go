package provingground

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const (
	prompt   = "5a*2b*6c-6d+8="
	response = "a5*2=0\nb0*6=0\nc0-6=4\nd4+8=2\n#2"
)

func chain(t testing.TB) Chain {
	t.Helper()
	c, err := Parse(prompt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParse(t *testing.T) {
	c := chain(t)
	if c.Prompt() != prompt || c.Answer() != 2 || strings.Join(c.Lines(), "\n") != response {
		t.Errorf("%+v: prompt %q, answer %d, lines %q", c, c.Prompt(), c.Answer(), c.Lines())
	}
	for _, bad := range []string{"", "5=", "5a*2b*6", "xa*2=", "5b*2=", "5a/2=", "5a*x=", "5a*2b*6c-6d+8", strings.Repeat("5a*", 1000) + "5=",
		"5a*2b*6c-6d+8e+1f+1g+1h+1i+1=", "5a*2" + strings.Repeat("=", 2+MaxFiller), "5a*2=b*6=", "===="} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("prompt %.20q is accepted", bad)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name, response string
		correct        bool
		firstError     int
		answer         string
	}{
		{"right", response, true, -1, "2"},
		{"wrong step, right answer", "a5*2=1\nb1*6=6\nc0-6=4\nd4+8=2\n#2", true, 0, "2"},
		{"wrong later", "a5*2=0\nb0*6=0\nc0-6=5\nd5+8=3\n#3", false, 2, "3"},
		{"wrong answer line only", "a5*2=0\nb0*6=0\nc0-6=4\nd4+8=2\n#3", false, 4, "3"},
		{"steps left out", "a5*2=0\nd4+8=2\n#2", true, 1, "2"},
		{"no answer", "a5*2=0\nb0*6=0", false, 1, ""},
		{"stops before the answer", "a5*2=0\nb0*6=0\nc0-6=4\nd4+8=2", false, 3, ""},
		{"something after the answer", response + "\n#2", true, 5, "2"},
		{"line break after the answer", response + "\n", false, 4, "2"},
		{"empty", "", false, 0, ""},
		{"only a line break", "\n", false, 0, ""},
	} {
		got := chain(t).Judge(c.response)
		if got.Correct != c.correct || got.FirstError != c.firstError || got.Answer != c.answer {
			t.Errorf("%s: %+v", c.name, got)
		}
		if ends := got.StepEnds; !slices.IsSorted(ends) || ends[len(ends)-1] != len(c.response) {
			t.Errorf("%s: steps end at %v of %d bytes", c.name, ends, len(c.response))
		}
	}
}

// With filler every result is repeated, a wrong one too, and the first error is where the step is wrong.
func TestFiller(t *testing.T) {
	const long, right = "5a*2b*6===", "a5*2=0\na0\na0\nb0*6=0\nb0\nb0\n#0"
	c, err := Parse(long)
	if err != nil || c.Filler != 2 || c.Prompt() != long || c.Right() != right {
		t.Fatalf("%+v, %v: prompt %q, working %q", c, err, c.Prompt(), c.Right())
	}
	for response, want := range map[string]int{right: -1, "a5*2=0\na0\na1\nb0*6=0\nb0\nb0\n#0": 2, "a5*2=0\nb0*6=0\n#0": 1,
		"a5*2=0\na0\na0\nb0*6=1\nb1\nb1\n#1": 3} {
		if got := c.Judge(response); got.FirstError != want || got.Correct != strings.HasSuffix(response, "#0") {
			t.Errorf("%q: %+v", response, got)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	wrong := 0
	for range 200 {
		text := c.Corrupt(r.Float64)
		got := c.Judge(text)
		if len(strings.Split(text, "\n")) != 7 || got.FirstError > 0 && got.FirstError != 3 {
			t.Fatalf("%q: %+v", text, got)
		}
		if got.FirstError >= 0 {
			wrong++
		}
	}
	if wrong < 70 || wrong > 130 {
		t.Errorf("%d of 200 are corrupted", wrong)
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(prompt, response)
	f.Add("1a+1=", "#2\n\n")
	f.Fuzz(func(t *testing.T, p, r string) {
		c, err := Parse(p)
		if err != nil {
			return
		}
		if c.Prompt() != p {
			t.Fatalf("%q is parsed as %q", p, c.Prompt())
		}
		got := c.Judge(r)
		if (got.FirstError < 0) != (r == strings.Join(c.Lines(), "\n")) {
			t.Fatalf("response %q: first error %d", r, got.FirstError)
		}
		if got.FirstError >= len(got.StepEnds) {
			t.Fatalf("first error %d of %d steps", got.FirstError, len(got.StepEnds))
		}
	})
}
