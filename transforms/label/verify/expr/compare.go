package expr

import (
	"math/big"
	"strconv"
	"strings"
)

// Comparison is what deciding two answers came to.
type Comparison struct {
	Equal bool
	Rule  string // the rule that decided
}

// Compare decides whether the predicted answer means the same as the gold answer. The order matters: the gold answer
// says what form is asked for. It returns ErrBudget when deciding takes more work than the limits allow.
func Compare(gold, pred *Node, l Limits, o Options) (c Comparison, err error) {
	defer guard(&err)
	cmp := &comparer{b: newBudget(l), log10: true, decimals: o.Decimals, literal: o.Finished}
	if cmp.decimals <= 0 {
		cmp.decimals = DefaultDecimals
	}
	equal, rule := cmp.equal(gold, pred)
	if !equal && hasNaturalAndCommonLog(gold, pred) {
		// "log" means the natural logarithm wherever the other side writes ln
		cmp.log10 = false
		if e, r := cmp.equal(gold, pred); e {
			equal, rule = e, r
		}
	}
	return Comparison{equal, rule}, nil
}

func hasNaturalAndCommonLog(g, p *Node) bool {
	has := func(n *Node, name string) bool {
		return n.contains(func(m *Node) bool {
			return m.Kind == Call && m.Name == name && len(m.Args) == 1 || name == "ln" && m.Kind == Constant && m.Name == "e"
		})
	}
	return has(g, "log") && has(p, "ln") || has(g, "ln") && has(p, "log")
}

type comparer struct {
	b        *budget
	literal  bool // an expression that still has an operation to do is no answer where the gold answer is a number
	log10    bool
	decimals int
	tried    bool // a sub-computation gave up for its size; equality by approximation is no proof then
}

// attempt runs f and reports whether it stayed within the size limits. Running out of steps is final.
func (c *comparer) attempt(f func()) (ok bool) {
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case budgetPanic:
			if c.b.steps < 0 {
				panic(r)
			}
			ok = false
			c.tried = true
		default:
			panic(r)
		}
	}()
	f()
	return true
}

// equal is the table of rules: the first whose types fit decides.
func (c *comparer) equal(g, p *Node) (bool, string) {
	c.b.spend(30)
	if (g.said().note != "" || p.said().note != "") && !notesAgree(g.said().note, p.said().note) {
		return false, "words"
	}
	if g.said().thing && p.said().thing && !sameThings(g.said().note, p.said().note) {
		return false, "words"
	}
	if p.said().endless && !g.said().endless && g.Kind == Number {
		return false, "digits" // 4.5... is not 4.5
	}
	if g == p || g.Kind == Number && p.Kind == Number && g.Base == 0 && p.Base == 0 && g.Num.Cmp(p.Num) == 0 {
		return true, "number"
	}
	if g.Kind != Number || p.Kind != Number {
		if c.print(g) == c.print(p) {
			return true, "identical"
		}
	}
	if c.literal && isLiteral(g) && !isFinished(p) && !(g.Kind == Quantity && p.contains(isFree)) {
		return false, "unfinished"
	}
	g, p = c.expand(g), c.expand(p)
	if isModulo(g) || isModulo(p) {
		return c.moduli(g, p)
	}
	if g.Kind == Relation || p.Kind == Relation {
		return c.relations(g, p)
	}
	switch {
	case g.Kind == Clock || p.Kind == Clock || g.Kind == Ratio || p.Kind == Ratio:
		return c.ratios(g, p)
	case g.Kind == Date || p.Kind == Date:
		return g.Kind == p.Kind && g.Name == p.Name, "date"
	case g.Kind == Text || p.Kind == Text:
		return c.texts(g, p)
	case g.Kind == SetOp || p.Kind == SetOp || g.Kind == Builder || p.Kind == Builder:
		return c.sets(g, p)
	case isRealLine(g) != isRealLine(p):
		return c.sets(g, p)
	case g.Kind == Group || p.Kind == Group:
		return c.collections(g, p)
	}
	gm, gok := c.matrix(g)
	pm, pok := c.matrix(p)
	switch { // I beside a matrix is the identity
	case gok && !pok:
		pm, pok = c.matrix(withIdentity(p, gm))
	case pok && !gok:
		gm, gok = c.matrix(withIdentity(g, pm))
	}
	if gok || pok {
		if !gok || !pok {
			return false, "matrix"
		}
		literal := c.literal
		c.literal = literal && p.Kind == Matrix // entries that are computed here are not what the response says
		e := c.matrices(gm, pm)
		c.literal = literal
		return e, "matrix"
	}
	return c.quantities(g, p)
}

