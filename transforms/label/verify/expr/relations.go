package expr

import (
	"math/big"
	"slices"
)

// relations compares where at least one side is a chain a = b < c.
func (c *comparer) relations(g, p *Node) (bool, string) {
	if g.Kind != Relation || !concludes(g) {
		if p = conclusion(p); p.Kind != Relation && g.Kind != Relation {
			return c.equal(g, p)
		}
	}
	if c.contradicts(p) {
		return false, "relation"
	}
	g, p = valueLast(g), valueLast(p)
	if rounded := approximation(p); rounded != nil && isDecimal(g) && c.roughly(p) {
		if e, rule := c.equal(g, rounded); e {
			return true, rule
		}
	}
	g, p = exactPart(g), exactPart(p)
	if p.Kind == Relation && conditional(p) != (g.Kind == Relation && conditional(g)) {
		return false, "words"
	}
	gAssign, pAssign := isAssignment(g), isAssignment(p)
	gEq, pEq := isEquation(g), isEquation(p)
	if gAssign {
		g = ends(g)
	}
	if pAssign {
		p = ends(p)
	}
	switch {
	case pEq && !gEq:
		if !pAssign && p.Args[0].contains(isFree) && !plainNames(p.Args[0]) {
			return false, "relation" // an equation for something is not the answer on its right side
		}
		p = p.Args[len(p.Args)-1]
	case gEq && !pEq && (gAssign || len(g.Args) > 2 || !g.Args[0].contains(isFree) && g.Ops[0] == "="):
		g = g.Args[len(g.Args)-1]
	}
	g, p = membershipSet(g), membershipSet(p)
	if g.Kind != Relation && p.Kind != Relation {
		return c.equal(g, p)
	}
	if g.Kind != Relation || p.Kind != Relation {
		return c.sets(g, p)
	}
	if slices.Equal(g.Ops, p.Ops) && c.allEqual(g.Args, p.Args) {
		return true, "relation"
	}
	if gAssign && pAssign && g.Args[0].Kind == Symbol && p.Args[0].Kind == Symbol && g.Args[0].Name == p.Args[0].Name &&
		!g.Args[1].contains(isFree) && !p.Args[1].contains(isFree) {
		return false, "relation" // x = a against x = b
	}
	if c.sameLinks(g, p) {
		return true, "relation"
	}
	if gEq != pEq {
		return false, "relation"
	}
	if !gEq {
		if a, ok := c.region(g); ok {
			if c.holdsExactlyOn(p, a) {
				return true, "inequality"
			}
		} else if b, ok := c.region(p); ok && c.holdsExactlyOn(g, b) {
			return true, "inequality"
		}
	}
	return false, "relation"
}

// contradicts reports an equation between numbers that is false: 6 = 5, 1 + 1 = 3. What is rounded within it is not: 1000/30 = 33.
func (c *comparer) contradicts(n *Node) bool {
	if !isEquation(n) || n.contains(func(m *Node) bool { return m.Kind == Percent || m.Kind == Degree || m.Kind == Quantity || m.Base != 0 }) {
		return false
	}
	if _, ok := c.constant(n.Args[0]); !ok {
		return false
	}
	for _, a := range n.Args[1:] { // with names among them: 4 = x = 3
		if _, ok := c.constant(a); ok && !c.rounds(n.Args[0], a) {
			return true
		}
	}
	return false
}

// rounds reports that two numbers differ by less than one in the last place that one of them is written to.
func (c *comparer) rounds(a, b *Node) bool {
	x, _ := c.constant(a)
	y, _ := c.constant(b)
	d := newFloat().Sub(x, y)
	d.Abs(d)
	place := newFloat().Mul(newFloat().Abs(y), newFloat().SetFloat64(1e-9)) // of what is computed
	for _, n := range [...]*Node{a, b} {
		for n.Kind == Negate {
			n = n.Args[0]
		}
		if n.Kind == Number && (n.Decimals >= 0 || n.Num.IsInt()) {
			ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(0, n.Decimals))), nil)
			if p := newFloat().Quo(newFloat().SetInt64(1), newFloat().SetInt(ten)); p.Cmp(place) > 0 {
				place = p
			}
		}
	}
	return d.Sign() == 0 || d.Cmp(place) < 0
}

