package expr

import "sort"

// isJoined reports inequalities that "and" or "or" stands between.
func isJoined(n *Node) bool { return n.Kind == Group && (n.Name == "and" || n.Name == "or") }

func isBare(n *Node) bool { return n.Kind == Group && (n.Open == 0 || n.Open == '{') }

// collections compares lists, sets, tuples and intervals.
//
//	gold list or set      any order; a tuple of the response counts as a list
//	gold tuple            order kept; a list of the response counts as a tuple
//	gold interval [a, b]  brackets and ends must agree; (a, b) may be a point as well
func (c *comparer) collections(g, p *Node) (bool, string) {
	if m, ok := c.matrix(g); ok && p.Kind == Group {
		return c.vector(m, p) || c.rows(m, p), "vector"
	}
	if m, ok := c.matrix(p); ok && g.Kind == Group {
		return c.vector(m, g) || c.rows(m, g), "vector"
	}
	if isJoined(g) && p.Kind == Group && !isBare(p) || isJoined(p) && g.Kind == Group && !isBare(g) {
		return c.sets(g, p)
	}
	if g.Name != p.Name && g.Kind == Group && p.Kind == Group && g.Name != "" && p.Name != "" {
		return c.sets(g, p)
	}
	// a set of one is its element
	if g.Kind != Group {
		if isBare(p) && len(p.Args) == 1 {
			return c.equal(g, p.Args[0])
		}
		return false, "set"
	}
	if p.Kind != Group {
		if isBare(g) && len(g.Args) == 1 {
			return c.equal(g.Args[0], p)
		}
		return false, "set"
	}
	switch {
	case isBare(g) && isBare(p):
		return c.sameSet(g, p), "set"
	case isBare(g):
		if p.Open != '(' && len(p.Args) == 2 || p.Open != '(' && p.Open != '[' || p.Open == '(' && p.Close != ')' {
			return false, "set"
		}
		return c.sameSet(g, p), "set"
	case isBare(p):
		if len(g.Args) == 2 && !(g.Open == '(' && g.Close == ')') {
			return false, "interval"
		}
		return c.sameOrder(g.Args, p.Args), "tuple"
	}
	if len(g.Args) != len(p.Args) {
		return false, "tuple"
	}
	rule := "tuple"
	if len(g.Args) != 2 && (g.Open != p.Open && !sameBrackets(g, p) || mixedBrackets(g) != mixedBrackets(p)) {
		return false, "tuple"
	}
	if len(g.Args) == 2 {
		if (g.Open != p.Open || g.Close != p.Close) && !(c.isPoint(g) && c.isPoint(p)) {
			return false, "interval"
		}
		if g.Open != '(' || g.Close != ')' {
			rule = "interval"
		}
	}
	return c.sameOrder(g.Args, p.Args), rule
}

// isPoint reports a pair that can be a point: (a, b), or [a, b] with a > b, which is no interval.
func (c *comparer) isPoint(n *Node) bool {
	if n.Open == '(' && n.Close == ')' {
		return true
	}
	if n.Open != '[' || n.Close != ']' {
		return false
	}
	a, ok1 := c.constant(n.Args[0])
	b, ok2 := c.constant(n.Args[1])
	return ok1 && ok2 && a.Cmp(b) > 0
}

// sameBrackets: ( ) and [ ] around three values or more are both a tuple's.
func sameBrackets(g, p *Node) bool { return !mixedBrackets(g) && !mixedBrackets(p) }

// mixedBrackets reports (a, b, c], which is neither an interval nor a tuple.
func mixedBrackets(n *Node) bool {
	return n.Open == '(' && n.Close != ')' || n.Open == '[' && n.Close != ']'
}

// rows compares a matrix with a list of its rows: [[1, 2], [3, 4]].
func (c *comparer) rows(m, t *Node) bool {
	if t.Open != '[' && t.Open != '(' || len(t.Args) != m.Rows || m.Rows < 2 {
		return false
	}
	for i, row := range t.Args {
		if row.Kind != Group || row.Open != t.Open || !c.sameOrder(m.Args[i*m.Cols:(i+1)*m.Cols], row.Args) {
			return false
		}
	}
	return true
}

// goesOn reports a list with an ellipsis.
func goesOn(ns []*Node) bool {
	for _, n := range ns {
		if n.Kind == Symbol && n.Name == "…" {
			return true
		}
	}
	return false
}

