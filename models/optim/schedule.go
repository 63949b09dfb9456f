package optim

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Schedules of the learning rate.
const (
	Constant = "constant"
	Linear   = "linear"
	Cosine   = "cosine"
)

// Schedule is how the learning rate moves over the life of the optimizer. It rises linearly to its peak over Warmup steps,
// and then, with p going from 0 to 1 at step Total,
//
//	constant   peak
//	linear     peak · (1 - p + Final p)
//	cosine     peak · (Final + (1 - Final) (1 + cos π p) / 2)
//
// and stays at its last value from Total on.
type Schedule struct {
	Kind   string  `json:"kind" yaml:"kind"`
	Warmup int     `json:"warmup" yaml:"warmup"` // steps
	Total  int     `json:"total" yaml:"total"`   // steps, the warm-up counted; not for constant
	Final  float64 `json:"final" yaml:"final"`   // share of the peak that is left at the end
}

// Validate names the first key that is wrong.
func (s Schedule) Validate() error {
	kinds := []string{Constant, Linear, Cosine}
	switch {
	case !slices.Contains(kinds, s.Kind):
		return fmt.Errorf("kind: %q is not one of %s", s.Kind, strings.Join(kinds, ", "))
	case s.Warmup < 0:
		return fmt.Errorf("warmup: %d is negative", s.Warmup)
	case s.Kind != Constant && s.Total <= s.Warmup:
		return fmt.Errorf("total: %d is not above warmup = %d", s.Total, s.Warmup)
	case !(s.Final >= 0 && s.Final <= 1):
		return fmt.Errorf("final: %v is not in [0, 1]", s.Final)
	}
	return nil
}

// Factor is the share of the peak rate at a step, counted from 1.
func (s Schedule) Factor(step int) float64 {
	if step < s.Warmup {
		return float64(step) / float64(s.Warmup)
	}
	if s.Kind == Constant || s.Total <= s.Warmup {
		return 1
	}
	p := min(1, float64(step-s.Warmup)/float64(s.Total-s.Warmup))
	if s.Kind == Linear {
		return 1 - p + s.Final*p
	}
	return s.Final + (1-s.Final)*(1+math.Cos(math.Pi*p))/2
}
