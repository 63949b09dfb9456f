// Package provingground is the task on which every method of this project can be seen to work in minutes: chains of
// arithmetic modulo 10, of which each has exactly one right working. docs/proving-ground.md describes it.
//
//	prompt    5a*2b*6c-6d+8=
//	response  a5*2=0\nb0*6=0\nc0-6=4\nd4+8=2\n#2
package provingground

import "fmt"

// MaxSteps is the longest chain that has labels (a to h).
const MaxSteps = 8

// Step is one operation of a chain.
type Step struct {
	Op      byte // '+', '-' or '*'
	Operand int  // 0..9
}

// Chain is a prompt: a start digit and operations applied from left to right, modulo 10.
type Chain struct {
	Start int
	Steps []Step
}

// Parse reads a prompt.
func Parse(prompt string) (Chain, error) {
	bad := func(at int, want string) (Chain, error) {
		return Chain{}, fmt.Errorf("prompt %.40q: byte %d is not %s; want a chain such as 5a*2b-6=", prompt, at, want)
	}
	if len(prompt) < 5 || len(prompt) > 3*MaxSteps+2 || len(prompt)%3 != 2 {
		return Chain{}, fmt.Errorf("prompt %.40q is %d bytes long; want 3k+2 for k of 1 to %d operations, such as 5a*2b-6=",
			prompt, len(prompt), MaxSteps)
	}
	if !isDigit(prompt[0]) {
		return bad(0, "a digit")
	}
	c := Chain{Start: int(prompt[0] - '0')}
	for at := 1; at < len(prompt)-1; at += 3 {
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
	if prompt[len(prompt)-1] != '=' {
		return bad(len(prompt)-1, "=")
	}
	return c, nil
}

// Prompt writes the chain as a prompt.
func (c Chain) Prompt() string {
	out := []byte{digit(c.Start)}
	for i, s := range c.Steps {
		out = append(out, byte('a'+i), s.Op, digit(s.Operand))
	}
	return string(append(out, '='))
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

// Lines is the one right working: a line a step, then the answer line.
func (c Chain) Lines() []string {
	var out []string
	v := c.Start
	for i, s := range c.Steps {
		next := s.Apply(v)
		out = append(out, fmt.Sprintf("%c%d%c%d=%d", 'a'+i, v, s.Op, s.Operand, next))
		v = next
	}
	return append(out, fmt.Sprintf("#%d", v))
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }
func digit(v int) byte    { return byte('0' + v) }
