package expr

import (
	"math"
	"math/big"
)

// numericFunctions evaluate a call of a function, given the value of its first argument.
var numericFunctions map[string]func(e *evaluator, n *Node, x number) number

func init() { // which evaluate their other arguments
	numericFunctions = map[string]func(e *evaluator, n *Node, x number) number{
		"sqrt": func(e *evaluator, _ *Node, x number) number { return e.sqrt(x) },
		"root": rootOf,
		"abs":  modulus, "norm": modulus,
		"ln": logarithm, "log": logarithm, "lg": logarithm,
		"factorial": exactOrOpaque, "doublefactorial": exactOrOpaque, "gamma": exactOrOpaque,
		"binom": ofSeveral, "gcd": ofSeveral, "lcm": ofSeveral, "mod": ofSeveral, "max": ofSeveral, "min": ofSeveral,
		"floor": whole, "ceil": whole,
		"sgn":    func(e *evaluator, _ *Node, x number) number { return fromInt(int64(e.needReal(x).Sign())) },
		"Re":     func(_ *evaluator, _ *Node, x number) number { return real1(x.re) },
		"Im":     func(_ *evaluator, _ *Node, x number) number { return real1(x.imag()) },
		"arg":    func(e *evaluator, _ *Node, x number) number { return real1(e.atan2(x.imag(), x.re)) },
		"cis":    circular(func(_ *evaluator, s, c *big.Float) number { return number{c, s} }),
		"sin":    circular(func(_ *evaluator, s, _ *big.Float) number { return real1(s) }),
		"cos":    circular(func(_ *evaluator, _, c *big.Float) number { return real1(c) }),
		"tan":    circular(func(e *evaluator, s, c *big.Float) number { return e.div(real1(s), real1(c)) }),
		"cot":    circular(func(e *evaluator, s, c *big.Float) number { return e.div(real1(c), real1(s)) }),
		"sec":    circular(func(e *evaluator, _, c *big.Float) number { return e.div(fromInt(1), real1(c)) }),
		"csc":    circular(func(e *evaluator, s, _ *big.Float) number { return e.div(fromInt(1), real1(s)) }),
		"arcsin": func(e *evaluator, _ *Node, x number) number { return real1(e.atan2(e.needReal(x), e.complement(x))) },
		"arccos": func(e *evaluator, _ *Node, x number) number { return real1(e.atan2(e.complement(x), e.needReal(x))) },
		"arctan": func(e *evaluator, _ *Node, x number) number {
			return real1(e.atan2(e.needReal(x), newFloat().SetInt64(1)))
		},
		"arccot": func(e *evaluator, _ *Node, x number) number {
			return real1(e.atan2(newFloat().SetInt64(1), e.needReal(x)))
		},
		"sinh": hyperbolic(func(_ *evaluator, s, _ *big.Float) number { return real1(s.Mul(s, big.NewFloat(0.5))) }),
		"cosh": hyperbolic(func(_ *evaluator, _, c *big.Float) number { return real1(c.Mul(c, big.NewFloat(0.5))) }),
		"tanh": hyperbolic(func(e *evaluator, s, c *big.Float) number { return e.div(real1(s), real1(c)) }),
		"coth": hyperbolic(func(e *evaluator, s, c *big.Float) number { return e.div(real1(c), real1(s)) }),
	}
}

func rootOf(e *evaluator, n *Node, _ number) number {
	if k, ok := e.b.rational(n.Args[1]); ok && k.Sign() > 0 {
		return e.pow(n.Args[0], &Node{Kind: Number, Num: new(big.Rat).Inv(k), Decimals: -1})
	}
	return e.pow(n.Args[0], binary(Quotient, integer(1), n.Args[1]))
}

func modulus(e *evaluator, _ *Node, x number) number { return real1(e.abs(x)) }

// logarithm is natural, but for lg, a log with a base, and a log where the context says that it is decimal.
func logarithm(e *evaluator, n *Node, x number) number {
	v := e.naturalLog(x)
	switch {
	case len(n.Args) == 2:
		return e.div(v, e.naturalLog(e.num(n.Args[1])))
	case n.Name == "lg" || n.Name == "log" && e.log10:
		return e.div(v, real1(e.log(newFloat().SetInt64(10))))
	}
	return v
}

func exactOrOpaque(e *evaluator, n *Node, x number) number {
	if v, ok := e.b.rational(n); ok {
		return fromRat(v)
	}
	return e.opaqueAt(n.Name, x)
}

// ofSeveral evaluates functions of whole numbers, and of two numbers where that has a meaning.
func ofSeveral(e *evaluator, n *Node, x number) number {
	if v, ok := e.b.rational(n); ok {
		return fromRat(v)
	}
	if len(n.Args) != 2 {
		return e.opaque(n)
	}
	y := e.num(n.Args[1])
	switch n.Name {
	case "max", "min":
		if (e.needReal(x).Cmp(e.needReal(y)) > 0) == (n.Name == "max") {
			return x
		}
		return y
	case "binom":
		return e.binomial(x, n.Args[1])
	}
	return e.opaque(n)
}

// whole rounds down or up; a value within the precision of a whole number is that number.
func whole(e *evaluator, n *Node, x number) number {
	f := e.needReal(x)
	i, _ := newFloat().Add(f, newFloat().SetFloat64(math.Copysign(0.5, float64(f.Sign())))).Int(nil)
	near := newFloat().SetInt(i)
	if d := newFloat().Sub(near, f); d.Sign() == 0 || d.MantExp(nil) < -agreeBits {
		return real1(near)
	}
	t, _ := f.Int(nil)
	if n.Name == "floor" && f.Sign() < 0 {
		t.Sub(t, big.NewInt(1))
	}
	if n.Name == "ceil" && f.Sign() > 0 {
		t.Add(t, big.NewInt(1))
	}
	return real1(newFloat().SetInt(t))
}

// circular makes a function of the sine and cosine of its argument.
func circular(f func(e *evaluator, s, c *big.Float) number) func(*evaluator, *Node, number) number {
	return func(e *evaluator, _ *Node, x number) number {
		s, c := e.sincos(e.needReal(x))
		return f(e, s, c)
	}
}

// hyperbolic makes a function of e^x − e^−x and e^x + e^−x.
func hyperbolic(f func(e *evaluator, s, c *big.Float) number) func(*evaluator, *Node, number) number {
	return func(e *evaluator, _ *Node, x number) number {
		p, m := e.exp(e.needReal(x)), e.exp(newFloat().Neg(e.needReal(x)))
		return f(e, newFloat().Sub(p, m), newFloat().Add(p, m))
	}
}

// complement is √(1 − x²).
func (e *evaluator) complement(x number) *big.Float {
	f := e.needReal(x)
	q := newFloat().Sub(newFloat().SetInt64(1), newFloat().Mul(f, f))
	if q.Sign() < 0 {
		undefined()
	}
	return newFloat().Sqrt(q)
}
