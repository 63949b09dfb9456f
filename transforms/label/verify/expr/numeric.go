package expr

import (
	"hash/fnv"
	"math"
	"math/big"
)

// Numeric comparison evaluates both trees in arbitrary precision: constants once, functions at several fixed points.

const (
	precision = 192 // bits carried
	agreeBits = 110 // bits that two equal values share at least
	maxExp2   = 1 << 20
)

// number is a complex value; im is nil for a real one.
type number struct{ re, im *big.Float }

func newFloat() *big.Float { return new(big.Float).SetPrec(precision) }

func real1(f *big.Float) number   { return number{re: f} }
func fromRat(r *big.Rat) number   { return number{re: newFloat().SetRat(r)} }
func fromInt(i int64) number      { return number{re: newFloat().SetInt64(i)} }
func (a number) isReal() bool     { return a.im == nil || a.im.Sign() == 0 }
func (a number) imag() *big.Float { return orZero(a.im) }

func orZero(f *big.Float) *big.Float {
	if f == nil {
		return newFloat()
	}
	return f
}

// evaluator evaluates at one point. Every letter has its value there; so has every function nothing is known about.
type evaluator struct {
	b       *budget
	point   int
	complex bool // roots and logarithms of negative numbers are complex, not undefined
	log10   bool // a logarithm without base is decimal
}

// points of evaluation: small, around one, larger, negative, large.
var points = [...]float64{0.37, 1.29, 2.83, -0.61, -2.17, 11.3, 0.93, 5.71}

// value gives a name its number at the point: spread by a hash of the name, so that no two names share it.
func (e *evaluator) value(name string) *big.Float {
	h := fnv.New64a()
	h.Write([]byte(name))
	u := h.Sum64()
	u = (u ^ u>>29) * 0xbf58476d1ce4e5b9
	frac := float64(u>>12) / (1 << 52) // in [0, 1)
	p := points[e.point]
	v := p * (1 + 0.4*frac)
	return newFloat().SetFloat64(v)
}

// undefined unwinds evaluation where a value does not exist: division by zero, a root outside its domain.
type undefinedPanic struct{}

func undefined() { panic(undefinedPanic{}) }

// eval returns the value of n; ok is false where it is undefined.
func (e *evaluator) eval(n *Node) (v number, ok bool) {
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case undefinedPanic:
			ok = false
		case big.ErrNaN:
			ok = false
		default:
			panic(r)
		}
	}()
	v = e.num(n)
	if v.re.IsInf() || v.im != nil && v.im.IsInf() {
		return v, false
	}
	return v, true
}

func (e *evaluator) num(n *Node) number {
	e.b.spend(80)
	switch n.Kind {
	case Number:
		e.b.spend(n.Num.Num().BitLen()/64 + n.Num.Denom().BitLen()/64)
		return fromRat(n.Num)
	case Symbol, Text:
		return real1(e.value(n.Name))
	case Constant:
		switch n.Name {
		case "pi":
			return real1(e.pi())
		case "e":
			return real1(e.exp(newFloat().SetInt64(1)))
		case "i":
			return number{newFloat(), newFloat().SetInt64(1)}
		}
		undefined()
	case Negate:
		return e.neg(e.num(n.Args[0]))
	case Sum:
		out := e.num(n.Args[0])
		for _, a := range n.Args[1:] {
			out = e.add(out, e.num(a))
		}
		return out
	case Product:
		out := e.num(n.Args[0])
		for _, a := range n.Args[1:] {
			out = e.mul(out, e.num(a))
		}
		return out
	case Quotient, Ratio:
		out := e.num(n.Args[0])
		for _, a := range n.Args[1:] {
			out = e.div(out, e.num(a))
		}
		return out
	case Percent:
		return e.div(e.num(n.Args[0]), fromInt(100))
	case Degree:
		return e.div(e.mul(e.num(n.Args[0]), real1(e.pi())), fromInt(180))
	case Quantity:
		return e.num(n.Args[0])
	case Power:
		return e.pow(n.Args[0], n.Args[1])
	case Call:
		return e.call(n)
	}
	undefined()
	return number{}
}

func (e *evaluator) check(f *big.Float) *big.Float {
	if x := f.MantExp(nil); f.IsInf() || x > maxExp2 || x < -maxExp2 {
		e.b.fail()
	}
	return f
}

