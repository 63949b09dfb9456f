package expr

import (
	"math/big"
	"strings"
)

// bracket reads a primary that starts with an operator token.
func (p *parser) bracket(op string) *Node {
	p.i++
	switch op {
	case "(":
		return p.bracketed('(')
	case "[":
		return p.bracketed('[')
	case "]": // ]a,b[
		return p.bracketed(']')
	case "\\{":
		return p.set()
	case "{":
		return p.braces()
	case "|":
		p.bars++
		n := p.list(func() bool { return p.isOp("|") })
		p.bars--
		p.want("|")
		if n.Kind == Matrix {
			return call("det", n)
		}
		return call("abs", n)
	case "‖":
		n := p.list(func() bool { return p.isOp("‖") })
		p.want("‖")
		return call("norm", n)
	case "⌊":
		n := p.sum()
		p.want("⌋")
		return call("floor", n)
	case "⌈":
		n := p.sum()
		p.want("⌉")
		return call("ceil", n)
	case "∞":
		return &Node{Kind: Constant, Name: "inf"}
	case "∅":
		return group('{', '}', nil)
	case "-":
		return negate(p.power())
	case "+":
		return p.power()
	}
	p.syntax("unexpected " + op)
	return nil
}

// bracketed reads a parenthesised expression, a tuple, or an interval; the closing bracket may differ from the opening.
func (p *parser) bracketed(open byte) *Node {
	saved := p.bars
	p.bars = 0
	closing := func() bool { return p.isOp(")") || p.isOp("]") || open == ']' && p.isOp("[") }
	if closing() {
		p.syntax("empty brackets")
	}
	if open == ']' {
		p.left++
	}
	groups := p.elements(closing)
	if open == ']' {
		p.left--
	}
	p.bars = saved
	if !closing() {
		p.syntax("missing bracket")
	}
	close := p.peek().text[0]
	p.i++
	var flat []*Node
	for _, g := range groups {
		flat = append(flat, g...)
	}
	if open == ']' {
		open = '('
		if close == '[' {
			close = ')'
		}
	}
	if len(flat) == 1 && (open == '(' && close == ')') {
		return flat[0]
	}
	if len(flat) == 1 && open == '[' && close == ']' {
		return flat[0]
	}
	return group(open, close, flat)
}

// set reads \{...\}: elements, or a condition after a bar.
func (p *parser) set() *Node {
	if p.take("\\}") {
		return group('{', '}', nil)
	}
	saved := p.bars
	p.bars = 1
	end := func() bool { return p.isOp("\\}") || p.isOp("|") || p.isOp("∣") }
	if p.i+1 < len(p.toks) && p.isOp("|") { // {|x|, ...}
		p.bars = 0
	}
	p.sets++
	groups := p.elements(end)
	p.sets--
	p.bars = saved
	var flat []*Node
	for _, g := range groups {
		flat = append(flat, g...)
	}
	if p.take("|") || p.take("∣") {
		conds := p.elements(func() bool { return p.isOp("\\}") })
		p.want("\\}")
		return builder(flat, conds)
	}
	p.want("\\}")
	if len(flat) == 1 && flat[0].Kind == Ratio && len(flat[0].Args) == 2 { // {x : x > 2} parsed x : x
		return group('{', '}', flat)
	}
	if len(flat) == 1 && flat[0].Kind == Relation && len(flat[0].Args) == 2 && flat[0].Args[0].Kind == Ratio {
		r := flat[0].Args[0]
		cond := &Node{Kind: Relation, Ops: flat[0].Ops, Args: []*Node{r.Args[len(r.Args)-1], flat[0].Args[1]}}
		return builder(r.Args[:1], [][]*Node{{cond}})
	}
	return group('{', '}', flat)
}

func builder(vars []*Node, conds [][]*Node) *Node {
	var cs []*Node
	for _, g := range conds {
		cs = append(cs, g...)
	}
	v := vars[0]
	if v.Kind == Relation { // x \in R
		v = v.Args[0]
	}
	return &Node{Kind: Builder, Args: append([]*Node{v}, cs...)}
}