// texts compares where at least one side is text, which may say in words what a set says in signs.
func (c *comparer) texts(g, p *Node) (bool, string) {
	for _, sides := range [2][2]*Node{{g, p}, {p, g}} {
		if e, ok := c.region(sides[0]); ok && isEverything(e) {
			if f, ok := c.region(sides[1]); ok {
				return c.sameRegion(e, f), "interval"
			}
		}
	}
	if saysNone(g) && isEmptySet(p) || isEmptySet(g) && saysNone(p) {
		return true, "set"
	}
	return sameText(g, p), "text"
}

// print is the canonical print of a tree, paid for.
func (c *comparer) print(n *Node) string {
	s := n.String()
	if n.text == "" {
		c.b.spend(20 + len(s))
	} else {
		c.b.spend(len(s) / 8)
	}
	return s
}

// quantities compares values with units, percent signs and degrees.
func (c *comparer) quantities(g, p *Node) (bool, string) {
	if g.Kind == Quantity && p.said().thing && p.Kind != Quantity || p.Kind == Quantity && g.said().thing && g.Kind != Quantity {
		return false, "units"
	}
	if g.Kind == Quantity && (p.Kind == Product || p.Kind == Quotient) {
		p = withUnit(p, g)
	} else if p.Kind == Quantity && (g.Kind == Product || g.Kind == Quotient) {
		g = withUnit(g, p)
	}
	switch {
	case g.Kind == Quantity && p.Kind == Quantity:
		f, ok := unitsAgree(g, p)
		if !ok {
			return false, "units"
		}
		v := p.Args[0]
		if f != nil {
			v = binary(Product, v, &Node{Kind: Number, Num: f, Decimals: -1})
			if r, ok := c.rational(v); ok {
				v = &Node{Kind: Number, Num: r, Decimals: decimalsOf(p.Args[0])}
			}
		}
		e, _ := c.equal(g.Args[0], v)
		return e, "units"
	case g.Kind == Quantity && p.Kind == Degree, p.Kind == Quantity && g.Kind == Degree:
		return c.angles(g, p), "units"
	case g.Kind == Quantity && p.Kind == Percent, p.Kind == Quantity && g.Kind == Percent:
		return false, "units"
	case g.Kind == Quantity:
		e, _ := c.equal(g.Args[0], p)
		return e, "units"
	case p.Kind == Quantity:
		e, _ := c.equal(g, p.Args[0])
		if !e && isDecimal(g) && isCents(p) { // 0.50 is 50 cents
			e, _ = c.equal(g, hundredth(p.Args[0]))
		}
		return e, "units"
	case g.Kind == Percent && p.Kind == Percent:
		e, _ := c.equal(g.Args[0], p.Args[0])
		return e, "percent"
	case g.Kind == Percent:
		e, _ := c.equal(g.Args[0], p)
		if !e {
			e, _ = c.equal(hundredth(g.Args[0]), p)
		}
		return e, "percent"
	case p.Kind == Percent:
		e, _ := c.equal(g, p.Args[0])
		if !e {
			e, _ = c.equal(g, hundredth(p.Args[0]))
		}
		return e, "percent"
	case g.Kind == Degree && p.Kind == Degree:
		e, _ := c.equal(g.Args[0], p.Args[0])
		return e, "degrees"
	case g.Kind == Degree || p.Kind == Degree:
		a, b := g, p
		if g.Kind == Degree {
			a = g.Args[0]
		} else {
			b = p.Args[0]
		}
		if e, _ := c.equal(a, b); e {
			return true, "degrees"
		}
		isPi := func(n *Node) bool { return n.Kind == Constant && n.Name == "pi" }
		if g.contains(isPi) || p.contains(isPi) { // the same angle in radians
			return c.scalars(g, p)
		}
		return false, "degrees"
	}
	return c.scalars(g, p)
}

