package expr

import (
	"math/big"
	"sort"
	"strings"
)

// The normal form of a scalar is a fraction of two polynomials with rational coefficients. Their indeterminates are
// the variables, the primes under rational exponents in [0, 1) (so that sqrt(12) is 2*2^0*3^(1/2)), i with i^2 = -1,
// pi, e, and whole subtrees that nothing is known about. The monomials in roots of distinct primes and i are linearly
// independent over the rationals (Besicovitch 1940), hence as long as only these, variables, and at most one of pi and
// e occur, two forms that differ are different numbers or functions. Otherwise a difference proves nothing and the
// numeric comparison decides.

type exponent struct{ num, den int32 }

type factor struct {
	atom int
	exp  exponent
}

type term struct {
	mono []factor // by atom
	coef *big.Rat
}

// poly holds terms in order of their monomials, no two alike, no zero coefficient.
type poly []term

type fraction struct{ num, den poly }

type atomKind uint8

const (
	atomVariable atomKind = iota
	atomPrime
	atomImaginary
	atomConstant
	atomOpaque
)

type atom struct {
	name string
	kind atomKind
	num  *big.Int
}

// ring names the indeterminates of one comparison.
type ring struct {
	b      *budget
	atoms  []atom
	byName map[string]int
	opaque bool // an atom occurs whose relations to the others are unknown
}

func newRing(b *budget) *ring { return &ring{b: b, byName: map[string]int{}} }

func (r *ring) atom(name string, kind atomKind) int {
	id, ok := r.byName[name]
	if !ok {
		r.b.spend(80 + len(name))
		id = len(r.atoms)
		r.atoms = append(r.atoms, atom{name: name, kind: kind})
		r.byName[name] = id
		if kind == atomOpaque {
			r.opaque = true
		}
	}
	return id
}

func constantPoly(v *big.Rat) poly {
	if v.Sign() == 0 {
		return nil
	}
	return poly{{coef: v}}
}

func (r *ring) constant(v *big.Rat) fraction {
	return fraction{constantPoly(v), constantPoly(big.NewRat(1, 1))}
}

func (r *ring) single(id int) fraction {
	return fraction{poly{{mono: []factor{{id, exponent{1, 1}}}, coef: big.NewRat(1, 1)}}, constantPoly(big.NewRat(1, 1))}
}

func compareMono(a, b []factor) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i].atom != b[i].atom {
			if a[i].atom < b[i].atom {
				return 1 // a has the earlier atom: the higher monomial
			}
			return -1
		}
		x, y := int64(a[i].exp.num)*int64(b[i].exp.den), int64(b[i].exp.num)*int64(a[i].exp.den)
		if x != y {
			if x > y {
				return 1
			}
			return -1
		}
	}
	return len(a) - len(b)
}

func (r *ring) add(a, b poly, sign int) poly {
	r.b.spend(8*(len(a)+len(b)) + 8)
	if len(a)+len(b) > 2*r.b.Terms {
		r.b.fail()
	}
	out := make(poly, 0, len(a)+len(b))
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		c := 0
		switch {
		case i == len(a):
			c = -1
		case j == len(b):
			c = 1
		default:
			c = compareMono(a[i].mono, b[j].mono)
		}
		switch {
		case c > 0:
			out = append(out, a[i])
			i++
		case c < 0:
			t := b[j]
			if sign < 0 {
				t.coef = new(big.Rat).Neg(t.coef)
			}
			out = append(out, t)
			j++
		default:
			r.b.cost(a[i].coef, b[j].coef)
			v := new(big.Rat)
			if sign < 0 {
				v.Sub(a[i].coef, b[j].coef)
			} else {
				v.Add(a[i].coef, b[j].coef)
			}
			if v.Sign() != 0 {
				out = append(out, term{a[i].mono, v})
			}
			i++
			j++
		}
	}
	return out
}

func (r *ring) mul(a, b poly) poly {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	if len(a) > r.b.Terms*r.b.Terms/len(b) {
		r.b.fail()
	}
	out := make(poly, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			r.b.cost(x.coef, y.coef)
			r.b.spend(20 + 8*(len(x.mono)+len(y.mono)))
			out = append(out, r.mulTerm(x, y))
		}
	}
	return r.collect(out)
}

