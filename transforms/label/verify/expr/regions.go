package expr

import (
	"math/big"
	"sort"
)

// A region is a subset of the real line: segments in order, apart from each other. Sets, intervals, their unions,
// intersections and differences, and inequalities in one variable all have one.

type bound struct {
	v      *big.Float // nil: infinite
	closed bool
}

type segment struct{ lo, hi bound }

func isEverything(r []segment) bool { return len(r) == 1 && r[0].lo.v == nil && r[0].hi.v == nil }

func isRealLine(n *Node) bool {
	return n.Kind == Symbol && (n.Name == "R" || n.Name == "ℝ")
}

func everything() []segment { return []segment{{}} }

// sets compares where a union, a set with a condition or an inequality stands on one side.
func (c *comparer) sets(g, p *Node) (bool, string) {
	a, ok1 := c.region(g)
	b, ok2 := c.region(p)
	if ok1 && ok2 {
		return c.sameRegion(a, b), "interval"
	}
	if ok1 && p.Kind == Relation {
		return c.holdsExactlyOn(p, a), "inequality"
	}
	if ok2 && g.Kind == Relation {
		return c.holdsExactlyOn(g, b), "inequality"
	}
	if g.Kind == SetOp && p.Kind == SetOp && g.Name == p.Name && len(g.Args) == len(p.Args) {
		if g.Name == "difference" {
			return c.sameOrder(g.Args, p.Args), "set"
		}
		return c.sameSet(group('{', '}', g.Args), group('{', '}', p.Args)), "set"
	}
	if g.Kind == Builder && p.Kind == Builder && len(g.Args) == 2 && len(p.Args) == 2 {
		return c.equal(g.Args[1], p.Args[1])
	}
	return false, "set"
}

// constant evaluates a tree without variables to a real number.
func (c *comparer) constant(n *Node) (*big.Float, bool) {
	if n.contains(isFree) {
		return nil, false
	}
	e := &evaluator{b: c.b, log10: c.log10}
	v, ok := e.eval(n)
	if !ok || !v.isReal() {
		return nil, false
	}
	return v.re, true
}

func infinite(n *Node) (sign int) {
	switch {
	case n.Kind == Constant && n.Name == "inf":
		return 1
	case n.Kind == Negate && infinite(n.Args[0]) > 0:
		return -1
	}
	return 0
}

func (c *comparer) region(n *Node) ([]segment, bool) {
	c.b.spend(8)
	switch n.Kind {
	case Group:
		if n.Open == '(' && n.Close == ')' && len(n.Args) != 2 {
			return nil, false
		}
		if n.Open == 0 && (n.Name == "and" || n.Name == "or") {
			return c.joinedRegion(n)
		}
		if n.Open == '{' || n.Open == 0 {
			var out []segment
			for _, a := range n.Args {
				v, ok := c.constant(a)
				if !ok {
					return nil, false
				}
				out = append(out, segment{bound{v, true}, bound{v, true}})
			}
			return c.union(out), true
		}
		if len(n.Args) != 2 {
			return nil, false
		}
		s := segment{bound{nil, n.Open == '['}, bound{nil, n.Close == ']'}}
		if infinite(n.Args[0]) >= 0 {
			v, ok := c.constant(n.Args[0])
			if !ok {
				return nil, false
			}
			s.lo.v = v
		}
		if infinite(n.Args[1]) <= 0 {
			v, ok := c.constant(n.Args[1])
			if !ok {
				return nil, false
			}
			s.hi.v = v
		}
		if s.lo.v != nil && s.hi.v != nil && s.lo.v.Cmp(s.hi.v) >= 0 {
			return nil, false // not an interval
		}
		return []segment{s}, true
	case SetOp:
		out, ok := c.region(n.Args[0])
		if !ok {
			return nil, false
		}
		for _, a := range n.Args[1:] {
			r, ok := c.region(a)
			if !ok {
				return nil, false
			}
			switch n.Name {
			case "union":
				out = c.union(append(append([]segment{}, out...), r...))
			case "intersection":
				out = c.intersect(out, r)
			case "difference":
				out = c.intersect(out, c.complement(r))
			}
		}
		return out, true
	case Symbol:
		if isRealLine(n) {
			return everything(), true
		}
	case Text:
		switch n.Name {
		case "allrealnumbers", "allreals", "allrealnumber", "anyrealnumber", "realnumbers", "reals", "thereals":
			return everything(), true
		}
	case Builder:
		if len(n.Args) == 2 {
			return c.region(n.Args[1])
		}
	case Relation:
		return c.solve(n)
	}
	return nil, false
}

