package expr

import "math/big"

// rational evaluates a tree of numbers exactly. It reports false where the value is not rational, not a number, or
// only a larger machine would know that it is.
func (b *budget) rational(n *Node) (*big.Rat, bool) {
	b.spend(10)
	switch n.Kind {
	case Number:
		return n.Num, true
	case Sum:
		out := new(big.Rat)
		for _, a := range n.Args {
			v, ok := b.rational(a)
			if !ok {
				return nil, false
			}
			b.cost(out, v)
			out.Add(out, v)
		}
		return out, true
	case Product:
		out := big.NewRat(1, 1)
		for _, a := range n.Args {
			v, ok := b.rational(a)
			if !ok {
				return nil, false
			}
			b.cost(out, v)
			out.Mul(out, v)
		}
		return out, true
	case Quotient, Ratio:
		out, ok := b.rational(n.Args[0])
		if !ok {
			return nil, false
		}
		for _, a := range n.Args[1:] {
			v, ok := b.rational(a)
			if !ok || v.Sign() == 0 {
				return nil, false
			}
			b.cost(out, v)
			out = new(big.Rat).Quo(out, v)
		}
		return out, true
	case Negate:
		v, ok := b.rational(n.Args[0])
		if !ok {
			return nil, false
		}
		return new(big.Rat).Neg(v), true
	case Percent:
		v, ok := b.rational(n.Args[0])
		if !ok {
			return nil, false
		}
		return new(big.Rat).Quo(v, big.NewRat(100, 1)), true
	case Power:
		base, ok := b.rational(n.Args[0])
		if !ok {
			return nil, false
		}
		exp, ok := b.rational(n.Args[1])
		if !ok {
			return nil, false
		}
		return b.power(base, exp)
	case Call:
		return b.rationalCall(n)
	}
	return nil, false
}

// cost charges for one operation on two rationals, and refuses results that are too large.
func (b *budget) cost(x, y *big.Rat) {
	bits := x.Num().BitLen() + x.Denom().BitLen() + y.Num().BitLen() + y.Denom().BitLen()
	if bits > 4*b.Bits {
		b.fail()
	}
	w := bits / 64
	b.spend(20 + w*w/4)
}

// power raises a rational to a rational power where the result is rational.
func (b *budget) power(base, exp *big.Rat) (*big.Rat, bool) {
	if !exp.IsInt() {
		return b.rationalRoot(base, exp)
	}
	if base.Sign() == 0 {
		if exp.Sign() <= 0 {
			return nil, false
		}
		return new(big.Rat), true
	}
	one := big.NewInt(1)
	if base.IsInt() && base.Num().CmpAbs(one) == 0 {
		if base.Num().Sign() > 0 || exp.Num().Bit(0) == 0 {
			return big.NewRat(1, 1), true
		}
		return big.NewRat(-1, 1), true
	}
	if !exp.Num().IsInt64() {
		b.fail()
	}
	e := exp.Num().Int64()
	neg := e < 0
	if neg {
		e = -e
	}
	if e < 0 || e > int64(b.Bits) || int64(max(base.Num().BitLen(), base.Denom().BitLen())-1)*e > int64(b.Bits) {
		b.fail()
	}
	w := int(e) * max(base.Num().BitLen(), base.Denom().BitLen()) / 64
	b.spend(20 + w*w/4)
	big1 := big.NewInt(e)
	num, den := new(big.Int).Exp(base.Num(), big1, nil), new(big.Int).Exp(base.Denom(), big1, nil)
	if neg {
		num, den = den, num
		if den.Sign() < 0 {
			num.Neg(num)
			den.Neg(den)
		}
	}
	return new(big.Rat).SetFrac(num, den), true
}

// rationalRoot takes an exact root when there is one: (4/9)^(3/2) = 8/27.
func (b *budget) rationalRoot(base, exp *big.Rat) (*big.Rat, bool) {
	if !exp.Denom().IsInt64() || base.Sign() < 0 && exp.Denom().Bit(0) == 0 {
		return nil, false
	}
	k := exp.Denom().Int64()
	if k > 64 {
		return nil, false
	}
	num, ok := b.intRoot(new(big.Int).Abs(base.Num()), int(k))
	if !ok {
		return nil, false
	}
	den, ok := b.intRoot(base.Denom(), int(k))
	if !ok {
		return nil, false
	}
	r := new(big.Rat).SetFrac(num, den)
	if base.Sign() < 0 {
		r.Neg(r)
	}
	return b.power(r, new(big.Rat).SetInt(exp.Num()))
}

