package losses

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/millrace/millrace/schemas/setting"
)

// Term is one part of a weighted sum, as a recipe names it.
type Term struct {
	Name   string
	Weight float64
	Config map[string]any
}

// Build makes the weighted sum of the terms. Errors are setting.Errors of the list, such as one of [1].mode. A term
// of weight 0 is not evaluated and asks for nothing: DistRL with weight 0 is GRPO.
func Build(terms []Term) (Loss, error) {
	s := &Sum{}
	for i, term := range terms {
		if math.IsNaN(term.Weight) || math.IsInf(term.Weight, 0) || term.Weight < 0 {
			return nil, setting.Errorf(fmt.Sprintf("[%d].weight", i), "%v is not a finite number of at least 0", term.Weight)
		}
		l, err := New(term.Name, term.Config)
		if err != nil {
			return nil, setting.In(fmt.Sprintf("[%d]", i), err)
		}
		if term.Weight != 0 {
			s.losses, s.weights = append(s.losses, l), append(s.weights, term.Weight)
		}
	}
	l, err := s.check()
	if err != nil {
		return nil, setting.In("", err)
	}
	return l, nil
}

// Sum is the weighted sum of losses, itself a loss.
type Sum struct {
	losses  []Loss
	weights []float64
}

// NewSum returns Σ weights[i]·losses[i], or an error when they cannot be evaluated together.
func NewSum(losses []Loss, weights []float64) (Loss, error) {
	if len(losses) != len(weights) {
		return nil, fmt.Errorf("losses: %d losses, %d weights", len(losses), len(weights))
	}
	s := &Sum{}
	for i, l := range losses {
		if weights[i] != 0 {
			s.losses, s.weights = append(s.losses, l), append(s.weights, weights[i])
		}
	}
	return s.check()
}

func (s *Sum) check() (Loss, error) {
	if len(s.losses) == 0 {
		return nil, errors.New("no loss has a weight above 0")
	}
	var first Spec
	for _, l := range s.losses {
		spec := l.Spec()
		for _, in := range spec.Of(Sample) {
			for _, other := range first.Inputs {
				if in.clashes(other) {
					return nil, fmt.Errorf("losses that read %s and %s cannot be summed", other, in)
				}
			}
		}
		first.Inputs = union(first.Inputs, spec.Of(Sample))
		if spec.Rest != NoRest {
			if first.Rest != NoRest && first.Rest != spec.Rest {
				return nil, errors.New("losses that need the mass off different lists cannot be summed")
			}
			first.Rest = spec.Rest
		}
		if spec.Target != nil {
			if first.Target != nil && !slices.Equal(first.Target, spec.Target) {
				return nil, errors.New("losses with different target rows cannot be summed")
			}
			first.Target = spec.Target
		}
		if spec.Heads&Scalar != 0 {
			if first.Heads&Scalar != 0 && first.After != spec.After {
				return nil, errors.New("scalar losses before and after the token cannot be summed")
			}
			first.Heads, first.After = first.Heads|Scalar, spec.After
		}
	}
	return s, nil
}

// Spec is the union of the terms' needs.
func (s *Sum) Spec() Spec {
	var out Spec
	for _, l := range s.losses {
		spec := l.Spec()
		out.Heads |= spec.Heads
		out.Coupling = max(out.Coupling, spec.Coupling)
		out.Inputs = union(out.Inputs, spec.Inputs)
		out.SampleInputs = union(out.SampleInputs, spec.SampleInputs)
		out.Roles = union(out.Roles, spec.Roles)
		out.Rest = max(out.Rest, spec.Rest)
		if spec.Target != nil {
			out.Target = spec.Target
		}
		out.After = out.After || spec.After
	}
	return out
}

func union[T comparable](a, b []T) []T {
	for _, x := range b {
		if !slices.Contains(a, x) {
			a = append(a, x)
		}
	}
	return a
}

// Eval adds the weighted gradients and returns the weighted sum.
func (s *Sum) Eval(mb *Microbatch, g *Grad) float64 {
	outer := g.scale
	defer func() { g.scale = outer }()
	total := 0.0
	for i, l := range s.losses {
		g.scale = outer * s.weights[i]
		total += s.weights[i] * l.Eval(mb, g)
	}
	return total
}

// Split parts a loss into what reads the LM head and what reads the scalar head; either may be nil. Two heads on the
// same hidden rows each get their part.
func Split(l Loss) (lm, scalar Loss) {
	if s, ok := l.(*Sum); ok {
		var parts [2]Sum
		for i, term := range s.losses {
			a, b := Split(term)
			for k, part := range []Loss{a, b} {
				if part != nil {
					parts[k].losses = append(parts[k].losses, part)
					parts[k].weights = append(parts[k].weights, s.weights[i])
				}
			}
		}
		if len(parts[0].losses) > 0 {
			lm = &parts[0]
		}
		if len(parts[1].losses) > 0 {
			scalar = &parts[1]
		}
		return lm, scalar
	}
	if l.Spec().Heads == Scalar {
		return nil, l
	}
	return l, nil
}