// angles compares an angle in degrees with a value in a unit, which may be the radian or a degree of temperature.
func (c *comparer) angles(g, p *Node) bool {
	sides := [2]*Node{g, p}
	radians := false
	for i, n := range sides {
		if n.Kind != Quantity {
			continue
		}
		switch n.said().unit.powers {
		case units["rad"].powers:
			radians = true
			sides[i] = binary(Product, n.Args[0], &Node{Kind: Number, Num: n.said().unit.size, Decimals: -1})
		case units["°C"].powers, units["°F"].powers:
			sides[i] = n.Args[0]
		default:
			return false
		}
	}
	if !radians {
		for i, n := range sides {
			if n.Kind == Degree {
				sides[i] = n.Args[0]
			}
		}
	}
	e, _ := c.scalars(sides[0], sides[1])
	return e
}

func isCents(n *Node) bool {
	return n.said().unit.powers == units["cent"].powers && n.said().unit.size.Cmp(units["cent"].size) == 0
}

// withUnit reads 6m as 6 metres, and 5 m/s as a speed, where the other side is one.
func withUnit(n, q *Node) *Node {
	value, words := unitLetters(n, nil)
	if value == nil || len(words) == 0 {
		return n
	}
	u, used := unitOf(words)
	if used < len(words) || u.powers != q.said().unit.powers {
		return n
	}
	return &Node{Kind: Quantity, Args: []*Node{value}, Name: strings.Join(words, " "), beside: &beside{unit: &u, note: n.said().note}}
}

// unitLetters takes a number and the letters it is multiplied with apart; nil where there is more than that.
func unitLetters(n *Node, words []string) (value *Node, unit []string) {
	switch n.Kind {
	case Quotient:
		if value, words = unitLetters(n.Args[0], words); value == nil {
			return nil, nil
		}
		_, below := unitLetters(binary(Product, integer(1), n.Args[1]), nil)
		if below == nil {
			return nil, nil
		}
		return value, append(append(words, "/"), below...)
	case Product:
		if !isNumeric(n.Args[0]) {
			return nil, nil
		}
		for _, a := range n.Args[1:] {
			name, power := a, ""
			if a.Kind == Power && isInteger(a.Args[1]) {
				name, power = a.Args[0], "^"+a.Args[1].String()
			}
			switch {
			case name.Kind == Symbol && name.Name == "□" || len(words) > 12:
				return nil, nil
			case name.Kind == Symbol:
				words = append(words, name.Name)
			case name.Kind == Product && power == "":
				letters := ""
				for _, l := range name.Args {
					if l.Kind != Symbol {
						return nil, nil
					}
					letters += l.Name
				}
				words = append(words, letters)
			default:
				return nil, nil
			}
			if power != "" {
				words = append(words, power)
			}
		}
		return n.Args[0], words
	}
	return nil, nil
}

// withIdentity replaces the letter I by the identity of a matrix's size.
func withIdentity(n, m *Node) *Node {
	if m.Rows != m.Cols {
		return n
	}
	return n.rewrite(func(s *Node) *Node {
		if s.Kind != Symbol || s.Name != "I" && s.Name != "I_"+strconv.Itoa(m.Rows) {
			return s
		}
		id := &Node{Kind: Matrix, Rows: m.Rows, Cols: m.Cols}
		for i := range m.Rows * m.Cols {
			v := int64(0)
			if i/m.Cols == i%m.Cols {
				v = 1
			}
			id.Args = append(id.Args, integer(v))
		}
		return id
	})
}

