package expr

import "errors"

// ErrBudget is returned when deciding would take more work than the budget allows. It depends on the input and the
// budget alone, never on a clock, so it is the same on every machine.
var ErrBudget = errors.New("work budget exhausted")

// Limits bound the work of one comparison. A step is about one machine word of arithmetic or one visited node.
type Limits struct {
	Bytes int `range:"[0,inf)" doc:"length of an answer's source text in bytes; 0: 20000"`
	Depth int `range:"[0,inf)" doc:"nesting of an answer's tree; 0: 100"`
	Nodes int `range:"[0,inf)" doc:"nodes of an answer's tree; 0: 20000"`
	Bits  int `range:"[0,inf)" doc:"bits of any integer that is computed; 0: 32768"`
	Terms int `range:"[0,inf)" doc:"terms of any polynomial that is expanded; 0: 400"`
	Steps int `range:"[0,inf)" doc:"elementary steps in all; 0: 400000"`
}

// DefaultLimits decide every answer a person would write, and stop within a few milliseconds on one meant to hang.
func DefaultLimits() Limits {
	return Limits{Bytes: 20_000, Depth: 100, Nodes: 20_000, Bits: 1 << 15, Terms: 400, Steps: 400_000}
}

// budget counts down. Running out unwinds to the package boundary through a private panic, so that the arithmetic in
// between need not thread an error through every line; guard turns it into ErrBudget.
type budget struct {
	Limits
	steps int
	nodes int
}

type budgetPanic struct{}

func newBudget(l Limits) *budget { return &budget{Limits: l, steps: l.Steps, nodes: l.Nodes} }

func (b *budget) spend(n int) {
	b.steps -= n
	if b.steps < 0 {
		panic(budgetPanic{})
	}
}

func (b *budget) fail() { panic(budgetPanic{}) }

// guard is deferred at every exported entry.
func guard(err *error) {
	switch r := recover(); r.(type) {
	case nil:
	case budgetPanic:
		*err = ErrBudget
	default:
		panic(r)
	}
}
