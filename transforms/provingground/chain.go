// Package provingground is the task on which every method of this project can be seen to work in minutes: chains of
// arithmetic modulo 10, of which each has exactly one right working. docs/proving-ground.md describes it.
//
//	prompt    5a*2b*6c-6d+8=
//	response  a5*2=0\nb0*6=0\nc0-6=4\nd4+8=2\n#2
package provingground

import (
	"fmt"
	"strings"
)

// MaxSteps is the longest chain that has labels (a to h), and MaxFiller the most lines that repeat a result.
const (
	MaxSteps  = 8
	MaxFiller = 9
)

// Step is one operation of a chain.
type Step struct {
	Op      byte // '+', '-' or '*'
	Operand int  // 0..9
}

// Chain is a prompt: a start digit and operations applied from left to right, modulo 10.
type Chain struct {
	Start int
	Steps []Step
	// Filler is how many lines after each step repeat its result, such as b0: they decide nothing, and make responses so long that
	// the sum over a response no longer says which token deserves the credit. A prompt asks for each with one more = at its end.
	Filler int
}

// Parse reads a prompt.
func Parse(prompt string) (Chain, error) {
	bad := func(at int, want string) (Chain, error) {
		return Chain{}, fmt.Errorf("prompt %.40q: byte %d is not %s; want a chain such as 5a*2b-6=", prompt, at, want)
	}
	operations := strings.TrimRight(prompt, "=")
	ends := len(prompt) - len(operations)
	if len(operations) < 4 || len(operations) > 3*MaxSteps+1 || len(operations)%3 != 1 || ends > 1+MaxFiller {
		return Chain{}, fmt.Errorf("prompt %.40q is %d bytes long; want 3k+1 for k of 1 to %d operations, then 1 to %d =, such as 5a*2b-6=",
			prompt, len(prompt), MaxSteps, 1+MaxFiller)
	}
	if ends == 0 {
		return bad(len(prompt)-1, "=")
	}
	if !isDigit(prompt[0]) {
		return bad(0, "a digit")
	}
	c := Chain{Start: int(prompt[0] - '0'), Filler: ends - 1}
	for at := 1; at < len(operations); at += 3 {
		label, op, operand := prompt[at], prompt[at+1], prompt[at+2]
		switch {
		case label != byte('a'+len(c.Steps)):
			return bad(at, fmt.Sprintf("the label %c", 'a'+len(c.Steps)))
		case op != '+' && op != '-' && op != '*':
			return bad(at+1, "one of + - *")
		case !isDigit(operand):
			return bad(at+2, "a digit")
		}
		c.Steps = append(c.Steps, Step{op, int(operand - '0')})
	}
	return c, nil
}

// Prompt writes the chain as a prompt.
func (c Chain) Prompt() string {
	out := []byte{digit(c.Start)}
	for i, s := range c.Steps {
		out = append(out, byte('a'+i), s.Op, digit(s.Operand))
	}
	return string(out) + strings.Repeat("=", 1+c.Filler)
}

// Answer is the true result.
func (c Chain) Answer() int {
	v := c.Start
	for _, s := range c.Steps {
		v = s.Apply(v)
	}
	return v
}

// Apply is the true result of the step on a running value.
func (s Step) Apply(v int) int {
	switch s.Op {
	case '+':
		v += s.Operand
	case '-':
		v -= s.Operand
	case '*':
		v *= s.Operand
	}
	return (v%10 + 10) % 10
}

// Lines is the one right working: a line a step and what repeats it, then the answer line.
func (c Chain) Lines() []string {
	return c.lines(func(_ int, s Step, v int) int { return s.Apply(v) })
}

// lines writes a working whose results are those of result, from the running value that was written.
func (c Chain) lines(result func(i int, s Step, value int) int) []string {
	var out []string
	v := c.Start
	for i, s := range c.Steps {
		next := result(i, s, v)
		out = append(out, fmt.Sprintf("%c%d%c%d=%d", 'a'+i, v, s.Op, s.Operand, next))
		for range c.Filler {
			out = append(out, fmt.Sprintf("%c%d", 'a'+i, next))
		}
		v = next
	}
	return append(out, fmt.Sprintf("#%d", v))
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }
func digit(v int) byte    { return byte('0' + v) }