// moduli compares residues: the modulus belongs to the answer, and residues that differ by a multiple of it are the same.
func (c *comparer) moduli(g, p *Node) (bool, string) {
	const rule = "modulus"
	switch {
	case isModulo(g) && isModulo(p):
		if e, _ := c.equal(g.Args[1], p.Args[1]); !e {
			return false, rule
		}
		a, b := g.Args[0], p.Args[0]
		if a.Kind == Relation && b.Kind == Relation {
			if len(a.Args) != 2 || len(b.Args) != 2 || a.Ops[0] != b.Ops[0] || a.Ops[0] != "=" {
				return c.relations(a, b)
			}
			if e, _ := c.equal(a.Args[0], b.Args[0]); !e {
				return false, rule
			}
		}
		return c.congruent(residue(a), residue(b), g.Args[1]), rule
	case isModulo(g):
		if g.Args[0].Kind == Relation {
			return false, rule
		}
		e, _ := c.equal(g.Args[0], p)
		return e, rule
	}
	a := p.Args[0]
	if a.Kind == Relation {
		if !isAssignment(a) && a.Args[0].contains(isFree) {
			return false, rule
		}
		a = residue(a)
	}
	// the remainder itself, not one of the many numbers that leave it
	r, ok1 := c.rational(a)
	m, ok2 := c.rational(p.Args[1])
	if !ok1 || !ok2 || r.Sign() < 0 || r.Cmp(m) >= 0 {
		return false, rule
	}
	e, _ := c.equal(g, a)
	return e, rule
}

func residue(n *Node) *Node {
	if n.Kind == Relation {
		return n.Args[len(n.Args)-1]
	}
	return n
}

func (c *comparer) congruent(a, b, m *Node) bool {
	x, ok1 := c.rational(a)
	y, ok2 := c.rational(b)
	k, ok3 := c.rational(m)
	if ok1 && ok2 && ok3 && x.IsInt() && y.IsInt() && k.IsInt() && k.Sign() != 0 {
		d := new(big.Int).Sub(x.Num(), y.Num())
		return d.Rem(d, k.Num()).Sign() == 0
	}
	e, _ := c.equal(a, b)
	return e
}

func hundredth(n *Node) *Node {
	if n.Kind == Number {
		d := n.Decimals
		if d >= 0 {
			d += 2
		}
		return &Node{Kind: Number, Num: new(big.Rat).Quo(n.Num, big.NewRat(100, 1)), Decimals: d}
	}
	return binary(Quotient, n, integer(100))
}

func (c *comparer) rational(n *Node) (v *big.Rat, ok bool) {
	if !c.attempt(func() { v, ok = c.b.rational(n) }) {
		return nil, false
	}
	return v, ok
}

// scalars compares two numbers or expressions: exactly where possible, else in arbitrary precision.
func (c *comparer) scalars(g, p *Node) (bool, string) {
	c.tried = false
	if a, b := unsigned(g), unsigned(p); a.Base != 0 || b.Base != 0 {
		return isNegative(g) == isNegative(p) && sameNumeral(a, b), "base"
	}
	gv, gok := c.rational(chosen(g))
	pv, pok := c.rational(p)
	if gok && pok {
		if gv.Cmp(pv) == 0 {
			return true, "number"
		}
		if isDecimal(g) || isDecimal(p) {
			return c.near(newFloat().SetRat(gv), newFloat().SetRat(pv)), "decimal"
		}
		return false, "number"
	}
	if isSingle(g) && isSingle(p) {
		return sameLetter(g, p), "symbol"
	}
	var decided, same bool
	c.attempt(func() {
		c.b.spend(150)
		r := newRing(c.b)
		r.opaque = !c.log10
		f, ok := r.normal(g)
		if !ok {
			return
		}
		h, ok := r.normal(p)
		if !ok {
			return
		}
		var d poly
		if samePoly(f.den, h.den) {
			d = r.add(f.num, h.num, -1)
		} else {
			d = r.add(r.mul(f.num, h.den), r.mul(h.num, f.den), -1)
		}
		decided, same = len(d) == 0 || !r.opaque, len(d) == 0
	})
	if decided && (same || !isDecimal(g) && !isDecimal(p)) {
		return same, "normal form"
	}
	return c.numeric(g, p)
}