// collect sorts terms and adds up equal monomials.
func (r *ring) collect(p poly) poly {
	if len(p) <= 1 {
		return p
	}
	r.b.spend(30 * len(p))
	sort.SliceStable(p, func(i, j int) bool { return compareMono(p[i].mono, p[j].mono) > 0 })
	out := p[:1]
	for _, t := range p[1:] {
		last := &out[len(out)-1]
		if compareMono(last.mono, t.mono) == 0 {
			last.coef = new(big.Rat).Add(last.coef, t.coef)
			continue
		}
		if last.coef.Sign() == 0 {
			out = out[:len(out)-1]
		}
		out = append(out, t)
	}
	if n := len(out); n > 0 && out[n-1].coef.Sign() == 0 {
		out = out[:n-1]
	}
	if len(out) > r.b.Terms {
		r.b.fail()
	}
	return out
}

func (r *ring) mulTerm(x, y term) term {
	coef := new(big.Rat).Mul(x.coef, y.coef)
	if len(x.mono) == 0 {
		return term{y.mono, coef}
	}
	if len(y.mono) == 0 {
		return term{x.mono, coef}
	}
	mono := make([]factor, 0, len(x.mono)+len(y.mono))
	i, j := 0, 0
	for i < len(x.mono) || j < len(y.mono) {
		switch {
		case j == len(y.mono) || i < len(x.mono) && x.mono[i].atom < y.mono[j].atom:
			mono = append(mono, x.mono[i])
			i++
		case i == len(x.mono) || y.mono[j].atom < x.mono[i].atom:
			mono = append(mono, y.mono[j])
			j++
		default:
			mono, coef = r.reduce(mono, coef, x.mono[i].atom, r.addExp(x.mono[i].exp, y.mono[j].exp))
			i++
			j++
		}
	}
	return term{mono, coef}
}

func (r *ring) addExp(a, b exponent) exponent {
	return r.exponent(int64(a.num)*int64(b.den)+int64(b.num)*int64(a.den), int64(a.den)*int64(b.den))
}

func (r *ring) exponent(num, den int64) exponent {
	g := gcd64(num, den)
	num, den = num/g, den/g
	if num > 1<<20 || num < -(1<<20) || den > 1<<10 {
		r.b.fail()
	}
	return exponent{int32(num), int32(den)}
}

func gcd64(a, b int64) int64 {
	if a < 0 {
		a = -a
	}
	for b != 0 {
		a, b = b, a%b
	}
	if a == 0 {
		return 1
	}
	return a
}

// reduce appends atom^exp, moving whole powers of primes and of i into the coefficient.
func (r *ring) reduce(mono []factor, coef *big.Rat, id int, e exponent) ([]factor, *big.Rat) {
	switch r.atoms[id].kind {
	case atomPrime:
		whole := e.num / e.den
		if e.num < 0 && e.num%e.den != 0 {
			whole--
		}
		if whole != 0 {
			v, ok := r.b.power(new(big.Rat).SetInt(r.atoms[id].num), big.NewRat(int64(whole), 1))
			if !ok {
				r.b.fail()
			}
			r.b.cost(coef, v)
			coef = new(big.Rat).Mul(coef, v)
			e.num -= whole * e.den
		}
	case atomImaginary:
		switch ((e.num % 4) + 4) % 4 {
		case 0:
			e.num = 0
		case 1:
			e.num = 1
		case 2:
			e.num, coef = 0, new(big.Rat).Neg(coef)
		case 3:
			e.num, coef = 1, new(big.Rat).Neg(coef)
		}
	}
	if e.num != 0 {
		mono = append(mono, factor{id, e})
	}
	return mono, coef
}

func (r *ring) addFraction(a, b fraction) fraction {
	if samePoly(a.den, b.den) {
		return fraction{r.add(a.num, b.num, 1), a.den}
	}
	return fraction{r.add(r.mul(a.num, b.den), r.mul(b.num, a.den), 1), r.mul(a.den, b.den)}
}

func (r *ring) mulFraction(a, b fraction) fraction {
	return fraction{r.mul(a.num, b.num), r.mul(a.den, b.den)}
}