// sameSeries compares lists with an ellipsis: the same after it, and before it the same, one side perhaps a few steps further with the
// same difference.
func (c *comparer) sameSeries(g, p []*Node) bool {
	gHead, gTail, ok1 := cutSeries(g)
	pHead, pTail, ok2 := cutSeries(p)
	if !ok1 || !ok2 || !c.sameOrder(gTail, pTail) {
		return false
	}
	if len(gHead) > len(pHead) {
		gHead, pHead = pHead, gHead
	}
	n := len(gHead)
	if n == 0 || !c.sameOrder(gHead, pHead[:n]) {
		return false
	}
	for i := n; i < len(pHead); i++ { // what is further follows from two steps before it
		if i < 2 || n < 2 {
			return false
		}
		next := &Node{Kind: Sum, Args: []*Node{pHead[i-1], pHead[i-1], negate(pHead[i-2])}}
		if e, _ := c.equal(next, pHead[i]); !e {
			return false
		}
	}
	return true
}

func cutSeries(ns []*Node) (head, tail []*Node, ok bool) {
	at := -1
	for i, n := range ns {
		if n.Kind == Symbol && n.Name == "…" {
			if at >= 0 {
				return nil, nil, false
			}
			at = i
		}
	}
	if at < 0 {
		return nil, nil, false
	}
	return ns[:at], ns[at+1:], true
}