// braces reads {...}, which groups without being written. At the top it may hold a list.
func (p *parser) braces() *Node {
	if p.take("}") {
		if p.startsFactor() {
			return p.primary()
		}
		p.syntax("empty braces")
	}
	saved := p.bars
	p.bars = 0
	n := p.list(func() bool { return p.isOp("}") || p.isOp("choose") || p.isOp("over") })
	p.bars = saved
	if n.Kind == Symbol && p.isOp("}") && p.at(1).kind == tOp && p.at(1).text == "_" { // {g}_{k}
		p.i++
		return &Node{Kind: Symbol, Name: n.Name + "_" + p.subscript()}
	}
	for p.isOp("choose") || p.isOp("over") {
		name := p.peek().text
		p.i++
		right := p.list(func() bool { return p.isOp("}") })
		if name == "choose" {
			n = call("binom", n, right)
		} else {
			n = binary(Quotient, n, right)
			n.Name = "frac"
		}
	}
	p.want("}")
	return n
}

// argument reads what LaTeX takes as one argument: a braced group or a single token; \frac12 takes one digit each.
func (p *parser) argument() *Node {
	t := p.peek()
	if t.kind == tNumber && len(t.text) > 1 {
		digits := t.text
		p.toks[p.i].text = digits[1:]
		p.toks[p.i].space = false
		r, d := parseDecimal(digits[:1], p.b)
		if strings.HasPrefix(digits, ".") {
			p.syntax("argument")
		}
		if strings.IndexByte(".eE", digits[1]) >= 0 { // 2.5 and 2e3 are not cut
			p.toks[p.i].text = digits
			p.i++
			return p.number(digits)
		}
		return &Node{Kind: Number, Num: r, Decimals: d, Name: digits[:1]}
	}
	if t.kind == tWord && isLetter(t.text[0]) && len(t.text) > 1 { // \frac xy takes one letter each
		p.toks[p.i].text = t.text[1:]
		if len(t.text) == 2 {
			p.toks[p.i].kind = tLetter
		}
		return letter(t.text[:1])
	}
	return p.primary()
}

// function reads a named function or a command with arguments.
func (p *parser) function(name string) *Node {
	switch name {
	case "frac":
		a := p.argument()
		b := p.argument()
		n := binary(Quotient, a, b)
		n.Name = "frac"
		return n
	case "binom":
		if p.isOp("(") {
			break
		}
		a := p.argument()
		return call("binom", a, p.argument())
	case "sqrt":
		if p.take("[") {
			index := p.list(func() bool { return p.isOp("]") })
			p.want("]")
			return call("root", p.argument(), index)
		}
		if p.isOp("(") {
			return call("sqrt", p.primary())
		}
		if t := p.peek(); t.kind == tNumber {
			if len(t.text) > 1 && !t.space && strings.Trim(t.text, "0123456789") == "" { // TeX's \sqrt13 is \sqrt{1}3, and somebody meant 13
				p.syntax("\\sqrt" + t.text + " without braces")
			}
			return call("sqrt", p.primary())
		}
		return call("sqrt", p.argument())
	case "√":
		if p.peek().kind == tNumber {
			return call("sqrt", p.primary())
		}
		return call("sqrt", p.argument())
	case "cbrt":
		return call("root", p.argument(), integer(3))
	case "overline":
		a := p.argument() // of a number: not the number, unless it is a decimal's end
		return &Node{Kind: Symbol, Name: "bar " + a.String()}
	case "sum", "prod", "int", "lim":
		return p.bigOperator(name)
	}
	return p.scripted(name)
}

// scripted reads a function with what is written at its name: sin^2 x, sin^{-1} x, log_2 x.
func (p *parser) scripted(name string) *Node {
	power, base := p.scripts()
	arg := p.functionArgument()
	var n *Node
	switch {
	case name == "log" && base != nil:
		n = call("log", arg, base)
	case base != nil && base.String() != "":
		n = call(name+"_"+base.String(), arg)
	case takesSeveral[name] && arg.Kind == Group && arg.Open == '(':
		n = call(name, arg.Args...)
	default:
		n = call(name, arg)
	}
	if name == "exp" {
		n = binary(Power, &Node{Kind: Constant, Name: "e"}, arg)
	}
	if power == nil {
		return n
	}
	if power.Kind == Number && power.Num.Cmp(big.NewRat(-1, 1)) == 0 && inverses[name] != "" {
		return call(inverses[name], arg)
	}
	return binary(Power, n, power)
}

