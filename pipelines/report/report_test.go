package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/millrace/millrace/pipelines/show"
)

var out = flag.String("out", "", "also write the example page to this file, to look at it in a browser")

// example is a made-up run: nothing in it was measured.
func example() Data {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := func(s float64) float64 { return s * rng.NormFloat64() }
	methods := []Method{{Name: "DistRL+IPVRM"}, {Name: "GRPO"}}
	for m := range methods {
		end := []float64{0.71, 0.62}[m]
		for i := range 41 {
			x := float64(i) / 40
			metrics := map[string]float64{
				"train_accuracy": 0.35 + (end-0.35)*(1-math.Exp(-3*x)) + noise(0.04),
				"loss":           -0.02 + noise(0.01), "kl": 0.001 + 0.003*x + math.Abs(noise(0.0004)), "entropy": 0.1 - 0.05*x + noise(0.003),
				"gradient_norm": 0.4 + math.Abs(noise(0.1)), "clip_fraction": 0.002 + math.Abs(noise(0.002)),
			}
			if i%5 == 0 {
				metrics[HeldOut], metrics[HeldOutError] = 0.35+(end-0.35)*(1-math.Exp(-3*x))/(1-math.Exp(-3))+noise(0.01), 0.021
			}
			if i == 17 {
				metrics["loss"] = math.NaN()
			}
			if m == 0 {
				metrics["reward_auc"], metrics["reward_ece"], metrics["reward_loss"] = 0.8+noise(0.01), 0.08+noise(0.01), 0.62-0.05*x+noise(0.01)
			}
			methods[m].Points = append(methods[m].Points, Point{Iteration: i, Metrics: metrics})
		}
	}
	var bins []Bin
	for i := range 10 {
		p := (float64(i) + 0.5) / 10
		bins = append(bins, Bin{P: p, Y: min(max(p+0.12*(0.5-p)+noise(0.03), 0), 1), N: 20 + 60*i%170})
	}
	return Data{
		Title: "From prompts to a better policy", Subtitle: "Chain arithmetic with learned mistakes: DistRL with prefix values against GRPO, " +
			"from one warm start",
		Run: "runs/quickstart",
		Facts: []Fact{{"held-out avg@8", "0.354 → 0.710"}, {"iterations", "40"}, {"rollouts a method", "2,560"}, {"time", "1m32s"}, {"seed",
			"0"}, {"kernels", "avx512"}},
		Tables: []Table{{
			Caption: "Accuracy on 100 held-out prompts, 8 samples each (± one standard error)",
			Columns: []string{"method", "before", "after", "gain", "pass@8", "seconds"},
			Rows: [][]string{{"DistRL+IPVRM", "0.354 ± 0.021", "0.710 ± 0.020", "+0.356", "0.93", "47.1"}, {"GRPO", "0.354 ± 0.021",
				"0.622 ± 0.022", "+0.268", "0.91", "31.8"}},
		}},
		Methods:     methods,
		Calibration: []Calibration{{Name: "before", Bins: bins}, {Name: "after", Bins: append([]Bin{{P: 0.3, Y: 0.28, N: 90}}, bins[5:8]...)}},
		Rollouts: []show.Rollout{chain(rng, "5a*2b*6c-6d+8=", "2", "a5*2=0\nb0*6=0\nc0-6=4\nd4+8=2\n#2", -1), chain(rng, "7a+8b*3c-9d*4e+5=",
			"9", "a7+8=5\nb5*3=5\nc5-9=7\nd7*4=8\ne8+5=3\n#3", 2), chain(rng, "3a*7b+6c-2=", "5", "a3*7=1\nb1+6=7\nc7-2=4\n#4", 2), chain(rng,
			"9a-4b*8c+7=", "7", "a9-4=4\nb4*8=2\nc2+7=9\n#9", 0)},
		Stages: []Stage{
			{"prompts", 16, 16, 0, 0, 0, 0.01}, {"rollout", 16, 64, 0, 0, 576, 0.31}, {"label", 64, 62, 2, 0, 558, 0.004}, {"score", 62, 62, 0, 0,
				558, 0.08},
			{"value", 62, 62, 0, 0, 558, math.NaN()}, {"advantage", 62, 62, 0, 0, 558, 0.001}, {"keep mixed", 62, 50, 0, 12, 450, 0.001},
			{"update", 50, 50, 0, 0, 450, 0.2},
		},
		Dead: []show.DeadCount{{Stage: "label", Reason: "missing_field", Count: 2}},
	}
}

