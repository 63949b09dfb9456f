package series

import (
	"math"
	"math/big"
)

// Sum adds float64 values without rounding: it keeps the exact sum as a list of values that do not overlap (Shewchuk,
// "Adaptive precision floating-point arithmetic", 1997, section 2). Only reading it with Value rounds, once, so any order
// and any grouping of the same addends gives the same bits. The zero value is an empty sum; it marshals to a short JSON
// list. A Sum in use must not be copied and then added to. Addends must be finite and far from overflow (below about 1e150 when
// squares or products are added).
type Sum struct {
	Parts []float64 // increasing magnitude, non-overlapping
}

// Add adds x.
func (s *Sum) Add(x float64) {
	parts := s.Parts
	kept := 0
	for _, y := range parts {
		high := x + y
		v := high - x
		low := (x - (high - v)) + (y - v)
		if low != 0 {
			parts[kept] = low
			kept++
		}
		x = high
	}
	s.Parts = parts[:kept]
	if x != 0 {
		s.Parts = append(s.Parts, x)
	}
}

// AddProduct adds x·y with all its digits.
func (s *Sum) AddProduct(x, y float64) {
	p := x * y
	s.Add(p)
	s.Add(math.FMA(x, y, -p))
}

// Merge adds all of o. o is unchanged.
func (s *Sum) Merge(o Sum) {
	for _, x := range o.Parts {
		s.Add(x)
	}
}

// Value is the exact sum rounded to the nearest float64.
func (s Sum) Value() float64 {
	v, _ := s.exact().Float64()
	return v
}

// precision holds any sum of float64 values and any product of two such sums without rounding.
const precision = 4608

func (s Sum) exact() *big.Float {
	total := newExact(0)
	for _, x := range s.Parts {
		total.Add(total, newExact(x))
	}
	return total
}

func newExact(x float64) *big.Float {
	return new(big.Float).SetPrec(precision).SetFloat64(x)
}

func product(a, b *big.Float) *big.Float {
	return new(big.Float).SetPrec(precision).Mul(a, b)
}