// joinedRegion is where all of several inequalities hold, or one of them.
func (c *comparer) joinedRegion(n *Node) ([]segment, bool) {
	var out []segment
	if unknown := c.unknown(n); unknown == "" {
		return nil, false
	}
	for i, a := range n.Args {
		r, ok := c.region(a)
		switch {
		case a.Kind != Relation || !ok:
			return nil, false
		case i == 0:
			out = r
		case n.Name == "or":
			out = c.union(append(append([]segment{}, out...), r...))
		default:
			out = c.intersect(out, r)
		}
	}
	return out, true
}

// solve turns a chain of inequalities, each linear in the one unknown, into a region.
func (c *comparer) solve(n *Node) ([]segment, bool) {
	unknown := c.unknown(n)
	if unknown == "" {
		return nil, false
	}
	out := everything()
	for i, op := range n.Ops {
		if op == "in" {
			r, ok := c.region(n.Args[i+1])
			if !ok {
				return nil, false
			}
			out = c.intersect(out, r)
			continue
		}
		if op == "=" && len(n.Ops) > 1 {
			return nil, false
		}
		s, ok := c.solveLink(n.Args[i], n.Args[i+1], op, unknown)
		if !ok {
			return nil, false
		}
		out = c.intersect(out, s)
	}
	return out, true
}

// unknown names the one variable or function value of a relation.
func (c *comparer) unknown(n *Node) string {
	name := ""
	many := false
	var visit func(m *Node)
	visit = func(m *Node) {
		c.b.spend(1)
		if m.Kind == Symbol && !isRealLine(m) || m.Kind == Call && opaqueName(m) {
			if s := m.String(); name == "" {
				name = s
			} else if name != s {
				many = true
			}
			if m.Kind == Call {
				return
			}
		}
		for _, a := range m.Args {
			visit(a)
		}
	}
	visit(n)
	if many {
		return ""
	}
	return name
}

// at evaluates n with the unknown set to x.
func (c *comparer) at(n *Node, unknown string, x *big.Float) (*big.Float, bool) {
	r, _ := x.Rat(nil)
	if r == nil {
		return nil, false
	}
	sub := n.rewrite(func(m *Node) *Node {
		c.b.spend(20)
		if (m.Kind == Symbol || m.Kind == Call) && m.String() == unknown {
			return &Node{Kind: Number, Num: r, Decimals: -1}
		}
		return m
	})
	e := &evaluator{b: c.b, log10: c.log10}
	v, ok := e.eval(sub)
	if !ok || !v.isReal() {
		return nil, false
	}
	return v.re, true
}