func concludes(n *Node) bool { return slices.Contains(n.Ops, "⇒") }

// conclusion is what a chain says at its end: n = 8 in 2n = 16 ⇒ n = 8.
func conclusion(n *Node) *Node {
	if n.Kind != Relation {
		return n
	}
	for i := len(n.Ops) - 1; i >= 0; i-- {
		switch {
		case n.Ops[i] != "⇒":
			continue
		case i == len(n.Ops)-1:
			return n.Args[i+1]
		}
		return &Node{Kind: Relation, Ops: n.Ops[i+1:], Args: n.Args[i+1:]}
	}
	return n
}

// conditional reports words in a relation that make it another one: if x = 7, not x = 7.
func conditional(n *Node) bool {
	return n.contains(func(m *Node) bool { return m.Kind == Text && Qualifies(m.said().note) })
}

// valueLast turns 4 = x round.
func valueLast(n *Node) *Node {
	if n.Kind != Relation || len(n.Ops) != 1 || n.Ops[0] != "=" || n.Args[0].contains(isFree) || !symbolsOnly(n.Args[1]) ||
		n.Args[1].Kind == Constant {
		return n
	}
	return &Node{Kind: Relation, Ops: n.Ops, Args: []*Node{n.Args[1], n.Args[0]}}
}

// plainNames reports names that are only added, multiplied or divided, as in x + y = 5, which says the value of x + y.
func plainNames(n *Node) bool {
	several := false
	ok := n.walk(func(m *Node) bool {
		switch m.Kind {
		case Symbol, Text:
			return true
		case Sum, Product, Quotient, Negate, Ratio:
			several = several || len(m.Args) > 1
			return true
		case Call:
			return opaqueName(m) || m.Name == "abs" || m.Name == "norm"
		}
		return false
	})
	return ok && several
}

// roughly reports that the sides of a chain with approximation signs are about the same, as far as they are numbers.
func (c *comparer) roughly(n *Node) bool {
	last, ok := c.constant(n.Args[len(n.Args)-1])
	if !ok {
		return true
	}
	for _, a := range n.Args {
		v, ok := c.constant(a)
		if !ok {
			continue
		}
		d := newFloat().Sub(v, last)
		if d.Abs(d).Cmp(newFloat().Mul(newFloat().Abs(last), newFloat().SetFloat64(0.1))) > 0 {
			return false
		}
	}
	return true
}

// membershipSet is the set of x in set, any other tree itself.
func membershipSet(n *Node) *Node {
	if n.Kind == Relation && n.Ops[0] == "in" && len(n.Ops) == 1 && symbolsOnly(n.Args[0]) {
		return n.Args[1]
	}
	return n
}

// allEqual compares as many trees, one by one.
func (c *comparer) allEqual(g, p []*Node) bool {
	for i := range g {
		if e, _ := c.equal(g[i], p[i]); !e {
			return false
		}
	}
	return true
}

// approximation is the decimal that a chain ends in after an approximation sign: 25.13 in 8 pi ~ 25.13.
func approximation(n *Node) *Node {
	if n.Kind != Relation || n.Ops[len(n.Ops)-1] != "~" {
		return nil
	}
	if last := n.Args[len(n.Args)-1]; isDecimal(last) {
		return last
	}
	return nil
}

// exactPart drops what follows an approximation sign: x = 1/3 ~ 0.33 says 1/3, and x ~ 11 says 11.
func exactPart(n *Node) *Node {
	if n.Kind != Relation {
		return n
	}
	for i, op := range n.Ops {
		if op != "~" {
			continue
		}
		if i == 0 {
			if symbolsOnly(n.Args[0]) {
				c := *n
				c.text = ""
				c.Ops = append([]string{"="}, n.Ops[1:]...)
				return exactPart(&c)
			}
			return n.Args[0]
		}
		return &Node{Kind: Relation, Ops: n.Ops[:i], Args: n.Args[:i+1]}
	}
	return n
}