func samePoly(a, b poly) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if compareMono(a[i].mono, b[i].mono) != 0 || a[i].coef.Cmp(b[i].coef) != 0 {
			return false
		}
	}
	return true
}

// normal computes the normal form; ok is false where the tree is no scalar or divides by zero.
func (r *ring) normal(n *Node) (f fraction, ok bool) {
	r.b.spend(80)
	switch n.Kind {
	case Number:
		return r.constant(n.Num), true
	case Symbol:
		return r.single(r.atom("v:"+n.Name, atomVariable)), true
	case Constant:
		switch n.Name {
		case "i":
			return r.single(r.atom("i", atomImaginary)), true
		case "pi", "e":
			if _, both := r.byName[map[string]string{"pi": "e", "e": "pi"}[n.Name]]; both {
				r.opaque = true
			}
			return r.single(r.atom(n.Name, atomConstant)), true
		}
		return f, false
	case Negate:
		f, ok = r.normal(n.Args[0])
		if ok {
			f = r.mulFraction(f, r.constant(big.NewRat(-1, 1)))
		}
		return f, ok
	case Sum:
		f = r.constant(new(big.Rat))
		for _, a := range n.Args {
			g, ok := r.normal(a)
			if !ok {
				return f, false
			}
			f = r.addFraction(f, g)
		}
		return f, true
	case Product:
		f = r.constant(big.NewRat(1, 1))
		for _, a := range n.Args {
			g, ok := r.normal(a)
			if !ok {
				return f, false
			}
			f = r.mulFraction(f, g)
		}
		return f, true
	case Quotient:
		f, ok = r.normal(n.Args[0])
		if !ok {
			return f, false
		}
		g, ok := r.normal(n.Args[1])
		if !ok || len(g.num) == 0 {
			return f, false
		}
		return r.divide(f, g), true
	case Quantity:
		return r.normal(n.Args[0])
	case Percent:
		f, ok = r.normal(n.Args[0])
		if ok {
			f = r.mulFraction(f, r.constant(big.NewRat(1, 100)))
		}
		return f, ok
	case Degree:
		f, ok = r.normal(n.Args[0])
		if ok {
			f = r.mulFraction(f, r.constant(big.NewRat(1, 180)))
			f = r.mulFraction(f, r.single(r.atom("pi", atomConstant)))
		}
		return f, ok
	case Power:
		return r.normalPower(n)
	case Call:
		switch n.Name {
		case "sqrt":
			return r.root(n, n.Args[0], big.NewRat(1, 2))
		case "root":
			if k, ok := r.b.rational(n.Args[1]); ok {
				if v, ok := small(k, 64); ok && v > 0 {
					return r.root(n, n.Args[0], big.NewRat(1, v))
				}
			}
		}
		if v, ok := r.b.rational(n); ok {
			return r.constant(v), true
		}
		return r.unknown(n)
	}
	return f, false
}

// divide inverts a monomial outright and cancels what makes the denominators of plain fractions of one term.
func (r *ring) divide(f, g fraction) fraction {
	if len(g.num) == 1 {
		inv := r.invertTerm(g.num[0])
		return fraction{r.mul(r.mul(f.num, g.den), inv), f.den}
	}
	return fraction{r.mul(f.num, g.den), r.mul(f.den, g.num)}
}

func (r *ring) invertTerm(t term) poly {
	out := term{coef: new(big.Rat).Inv(t.coef)}
	for _, x := range t.mono {
		out.mono, out.coef = r.reduce(out.mono, out.coef, x.atom, exponent{-x.exp.num, x.exp.den})
	}
	return poly{out}
}

// unknown makes an indeterminate of a whole subtree, known by the normal forms of its arguments.
func (r *ring) unknown(n *Node) (fraction, bool) {
	var sb strings.Builder
	sb.WriteString(n.Name)
	for _, a := range n.Args {
		if f, ok := r.normal(a); ok {
			sb.WriteString("|" + r.print(f))
		} else {
			sb.WriteString("|" + a.String())
		}
	}
	return r.single(r.atom("?:"+sb.String(), atomOpaque)), true
}