// numeric evaluates both sides at the fixed points.
func (c *comparer) numeric(g, p *Node) (bool, string) {
	free := g.contains(isFree) || p.contains(isFree)
	decimal := isDecimal(g) || isDecimal(p)
	for _, complex := range [...]bool{false, true} {
		n := len(points)
		if !free {
			n = 1
		}
		seen := 0
		for i := 0; i < n; i++ {
			e := &evaluator{b: c.b, point: i, complex: complex, log10: c.log10}
			x, ok1 := e.eval(g)
			if !ok1 {
				continue
			}
			y, ok2 := e.eval(p)
			if !ok2 {
				continue
			}
			seen++
			if decimal && !free {
				return x.isReal() && y.isReal() && c.near(x.re, y.re), "decimal"
			}
			if !agree(x, y) {
				return false, "numeric"
			}
			if c.tried && x.re.MantExp(nil) > agreeBits {
				c.b.fail() // equal in the leading digits of a number too large to compute
			}
			if x.re.Sign() != 0 && x.re.MantExp(nil) < -2000 && c.tried {
				c.b.fail()
			}
		}
		if seen >= 2 || seen == 1 && !free {
			return true, "numeric"
		}
	}
	return false, "undefined"
}

// isFree reports names whose value changes from point to point.
func isFree(n *Node) bool {
	return n.Kind == Symbol || n.Kind == Text || n.Kind == Call && opaqueName(n)
}

func opaqueName(n *Node) bool {
	if known, ok := wordFunctions[n.Name]; ok && known {
		return false
	}
	switch n.Name {
	case "root", "factorial", "doublefactorial", "norm":
		return false
	}
	return true
}

// isDecimal reports a number written with a decimal point, which may be a rounded value.
func isDecimal(n *Node) bool {
	switch n.Kind {
	case Number:
		return n.Decimals >= 0
	case Negate, Percent:
		return isDecimal(n.Args[0])
	}
	return false
}

func decimalsOf(n *Node) int {
	switch n.Kind {
	case Number:
		return n.Decimals
	case Negate:
		return decimalsOf(n.Args[0])
	}
	return -1
}

// near accepts a decimal for the number it rounds, as 0.333333 for 1/3: both rounded to the same places are the same.
// Small numbers must also agree in their first three digits.
func (c *comparer) near(a, b *big.Float) bool {
	d := newFloat().Sub(a, b)
	d.Abs(d)
	if d.Sign() == 0 {
		return true
	}
	scale := newFloat().SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(c.decimals)), nil))
	if newFloat().Mul(d, scale).Cmp(newFloat().SetInt64(1)) >= 0 {
		return false
	}
	if c.decimals >= 4 {
		if limit := newFloat().Mul(newFloat().Abs(a), newFloat().SetFloat64(1e-3)); d.Cmp(limit) > 0 {
			return false
		}
	}
	return rounded(a, scale).Cmp(rounded(b, scale)) == 0
}

// rounded is f times scale as a whole number, half to even.
func rounded(f, scale *big.Float) *big.Int {
	scaled := newFloat().Mul(f, scale)
	floor, _ := scaled.Int(nil)
	rest := newFloat().Sub(scaled, newFloat().SetInt(floor))
	half := newFloat().SetFloat64(0.5)
	switch cmp := newFloat().Abs(rest).Cmp(half); {
	case cmp > 0, cmp == 0 && floor.Bit(0) == 1:
		floor.Add(floor, big.NewInt(int64(rest.Sign())))
	}
	return floor
}