func (c *comparer) solveLink(l, r *Node, op, unknown string) ([]segment, bool) {
	if infinite(l) != 0 || infinite(r) != 0 {
		if op == "<" || op == ">" || op == "<=" || op == ">=" { // -inf < x
			return everything(), true
		}
		return nil, false
	}
	form := &Node{Kind: Sum, Args: []*Node{l, negate(r)}}
	var h [5]*big.Float
	for i, x := range [...]float64{0, 1, 2, 7, -5} {
		v, ok := c.at(form, unknown, newFloat().SetFloat64(x))
		if !ok {
			return nil, false
		}
		h[i] = v
	}
	slope := newFloat().Sub(h[1], h[0])
	for i, x := range [...]float64{2, 7, -5} {
		want := newFloat().Add(h[0], newFloat().Mul(slope, newFloat().SetFloat64(x)))
		if !closeBounds(want, h[2+i]) {
			return nil, false
		}
	}
	if slope.Sign() == 0 || slope.MantExp(nil) < -agreeBits {
		return nil, false
	}
	root := newFloat().Quo(newFloat().Neg(h[0]), slope)
	below := segment{bound{}, bound{root, false}}
	above := segment{bound{root, false}, bound{}}
	rising := slope.Sign() > 0
	switch op {
	case "=":
		return []segment{{bound{root, true}, bound{root, true}}}, true
	case "!=":
		return []segment{below, above}, true
	case "<", "<=":
		if !rising {
			below = above
		}
	case ">", ">=":
		if rising {
			below = above
		}
	default:
		return nil, false
	}
	if op == "<=" || op == ">=" {
		below.lo.closed, below.hi.closed = below.lo.v != nil, below.hi.v != nil
	}
	return []segment{below}, true
}

// holdsExactlyOn checks a relation in one unknown against a region: true at points of it, false outside, right at its
// ends. It is how |x| < 2 and x^2 < 4 are compared with (-2, 2).
func (c *comparer) holdsExactlyOn(n *Node, r []segment) bool {
	if b, ok := c.region(n); ok {
		return c.sameRegion(r, b)
	}
	if n.Kind != Relation || len(r) == 0 {
		return false
	}
	unknown := c.unknown(n)
	if unknown == "" {
		return false
	}
	var ends []*big.Float
	for _, s := range r {
		for _, b := range []bound{s.lo, s.hi} {
			if b.v != nil {
				ends = append(ends, b.v)
			}
		}
	}
	if len(ends) == 0 {
		ends = append(ends, newFloat())
	}
	if len(ends) > 16 {
		return false
	}
	sort.Slice(ends, func(i, j int) bool { return ends[i].Cmp(ends[j]) < 0 })
	var samples []*big.Float
	for i, e := range ends {
		samples = append(samples, e)
		for _, d := range []float64{1e-9, 1e-3, 0.37, 1.9, 13.3, 977.1} {
			for _, sign := range []float64{-1, 1} {
				samples = append(samples, newFloat().Add(e, newFloat().SetFloat64(sign*d)))
			}
		}
		if i+1 < len(ends) {
			gap := newFloat().Sub(ends[i+1], e)
			for _, f := range []float64{0.11, 0.29, 0.5, 0.73, 0.94} {
				samples = append(samples, newFloat().Add(e, newFloat().Mul(gap, newFloat().SetFloat64(f))))
			}
		}
	}
	for _, x := range samples {
		if c.holds(n, unknown, x) != inside(r, x) {
			return false
		}
	}
	return true
}

func (c *comparer) holds(n *Node, unknown string, x *big.Float) bool {
	for i, op := range n.Ops {
		if infinite(n.Args[i]) != 0 || infinite(n.Args[i+1]) != 0 {
			continue
		}
		l, ok1 := c.at(n.Args[i], unknown, x)
		r, ok2 := c.at(n.Args[i+1], unknown, x)
		if !ok1 || !ok2 {
			return false
		}
		cmp := l.Cmp(r)
		if closeBounds(l, r) {
			cmp = 0
		}
		var ok bool
		switch op {
		case "=":
			ok = cmp == 0
		case "!=":
			ok = cmp != 0
		case "<":
			ok = cmp < 0
		case "<=":
			ok = cmp <= 0
		case ">":
			ok = cmp > 0
		case ">=":
			ok = cmp >= 0
		}
		if !ok {
			return false
		}
	}
	return true
}