func (e *evaluator) neg(a number) number {
	out := number{re: newFloat().Neg(a.re)}
	if a.im != nil {
		out.im = newFloat().Neg(a.im)
	}
	return out
}

func (e *evaluator) add(a, b number) number {
	out := number{re: newFloat().Add(a.re, b.re)}
	if a.im != nil || b.im != nil {
		out.im = newFloat().Add(a.imag(), b.imag())
	}
	return e.snap(out, a, b)
}

// snap makes a sum whose terms cancelled to below the precision an exact zero.
func (e *evaluator) snap(s, a, b number) number {
	zero := func(s, x, y *big.Float) *big.Float {
		if s.Sign() == 0 || x.Sign() == 0 || y.Sign() == 0 {
			return s
		}
		if s.MantExp(nil) < max(x.MantExp(nil), y.MantExp(nil))-agreeBits-40 {
			return newFloat()
		}
		return s
	}
	s.re = zero(s.re, a.re, b.re)
	if s.im != nil {
		s.im = zero(s.im, a.imag(), b.imag())
	}
	return s
}

func (e *evaluator) mul(a, b number) number {
	if a.im == nil && b.im == nil {
		return number{re: e.check(newFloat().Mul(a.re, b.re))}
	}
	m := func(x, y *big.Float) number { return number{re: newFloat().Mul(x, y)} }
	re := e.add(m(a.re, b.re), e.neg(m(a.imag(), b.imag())))
	im := e.add(m(a.re, b.imag()), m(a.imag(), b.re))
	return number{e.check(re.re), e.check(im.re)}
}

func (e *evaluator) div(a, b number) number {
	if b.re.Sign() == 0 && b.imag().Sign() == 0 {
		undefined()
	}
	if a.im == nil && b.im == nil {
		return number{re: e.check(newFloat().Quo(a.re, b.re))}
	}
	d := newFloat().Add(newFloat().Mul(b.re, b.re), newFloat().Mul(b.imag(), b.imag()))
	c := e.mul(a, number{b.re, newFloat().Neg(b.imag())})
	return number{newFloat().Quo(c.re, d), newFloat().Quo(c.imag(), d)}
}

func (e *evaluator) needReal(a number) *big.Float {
	if !a.isReal() {
		undefined()
	}
	return a.re
}

// pow evaluates base^exp: whole powers by squaring, odd roots of negative numbers as real roots, the rest through
// the logarithm.
func (e *evaluator) pow(base, exp *Node) number {
	x := e.num(base)
	if r, ok := e.b.rational(exp); ok {
		if k, ok := small(r, 1<<20); ok {
			return e.powInt(x, k)
		}
		if r.IsInt() {
			e.b.fail()
		}
		if x.isReal() && x.re.Sign() < 0 && !e.complex {
			if r.Denom().Bit(0) == 1 {
				v := e.realPow(newFloat().Neg(x.re), fromRat(r).re)
				if r.Num().Bit(0) == 1 {
					v.Neg(v)
				}
				return real1(v)
			}
			undefined()
		}
	}
	y := e.num(exp)
	if x.isReal() && y.isReal() {
		if x.re.Sign() > 0 {
			return real1(e.realPow(x.re, y.re))
		}
		if x.re.Sign() == 0 {
			if y.re.Sign() > 0 {
				return real1(newFloat())
			}
			undefined()
		}
	}
	if !e.complex && x.isReal() && y.isReal() {
		undefined()
	}
	return e.cexp(e.mul(y, e.clog(x)))
}

func (e *evaluator) powInt(x number, k int64) number {
	neg := k < 0
	if neg {
		k = -k
	}
	out := fromInt(1)
	for ; k > 0; k >>= 1 {
		e.b.spend(60)
		if k&1 == 1 {
			out = e.mul(out, x)
		}
		if k > 1 {
			x = e.mul(x, x)
		}
	}
	if neg {
		return e.div(fromInt(1), out)
	}
	return out
}

func (e *evaluator) realPow(x, y *big.Float) *big.Float {
	return e.exp(newFloat().Mul(y, e.log(x)))
}