// sameNumeral compares numerals written in a base. A bare numeral beside one with a base is taken in that base: the
// question had named it.
func sameNumeral(g, p *Node) bool {
	if g.Kind != Number || p.Kind != Number {
		return false
	}
	if g.Base != 0 && p.Base != 0 {
		return g.Base == p.Base && g.Num.Cmp(p.Num) == 0
	}
	digits := func(n *Node) string {
		if n.Base != 0 || !n.Num.IsInt() {
			return n.Name
		}
		return n.Num.Num().String()
	}
	return digits(g) == digits(p) || p.Base != 0 && g.Num.Cmp(p.Num) == 0
}

// unsigned strips the sign of a negative number.
func unsigned(n *Node) *Node {
	if n.Kind == Negate {
		return n.Args[0]
	}
	if n.Kind == Number && n.Num.Sign() < 0 {
		return &Node{Kind: Number, Num: new(big.Rat).Neg(n.Num), Decimals: n.Decimals, Name: n.Name}
	}
	return n
}

func isNegative(n *Node) bool {
	return n.Kind == Negate || n.Kind == Number && n.Num.Sign() < 0
}

func isSingle(n *Node) bool {
	return n.Kind == Symbol || n.Kind == Constant
}

// sameLetter compares two answers that are one letter each: an option's letter has no case.
func sameLetter(g, p *Node) bool {
	return g.Name == p.Name || len(g.Name) == 1 && len(p.Name) == 1 && strings.EqualFold(g.Name, p.Name)
}

// saysNone reports words for the empty set.
func saysNone(n *Node) bool {
	switch n.Name {
	case "nosolution", "nosolutions", "norealsolution", "norealsolutions", "emptyset", "theemptyset":
		return n.Kind == Text
	}
	return false
}

func isEmptySet(n *Node) bool { return n.Kind == Group && n.Open == '{' && len(n.Args) == 0 }

// sameText compares words, ignoring case, spaces and punctuation; a product of letters is a word whose letters were
// read one by one.
func sameText(g, p *Node) bool {
	a, ok1 := letters(g)
	b, ok2 := letters(p)
	if !ok1 || !ok2 {
		return false
	}
	return a != "" && a == b
}

func letters(n *Node) (string, bool) {
	switch n.Kind {
	case Text:
		return n.Name, true
	case Symbol, Constant:
		return fold(n.Name), true
	case Product, Group:
		s := ""
		for _, a := range n.Args {
			t, ok := letters(a)
			if !ok {
				return "", false
			}
			s += t
		}
		return s, true
	case Number:
		if n.Num.IsInt() {
			return n.Num.Num().String(), true
		}
	case Negate, Sum, Quotient, Power:
		return "", false
	}
	return "", false
}

// ratios compares a:b with a:b up to a common factor, with a fraction, and clock times with each other.
func (c *comparer) ratios(g, p *Node) (bool, string) {
	if g.Kind == Clock && p.Kind == Clock {
		if g.Num.Cmp(p.Num) == 0 {
			return true, "clock"
		}
		if g.Name == "?" || p.Name == "?" {
			d := new(big.Rat).Sub(g.Num, p.Num)
			if v, ok := small(d, 720); ok && (v == 720 || v == -720) {
				return !(g.Name == "?" && p.Name == "?"), "clock"
			}
		}
		return false, "clock"
	}
	g, p = unclock(g), unclock(p)
	if g.Kind == Ratio && p.Kind == Ratio {
		if len(g.Args) != len(p.Args) {
			return false, "ratio"
		}
		for i := 1; i < len(g.Args); i++ {
			l := binary(Product, g.Args[0], p.Args[i])
			r := binary(Product, g.Args[i], p.Args[0])
			if e, _ := c.equal(l, r); !e {
				return false, "ratio"
			}
		}
		if v, ok := c.rational(g.Args[0]); ok && v.Sign() == 0 { // 0:a
			return false, "ratio"
		}
		if v, ok := c.rational(p.Args[0]); ok && v.Sign() == 0 {
			return false, "ratio"
		}
		return true, "ratio"
	}
	if g.Kind == Clock || p.Kind == Clock {
		// "9 p.m." says the number that was asked for and more
		v, ok := c.rational(g)
		return ok && g.Kind == Number && p.Name != "?" && v.IsInt() && v.Sign() > 0 && c.sameHour(v, p), "clock"
	}
	if g.Kind == Text || p.Kind == Text || g.Kind == Group || p.Kind == Group {
		return false, "ratio"
	}
	e, _ := c.scalars(g, p)
	return e, "ratio"
}

