package expr

import "math/big"

// rationalFunctions evaluate a function at fractions, at least one; ok is false where its value is none, or none is known.
var rationalFunctions = map[string]func(b *budget, args []*big.Rat) (value *big.Rat, ok bool){
	"sqrt": func(b *budget, args []*big.Rat) (*big.Rat, bool) {
		if args[0].Sign() < 0 {
			return nil, false
		}
		return b.rationalRoot(args[0], big.NewRat(1, 2))
	},
	"root": func(b *budget, args []*big.Rat) (*big.Rat, bool) {
		k, ok := small(args[1], 64)
		if !ok || k < 1 {
			return nil, false
		}
		return b.rationalRoot(args[0], big.NewRat(1, k))
	},
	"factorial": factorial(1), "doublefactorial": factorial(2),
	"binom": rationalBinomial,
	"abs":   rationalAbs, "norm": rationalAbs,
	"floor": func(_ *budget, args []*big.Rat) (*big.Rat, bool) {
		q, _ := floor(args[0])
		return new(big.Rat).SetInt(q), true
	},
	"ceil": func(_ *budget, args []*big.Rat) (*big.Rat, bool) {
		q, rest := floor(args[0])
		if rest.Sign() != 0 {
			q.Add(q, big.NewInt(1))
		}
		return new(big.Rat).SetInt(q), true
	},
	"sgn": func(_ *budget, args []*big.Rat) (*big.Rat, bool) { return big.NewRat(int64(args[0].Sign()), 1), true },
	"max": extreme(1), "min": extreme(-1),
	"gcd": func(b *budget, args []*big.Rat) (*big.Rat, bool) {
		return b.fold(args, func(_, _, g *big.Int) *big.Int { return g })
	},
	"lcm": func(b *budget, args []*big.Rat) (*big.Rat, bool) {
		return b.fold(args, func(x, y, g *big.Int) *big.Int { return g.Quo(new(big.Int).Mul(x, y), g) })
	},
	"mod": func(_ *budget, args []*big.Rat) (*big.Rat, bool) {
		if len(args) != 2 || !args[0].IsInt() || !args[1].IsInt() || args[1].Sign() <= 0 {
			return nil, false
		}
		return new(big.Rat).SetInt(new(big.Int).Mod(args[0].Num(), args[1].Num())), true
	},
	"log": rationalLogarithm, "lg": rationalLogarithm,
}

// factorial makes the product of the numbers up to a whole one in steps: n! or n!!.
func factorial(step int64) func(b *budget, args []*big.Rat) (*big.Rat, bool) {
	return func(b *budget, args []*big.Rat) (*big.Rat, bool) {
		k, ok := small(args[0], 1<<31)
		if !ok || k < 0 {
			return nil, false
		}
		return b.factorial(k, step), true
	}
}

func rationalBinomial(b *budget, args []*big.Rat) (*big.Rat, bool) {
	if len(args) != 2 {
		return nil, false
	}
	n, ok1 := small(args[0], 1<<31)
	k, ok2 := small(args[1], 1<<31)
	if !ok1 || !ok2 || n < 0 || k < 0 {
		return nil, false
	}
	if k > n {
		return new(big.Rat), true
	}
	k = min(k, n-k)
	if k > int64(b.Bits)/8 {
		b.fail()
	}
	b.spend(int(k)*int(k)/16 + 1)
	return new(big.Rat).SetInt(new(big.Int).Binomial(n, k)), true
}

func rationalAbs(_ *budget, args []*big.Rat) (*big.Rat, bool) { return new(big.Rat).Abs(args[0]), true }

// floor is the largest whole number that is not above x, and what is left over the denominator of x.
func floor(x *big.Rat) (whole, rest *big.Int) {
	return new(big.Int).DivMod(x.Num(), x.Denom(), new(big.Int))
}

// extreme makes the largest (sign 1) or smallest (sign −1) of its arguments.
func extreme(sign int) func(*budget, []*big.Rat) (*big.Rat, bool) {
	return func(_ *budget, args []*big.Rat) (*big.Rat, bool) {
		x := args[0]
		for _, y := range args[1:] {
			if y.Cmp(x)*sign > 0 {
				x = y
			}
		}
		return x, true
	}
}

// fold goes through whole numbers above 0 with a function of two of them and their greatest common divisor.
func (b *budget) fold(args []*big.Rat, f func(x, y, gcd *big.Int) *big.Int) (*big.Rat, bool) {
	x := args[0].Num()
	for _, y := range args {
		if !y.IsInt() || y.Sign() <= 0 {
			return nil, false
		}
		b.cost(args[0], y)
		x = f(x, y.Num(), new(big.Int).GCD(nil, nil, new(big.Int).Set(x), y.Num()))
	}
	return new(big.Rat).SetInt(x), true
}

// rationalLogarithm is to base 10, unless a base is given.
func rationalLogarithm(b *budget, args []*big.Rat) (*big.Rat, bool) {
	base := big.NewRat(10, 1)
	if len(args) == 2 {
		base = args[1]
	}
	return b.rationalLog(args[0], base)
}