func (e *evaluator) sqrt(a number) number {
	if a.isReal() && a.re.Sign() >= 0 {
		e.b.spend(200)
		return real1(newFloat().Sqrt(a.re))
	}
	if a.isReal() && !e.complex {
		undefined()
	}
	// the principal root
	m := e.abs(a)
	half := newFloat().SetFloat64(0.5)
	re := newFloat().Sqrt(nonNegative(newFloat().Mul(half, newFloat().Add(m, a.re))))
	im := newFloat().Sqrt(nonNegative(newFloat().Mul(half, newFloat().Sub(m, a.re))))
	if a.imag().Sign() < 0 {
		im.Neg(im)
	}
	return number{re, im}
}

func nonNegative(f *big.Float) *big.Float {
	if f.Sign() < 0 {
		return newFloat()
	}
	return f
}

func (e *evaluator) abs(a number) *big.Float {
	if a.isReal() {
		return newFloat().Abs(a.re)
	}
	return newFloat().Sqrt(newFloat().Add(newFloat().Mul(a.re, a.re), newFloat().Mul(a.im, a.im)))
}

func (e *evaluator) clog(a number) number {
	m := e.abs(a)
	if m.Sign() == 0 {
		undefined()
	}
	return number{e.log(m), e.atan2(a.imag(), a.re)}
}

func (e *evaluator) cexp(a number) number {
	m := e.exp(a.re)
	if a.isReal() {
		return real1(m)
	}
	s, c := e.sincos(a.im)
	return number{newFloat().Mul(m, c), newFloat().Mul(m, s)}
}

func (e *evaluator) call(n *Node) number {
	if len(n.Args) == 0 {
		return real1(e.value(n.Name))
	}
	switch n.Name {
	case "sum", "prod":
		if v, ok := e.b.rational(n); ok {
			return fromRat(v)
		}
		return e.opaque(n)
	case "int", "lim", "det":
		return e.opaque(n)
	}
	if f, ok := numericFunctions[n.Name]; ok {
		return f(e, n, e.num(n.Args[0]))
	}
	e.num(n.Args[0]) // which may be undefined
	return e.opaque(n)
}

// binomial evaluates C(x, k) for a whole k and any x.
func (e *evaluator) binomial(x number, kn *Node) number {
	r, ok := e.b.rational(kn)
	if !ok {
		return e.opaqueAt("binom", x, e.num(kn))
	}
	k, ok := small(r, 64)
	if !ok || k < 0 {
		undefined()
	}
	out := fromInt(1)
	for i := int64(0); i < k; i++ {
		out = e.div(e.mul(out, e.add(x, fromInt(-i))), fromInt(i+1))
	}
	return out
}

// opaque gives an unknown function of known arguments a value that depends on its name and their values alone, so
// that f(2+x) and f(x+2) agree and nothing else does.
func (e *evaluator) opaque(n *Node) number {
	switch n.Name {
	case "sum", "prod", "int", "lim", "det":
		return real1(e.value(n.String()))
	}
	var args []number
	for _, a := range n.Args {
		args = append(args, e.num(a))
	}
	return e.opaqueAt(n.Name, args...)
}

func (e *evaluator) opaqueAt(name string, args ...number) number {
	key := name
	for _, a := range args {
		key += "|" + a.re.Text('g', 25) + "," + a.imag().Text('g', 25)
	}
	return real1(e.value(key))
}

func (e *evaluator) naturalLog(a number) number {
	if a.isReal() {
		if a.re.Sign() > 0 {
			return real1(e.log(a.re))
		}
		if !e.complex || a.re.Sign() == 0 {
			undefined()
		}
	}
	return e.clog(a)
}

// agree reports whether two values are the same to within the precision.
func agree(a, b number) bool {
	scale := math.MinInt32
	for _, f := range []*big.Float{a.re, a.imag(), b.re, b.imag()} {
		if f.Sign() != 0 {
			scale = max(scale, f.MantExp(nil))
		}
	}
	if scale == math.MinInt32 {
		return true
	}
	near := func(x, y *big.Float) bool {
		d := newFloat().Sub(x, y)
		return d.Sign() == 0 || d.MantExp(nil) < scale-agreeBits
	}
	return near(a.re, b.re) && near(a.imag(), b.imag())
}
