package provingground

import "strings"

// Uniform gives numbers in [0, 1), such as the Float64 method of a rand.Rand.
type Uniform func() float64

// A drawn prompt usually has so many operations.
const (
	UsualMinSteps = 3
	UsualMaxSteps = 6
)

// Draw draws a prompt: 3 to 6 operations, a start digit, then operator and operand of each.
func Draw(u Uniform) Chain { return DrawSteps(u, UsualMinSteps, UsualMaxSteps) }

// DrawSteps draws a prompt of lo to hi operations, every number of them equally likely.
func DrawSteps(u Uniform, lo, hi int) Chain {
	k := lo + int(float64(hi-lo+1)*u())
	c := Chain{Start: int(10 * u())}
	for range k {
		op := "+-*"[int(3*u())]
		if op == '*' {
			c.Steps = append(c.Steps, Step{op, 2 + int(8*u())})
		} else {
			c.Steps = append(c.Steps, Step{op, 1 + int(9*u())})
		}
	}
	return c
}

// Write writes a response the way the corpus does: with the true operands and the written running value, each result
// wrong as often as its fact says, going on from what was written.
func (c Chain) Write(u Uniform) string {
	return strings.Join(c.lines(func(_ int, s Step, v int) int {
		f := FactOf(v, s)
		if u() >= f.Rate {
			return f.Result
		}
		if u() < shareOff1 {
			return f.OffBy1
		}
		return f.Further
	}), "\n")
}

// Corrupt writes the right working, and for half of the prompts with a uniformly wrong digit at one step, then correct
// steps from the written value: mistakes that the corpus would hardly make.
func (c Chain) Corrupt(u Uniform) string {
	wrong := -1
	if u() < 0.5 {
		wrong = int(float64(len(c.Steps)) * u())
	}
	return strings.Join(c.lines(func(i int, s Step, v int) int {
		next := s.Apply(v)
		if i == wrong {
			next = (next + 1 + int(9*u())) % 10
		}
		return next
	}), "\n")
}

// Right writes the right working.
func (c Chain) Right() string { return strings.Join(c.Lines(), "\n") }
