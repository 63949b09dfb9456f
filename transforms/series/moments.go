package series

import (
	"math"
	"math/big"
)

// TinyStd is the standard deviation below which values count as all equal: it reads as 0.
const TinyStd = 1e-12

// Moments gathers the count, mean and variance of a set of values, exactly: the same bits in any order and any grouping.
type Moments struct {
	N         int64
	X, Square Sum
}

// Add takes in one value.
func (m *Moments) Add(x float64) {
	m.N++
	m.X.Add(x)
	m.Square.AddProduct(x, x)
}

// Merge takes in all values of o. o is unchanged.
func (m *Moments) Merge(o Moments) {
	m.N += o.N
	m.X.Merge(o.X)
	m.Square.Merge(o.Square)
}

// Mean of the values; 0 when there are none.
func (m Moments) Mean() float64 {
	if m.N == 0 {
		return 0
	}
	return m.X.Value() / float64(m.N)
}

// Var is the population variance; 0 when there are no values.
func (m Moments) Var() float64 { return variance(m.N, m.X.exact(), m.Square.exact(), m.N) }

// SampleVar is the variance with Bessel's correction (n-1); 0 for fewer than two values.
func (m Moments) SampleVar() float64 { return variance(m.N, m.X.exact(), m.Square.exact(), m.N-1) }

// Std is the population standard deviation, 0 below [TinyStd].
func (m Moments) Std() float64 { return tinyAsZero(math.Sqrt(m.Var())) }

// SampleStd is the standard deviation with Bessel's correction, 0 below [TinyStd].
func (m Moments) SampleStd() float64 { return tinyAsZero(math.Sqrt(m.SampleVar())) }

// MomentsOf gathers all of x.
func MomentsOf(x []float64) Moments {
	var m Moments
	for _, v := range x {
		m.Add(v)
	}
	return m
}

// Residual gathers the moments of x - m·y for an m that is only known later, when everything has been seen.
type Residual struct {
	N          int64
	X, Y       Sum
	XX, XY, YY Sum
}

// Add takes in one pair.
func (r *Residual) Add(x, y float64) {
	r.N++
	r.X.Add(x)
	r.Y.Add(y)
	r.XX.AddProduct(x, x)
	r.XY.AddProduct(x, y)
	r.YY.AddProduct(y, y)
}

// Merge takes in all pairs of o. o is unchanged.
func (r *Residual) Merge(o Residual) {
	r.N += o.N
	r.X.Merge(o.X)
	r.Y.Merge(o.Y)
	r.XX.Merge(o.XX)
	r.XY.Merge(o.XY)
	r.YY.Merge(o.YY)
}

// At returns the mean and the variance with Bessel's correction of x - m·y; the variance is 0 for fewer than two pairs.
func (r Residual) At(m float64) (mean, sampleVar float64) {
	if r.N == 0 {
		return 0, 0
	}
	slope := newExact(m)
	sum := r.X.exact()
	sum.Sub(sum, product(slope, r.Y.exact()))
	square := r.XX.exact()
	cross := product(slope, r.XY.exact())
	square.Sub(square, cross).Sub(square, cross)
	square.Add(square, product(slope, product(slope, r.YY.exact())))
	total, _ := sum.Float64()
	return total / float64(r.N), variance(r.N, sum, square, r.N-1)
}

// variance is (Σx² - (Σx)²/n)/d, cancelling before it rounds.
func variance(n int64, sum, square *big.Float, d int64) float64 {
	if n == 0 || d <= 0 {
		return 0
	}
	count := new(big.Float).SetPrec(precision).SetInt64(n)
	spread := product(count, square)
	spread.Sub(spread, product(sum, sum))
	spread.Quo(spread, new(big.Float).SetPrec(precision).SetInt64(n*d))
	v, _ := spread.Float64()
	return max(v, 0)
}

func tinyAsZero(std float64) float64 {
	if std < TinyStd {
		return 0
	}
	return std
}
