package optim

import (
	"math"

	"github.com/millrace/millrace/schemas/setting"
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
	Kind   string  `json:"kind" enum:"constant,linear,cosine" doc:"how the rate falls from its peak after the warm-up"`
	Warmup int     `json:"warmup" range:"[0,inf)" doc:"steps over which the rate rises to its peak"`
	Total  int     `json:"total" range:"[0,inf)" doc:"steps to the end of the fall, the warm-up counted; not for constant"`
	Final  float64 `json:"final" range:"[0,1]" doc:"share of the peak that is left at the end"`
}

// Validate checks that the fall begins before it ends.
func (s Schedule) Validate() error {
	if s.Kind != Constant && s.Total <= s.Warmup {
		return setting.Errorf("total", "%d is not above warmup = %d", s.Total, s.Warmup)
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
