// Package textchains is a task in plain English with exact step truth, for models that were pretrained on text: short word problems and
// bare sums of 1 to 6 steps, each with one worked solution, a line a step. docs/text-chains.md describes it.
//
//	prompt    Ann has 12 pens. Then gets 35 more. Then loses 4. How many pens?
//	response  12 + 35 = 47\n47 - 4 = 43\nAnswer: 43
package textchains

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxSteps is the longest chain.
	MaxSteps = 6
	// MaxValue bounds every number and every result: three digits.
	MaxValue = 999
	// MinNumber is the least number of a prompt, so that things are many and no step does nothing.
	MinNumber = 2
	// Operations are all there are.
	Operations = "+-*"
)

// Step is one operation of a chain.
type Step struct {
	Op      byte // '+', '-' or '*'
	Operand int
}

// Apply is the true result of the step on a running value.
func (s Step) Apply(v int) int {
	switch s.Op {
	case '-':
		return v - s.Operand
	case '*':
		return v * s.Operand
	}
	return v + s.Operand
}

// Chain is a problem: a number and the operations on it, one after the other, and how they are told.
type Chain struct {
	Wording     int // index of Wordings
	Name, Thing int // who and what, of those of the wording
	Start       int
	Steps       []Step
}

// Answer is the true result.
func (c Chain) Answer() int {
	v := c.Start
	for _, s := range c.Steps {
		v = s.Apply(v)
	}
	return v
}

// answerLabel begins the last line of a solution.
const answerLabel = "Answer:"

// Lines is the worked solution: a line a step, then the answer line.
func (c Chain) Lines() []string { return c.lines(-1, 0) }

// lines is the solution that writes a wrong result at one step, and goes on rightly from there; step -1: nowhere.
func (c Chain) lines(wrong, result int) []string {
	var out []string
	v := c.Start
	for i, s := range c.Steps {
		next := s.Apply(v)
		if i == wrong {
			next = result
		}
		out = append(out, fmt.Sprintf("%d %c %d = %d", v, s.Op, s.Operand, next))
		v = next
	}
	return append(out, fmt.Sprintf("%s %d", answerLabel, v))
}

// Right writes the worked solution.
func (c Chain) Right() string { return strings.Join(c.Lines(), "\n") }

// Prompt tells the chain in its wording.
func (c Chain) Prompt() string {
	w := Wordings[c.Wording]
	if w.bare() {
		return c.bare()
	}
	var b strings.Builder
	b.WriteString(w.tell(w.Start, c, c.Start))
	for _, s := range c.Steps {
		b.WriteString(w.tell(w.Ops[strings.IndexByte(Operations, s.Op)], c, s.Operand))
	}
	b.WriteString(w.tell(w.Question, c, 0))
	return b.String()
}

// bare writes the chain as a sum, with the brackets that its order needs.
func (c Chain) bare() string {
	out, sum := strconv.Itoa(c.Start), false
	for _, s := range c.Steps {
		if s.Op == '*' && sum {
			out, sum = "("+out+")", false
		}
		out, sum = fmt.Sprintf("%s %c %d", out, s.Op, s.Operand), sum || s.Op != '*'
	}
	return bareStart + out + bareEnd
}

// A sum does not begin with its first number: many models put no token before a prompt and cannot tell the first one well, since every
// later token attends to it for want of anything else.
const (
	bareStart = "What is "
	bareEnd   = "?"
)

// Parse reads a prompt.
func Parse(prompt string) (Chain, error) {
	for i, w := range Wordings {
		for c := range w.readings(prompt) {
			if c.Wording = i; c.Prompt() == prompt && c.bounded() {
				return c, nil
			}
		}
	}
	return Chain{}, fmt.Errorf("prompt %.60q tells no chain of 1 to %d steps in a known wording; want one such as %q", prompt, MaxSteps,
		Chain{Start: 12, Steps: []Step{{'+', 35}}}.Prompt())
}

// bounded reports whether every number of the chain is one that may be told, and every result is.
func (c Chain) bounded() bool {
	v := c.Start
	if len(c.Steps) < 1 || len(c.Steps) > MaxSteps || v < MinNumber || v > MaxValue {
		return false
	}
	for _, s := range c.Steps {
		if !allowed(v, s) {
			return false
		}
		v = s.Apply(v)
	}
	return true
}

// allowed reports whether a step may follow a running value.
func allowed(v int, s Step) bool {
	most := MaxValue
	if s.Op == '*' {
		most = 9
	}
	r := s.Apply(v)
	return s.Operand >= MinNumber && s.Operand <= most && r >= 0 && r <= MaxValue && (s.Op != '*' || v >= MinNumber)
}

// readings are the chains that a prompt may tell in the wording; most prompts have none, and no more than one is told so.
func (w Wording) readings(prompt string) func(yield func(Chain) bool) {
	return func(yield func(Chain) bool) {
		if w.bare() {
			if c, ok := readBare(prompt); ok {
				yield(c)
			}
			return
		}
		for name := range max(1, len(w.Names)) {
			for thing := range max(1, len(w.Things)) {
				if c, ok := w.read(prompt, Chain{Name: name, Thing: thing}); ok && !yield(c) {
					return
				}
			}
		}
	}
}

// read reads a prompt about someone and something.
func (w Wording) read(prompt string, c Chain) (Chain, bool) {
	rest, ok := "", false
	if c.Start, rest, ok = w.scan(prompt, w.Start, c); !ok {
		return c, false
	}
	question := w.tell(w.Question, c, 0)
	for rest != question {
		at := slices.IndexFunc(w.Ops[:], func(pattern string) bool {
			_, _, ok := w.scan(rest, pattern, c)
			return ok
		})
		if at < 0 || len(c.Steps) == MaxSteps {
			return c, false
		}
		s := Step{Op: Operations[at]}
		s.Operand, rest, _ = w.scan(rest, w.Ops[at], c)
		c.Steps = append(c.Steps, s)
	}
	return c, true
}

// scan reads a pattern at the beginning of a text: the number in it, and what follows.
func (w Wording) scan(text, pattern string, c Chain) (number int, rest string, ok bool) {
	before, after, _ := strings.Cut(pattern, numberMark)
	text, ok = strings.CutPrefix(text, w.fill(before, c))
	if !ok {
		return 0, "", false
	}
	number, text = leadingNumber(text)
	rest, ok = strings.CutPrefix(text, w.fill(after, c))
	return number, rest, ok && number >= 0
}

// readBare reads a sum from left to right. Brackets are passed over: whoever writes the chain again sees whether they are right.
func readBare(prompt string) (c Chain, ok bool) {
	text, ok := strings.CutPrefix(prompt, bareStart)
	c.Start, text = leadingNumber(strings.TrimLeft(text, "("))
	for ok && text != bareEnd {
		text = strings.TrimPrefix(text, ")")
		if len(text) < 4 || text[0] != ' ' || strings.IndexByte(Operations, text[1]) < 0 || text[2] != ' ' || len(c.Steps) == MaxSteps {
			return c, false
		}
		s := Step{Op: text[1]}
		s.Operand, text = leadingNumber(text[3:])
		c.Steps = append(c.Steps, s)
	}
	return c, ok
}

// leadingNumber reads the digits that a text begins with; -1 where there are none or too many.
func leadingNumber(text string) (int, string) {
	n := 0
	for n < len(text) && '0' <= text[n] && text[n] <= '9' {
		n++
	}
	v, err := strconv.Atoi(text[:n])
	if err != nil || n > 3 {
		return -1, text
	}
	return v, text[n:]
}