var (
	takesSeveral = set("max min gcd lcm binom log")
	inverses     = map[string]string{"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot"}
)

// scripts reads ^power and _base in any order; what is not there is nil.
func (p *parser) scripts() (power, base *Node) {
	for {
		switch {
		case p.isOp("^") && power == nil:
			p.i++
			if p.take("-") {
				power = negate(p.script())
			} else {
				power = p.script()
			}
		case p.isOp("_") && (base == nil || base.String() == ""):
			p.i++
			base = p.argument()
		default:
			return power, base
		}
	}
}

// functionArgument reads the argument of sin, log and the like: a bracket, or the product that follows without signs.
func (p *parser) functionArgument() *Node {
	p.enter()
	defer p.leave()
	if p.isOp("(") || p.isOp("{") || p.isOp("[") {
		n := p.primary()
		for p.isOp("!") || p.isOp("^") { // \ln (x)^2 is read as (\ln x)^2 by nobody in an answer: bind to the argument
			if p.take("!") {
				n = call("factorial", n)
				continue
			}
			if p.at(1).kind == tOp && p.at(1).text == "°" || p.at(1).text == "{" && p.at(2).text == "°" {
				break
			}
			p.i++
			n = binary(Power, n, p.script())
		}
		if p.isOp("°") {
			p.i++
			n = &Node{Kind: Degree, Args: []*Node{n}}
		} else if p.isOp("^") {
			for p.i < len(p.toks) && !p.isOp("°") {
				p.i++
			}
			p.i++
			p.take("}")
			n = &Node{Kind: Degree, Args: []*Node{n}}
		}
		return n
	}
	if p.take("-") {
		return negate(p.functionArgument())
	}
	n := p.power()
	for {
		t := p.peek()
		if p.isOp("/") && (p.at(1).kind == tNumber || p.at(1).kind == tLetter) {
			p.i++
			n = binary(Quotient, n, p.power())
			continue
		}
		if t.kind != tNumber && t.kind != tLetter && !(t.kind == tCall && t.text == "frac") && !(t.kind == tWord && len(t.text) == 2) {
			return n
		}
		if t.kind == tNumber && n.Kind == Number {
			return n
		}
		n = p.times(n, p.power())
	}
}

// bigOperator reads \sum, \prod, \int, \lim with their bounds and the product that follows.
func (p *parser) bigOperator(name string) *Node {
	var lo, hi *Node
	for {
		if p.isOp("_") && lo == nil {
			p.i++
			if p.take("{") {
				lo = p.list(func() bool { return p.isOp("}") })
				p.want("}")
			} else {
				lo = p.argument()
			}
			continue
		}
		if p.isOp("^") && hi == nil {
			p.i++
			if p.take("-") {
				hi = negate(p.argument())
			} else {
				hi = p.argument()
			}
			continue
		}
		break
	}
	none := &Node{Kind: Symbol, Name: "_"}
	if lo == nil {
		lo = none
	}
	if hi == nil {
		hi = none
	}
	var body *Node
	if name == "int" {
		body = p.sum()
	} else {
		body = p.product()
	}
	return call(name, body, lo, hi)
}

// environment reads \begin{...}...\end{...}.
func (p *parser) environment(name string) *Node {
	end := func() bool { return p.peek().kind == tFinish || p.peek().kind == tEnd }
	switch {
	case strings.HasSuffix(name, "matrix"), name == "array":
		n := p.matrix()
		if name == "vmatrix" {
			return call("det", n)
		}
		return n
	case name == "cases":
		var rows []*Node
		for !end() {
			g := p.list(func() bool { return end() || p.isOp("&") || p.isOp("\\\\") })
			rows = append(rows, g)
			for p.isOp("&") || p.isOp("\\\\") || p.separator() {
				p.i++
			}
		}
		p.finish()
		return group(0, 0, rows)
	default: // align and friends: the last line is the answer
		var kept []token
		for depth := 0; !end() || depth > 0; p.i++ {
			t := p.peek()
			if t.kind == tEnd {
				p.syntax("missing end of " + name)
			}
			if t.kind == tBegin {
				depth++
			}
			if t.kind == tFinish {
				depth--
			}
			if t.kind == tOp && t.text == "&" && depth == 0 {
				continue
			}
			kept = append(kept, t)
		}
		p.finish()
		inner := &parser{toks: kept, b: p.b, depth: p.depth + 1}
		return inner.list(func() bool { return inner.peek().kind == tEnd })
	}
}

