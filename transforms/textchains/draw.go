package textchains

import (
	"fmt"
	"slices"
	"strings"
)

// Uniform gives numbers in [0, 1), such as the Float64 method of a rand.Rand.
type Uniform func() float64

// Difficulty is what chains are drawn with.
type Difficulty struct {
	MinSteps, MaxSteps int
	Digits             int    // of a number at most
	Operations         string // of those there are
}

// Most is the longest chain that every split has at the difficulty: differences of small numbers end at 0, products at MaxValue.
func (d Difficulty) Most() int {
	switch {
	case d.Operations == "-" && d.Digits == 1:
		return 2
	case d.Operations == "*":
		return 5
	}
	return MaxSteps
}

// Splits of the task. Those of training differ in their draws alone; the others have operand pairs that no training split has.
var (
	trainingSplits = []string{"train", "corpus", "reward"}
	heldOutSplits  = []string{"test", WordingSplit, LongerSplit}
)

const (
	// WordingSplit is told in the wording that training does not see.
	WordingSplit = "wording"
	// LongerSplit has one step more than the longest chain of training.
	LongerSplit = "longer"
)

// Splits are the names of all.
func Splits() []string { return slices.Concat(trainingSplits, heldOutSplits) }

// heldOutShare is the share of operand pairs that only held-out splits have.
const heldOutShare = 0.2

// HeldOut reports whether a step on a running value is one that training does not see. It is fixed for ever, so no seed trains on what
// another holds out; for a sum and a product both orders of the operands are on one side.
func HeldOut(v int, s Step) bool {
	a, b := uint64(v), uint64(s.Operand)
	if s.Op != '-' && a > b {
		a, b = b, a
	}
	h := splitmix64(uint64(s.Op)<<32 | a<<16 | b)
	return float64(h>>11)/(1<<53) < heldOutShare
}

// Draw draws a chain of a split: the number of steps, the wording, then the numbers. Steps that are not of the split, or lead beyond
// the bounds, are drawn again.
func Draw(u Uniform, d Difficulty, split string) (Chain, error) {
	held := slices.Contains(heldOutSplits, split)
	steps := d.MinSteps + below(u, d.MaxSteps-d.MinSteps+1)
	if split == LongerSplit {
		steps = d.MaxSteps + 1
	}
	c := Chain{Wording: below(u, heldOutWording)}
	if split == WordingSplit {
		c.Wording = heldOutWording
	}
	w := Wordings[c.Wording]
	c.Name, c.Thing = below(u, max(1, len(w.Names))), below(u, max(1, len(w.Things)))
	for range mostChains {
		if c.Start, c.Steps = number(u, d.Digits), nil; c.extend(u, d, held, steps) {
			return c, nil
		}
	}
	return Chain{}, fmt.Errorf("found no chain of %d steps of %s with numbers of %d digits in split %s", steps, d.Operations, d.Digits, split)
}

const (
	mostChains = 10_000 // that are begun before a difficulty is given up
	mostTries  = 100    // at a step before a chain is begun again
)

// extend draws the steps of a chain; false where one is not found.
func (c *Chain) extend(u Uniform, d Difficulty, held bool, steps int) bool {
	v := c.Start
	for len(c.Steps) < steps {
		found := false
		for range mostTries {
			s := Step{Op: d.Operations[below(u, len(d.Operations))]}
			if s.Operand = number(u, d.Digits); s.Op == '*' {
				s.Operand = number(u, 1)
			}
			if found = allowed(v, s) && HeldOut(v, s) == held; found {
				c.Steps, v = append(c.Steps, s), s.Apply(v)
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// number draws how many digits, then a number of so many.
func number(u Uniform, digits int) int {
	lo, hi := MinNumber, 9
	for range below(u, digits) {
		lo, hi = hi+1, 10*hi+9
	}
	return lo + below(u, hi-lo+1)
}

// below draws one of 0 to n-1.
func below(u Uniform, n int) int { return int(float64(n) * u()) }

// Levels of errors in a corrupted solution.
const (
	// Unlikely errors are a random number in the place of a result.
	Unlikely = "unlikely"
	// Likely errors are slips that people and models make, such as a carry that is forgotten.
	Likely = "likely"
)

// Corrupt writes the worked solution, and for half of the problems with one wrong result, of that level of errors, then right steps from
// there. The step is any whose wrong result leaves no later one below 0.
func (c Chain) Corrupt(u Uniform, level string) string {
	if u() < 0.5 {
		return c.Right()
	}
	at := below(u, len(c.Steps))
	for {
		v := c.Start
		for _, s := range c.Steps[:at] {
			v = s.Apply(v)
		}
		if wrong := c.wrong(u, v, at, level); wrong >= 0 {
			return strings.Join(c.lines(at, wrong), "\n")
		}
		at++ // at the last step every wrong result will do
	}
}

// wrong draws a wrong result of a step on v that the steps after it can go on from; -1 where there is none.
func (c Chain) wrong(u Uniform, v, at int, level string) int {
	fits := func(result int) bool {
		for _, s := range c.Steps[at+1:] {
			if result = s.Apply(result); result < 0 {
				return false
			}
		}
		return true
	}
	slips := Slips(v, c.Steps[at])
	if level == Likely {
		slips = slices.DeleteFunc(slips, func(r int) bool { return !fits(r) })
		if len(slips) == 0 {
			return -1
		}
		return slips[below(u, len(slips))]
	}
	right := c.Steps[at].Apply(v)
	for range mostTries {
		if r := number(u, max(2, len(fmt.Sprint(right)))); r != right && !slices.Contains(slips, r) && fits(r) {
			return r
		}
	}
	return -1
}