// chain makes a response one token a character, whose value falls at the wrong line.
func chain(rng *rand.Rand, prompt, answer, response string, firstError int) show.Rollout {
	right := firstError < 0
	r := show.Rollout{Name: fmt.Sprintf("iteration 40, prompt %d", rng.IntN(16)), Prompt: prompt, Answer: answer, Outcome: &right,
		FirstError: &firstError}
	line, v := 0, 0.05
	for i, c := range response {
		before := v
		if !right && line == firstError && (c >= '0' && c <= '9') && strings.Contains(response[max(i-1, 0):i], "=") {
			v -= 0.35
		} else {
			v += 0.012 + 0.01*rng.NormFloat64()
		}
		t := show.Token{Text: string(c), LogP: -0.02 * rng.Float64(), Value: v * float64(i+1), PCorrect: 1 / (1 + math.Exp(-3*v)),
			Advantage: 3 * (v - before)}
		if v < before-0.2 {
			t.LogP = -1.2
			t.Candidates = []show.Candidate{{Text: string(c), LogP: -1.2, Advantage: t.Advantage}, {Text: "5", LogP: -0.4, Advantage: 0.31},
				{Text: "1", LogP: -3.2, Advantage: math.NaN()}}
		}
		r.Tokens = append(r.Tokens, t)
		if c == '\n' {
			line++
		}
	}
	return r
}

