package expr

import (
	"math/big"
	"slices"
)

// relations compares where at least one side is a chain a = b < c.
func (c *comparer) relations(g, p *Node) (bool, string) {
	if rounded := approximation(p); rounded != nil && isDecimal(g) {
		if e, rule := c.equal(g, rounded); e {
			return true, rule
		}
	}
	g, p = exactPart(g), exactPart(p)
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
		last := p.Args[len(p.Args)-1]
		if v, ok := c.rational(last); ok && v.Sign() == 0 && !pAssign && p.Args[0].contains(isFree) {
			return false, "relation" // an equation with its terms on one side is not the answer 0
		}
		p = last
	case gEq && !pEq && (gAssign || len(g.Args) > 2):
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

// membershipSet is the set of x in set, any other tree itself.
func membershipSet(n *Node) *Node {
	if n.Kind == Relation && n.Ops[0] == "in" && len(n.Ops) == 1 {
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
		if op != "=" && op != "in" {
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
		return true
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