func (r *ring) normalPower(n *Node) (fraction, bool) {
	exp, rational := r.b.rational(n.Args[1])
	if !rational {
		// c^(...) with anything in the exponent
		base, ok := r.normal(n.Args[0])
		if !ok {
			return base, false
		}
		e, ok := r.normal(n.Args[1])
		if !ok {
			return e, false
		}
		return r.single(r.atom("?:pow|"+r.print(base)+"|"+r.print(e), atomOpaque)), true
	}
	if !exp.IsInt() {
		return r.root(n, n.Args[0], exp)
	}
	base, ok := r.normal(n.Args[0])
	if !ok {
		return base, false
	}
	k, isSmall := small(exp, 1<<20)
	if !isSmall {
		r.b.fail()
	}
	if k < 0 {
		if len(base.num) == 0 {
			return base, false
		}
		base = r.divide(r.constant(big.NewRat(1, 1)), base)
		k = -k
	}
	if len(base.num) == 1 && len(base.den) == 1 && len(base.den[0].mono) == 0 {
		return r.powTerm(base, k)
	}
	out := r.constant(big.NewRat(1, 1))
	for ; k > 0; k >>= 1 {
		if k&1 == 1 {
			out = r.mulFraction(out, base)
		}
		if k > 1 {
			base = r.mulFraction(base, base)
		}
	}
	return out, true
}

// powTerm raises a single term to a whole power without multiplying out.
func (r *ring) powTerm(f fraction, k int64) (fraction, bool) {
	t := f.num[0]
	c := new(big.Rat).Quo(t.coef, f.den[0].coef)
	v, ok := r.b.power(c, big.NewRat(k, 1))
	if !ok {
		v = big.NewRat(1, 1)
	}
	out := term{coef: v}
	for _, x := range t.mono {
		out.mono, out.coef = r.reduce(out.mono, out.coef, x.atom, r.exponent(int64(x.exp.num)*k, int64(x.exp.den)))
	}
	return fraction{poly{out}, constantPoly(big.NewRat(1, 1))}, true
}

// root takes a rational power of a tree: exactly for numbers and for odd or fractional powers of variables, as an
// indeterminate otherwise.
func (r *ring) root(n, base *Node, exp *big.Rat) (fraction, bool) {
	f, ok := r.normal(base)
	if !ok {
		return f, false
	}
	if len(f.num) == 0 {
		return f, exp.Sign() > 0
	}
	en, ok1 := small(new(big.Rat).SetInt(exp.Num()), 1<<16)
	ed, ok2 := small(new(big.Rat).SetInt(exp.Denom()), 64)
	if ok1 && ok2 && len(f.num) == 1 && len(f.den) == 1 {
		t := f.num[0]
		if len(f.den[0].mono) > 0 {
			t = r.mulTerm(t, r.invertTerm(f.den[0])[0])
		} else {
			t = term{t.mono, new(big.Rat).Quo(t.coef, f.den[0].coef)}
		}
		if g, ok := r.rootTerm(t, en, ed); ok {
			return g, true
		}
	}
	return r.single(r.atom("?:root|"+r.print(f)+"|"+exp.String(), atomOpaque)), true
}

func (r *ring) rootTerm(t term, en, ed int64) (fraction, bool) {
	var mono []factor
	coef := big.NewRat(1, 1)
	c := t.coef
	imaginary := false
	if c.Sign() < 0 {
		switch {
		case ed%2 == 1: // the real root
			if en%2 != 0 {
				coef.Neg(coef)
			}
		case ed == 2:
			imaginary = true
		default:
			return fraction{}, false
		}
		c = new(big.Rat).Neg(c)
	}
	var fs []factor
	if !r.primes(&fs, c.Num(), 1) || !r.primes(&fs, c.Denom(), -1) {
		return fraction{}, false
	}
	for _, x := range t.mono {
		k := r.atoms[x.atom].kind
		if k == atomImaginary || k == atomOpaque {
			return fraction{}, false
		}
		if k == atomVariable && ed%2 == 0 && x.exp.den == 1 && (x.exp.num%2 == 0 || len(t.mono) > 1 && imaginary) {
			return fraction{}, false // sqrt(x^2) is |x|
		}
		fs = append(fs, x)
	}
	if imaginary {
		for _, x := range t.mono {
			if r.atoms[x.atom].kind == atomVariable {
				return fraction{}, false
			}
		}
		id := r.atom("i", atomImaginary)
		fs = append(fs, factor{id, exponent{2, 1}}) // sqrt(-1) = i
	}
	sort.Slice(fs, func(i, j int) bool { return fs[i].atom < fs[j].atom })
	for i := 0; i < len(fs); i++ {
		e := fs[i].exp
		for i+1 < len(fs) && fs[i+1].atom == fs[i].atom {
			e = r.addExp(e, fs[i+1].exp)
			i++
		}
		e = r.exponent(int64(e.num)*en, int64(e.den)*ed)
		mono, coef = r.reduce(mono, coef, fs[i].atom, e)
	}
	return fraction{poly{{mono, coef}}, constantPoly(big.NewRat(1, 1))}, true
}