func render(t *testing.T, d Data) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExample(t *testing.T) {
	page := render(t, example())
	if *out != "" {
		if err := os.WriteFile(*out, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"<h1>From prompts to a better policy</h1>", "Accuracy on held-out prompts", "Reliability",
		"first wrong line</strong>", "keep mixed", "missing_field", "(−0.40, 0.31)"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, not := range []string{"NaN", "Inf", "#0101", "#0102", "ZgotmplZ", "Liberation Serif"} {
		if strings.Contains(page, not) {
			t.Errorf("the page contains %q", not)
		}
	}
	if kb := len(page) / 1024; kb > 300 {
		t.Errorf("the page has %d KiB", kb)
	}
}

func TestSameDataSameBytes(t *testing.T) {
	if first, second := render(t, example()), render(t, example()); first != second {
		t.Error("two reports of the same data differ")
	}
}

// TestWellFormed checks what a forgiving parser would mend: every element opened is closed in its turn.
func TestWellFormed(t *testing.T) {
	void := map[string]bool{"meta": true, "link": true, "br": true, "input": true}
	for name, d := range map[string]Data{"example": example(), "empty": {}, "hostile": hostile()} {
		var open []string
		z := html.NewTokenizer(strings.NewReader(render(t, d)))
		for {
			kind := z.Next()
			if kind == html.ErrorToken {
				if !errors.Is(z.Err(), io.EOF) {
					t.Errorf("%s: %v", name, z.Err())
				}
				break
			}
			tag, _ := z.TagName()
			switch {
			case kind == html.StartTagToken && !void[string(tag)]:
				open = append(open, string(tag))
			case kind == html.EndTagToken:
				if len(open) == 0 || open[len(open)-1] != string(tag) {
					t.Fatalf("%s: </%s> closes %v", name, tag, open)
				}
				open = open[:len(open)-1]
			}
		}
		if len(open) > 0 {
			t.Errorf("%s: not closed: %v", name, open)
		}
	}
}

// TestLoadsNothing: no attribute or style refers to anything outside the page.
func TestLoadsNothing(t *testing.T) {
	page := render(t, example())
	for _, pattern := range []string{`(?i)https?://`, `(?i)url\(`, `(?i)@import`, `(?i)\bsrc=`, `(?i)href="[^d]`,
		`(?i)fetch\(|XMLHttpRequest|import\(`} {
		if at := regexp.MustCompile(pattern).FindString(page); at != "" {
			t.Errorf("the page refers outside: %q", at)
		}
	}
}

func TestPolicyAllowsExactlyTheScript(t *testing.T) {
	page := render(t, example())
	scripts := regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllStringSubmatch(page, -1)
	if len(scripts) != 1 {
		t.Fatalf("%d scripts", len(scripts))
	}
	hash := sha256.Sum256([]byte(scripts[0][1]))
	want := "script-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'"
	if !strings.Contains(html.UnescapeString(page), want) {
		t.Errorf("the policy does not name the script's digest (%s)", want)
	}
}

const attack = `</script><script>alert(1)</script><img src=x onerror="alert(2)">"'&` + "\x00"

func hostile() Data {
	yes, first := true, 0
	inf := math.Inf(1)
	return Data{
		Title: attack, Subtitle: attack, Run: attack, Facts: []Fact{{attack, attack}},
		Tables: []Table{{attack, []string{attack, attack}, [][]string{{attack}, {attack, attack, attack}, nil}}},
		Methods: []Method{{attack, []Point{{0, map[string]float64{"loss": 1, "kl": inf}}, {1, nil}, {2, map[string]float64{"loss": -inf,
			"kl": 1e308}}}}, {attack, []Point{{5, map[string]float64{"kl": -1e308, HeldOut: 0.5}}}}},
		Panels:      append([]Panel{{Title: attack, Note: attack, Metric: "loss"}}, DefaultPanels...),
		Calibration: []Calibration{{attack, []Bin{{0.5, 0.5, 1}, {math.NaN(), inf, -3}}}},
		Rollouts: []show.Rollout{{Name: attack, Prompt: attack, Answer: attack, Outcome: &yes, FirstError: &first,
			Tokens: []show.Token{{Text: attack, LogP: -inf, Value: math.NaN(), PCorrect: 0.5, Advantage: inf, Candidates: []show.Candidate{{},
				{Text: attack}}}}}, {}},
		Stages: []Stage{{attack, -1, 0, 0, 0, -1, inf}},
		Dead:   []show.DeadCount{{Stage: attack, Reason: attack}},
	}
}

func TestContentIsEscaped(t *testing.T) {
	page := render(t, hostile())
	if strings.Count(page, "<script") != 1 || strings.Contains(page, "<img") || strings.Contains(page, "ZgotmplZ") {
		t.Error("content became markup")
	}
	z := html.NewTokenizer(strings.NewReader(page))
	for z.Next() != html.ErrorToken {
		tok := z.Token()
		for _, a := range tok.Attr {
			if strings.HasPrefix(strings.ToLower(a.Key), "on") {
				t.Errorf("<%s> has the handler %s", tok.Data, a.Key)
			}
		}
	}
}

func TestGapsAndUnmeasuredIterations(t *testing.T) {
	points := func(ys ...float64) (out []Point) {
		for i, y := range ys {
			m := map[string]float64{"loss": y}
			if y == 0 { // stands for: not measured
				m = nil
			}
			out = append(out, Point{Iteration: i, Metrics: m})
		}
		return out
	}
	for _, c := range []struct {
		name  string
		ys    []float64
		lines int
	}{
		{"whole", []float64{1, 2, 3, 4}, 1},
		{"gap", []float64{1, 2, math.NaN(), 4, 5}, 2},
		{"every second", []float64{1, 0, 3, 0, 5}, 1},
		{"infinite", []float64{1, math.Inf(1), 3}, 0},
	} {
		f, ok, err := metricFigure(Panel{Title: "Loss", Metric: "loss", Section: Training}, []Method{{Name: "m", Points: points(c.ys...)}})
		if err != nil || !ok {
			t.Fatalf("%s: %v %v", c.name, ok, err)
		}
		if got := strings.Count(string(f.Wide), "stroke:var(--s1);stroke-width:1.8"); got != c.lines {
			t.Errorf("%s: %d lines, want %d", c.name, got, c.lines)
		}
	}
	if _, ok, err := metricFigure(Panel{Metric: "kl"}, []Method{{Name: "m", Points: points(1, 2)}}); ok || err != nil {
		t.Errorf("a metric nobody measured is drawn (%v)", err)
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		lo, hi float64
		want   string
	}{
		{0, 40, "0 10 20 30 40"}, {0.33, 0.74, "0.4 0.5 0.6 0.7"}, {0, 1, "0.0 0.2 0.4 0.6 0.8 1.0"}, {-0.05, 0.02, "−0.04 −0.02 0.00 0.02"},
		{0.5, 0.5, ""}, {math.NaN(), 1, ""},
	} {
		var got []string
		for _, tick := range ticks(c.lo, c.hi) {
			got = append(got, tick.Label)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("ticks(%g, %g) = %q, want %q", c.lo, c.hi, got, c.want)
		}
	}
	if got := wholeTicks(-0.5, 1.5); len(got) != 2 || got[0].Label != "0" || got[1].Label != "1" {
		t.Errorf("ticks of two iterations: %v", got)
	}
	for e := -300; e < 300; e += 7 {
		for _, lo := range []float64{0, -3, 0.999} {
			x := math.Pow(10, float64(e))
			if n := len(ticks(lo*x, 1.7*x)); n < 3 || n > 9 {
				t.Errorf("ticks(%g, %g): %d labels", lo*x, 1.7*x, n)
			}
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestWriteErrorIsReturned(t *testing.T) {
	if err := Write(failing{}, example()); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}
