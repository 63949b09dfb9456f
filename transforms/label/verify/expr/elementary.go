package expr

import (
	"math/big"
	"sync"
)

// Elementary functions on big.Float, by argument reduction and Taylor series. The working precision has 64 bits more
// than the result, which covers the rounding of some hundred terms and the doublings after them.

const work = precision + 64

func workFloat() *big.Float { return new(big.Float).SetPrec(work) }

var (
	constantsOnce    sync.Once
	constPi, constLn *big.Float
)

// constants computes pi by Machin's formula and ln 2 as 2 artanh(1/3), once.
func constants() {
	constantsOnce.Do(func() {
		arctanInverse := func(k int64, alternate bool) *big.Float {
			sum := workFloat()
			kk := workFloat().SetInt64(k * k)
			p := workFloat().Quo(workFloat().SetInt64(1), workFloat().SetInt64(k))
			for i := int64(1); p.MantExp(nil) > -work-8; i += 2 {
				t := workFloat().Quo(p, workFloat().SetInt64(i))
				if alternate && i%4 == 3 {
					sum.Sub(sum, t)
				} else {
					sum.Add(sum, t)
				}
				p.Quo(p, kk)
			}
			return sum
		}
		a := arctanInverse(5, true)
		a.Mul(a, workFloat().SetInt64(16))
		b := arctanInverse(239, true)
		b.Mul(b, workFloat().SetInt64(4))
		constPi = a.Sub(a, b)
		constLn = arctanInverse(3, false)
		constLn.Mul(constLn, workFloat().SetInt64(2))
	})
}

func (e *evaluator) pi() *big.Float {
	constants()
	return newFloat().Set(constPi)
}

// exp: x = k ln 2 + r, the series at r/2^8, squared eight times.
func (e *evaluator) exp(x *big.Float) *big.Float {
	constants()
	e.b.spend(1500)
	if x.Sign() == 0 {
		return newFloat().SetInt64(1)
	}
	if x.MantExp(nil) > 20 {
		e.b.fail()
	}
	w := workFloat().Set(x)
	q, _ := workFloat().Quo(w, constLn).Int64()
	w.Sub(w, workFloat().Mul(workFloat().SetInt64(q), constLn))
	w.SetMantExp(w, -8)
	sum, t := workFloat().SetInt64(1), workFloat().SetInt64(1)
	for i := int64(1); t.Sign() != 0 && t.MantExp(nil) > -work; i++ {
		t.Mul(t, w)
		t.Quo(t, workFloat().SetInt64(i))
		sum.Add(sum, t)
	}
	for i := 0; i < 8; i++ {
		sum.Mul(sum, sum)
	}
	sum.SetMantExp(sum, int(q))
	return newFloat().Set(sum)
}

// log: x = 2^k m with m in [1/2, 1); the series of 2 artanh at (s-1)/(s+1) for s = m^(1/2^8), scaled back.
func (e *evaluator) log(x *big.Float) *big.Float {
	constants()
	e.b.spend(2500)
	if x.Sign() <= 0 {
		undefined()
	}
	m := workFloat()
	k := workFloat().Set(x).MantExp(m)
	for i := 0; i < 8; i++ {
		m.Sqrt(m)
	}
	one := workFloat().SetInt64(1)
	z := workFloat().Quo(workFloat().Sub(m, one), workFloat().Add(m, one))
	zz := workFloat().Mul(z, z)
	sum, p := workFloat(), workFloat().Set(z)
	for i := int64(1); p.Sign() != 0 && p.MantExp(nil) > -work-16; i += 2 {
		sum.Add(sum, workFloat().Quo(p, workFloat().SetInt64(i)))
		p.Mul(p, zz)
	}
	sum.SetMantExp(sum, 9)
	sum.Add(sum, workFloat().Mul(workFloat().SetInt64(int64(k)), constLn))
	if sum.Sign() != 0 && sum.MantExp(nil) < -precision+20 { // log 1 up to rounding
		return newFloat()
	}
	return newFloat().Set(sum)
}