func inside(r []segment, x *big.Float) bool {
	for _, s := range r {
		lo, hi := true, true
		if s.lo.v != nil {
			k := x.Cmp(s.lo.v)
			lo = k > 0 && !closeBounds(x, s.lo.v) || s.lo.closed && closeBounds(x, s.lo.v)
		}
		if s.hi.v != nil {
			k := x.Cmp(s.hi.v)
			hi = k < 0 && !closeBounds(x, s.hi.v) || s.hi.closed && closeBounds(x, s.hi.v)
		}
		if lo && hi {
			return true
		}
	}
	return false
}

// closeBounds reports two ends that are the same number to within the precision.
func closeBounds(a, b *big.Float) bool {
	d := newFloat().Sub(a, b)
	if d.Sign() == 0 {
		return true
	}
	scale := max(-20, a.MantExp(nil), b.MantExp(nil))
	return d.MantExp(nil) < scale-90
}

func compareLo(a, b bound) int {
	switch {
	case a.v == nil && b.v == nil:
		return 0
	case a.v == nil:
		return -1
	case b.v == nil:
		return 1
	case closeBounds(a.v, b.v):
		if a.closed == b.closed {
			return 0
		}
		if a.closed {
			return -1
		}
		return 1
	}
	return a.v.Cmp(b.v)
}

func compareHi(a, b bound) int {
	switch {
	case a.v == nil && b.v == nil:
		return 0
	case a.v == nil:
		return 1
	case b.v == nil:
		return -1
	case closeBounds(a.v, b.v):
		if a.closed == b.closed {
			return 0
		}
		if a.closed {
			return 1
		}
		return -1
	}
	return a.v.Cmp(b.v)
}

// union puts segments in order and joins those that touch.
func (c *comparer) union(r []segment) []segment {
	c.b.spend(100 * len(r))
	sort.SliceStable(r, func(i, j int) bool { return compareLo(r[i].lo, r[j].lo) < 0 })
	var out []segment
	for _, s := range r {
		if n := len(out); n > 0 {
			last := &out[n-1]
			touches := last.hi.v == nil || s.lo.v == nil
			if !touches {
				if closeBounds(last.hi.v, s.lo.v) {
					touches = last.hi.closed || s.lo.closed
				} else {
					touches = last.hi.v.Cmp(s.lo.v) > 0
				}
			}
			if touches {
				if compareHi(s.hi, last.hi) > 0 {
					last.hi = s.hi
				}
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

func (c *comparer) intersect(a, b []segment) []segment {
	if len(a)*len(b) > 10_000 {
		c.b.fail()
	}
	var out []segment
	for _, x := range a {
		for _, y := range b {
			c.b.spend(60)
			s := x
			if compareLo(y.lo, s.lo) > 0 {
				s.lo = y.lo
			}
			if compareHi(y.hi, s.hi) < 0 {
				s.hi = y.hi
			}
			if s.lo.v != nil && s.hi.v != nil {
				if closeBounds(s.lo.v, s.hi.v) {
					if !s.lo.closed || !s.hi.closed {
						continue
					}
				} else if s.lo.v.Cmp(s.hi.v) > 0 {
					continue
				}
			}
			out = append(out, s)
		}
	}
	return c.union(out)
}

func (c *comparer) complement(r []segment) []segment {
	var out []segment
	lo := bound{}
	open := true
	for _, s := range r {
		if s.lo.v != nil {
			out = append(out, segment{lo, bound{s.lo.v, !s.lo.closed}})
		}
		if s.hi.v == nil {
			open = false
			break
		}
		lo = bound{s.hi.v, !s.hi.closed}
	}
	if open {
		out = append(out, segment{lo, bound{}})
	}
	return out
}

func (c *comparer) sameRegion(a, b []segment) bool {
	if len(a) != len(b) {
		return false
	}
	same := func(x, y bound) bool {
		if x.v == nil || y.v == nil {
			return x.v == nil && y.v == nil
		}
		return x.closed == y.closed && (closeBounds(x.v, y.v) || c.near(x.v, y.v))
	}
	for i := range a {
		if !same(a[i].lo, b[i].lo) || !same(a[i].hi, b[i].hi) {
			return false
		}
	}
	return true
}