// sameNamed matches values by the names beside them.
func (c *comparer) sameNamed(g, p []*Node) bool {
	if len(g) != len(p) {
		return false
	}
	used := make([]bool, len(p))
	for _, a := range g {
		found := false
		for j, b := range p {
			c.b.spend(20)
			if used[j] || !sameName(a.said().note, b.said().note) {
				continue
			}
			if e, _ := c.equal(a, b); e {
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

func (c *comparer) sameOrder(g, p []*Node) bool {
	if len(g) != len(p) {
		return false
	}
	for i := range g {
		if e, _ := c.equal(g[i], p[i]); !e {
			return false
		}
	}
	return true
}

// sameSet matches the elements of two lists in any order. Named values keep their order: x = 1, y = 2 is not 2, 1.
func (c *comparer) sameSet(g, p *Node) bool {
	gs, ps := flatten(g), flatten(p)
	if goesOn(gs) || goesOn(ps) {
		return c.sameSeries(gs, ps)
	}
	if len(gs) != len(ps) && isBare(g) && isBare(p) {
		gs, ps = c.distinct(gs), c.distinct(ps)
	}
	if len(gs) != len(ps) {
		return false
	}
	if named(gs) && !anyRelation(ps) || named(ps) && !anyRelation(gs) {
		return c.sameOrder(gs, ps)
	}
	gNames, pNames := namesOf(gs), namesOf(ps)
	if (gNames == nil) != (pNames == nil) && len(gs) == len(ps) {
		return c.sameOrder(gs, ps)
	}
	if gNames != nil && pNames != nil {
		return c.sameNamed(gs, ps)
	}
	if oneName(gs) && oneName(ps) {
		gs, ps = values(gs), values(ps)
	}
	if len(gs) > 8 {
		// most elements agree as written: take those away first
		gs, ps = c.rest(gs, ps)
	}
	used := make([]bool, len(ps))
	for _, a := range gs {
		found := false
		for j, b := range ps {
			if used[j] {
				continue
			}
			if e, _ := c.equal(a, b); e {
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

// flatten lifts lists inside a list.
func flatten(n *Node) []*Node {
	var out []*Node
	for _, a := range n.Args {
		if a.Kind == Group && a.Open == 0 {
			out = append(out, a.Args...)
		} else {
			out = append(out, a)
		}
	}
	return out
}

// distinct drops elements written twice.
func (c *comparer) distinct(ns []*Node) []*Node {
	seen := map[string]bool{}
	var out []*Node
	for _, n := range ns {
		s := n.String()
		c.b.spend(20 + len(s)/4)
		if !seen[s] {
			seen[s] = true
			out = append(out, n)
		}
	}
	return out
}

// rest returns what is left of two lists after taking away the elements they share as written.
func (c *comparer) rest(gs, ps []*Node) ([]*Node, []*Node) {
	byText := func(ns []*Node) ([]string, []*Node) {
		keys := make([]string, len(ns))
		for i, n := range ns {
			keys[i] = n.String()
			c.b.spend(40 + len(keys[i])/4)
		}
		order := make([]int, len(ns))
		for i := range order {
			order[i] = i
		}
		sort.SliceStable(order, func(i, j int) bool { return keys[order[i]] < keys[order[j]] })
		k, out := make([]string, len(ns)), make([]*Node, len(ns))
		for i, j := range order {
			k[i], out[i] = keys[j], ns[j]
		}
		return k, out
	}
	gk, g := byText(gs)
	pk, p := byText(ps)
	var gr, pr []*Node
	i, j := 0, 0
	for i < len(g) || j < len(p) {
		switch {
		case j == len(p) || i < len(g) && gk[i] < pk[j]:
			gr = append(gr, g[i])
			i++
		case i == len(g) || pk[j] < gk[i]:
			pr = append(pr, p[j])
			j++
		default:
			i++
			j++
		}
	}
	return gr, pr
}

func anyRelation(ns []*Node) bool {
	for _, n := range ns {
		if n.Kind == Relation {
			return true
		}
	}
	return false
}

// named reports a list of assignments to different letters (x = 1, y = 2), not one letter's several values (x_1, x_2).
func named(ns []*Node) bool {
	if len(ns) < 2 {
		return false
	}
	seen := map[string]bool{}
	for _, n := range ns {
		if n.Kind != Relation || n.Ops[0] != "=" {
			return false
		}
		name := n.Args[0].String()
		if n.Args[0].Kind == Symbol {
			for i := range name {
				if name[i] == '_' && i > 0 {
					name = name[:i]
					break
				}
			}
		}
		if seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

// oneName reports a list of assignments to one name: x = 1, x = 2.
func oneName(ns []*Node) bool {
	for _, n := range ns {
		if n.Kind != Relation || len(n.Ops) != 1 || n.Ops[0] != "=" || n.Args[0].String() != ns[0].Args[0].String() {
			return false
		}
	}
	return len(ns) > 1
}

func values(ns []*Node) []*Node {
	out := make([]*Node, len(ns))
	for i, n := range ns {
		out[i] = n.Args[1]
	}
	return out
}

// vector compares a row or column with a tuple.
func (c *comparer) vector(m, t *Node) bool {
	if m.Rows != 1 && m.Cols != 1 || len(t.Args) < 2 || t.Open != '(' && t.Open != '[' {
		return false
	}
	return c.sameOrder(m.Args, t.Args)
}

// matrix evaluates sums, products and multiples of matrices to one matrix.
func (c *comparer) matrix(n *Node) (*Node, bool) {
	switch n.Kind {
	case Matrix:
		return n, true
	case Negate, Sum, Product, Quotient, Power:
	default:
		return nil, false
	}
	if !n.contains(func(m *Node) bool { c.b.spend(1); return m.Kind == Matrix }) {
		return nil, false
	}
	switch n.Kind {
	case Negate:
		if m, ok := c.matrix(n.Args[0]); ok {
			return c.mapEntries(m, negate), true
		}
	case Quotient:
		if m, ok := c.matrix(n.Args[0]); ok {
			return c.mapEntries(m, func(e *Node) *Node { return binary(Quotient, e, n.Args[1]) }), true
		}
	case Sum:
		out, ok := c.matrix(n.Args[0])
		if !ok {
			return nil, false
		}
		for _, a := range n.Args[1:] {
			m, ok := c.matrix(a)
			if !ok || m.Rows != out.Rows || m.Cols != out.Cols {
				return nil, false
			}
			sum := &Node{Kind: Matrix, Rows: m.Rows, Cols: m.Cols}
			for i := range m.Args {
				c.b.spend(15)
				sum.Args = append(sum.Args, binary(Sum, out.Args[i], m.Args[i]))
			}
			out = sum
		}
		return out, true
	case Product:
		var out *Node
		var scalars []*Node
		for _, a := range n.Args {
			m, ok := c.matrix(a)
			if !ok {
				scalars = append(scalars, a)
				continue
			}
			if out == nil {
				out = m
				continue
			}
			if out.Cols != m.Rows {
				return nil, false
			}
			out = c.matrixProduct(out, m)
		}
		if out == nil {
			return nil, false
		}
		for _, s := range scalars {
			out = c.mapEntries(out, func(e *Node) *Node { return binary(Product, s, e) })
		}
		return out, true
	case Power:
		m, ok := c.matrix(n.Args[0])
		k, isRat := c.rational(n.Args[1])
		if !ok || !isRat || m.Rows != m.Cols {
			return nil, false
		}
		if e, ok := small(k, 6); ok && e >= 1 {
			out := m
			for i := int64(1); i < e; i++ {
				out = c.matrixProduct(out, m)
			}
			return out, true
		}
	}
	return nil, false
}

func (c *comparer) mapEntries(m *Node, f func(*Node) *Node) *Node {
	out := &Node{Kind: Matrix, Rows: m.Rows, Cols: m.Cols}
	for _, e := range m.Args {
		c.b.spend(15)
		out.Args = append(out.Args, f(e))
	}
	return out
}

func (c *comparer) matrixProduct(a, b *Node) *Node {
	out := &Node{Kind: Matrix, Rows: a.Rows, Cols: b.Cols}
	for i := 0; i < a.Rows; i++ {
		for j := 0; j < b.Cols; j++ {
			sum := &Node{Kind: Sum}
			for k := 0; k < a.Cols; k++ {
				c.b.spend(30)
				sum.Args = append(sum.Args, binary(Product, a.Args[i*a.Cols+k], b.Args[k*b.Cols+j]))
			}
			out.Args = append(out.Args, sum)
		}
	}
	return out
}

func (c *comparer) matrices(g, p *Node) bool {
	if g.Rows != p.Rows || g.Cols != p.Cols {
		return false
	}
	return c.sameOrder(g.Args, p.Args)
}
