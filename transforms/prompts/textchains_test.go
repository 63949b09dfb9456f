package prompts

import (
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
	"github.com/millrace/millrace/transforms/textchains"
)

func textRows(t *testing.T, c TextChains, split string, seed uint64, n int) stage.Batch {
	t.Helper()
	b, err := drawRows(c, Window{Split: split, Seed: seed, PerRecord: n}, nil, 0, n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var someText = TextChains{MinSteps: 2, MaxSteps: 3, Digits: 2, Operations: "+-*"}

// Prompt i of a split is the same however a window is cut, and another in every split and with every seed.
func TestTextChainsAreKeyed(t *testing.T) {
	c := someText
	c.Responses, c.PerPrompt = textchains.Likely, 2
	all := textRows(t, c, "train", 7, 40)
	part, err := drawRows(c, Window{Split: "train", Seed: 7, First: 5, Drawn: 6, PerRecord: 8}, nil, 1, 9)
	if err != nil {
		t.Fatal(err)
	}
	stagetest.Same(t, "a part", part, all.Slice(24, 40))
	for name, other := range map[string]stage.Batch{"split": textRows(t, c, "corpus", 7, 20), "seed": textRows(t, c, "train", 8, 20)} {
		same := 0
		for i := range other.NumRows() {
			if schemas.Prompt.Of(other).At(i) == schemas.Prompt.Of(all).At(i) {
				same++
			}
		}
		if same > 2 {
			t.Errorf("another %s has %d of 40 prompts at the same place", name, same)
		}
	}
}

// Rows say how difficult they are, and their answers are those of their prompts. No step of a test problem is one of training.
func TestTextChainsRows(t *testing.T) {
	seen := map[[3]int]bool{}
	for _, split := range textchains.Splits() {
		b := textRows(t, someText, split, 3, 300)
		for i := range b.NumRows() {
			c, err := textchains.Parse(schemas.Prompt.Of(b).At(i))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := schemas.Answer.Of(b).At(i), c.Lines()[len(c.Steps)]; "Answer: "+got != want {
				t.Errorf("%s: answer %s, want %s", c.Prompt(), got, want)
			}
			lo, hi := someText.difficulty(split)
			if d := schemas.Difficulty.Of(b).At(i); d != string(rune('0'+len(c.Steps))) || len(c.Steps) < lo || len(c.Steps) > hi {
				t.Errorf("split %s: difficulty %s of %d steps", split, d, len(c.Steps))
			}
			v := c.Start
			for _, s := range c.Steps {
				step := [3]int{int(s.Op), v, s.Operand}
				if split == "train" || split == "corpus" || split == "reward" {
					seen[step] = true
				} else if seen[step] {
					t.Errorf("split %s: %d %c %d is a step of training", split, v, s.Op, s.Operand)
				}
				v = s.Apply(v)
			}
		}
	}
}

func TestCorruptionsOfSources(t *testing.T) {
	corrupter := func(s Source) Corrupter { return s.(Corrupter) }
	mixed := Mixture{{Name: "a", Of: someText}, {Name: "b", Of: someText}}
	for name, c := range map[string]struct {
		of   Source
		want []string
	}{"chain": {Chain{PerPrompt: 3}, []string{"corrupted"}}, "text_chains": {someText, []string{"unlikely", "likely"}},
		"mixture": {mixed, []string{"unlikely", "likely"}}, "of two tasks": {append(slices.Clone(mixed), Part{Name: "c", Of: Chain{}}), nil},
		"of a file": {append(slices.Clone(mixed), Part{Name: "c", Of: File{}}), nil}} {
		got := corrupter(c.of).Corruptions()
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: corruptions %v, want %v", name, got, c.want)
		}
		for _, kind := range got {
			s := corrupter(c.of).Corrupted(kind)
			if err := setting.Check(s); name != "mixture" && err != nil || !slices.Contains(schemas.Names(s.Columns()), "response") {
				t.Errorf("%s, %s: %v, columns %v", name, kind, err, schemas.Names(s.Columns()))
			}
		}
	}
	b := textRows(t, someText.Corrupted(textchains.Unlikely).(TextChains), "test", 1, 200)
	wrong := 0
	for i := range b.NumRows() {
		c, err := textchains.Parse(schemas.Prompt.Of(b).At(i))
		if err != nil {
			t.Fatal(err)
		}
		if c.Judge(schemas.Response.Of(b).At(i)).FirstError >= 0 {
			wrong++
		}
	}
	if wrong < 75 || wrong > 125 {
		t.Errorf("%d of 200 solutions are wrong, want about half", wrong)
	}
}

func TestTextChainsSettings(t *testing.T) {
	for want, change := range map[string]func(*TextChains){
		"min_steps: 4 is more than max_steps = 3": func(c *TextChains) { c.MinSteps = 4 },
		"max_steps: 7 is not":                     func(c *TextChains) { c.MaxSteps = 7 },
		"max_steps: 6 steps of * alone":           func(c *TextChains) { c.MaxSteps, c.Operations = 6, "*" },
		"digits: 0 is not":                        func(c *TextChains) { c.Digits = 0 },
		"operations: is empty":                    func(c *TextChains) { c.Operations = "" },
		"operations: \"+/\"":                      func(c *TextChains) { c.Operations = "+/" },
		"operations: \"++\"":                      func(c *TextChains) { c.Operations = "++" },
		"name: ":                                  func(c *TextChains) { c.Name = "a/b" },
		"per_prompt: ":                            func(c *TextChains) { c.PerPrompt = 2 },
		"responses: ":                             func(c *TextChains) { c.Responses = "wrong" },
	} {
		c := someText
		change(&c)
		if err := setting.Check(c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want an error that starts with %q", err, want)
		}
	}
	for split, want := range map[string]string{"train": "", "longer": "", "tset": "one of train, corpus, reward, test, wording, longer"} {
		c := New(textChains, someText)
		c.Split = split
		if err := setting.Check(c); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("split %s: %v", split, err)
		}
	}
	longest := someText
	longest.MaxSteps = 6
	if err := longest.CheckSplit("longer"); err == nil || !strings.Contains(err.Error(), "one step more") {
		t.Errorf("%v", err)
	}
}