func (p *parser) finish() {
	if p.peek().kind != tFinish {
		p.syntax("missing \\end")
	}
	p.i++
}

func (p *parser) matrix() *Node {
	n := &Node{Kind: Matrix}
	end := func() bool {
		return p.peek().kind == tFinish || p.peek().kind == tEnd || p.isOp("&") || p.isOp("\\\\")
	}
	cols := 0
	for {
		for p.isOp("\\\\") && cols == 0 {
			p.i++
		}
		if p.peek().kind == tFinish && cols == 0 {
			break
		}
		entry := p.list(end)
		n.Args = append(n.Args, entry)
		cols++
		p.b.spend(1)
		if p.take("&") {
			continue
		}
		n.Rows++
		if n.Cols == 0 {
			n.Cols = cols
		}
		if cols != n.Cols {
			p.syntax("ragged matrix")
		}
		cols = 0
		if !p.take("\\\\") {
			break
		}
	}
	p.finish()
	if len(n.Args) == 0 {
		p.syntax("empty matrix")
	}
	return n
}

func clockLike(text string) bool { return len(text) <= 2 && isDigit(text[0]) }

// clock reads h:mm with an optional am or pm; without either it is a ratio unless the minutes have two digits.
func (p *parser) clock(h *Node) *Node {
	m := p.at(1)
	if m.kind != tNumber || len(m.text) != 2 || strings.Contains(m.text, ".") {
		return h
	}
	minutes, _ := parseDecimal(m.text, p.b)
	half := ""
	k := 2
	if next := p.at(2); next.kind == tOp && next.text == ":" {
		return h
	}
	for ; k < 8 && p.at(k).kind != tEnd; k++ {
		t := p.at(k)
		switch {
		case t.kind == tLetter || t.kind == tWord || t.kind == tText:
			half += fold(t.text)
		case t.kind == tOp && (t.text == "." || t.text == "␣"):
		default:
			k = 100
		}
	}
	hours := h.Num.Num().Int64()
	min := minutes.Num().Int64()
	if half == "midnight" && hours == 12 {
		hours, half = 0, "am0"
	}
	if hours > 24 || min > 59 || k >= 100 {
		return h
	}
	switch half {
	case "am", "pm":
		if hours < 1 || hours > 12 {
			return h
		}
		hours %= 12
		if half == "pm" {
			hours += 12
		}
	case "noon":
		hours = 12
	case "am0":
	case "", "oclock", "hours", "h":
		if half == "" {
			half = "?"
		}
	default:
		return h
	}
	p.i = len(p.toks)
	n := &Node{Kind: Clock, Num: new(big.Rat).SetInt64(hours*60 + min), Name: half}
	return n
}

// hour reads 12 PM and 5 a.m.; the number itself where nothing of the kind follows.
func (p *parser) hour(n *Node) *Node {
	half := ""
	k := 0
	for ; k < 5 && p.at(k).kind != tEnd; k++ {
		switch t := p.at(k); {
		case t.kind == tLetter || t.kind == tWord || t.kind == tText:
			half += fold(t.text)
		case t.kind == tOp && t.text == ".":
		default:
			return n
		}
	}
	h := n.Num
	if p.at(k).kind != tEnd || !h.IsInt() || h.Sign() <= 0 || h.Num().Int64() > 12 {
		return n
	}
	hours := h.Num().Int64() % 12
	switch half {
	case "am":
	case "pm":
		hours += 12
	case "noon", "midnight":
		if hours != 0 {
			return n
		}
		if half == "noon" {
			hours = 12
		}
	default:
		return n
	}
	p.i += k
	return &Node{Kind: Clock, Num: new(big.Rat).SetInt64(hours * 60), Name: half}
}