func ends(n *Node) *Node {
	if n.Kind != Relation || len(n.Args) == 2 {
		return n
	}
	return &Node{Kind: Relation, Ops: []string{n.Ops[0]}, Args: []*Node{n.Args[0], n.Args[len(n.Args)-1]}}
}

func isEquation(n *Node) bool {
	if n.Kind != Relation {
		return false
	}
	for _, op := range n.Ops {
		if op != "=" && !(op == "in" && symbolsOnly(n.Args[0])) {
			return false
		}
	}
	return true
}

// isAssignment reports an equation whose left side is a name: x, f(x), |AB|, A:B, (p, q), but not 2x + z.
func isAssignment(n *Node) bool { return isEquation(n) && symbolsOnly(n.Args[0]) }

func symbolsOnly(n *Node) bool {
	switch n.Kind {
	case Symbol, Text, Constant:
		return n.Name != "□"
	case Product, Quotient, Ratio, Group:
		for _, a := range n.Args {
			if !symbolsOnly(a) {
				return false
			}
		}
		return len(n.Args) > 0
	case Call:
		if n.Name == "abs" || n.Name == "norm" {
			return symbolsOnly(n.Args[0])
		}
		return opaqueName(n)
	}
	return false
}

// link is one step of a chain as form op 0, with op one of = != < <=.
type link struct {
	op   string
	form *Node // left - right
}

func links(n *Node) []link {
	var out []link
	for i, op := range n.Ops {
		l, r := n.Args[i], n.Args[i+1]
		switch op {
		case ">":
			l, r, op = r, l, "<"
		case ">=":
			l, r, op = r, l, "<="
		}
		out = append(out, link{op, &Node{Kind: Sum, Args: []*Node{l, negate(r)}}})
	}
	return out
}

// sameLinks matches the steps of two chains: the same relation, forms that differ by a constant factor, positive where
// it is an inequality.
func (c *comparer) sameLinks(g, p *Node) bool {
	gs, ps := links(g), links(p)
	if len(gs) != len(ps) {
		return false
	}
	used := make([]bool, len(ps))
	for _, a := range gs {
		found := false
		for j, b := range ps {
			if !used[j] && a.op == b.op && c.proportional(a.form, b.form, a.op) {
				used[j], found = true, true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// proportional reports a = k b for a constant k; for equations denominators are cleared first.
func (c *comparer) proportional(a, b *Node, op string) bool {
	equation := op == "=" || op == "!="
	if op != "=" && op != "!=" && op != "<" && op != "<=" {
		return false
	}
	if !a.contains(isFree) || !b.contains(isFree) {
		return false // statements about numbers are the same only side by side: 1 + 1 = 2 is not 1 + 1 = 3
	}
	var decided, same bool
	c.attempt(func() {
		r := newRing(c.b)
		f, ok := r.normal(a)
		if !ok {
			return
		}
		h, ok := r.normal(b)
		if !ok || len(f.num) == 0 || len(h.num) == 0 {
			return
		}
		x, y := f.num, h.num
		if !equation {
			x, y = r.mul(f.num, h.den), r.mul(h.num, f.den)
		}
		// x / lead(x) = y / lead(y)
		k := new(big.Rat).Quo(x[0].coef, y[0].coef)
		same = samePoly(x, r.mul(y, constantPoly(k))) && (equation || k.Sign() > 0)
		decided = same || !r.opaque
	})
	if decided && same {
		return true
	}
	// numerically: the quotient is the same constant at every point
	var k number
	seen := 0
	for i := range points {
		e := &evaluator{b: c.b, point: i, log10: c.log10}
		x, ok1 := e.eval(a)
		y, ok2 := e.eval(b)
		if !ok1 || !ok2 || y.re.Sign() == 0 && y.imag().Sign() == 0 {
			continue
		}
		q := e.div(x, y)
		if seen == 0 {
			k = q
		} else if !agree(k, q) {
			return false
		}
		seen++
	}
	if seen < 3 || !k.isReal() || k.re.Sign() == 0 {
		return false
	}
	return equation || k.re.Sign() > 0
}
