package textchains

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	prompt   = "Ann has 12 pens. Then gets 35 more. Then has 3 times as many. Then loses 4. How many pens?"
	response = "12 + 35 = 47\n47 * 3 = 141\n141 - 4 = 137\nAnswer: 137"
)

func parsed(t testing.TB, prompt string) Chain {
	t.Helper()
	c, err := Parse(prompt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var usual = Difficulty{MinSteps: 1, MaxSteps: 5, Digits: 3, Operations: Operations}

func drawn(t testing.TB, u Uniform, d Difficulty, split string) Chain {
	t.Helper()
	c, err := Draw(u, d, split)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParse(t *testing.T) {
	c := parsed(t, prompt)
	if c.Prompt() != prompt || c.Answer() != 137 || c.Right() != response {
		t.Errorf("%+v: prompt %q, solution %q", c, c.Prompt(), c.Right())
	}
	for prompt, right := range map[string]string{
		"What is (12 + 35) * 2 - 4?":                               "12 + 35 = 47\n47 * 2 = 94\n94 - 4 = 90\nAnswer: 90",
		"What is 12 * 2 * 3 + 4?":                                  "12 * 2 = 24\n24 * 3 = 72\n72 + 4 = 76\nAnswer: 76",
		"What is ((2 + 3) * 4 - 5) * 6?":                           "2 + 3 = 5\n5 * 4 = 20\n20 - 5 = 15\n15 * 6 = 90\nAnswer: 90",
		"Start at 9. Take away 9. Add 999. What do you get?":       "9 - 9 = 0\n0 + 999 = 999\nAnswer: 999",
		"A bus carries 20 people. 5 get on. How many people ride?": "20 + 5 = 25\nAnswer: 25",
	} {
		if got := parsed(t, prompt).Right(); got != right {
			t.Errorf("%s: solution %q, want %q", prompt, got, right)
		}
	}
	for _, bad := range []string{"", "What is ?", "What is 12?", "12 + 35", "12 + 35?", "What is (12 + 35) - 4?", "What is 12 + 35 * 2?",
		"What is ((12 + 35) * 2?", "What is 012 + 35?", "What is 12 + 1000?", "What is 12 + 1?", "What is 12 - 13?", "What is 999 + 2?",
		"What is 12 * 10?", "What is 12 + 35? ", "What is 12 + 2 + 2 + 2 + 2 + 2 + 2 + 2?", "What is " + strings.Repeat("(", 100000) + "12 + 35?",
		"Ann has 12 pens. How many pens?", "Ann has 12 pens. Then gets 35 more. How many cups?",
		"Zoe has 12 pens. Then gets 35 more. How many pens?", "Start at 12. 5 get on. What do you get?",
		strings.Replace(prompt, "Ann", "NAME", 1)} {
		if c, err := Parse(bad); err == nil {
			t.Errorf("prompt %.40q is read as %+v", bad, c)
		}
	}
}

// Every chain that is drawn is told so that it is read as itself, within the bounds, with a solution that is right.
func TestDrawnChains(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	steps, wordings := map[int]int{}, map[int]int{}
	for range 3000 {
		for _, split := range []string{"train", "test", WordingSplit, LongerSplit} {
			c := drawn(t, r.Float64, usual, split)
			if back := parsed(t, c.Prompt()); fmt.Sprint(back) != fmt.Sprint(c) {
				t.Fatalf("%q is %+v, read as %+v", c.Prompt(), c, back)
			}
			if got := c.Judge(c.Right()); !got.Correct || got.FirstError != -1 || got.Answer != strconv.Itoa(c.Answer()) ||
				len(got.StepEnds) != len(c.Steps)+1 {
				t.Fatalf("%q: the solution %q is judged %+v", c.Prompt(), c.Right(), got)
			}
			if (split == WordingSplit) != (c.Wording == heldOutWording) || (split == LongerSplit) != (len(c.Steps) == 6) {
				t.Fatalf("split %s: %q", split, c.Prompt())
			}
			v := c.Start
			for _, s := range c.Steps {
				if HeldOut(v, s) == (split == "train") {
					t.Fatalf("split %s has the step %d %c %d", split, v, s.Op, s.Operand)
				}
				if v = s.Apply(v); v < 0 || v > MaxValue {
					t.Fatalf("%q reaches %d", c.Prompt(), v)
				}
			}
			if split == "train" {
				steps[len(c.Steps)]++
				wordings[c.Wording]++
			}
		}
	}
	for k := 1; k <= 5; k++ {
		if steps[k] < 480 || steps[k] > 720 {
			t.Errorf("%d of 3000 chains have %d steps, want about 600", steps[k], k)
		}
	}
	for w := range heldOutWording {
		if wordings[w] < 3000/heldOutWording-150 || wordings[w] > 3000/heldOutWording+150 {
			t.Errorf("%d of 3000 chains are told in wording %d", wordings[w], w)
		}
	}
}

// Of all steps a fifth is held out, both orders of a sum and of a product on the same side.
func TestHeldOutSteps(t *testing.T) {
	held, all := 0, 0
	for v := range 1000 {
		for b := MinNumber; b < 100; b++ {
			for _, op := range []byte(Operations) {
				all++
				if HeldOut(v, Step{op, b}) {
					held++
				}
				if op != '-' && HeldOut(v, Step{op, b}) != HeldOut(b, Step{op, v}) {
					t.Fatalf("%d %c %d and %d %c %d are on two sides", v, op, b, b, op, v)
				}
			}
		}
	}
	if share := float64(held) / float64(all); share < 0.19 || share > 0.21 {
		t.Errorf("share %.3f is held out", share)
	}
	// Fixed for ever: a model that was trained before must not be measured on what it has seen.
	var got []bool
	for v := 10; v < 22; v++ {
		got = append(got, HeldOut(v, Step{'+', 35}))
	}
	if want := fmt.Sprint(got); want != heldOutGolden {
		t.Errorf("10 to 21 and 35 are held out as %s, want %s", want, heldOutGolden)
	}
}

const heldOutGolden = "[false false false false true true true false false false true false]"

// Every difficulty has chains in every split, up to the length that it says.
func TestEveryDifficultyHasChains(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, operations := range []string{"+", "-", "*", "+-", "+*", "-*", Operations} {
		for digits := 1; digits <= 3; digits++ {
			d := Difficulty{Digits: digits, Operations: operations}
			for steps := 1; steps <= d.Most(); steps++ {
				d.MinSteps, d.MaxSteps = steps, steps
				for _, split := range []string{"train", "test", WordingSplit} {
					for range 5 {
						drawn(t, r.Float64, d, split)
					}
				}
			}
		}
	}
	if c, err := Draw(r.Float64, Difficulty{MinSteps: 6, MaxSteps: 6, Digits: 1, Operations: "-"}, "train"); err == nil {
		t.Errorf("%q has six differences", c.Prompt())
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name, response string
		correct        bool
		firstError     int
		answer         string
		steps          int
	}{
		{"right", response, true, -1, "137", 4},
		{"spaces and line ends", " 12+35 =47\r\n\n47*3=141 \n\t141 - 4 = 137\nAnswer:137\n\n", true, -1, "137", 4},
		{"operands of a sum and a product the other way round", "35 + 12 = 47\n3 * 47 = 141\n141 - 4 = 137\nAnswer: 137", true, -1, "137", 4},
		{"operands of a difference the other way round", "12 + 35 = 47\n47 * 3 = 141\n4 - 141 = 137\nAnswer: 137", true, 2, "137", 4},
		{"wrong step, right answer", "12 + 35 = 46\n46 * 3 = 141\n141 - 4 = 137\nAnswer: 137", true, 0, "137", 4},
		{"wrong step, carried on", "12 + 35 = 47\n47 * 3 = 131\n131 - 4 = 127\nAnswer: 127", false, 1, "127", 4},
		{"another way to the answer", "35 + 12 = 47\n47 + 94 = 141\n141 - 4 = 137\nAnswer: 137", true, 1, "137", 4},
		{"wrong answer line only", "12 + 35 = 47\n47 * 3 = 141\n141 - 4 = 137\nAnswer: 138", false, 3, "138", 4},
		{"steps left out", "12 + 35 = 47\nAnswer: 137", true, 1, "137", 2},
		{"surplus line", "12 + 35 = 47\n47 * 3 = 141\n141 - 4 = 137\n137 + 0 = 137\nAnswer: 137", true, 3, "137", 5},
		{"something after the answer", response + "\nAnswer: 137", true, 4, "137", 5},
		{"words after the answer", response + "\nThat is all.", false, 4, "", 5},
		{"stops before the answer", "12 + 35 = 47\n47 * 3 = 141\n141 - 4 = 137", false, 2, "", 3},
		{"stops with a line break", "12 + 35 = 47\n", false, 0, "", 1},
		{"an expression is no answer", "12 + 35 = 47\n47 * 3 = 141\n141 - 4 = 137\nAnswer: 141 - 4", false, 3, "", 4},
		{"two answers are none", "12 + 35 = 47\n47 * 3 = 141\n141 - 4 = 137\nAnswer: 137 or 138", false, 3, "", 4},
		{"a decimal is no answer", "12 + 35 = 47\n47 * 3 = 141\n141 - 4 = 137\nAnswer: 137.0", false, 3, "", 4},
		{"a leading zero", "12 + 35 = 047\n47 * 3 = 141\n141 - 4 = 137\nAnswer: 137", true, 0, "137", 4},
		{"a leading zero in the answer", "12 + 35 = 47\n47 * 3 = 141\n141 - 4 = 137\nAnswer: 0137", false, 3, "0137", 4},
		{"two steps in a line", "12 + 35 = 47 * 3 = 141\n141 - 4 = 137\nAnswer: 137", true, 0, "137", 3},
		{"an answer without a label", "137", false, 0, "", 1},
		{"a blank line at the beginning", "\n" + response, true, -1, "137", 4},
		{"blank lines of spaces", " \t\n" + strings.ReplaceAll(response, "\n", "\n \n\t\n") + "\n  \n\t", true, -1, "137", 4},
		{"more blank lines than a square of them has time for", response + strings.Repeat("\n", 2_000_000), true, -1, "137", 4},
		{"empty", "", false, 0, "", 1},
		{"only line breaks", "\n \n", false, 0, "", 1},
	} {
		got := parsed(t, prompt).Judge(c.response)
		if got.Correct != c.correct || got.FirstError != c.firstError || got.Answer != c.answer || len(got.StepEnds) != c.steps {
			t.Errorf("%s: %+v", c.name, got)
		}
		if ends := got.StepEnds; !slices.IsSorted(ends) || ends[len(ends)-1] != len(c.response) {
			t.Errorf("%s: steps end at %v of %d bytes", c.name, ends, len(c.response))
		}
	}
}

// Half of the corrupted solutions have one wrong result, of their level, and rightly go on from it.
func TestCorrupt(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, level := range []string{Unlikely, Likely} {
		const n = 4000
		wrong := 0
		at := map[int]int{}
		for range n {
			c := drawn(t, r.Float64, Difficulty{MinSteps: 3, MaxSteps: 3, Digits: 2, Operations: Operations}, "train")
			text := c.Corrupt(r.Float64, level)
			got := c.Judge(text)
			if got.FirstError < 0 {
				if text != c.Right() {
					t.Fatalf("%q is told from the solution by nothing", text)
				}
				continue
			}
			wrong++
			at[got.FirstError]++
			lines, v, slipped := strings.Split(text, "\n"), c.Start, 0
			for i, s := range c.Steps {
				var a, b, result int
				var op byte
				if _, err := fmt.Sscanf(lines[i], "%d %c %d = %d", &a, &op, &b, &result); err != nil || a != v || op != s.Op || b != s.Operand ||
					result < 0 {
					t.Fatalf("%q: line %d does not follow", text, i)
				}
				if result != s.Apply(v) {
					slipped++
					if slices.Contains(Slips(v, s), result) != (level == Likely) {
						t.Fatalf("%q: line %d is no %s error", text, i, level)
					}
				}
				v = result
			}
			if last := lines[len(lines)-1]; slipped != 1 || last != fmt.Sprint("Answer: ", v) {
				t.Fatalf("%q: %d wrong results, ends %q", text, slipped, last)
			}
		}
		if share := float64(wrong) / n; share < 0.47 || share > 0.53 {
			t.Errorf("%s: share %.3f is wrong", level, share)
		}
		for step := range 3 {
			if at[step] < wrong/6 {
				t.Errorf("%s: step %d is wrong in %d of %d", level, step, at[step], wrong)
			}
		}
	}
}

func TestSlips(t *testing.T) {
	for _, c := range []struct {
		v    int
		s    Step
		want []int
	}{
		{47, Step{'+', 35}, []int{12, 28, 72, 92}},                                // 82
		{82, Step{'-', 35}, []int{37, 53, 57, 74, 117}},                           // 47
		{47, Step{'*', 3}, []int{50, 94, 114, 121, 131, 138, 144, 151, 188, 411}}, // 141
		{2, Step{'+', 3}, []int{1, 15}},                                           // 5
	} {
		if got := Slips(c.v, c.s); !slices.Equal(got, c.want) {
			t.Errorf("slips of %d %c %d = %d are %v, want %v", c.v, c.s.Op, c.s.Operand, c.s.Apply(c.v), got, c.want)
		}
	}
	for v := range MaxValue + 1 {
		for b := MinNumber; b < 100; b++ {
			for _, op := range []byte(Operations) {
				s := Step{op, b}
				if !allowed(v, s) {
					continue
				}
				slips := Slips(v, s)
				if len(slips) == 0 || slices.Contains(slips, s.Apply(v)) || slips[0] < 0 || !slices.IsSorted(slips) {
					t.Fatalf("slips of %d %c %d are %v", v, op, b, slips)
				}
			}
		}
	}
}

// FuzzJudge holds the checker to what it promises of any response: it is right in every step exactly if it says, line by line, what the
// worked solution says.
func FuzzJudge(f *testing.F) {
	f.Add(prompt, response)
	f.Add("What is 12 * 2 * 3 + 4?", "12*2=24\n\n3 * 24 = 72\n72 + 4 = 76\nAnswer: 76\n")
	f.Add("What is 12 + 35?", "\n\r\n")
	f.Fuzz(func(t *testing.T, p, r string) {
		c, err := Parse(p)
		if err != nil {
			return
		}
		if c.Prompt() != p {
			t.Fatalf("%q is read as %q", p, c.Prompt())
		}
		got := c.Judge(r)
		if !slices.IsSorted(got.StepEnds) || len(got.StepEnds) == 0 || got.StepEnds[len(got.StepEnds)-1] != len(r) ||
			len(slices.Compact(slices.Clone(got.StepEnds))) != len(got.StepEnds) {
			t.Fatalf("%q: steps end at %v", r, got.StepEnds)
		}
		if got.FirstError < -1 || got.FirstError >= len(got.StepEnds) {
			t.Fatalf("%q: first error %d of %d steps", r, got.FirstError, len(got.StepEnds))
		}
		if right := says(c, r); (got.FirstError == -1) != right {
			t.Fatalf("%q: first error %d, and every line is right: %v", r, got.FirstError, right)
		}
		if got.FirstError == -1 && !got.Correct {
			t.Fatalf("%q: right in every step, and not right", r)
		}
	})
}

// says reports, in another way than the checker, whether a response is the worked solution but for spaces and the order of operands.
func says(c Chain, response string) bool {
	var lines []string
	for _, line := range strings.Split(strings.NewReplacer("\r\n", "\n").Replace(response), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) != len(c.Steps)+1 {
		return false
	}
	v := c.Start
	for i, s := range c.Steps {
		next := s.Apply(v)
		a, b, r := strconv.Itoa(v), strconv.Itoa(s.Operand), strconv.Itoa(next)
		v = next
		if !equal(lines[i], a, string(s.Op), b, "=", r) && (s.Op == '-' || !equal(lines[i], b, string(s.Op), a, "=", r)) {
			return false
		}
	}
	return equal(lines[len(c.Steps)], answerLabel, strconv.Itoa(v))
}

// equal reports whether a line is those words with blanks and tabs between them.
func equal(line string, words ...string) bool {
	for _, w := range words {
		var ok bool
		if line, ok = strings.CutPrefix(strings.TrimLeft(line, " \t"), w); !ok {
			return false
		}
	}
	return strings.Trim(line, " \t") == ""
}