// sameHour reports a full hour of that number on a clock's face.
func (c *comparer) sameHour(v *big.Rat, clock *Node) bool {
	m := clock.Num.Num().Int64()
	k, ok := small(v, 12)
	return ok && m%60 == 0 && k%12 == m/60%12
}

// unclock reads h:mm without am or pm as a ratio again.
func unclock(n *Node) *Node {
	if n.Kind != Clock || n.Name != "?" {
		return n
	}
	m := n.Num.Num().Int64()
	return &Node{Kind: Ratio, Args: []*Node{integer(m / 60), integer(m % 60)}}
}

// expand turns ± into the list of its two values.
func (c *comparer) expand(n *Node) *Node {
	pm := func(m *Node) bool { return m.Kind == PlusMinus }
	switch n.Kind {
	case Number, Symbol, Text, Clock, Date, Constant:
		return n
	case Group:
		if n.Open != 0 && n.Open != '{' || !n.contains(pm) {
			return n
		}
		var flat []*Node
		for _, a := range n.Args {
			a = c.expand(a)
			if a.Kind == Group && a.Open == 0 {
				flat = append(flat, a.Args...)
			} else {
				flat = append(flat, a)
			}
		}
		return group(n.Open, n.Close, flat)
	}
	if !n.contains(pm) {
		return n
	}
	side := func(plus bool) *Node {
		return n.rewrite(func(m *Node) *Node {
			c.b.spend(10)
			if m.Kind != PlusMinus {
				return m
			}
			second := m.Args[1]
			if plus == (m.Name == "-+") {
				second = negate(second)
			}
			if m.Args[0].Kind == Number && m.Args[0].Num.Sign() == 0 {
				return second
			}
			return &Node{Kind: Sum, Args: []*Node{m.Args[0], second}}
		})
	}
	return group(0, 0, []*Node{side(true), side(false)})
}

// Real evaluates a tree without variables to a real number; a unit is dropped and a percent sign divides by a hundred.
func Real(n *Node, l Limits) (v *big.Float, ok bool, err error) {
	defer guard(&err)
	c := &comparer{b: newBudget(l), log10: true, decimals: DefaultDecimals}
	if isModulo(n) {
		n = n.Args[0]
	}
	if Qualifies(n.said().note) {
		return nil, false, nil
	}
	if n.Kind == Relation {
		n = ends(exactPart(valueLast(n)))
		if n.Kind == Relation {
			if n.Ops[0] != "=" || n.Args[0].contains(isFree) && !symbolsOnly(n.Args[0]) && !plainNames(n.Args[0]) {
				return nil, false, nil
			}
			n = n.Args[len(n.Args)-1]
		}
		if Qualifies(n.said().note) {
			return nil, false, nil
		}
	}
	v, ok = c.constant(n)
	return v, ok, nil
}

// Answers reports whether the response's tree may be compared as a number at all: it has no operation left to do where
// the gold answer is a plain number, unless expressions are allowed, and its unit, if both have one, is of the same
// dimension. factor takes its number to the unit of the gold answer; nil is one.
func Answers(gold, pred *Node, expressions bool) (factor *big.Rat, ok bool) {
	if p := residue(pred); !expressions && isLiteral(gold) && !isFinished(p) {
		return nil, false
	}
	g, p := residue(gold), residue(pred)
	if g.Kind == Quantity && p.Kind == Quantity {
		return unitsAgree(g, p)
	}
	return nil, true
}