// primes factors n by trial division; a rest that is too large to factor refuses.
func (r *ring) primes(fs *[]factor, n *big.Int, sign int32) bool {
	if n.BitLen() > 60 {
		return false
	}
	v := n.Int64()
	put := func(p int64, k int32) {
		id := r.atom("p:"+big.NewInt(p).String(), atomPrime)
		r.atoms[id].num = big.NewInt(p)
		*fs = append(*fs, factor{id, exponent{k * sign, 1}})
	}
	for p := int64(2); p*p <= v; p++ {
		if p > 100_000 {
			return false
		}
		var k int32
		for v%p == 0 {
			v /= p
			k++
		}
		if k > 0 {
			put(p, k)
		}
		if p&63 == 0 {
			r.b.spend(30)
		}
	}
	if v > 1 {
		put(v, 1)
	}
	return true
}

// print writes a normal form down, as a name for indeterminates and for people.
func (r *ring) print(f fraction) string {
	num, den := f.num, f.den
	// a constant denominator goes into the numerator
	if len(den) > 0 && len(num) > 0 {
		lead := den[0].coef
		if lead.Cmp(big.NewRat(1, 1)) != 0 {
			num, den = r.scale(num, lead), r.scale(den, lead)
		}
	}
	s := r.printPoly(num)
	if len(den) == 1 && len(den[0].mono) == 0 {
		return s
	}
	return "(" + s + ")/(" + r.printPoly(den) + ")"
}

func (r *ring) scale(p poly, by *big.Rat) poly {
	out := make(poly, len(p))
	for i, t := range p {
		r.b.cost(t.coef, by)
		out[i] = term{t.mono, new(big.Rat).Quo(t.coef, by)}
	}
	return out
}

func (r *ring) printPoly(p poly) string {
	if len(p) == 0 {
		return "0"
	}
	var sb strings.Builder
	// atoms are numbered by first appearance: order terms by name instead, so that the print has one form
	names := make([]string, len(p))
	order := make([]int, len(p))
	for i, t := range p {
		parts := make([]string, 0, len(t.mono))
		for _, x := range t.mono {
			a := r.atoms[x.atom].name
			if len(a) > 2 && a[1] == ':' {
				a = a[2:]
			}
			if x.exp != (exponent{1, 1}) {
				e := big.NewRat(int64(x.exp.num), int64(x.exp.den))
				a += "^" + strings.TrimSuffix(e.String(), "/1")
			}
			parts = append(parts, a)
		}
		sort.Strings(parts)
		names[i] = strings.Join(parts, "*")
		order[i] = i
		r.b.spend(40 + len(names[i]))
	}
	sort.Slice(order, func(i, j int) bool { return names[order[i]] > names[order[j]] })
	for k, i := range order {
		c := p[i].coef
		abs := new(big.Rat).Abs(c)
		r.b.spend(abs.Num().BitLen() * abs.Num().BitLen() / 65536)
		switch {
		case c.Sign() < 0:
			sb.WriteString("-")
		case k > 0:
			sb.WriteString("+")
		}
		v := abs.RatString()
		if v == "1" && names[i] != "" {
			sb.WriteString(names[i])
		} else if names[i] == "" {
			sb.WriteString(v)
		} else {
			sb.WriteString(v + "*" + names[i])
		}
	}
	return sb.String()
}