// intRoot returns the k-th root of n when it is whole, by Newton's method from above.
func (b *budget) intRoot(n *big.Int, k int) (*big.Int, bool) {
	if n.Sign() == 0 || k == 1 {
		return n, true
	}
	w := n.BitLen()/64 + 1
	if k == 2 {
		b.spend(w * w)
		r := new(big.Int).Sqrt(n)
		return r, new(big.Int).Mul(r, r).Cmp(n) == 0
	}
	x := new(big.Int).Lsh(big.NewInt(1), uint(n.BitLen()/k+1))
	kb, k1 := big.NewInt(int64(k)), big.NewInt(int64(k-1))
	for {
		b.spend(4 + w*w*k/8)
		y := new(big.Int).Exp(x, k1, nil)
		y.Quo(n, y)
		y.Add(y, new(big.Int).Mul(x, k1))
		y.Quo(y, kb)
		if y.Cmp(x) >= 0 {
			break
		}
		x = y
	}
	return x, new(big.Int).Exp(x, kb, nil).Cmp(n) == 0
}

// small returns the value of a whole number below limit.
func small(r *big.Rat, limit int64) (int64, bool) {
	if !r.IsInt() || !r.Num().IsInt64() {
		return 0, false
	}
	v := r.Num().Int64()
	return v, v >= -limit && v <= limit
}

func (b *budget) rationalCall(n *Node) (*big.Rat, bool) {
	switch n.Name {
	case "sum", "prod":
		return b.finiteSum(n)
	case "ln", "sin", "cos", "tan":
		return nil, false
	}
	args := make([]*big.Rat, len(n.Args))
	for i, a := range n.Args {
		if a.Kind == Group {
			return nil, false
		}
		v, ok := b.rational(a)
		if !ok {
			return nil, false
		}
		args[i] = v
	}
	if len(args) == 0 {
		return nil, false
	}
	if f, ok := rationalFunctions[n.Name]; ok {
		return f(b, args)
	}
	return nil, false
}

// bits is the length of a number.
func bits(r *big.Rat) int { return r.Num().BitLen() + r.Denom().BitLen() }

// rationalLog finds log_base(x) when it is a small fraction: log_8 4 = 2/3.
func (b *budget) rationalLog(x, base *big.Rat) (*big.Rat, bool) {
	if x.Sign() <= 0 || base.Sign() <= 0 || base.Cmp(big.NewRat(1, 1)) == 0 {
		return nil, false
	}
	for _, den := range [...]int64{1, 2, 3, 4, 5, 6} {
		y, ok := b.power(x, big.NewRat(den, 1))
		if !ok {
			return nil, false
		}
		// the exponent that the lengths of the numbers allow
		limit := int64(bits(y)) + 1
		p, q := big.NewRat(1, 1), big.NewRat(1, 1)
		for e := int64(0); e <= limit && e < 512; e++ {
			if p.Cmp(y) == 0 {
				return big.NewRat(e, den), true
			}
			if q.Cmp(y) == 0 {
				return big.NewRat(-e, den), true
			}
			b.cost(p, base)
			p = new(big.Rat).Mul(p, base)
			q = new(big.Rat).Quo(q, base)
			if bits(p) > 2*bits(y)+4*bits(base) {
				break
			}
		}
	}
	return nil, false
}

// factorial multiplies k, k-step, ... down to 1.
func (b *budget) factorial(k int64, step int64) *big.Rat {
	// log2 k! is above k (log2 k - 1.5)
	if k > 4 && k*int64(max(1, big.NewInt(k).BitLen()-2))/step > int64(b.Bits)*2 {
		b.fail()
	}
	if step == 1 {
		out := new(big.Int).MulRange(1, k)
		w := out.BitLen() / 64
		b.spend(int(k)/2 + w*w/16 + 20)
		return new(big.Rat).SetInt(out)
	}
	out := big.NewInt(1)
	f := new(big.Int)
	for ; k > 1; k -= step {
		b.spend(5 + out.BitLen()/120)
		out.Mul(out, f.SetInt64(k))
	}
	return new(big.Rat).SetInt(out)
}

// finiteSum adds up \sum_{k=a}^{b} when the bounds are whole numbers and few.
func (b *budget) finiteSum(n *Node) (*big.Rat, bool) {
	if len(n.Args) != 3 || n.Args[1].Kind != Relation || len(n.Args[1].Args) != 2 || n.Args[1].Args[0].Kind != Symbol {
		return nil, false
	}
	v := n.Args[1].Args[0].Name
	lo, ok1 := b.rational(n.Args[1].Args[1])
	hi, ok2 := b.rational(n.Args[2])
	if !ok1 || !ok2 {
		return nil, false
	}
	first, ok1 := small(lo, 1<<40)
	last, ok2 := small(hi, 1<<40)
	if !ok1 || !ok2 {
		return nil, false
	}
	if last-first > 2000 {
		b.fail()
	}
	out := new(big.Rat)
	if n.Name == "prod" {
		out.SetInt64(1)
	}
	for k := first; k <= last; k++ {
		term := n.Args[0].rewrite(func(m *Node) *Node {
			b.spend(25)
			if m.Kind == Symbol && m.Name == v {
				return integer(k)
			}
			return m
		})
		t, ok := b.rational(term)
		if !ok {
			return nil, false
		}
		b.cost(out, t)
		if n.Name == "prod" {
			out.Mul(out, t)
		} else {
			out.Add(out, t)
		}
	}
	return out, true
}