// sincos: reduced by multiples of pi/2, series at r/2^4, doubled four times.
func (e *evaluator) sincos(x *big.Float) (sin, cos *big.Float) {
	constants()
	e.b.spend(2500)
	if x.MantExp(nil) > 40 {
		e.b.fail()
	}
	half := workFloat().SetMantExp(constPi, -1)
	w := workFloat().Set(x)
	q, _ := workFloat().Add(workFloat().Quo(w, half), workFloat().SetFloat64(0.5*float64(w.Sign()))).Int64()
	w.Sub(w, workFloat().Mul(workFloat().SetInt64(q), half))
	if w.Sign() != 0 && w.MantExp(nil) < -precision+40 { // a multiple of pi/2 up to rounding
		w = workFloat()
	}
	w.SetMantExp(w, -4)
	ww := workFloat().Mul(w, w)
	s, t := workFloat(), workFloat().Set(w)
	for i := int64(1); t.Sign() != 0 && t.MantExp(nil) > -work-16; i += 2 {
		s.Add(s, t)
		t.Mul(t, ww)
		t.Quo(t, workFloat().SetInt64(-(i+1)*(i+2)))
	}
	c, t := workFloat(), workFloat().SetInt64(1)
	for i := int64(0); t.Sign() != 0 && t.MantExp(nil) > -work-16; i += 2 {
		c.Add(c, t)
		t.Mul(t, ww)
		t.Quo(t, workFloat().SetInt64(-(i+1)*(i+2)))
	}
	for i := 0; i < 4; i++ {
		s2 := workFloat().Mul(s, c)
		s2.SetMantExp(s2, 1)
		c2 := workFloat().Mul(c, c)
		c2.Sub(c2, workFloat().Mul(s, s))
		s, c = s2, c2
	}
	switch ((q % 4) + 4) % 4 {
	case 1:
		s, c = c, s.Neg(s)
	case 2:
		s, c = s.Neg(s), c.Neg(c)
	case 3:
		s, c = c.Neg(c), s
	}
	return newFloat().Set(s), newFloat().Set(c)
}

// atan2 halves the angle until the series converges quickly.
func (e *evaluator) atan2(y, x *big.Float) *big.Float {
	constants()
	e.b.spend(3500)
	if x.Sign() == 0 && y.Sign() == 0 {
		undefined()
	}
	pi := workFloat().Set(constPi)
	switch {
	case y.Sign() == 0 && x.Sign() > 0:
		return newFloat()
	case y.Sign() == 0:
		return newFloat().Set(pi)
	case x.Sign() == 0:
		h := workFloat().SetMantExp(pi, -1)
		if y.Sign() < 0 {
			h.Neg(h)
		}
		return newFloat().Set(h)
	}
	ax, ay := workFloat().Abs(x), workFloat().Abs(y)
	swap := ay.Cmp(ax) > 0
	if swap {
		ax, ay = ay, ax
	}
	t := workFloat().Quo(ay, ax) // in (0, 1]
	one := workFloat().SetInt64(1)
	halvings := 6
	for i := 0; i < halvings; i++ { // tan(a/2) = t / (1 + sqrt(1 + t^2))
		d := workFloat().Sqrt(workFloat().Add(one, workFloat().Mul(t, t)))
		t.Quo(t, d.Add(d, one))
	}
	tt := workFloat().Mul(t, t)
	sum, p := workFloat(), workFloat().Set(t)
	for i := int64(1); p.Sign() != 0 && p.MantExp(nil) > -work-16; i += 2 {
		q := workFloat().Quo(p, workFloat().SetInt64(i))
		if i%4 == 3 {
			q.Neg(q)
		}
		sum.Add(sum, q)
		p.Mul(p, tt)
	}
	sum.SetMantExp(sum, halvings)
	if swap {
		sum.Sub(workFloat().SetMantExp(pi, -1), sum)
	}
	if x.Sign() < 0 {
		sum.Sub(pi, sum)
	}
	if y.Sign() < 0 {
		sum.Neg(sum)
	}
	return newFloat().Set(sum)
}
