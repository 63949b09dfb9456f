package expr

import (
	"fmt"
	"math/big"
	"strings"
	"unicode/utf8"
)

// Options choose between readings of an ambiguous text.
type Options struct {
	// Lists reads 100,200 as elements in this order instead of one number, unless an element would start with 0.
	Lists bool
	// Decimals is the number of places to which a decimal and another number must agree; 0 means DefaultDecimals.
	Decimals int
	// Finished asks for an answer, not an expression that still has an operation to do, where the gold answer is a number.
	Finished bool
}

// DefaultDecimals is the usual precision of an answer that was rounded.
const DefaultDecimals = 6

// Parse reads one answer written in LaTeX or plain mathematics. It returns ErrBudget when the answer is larger than
// the limits allow and a syntax error when it is no mathematics.
func Parse(src string, l Limits, o Options) (n *Node, merged bool, err error) {
	if len(src) > l.Bytes {
		return nil, false, ErrBudget
	}
	if n := plainInteger(src); n != nil {
		return n, false, nil
	}
	b := newBudget(l)
	defer guard(&err)
	defer func() {
		if r := recover(); r != nil {
			s, ok := r.(syntaxPanic)
			if !ok {
				panic(r)
			}
			n, err = nil, fmt.Errorf("not mathematics: %s", string(s))
		}
	}()
	if d := date(src); d != nil {
		return d, false, nil
	}
	lex := &lexer{src: src, b: b, thousands: !o.Lists}
	p := &parser{toks: lex.run(), b: b}
	if len(p.toks) == 0 {
		return nil, false, fmt.Errorf("not mathematics: empty")
	}
	n = p.top()
	if p.peek().kind != tEnd {
		p.syntax("unexpected " + p.peek().text)
	}
	if n.height() > 2*l.Depth { // long chains of postfix signs and divisions nest without brackets
		return nil, false, ErrBudget
	}
	if o.Lists && n.Kind == Group && n.Open == 0 {
		for _, a := range n.Args {
			if a.Kind == Number && len(a.Name) > 1 && a.Name[0] == '0' {
				return nil, false, fmt.Errorf("not a list: %s", a.Name)
			}
		}
		n.Open, n.Close = '(', ')'
	}
	n.memo(b)
	return n, lex.merged, nil
}

// plainInteger reads the commonest answer of all without a lexer.
func plainInteger(src string) *Node {
	digits := strings.TrimPrefix(src, "-")
	if len(digits) == 0 || len(digits) > 18 {
		return nil
	}
	v := int64(0)
	for i := 0; i < len(digits); i++ {
		if !isDigit(digits[i]) {
			return nil
		}
		v = v*10 + int64(digits[i]-'0')
	}
	if len(digits) < len(src) {
		v = -v
	}
	n := integer(v)
	n.Name, n.text = digits, n.Num.Num().String()
	return n
}

// syntaxPanic unwinds the recursive descent; Parse turns it into an error.
type syntaxPanic string

type parser struct {
	toks  []token
	i     int
	b     *budget
	depth int
	bars  int // open |...|
	left  int // open ]a, b[
	sets  int // open \{, where \mid comes before a condition

	joined string // how the elements that were read last are joined: and, or, ∧, ∨
}

func (p *parser) syntax(msg string) { panic(syntaxPanic(msg)) }

func (p *parser) peek() token {
	if p.i < len(p.toks) {
		return p.toks[p.i]
	}
	return token{}
}

func (p *parser) at(k int) token {
	if p.i+k < len(p.toks) {
		return p.toks[p.i+k]
	}
	return token{}
}

func (p *parser) isOp(text string) bool {
	t := p.peek()
	return t.kind == tOp && t.text == text
}

func (p *parser) take(text string) bool {
	if p.isOp(text) {
		p.i++
		return true
	}
	return false
}

func (p *parser) want(text string) {
	if !p.take(text) {
		p.syntax("missing " + text)
	}
}

func (p *parser) enter() {
	p.depth++
	p.b.nodes--
	p.b.spend(6)
	if p.depth > p.b.Depth || p.b.nodes < 0 {
		p.b.fail()
	}
}

func (p *parser) leave() { p.depth-- }

// memo stores the canonical print of the root and of the elements of lists, which every comparison starts from.
func (n *Node) memo(b *budget) {
	b.spend(1)
	switch n.Kind {
	case Group, Relation, SetOp, Matrix:
		for _, a := range n.Args {
			a.memo(b)
		}
	}
	var sb strings.Builder
	n.print(&sb)
	n.text = sb.String()
}

// top is an answer that nothing encloses: words, a clock time, a date, or a list.
func (p *parser) top() *Node {
	if n := p.words(); n != nil {
		return n
	}
	n := p.list(func() bool { return p.peek().kind == tEnd })
	return n
}

// words recognises an answer that is made of words alone. Its text keeps no spaces, no brackets around it, no case.
func (p *parser) words() *Node {
	var parts []string
	words := false
	for _, t := range p.toks {
		switch {
		case t.kind == tText:
			words = true
			parts = append(parts, t.text)
		case t.kind == tWord:
			words = words || len(t.text) >= 3
			parts = append(parts, t.text)
		case t.kind == tLetter && len(t.text) == 1:
			parts = append(parts, t.text)
		case t.kind == tCall && wordFunctions[t.text]:
			parts = append(parts, t.text)
		case t.kind == tOp && strings.Contains("(){}[].'-!?:␣,", t.text) && t.text != ",":
		default:
			return nil
		}
	}
	if !words {
		return nil
	}
	p.i = len(p.toks)
	return &Node{Kind: Text, Name: fold(strings.Join(parts, " "))}
}

// fold keeps letters and digits, lower case, one word after another without spaces.
func fold(s string) string {
	var sb strings.Builder
	for _, r := range strings.ToLower(s) {
		if !strings.ContainsRune(" \n\t.,;:!?-_*'\"\\()[]{}", r) {
			sb.WriteRune(r)
		}
	}
	return sb.String()
}

func (p *parser) separator() bool {
	t := p.peek()
	if t.kind != tOp {
		return false
	}
	switch t.text {
	case ",", "␣", "and", "or", "∧", "∨":
		return true
	}
	return false
}

// list reads relations separated by commas, "and", "or"; groups of them separated by semicolons. A list of one is the
// element itself; semicolons between longer groups make a list of tuples.
func (p *parser) list(end func() bool) *Node {
	groups := p.elements(end)
	if len(groups) == 1 {
		if len(groups[0]) == 1 {
			return groups[0][0]
		}
		n := group(0, 0, groups[0])
		if p.joined == "∧" || p.joined == "∨" || anyInequality(groups[0]) {
			n.Name = p.joined
		}
		return n
	}
	var flat []*Node
	for _, g := range groups {
		if len(g) == 1 {
			flat = append(flat, g[0])
		} else {
			flat = append(flat, group('(', ')', g))
		}
	}
	return group(0, 0, flat)
}

// elements reads the semicolon-separated groups of comma-separated relations up to end.
func (p *parser) elements(end func() bool) [][]*Node {
	p.enter()
	defer p.leave()
	groups := [][]*Node{nil}
	joined := ""
	for {
		for p.separator() || p.isOp("\\\\") {
			if t := p.peek().text; t != "," && t != "␣" && t != "\\\\" {
				if joined != "" && joined != t {
					t = "and or"
				}
				joined = t
			}
			p.i++
		}
		if end() {
			break
		}
		if p.take("…") {
			g := &groups[len(groups)-1]
			*g = append(*g, &Node{Kind: Symbol, Name: "…"})
			continue
		}
		if p.take(";") {
			groups = append(groups, nil)
			continue
		}
		g := &groups[len(groups)-1]
		n := p.element(end)
		if k := len(*g); k > 0 && (joined == "and" || joined == "") {
			if sum := compound((*g)[k-1], n); sum != nil && (joined == "and" || n.said().unit.powers[dTime] == 1) {
				(*g)[k-1] = sum
				joined = ""
				continue
			}
		}
		*g = append(*g, n)
		p.take(".")
		if end() {
			break
		}
		if !p.separator() && !p.isOp(";") && !p.isOp("…") && !p.isOp("\\\\") {
			p.syntax("unexpected " + p.peek().text)
		}
	}
	kept := groups[:0]
	for _, g := range groups {
		if len(g) > 0 {
			kept = append(kept, g)
		}
	}
	if len(kept) == 0 {
		p.syntax("nothing there")
	}
	spreadModulus(kept[len(kept)-1])
	p.joined = joined
	return kept
}

// element reads a relation with the words and the unit beside it.
func (p *parser) element(end func() bool) *Node {
	if k, label := p.label(); k > 0 {
		prose := false
		for _, t := range p.toks[p.i : p.i+k] {
			prose = prose || t.kind == tWord
		}
		p.i += k
		n := labelled(label, p.element(end))
		if prose {
			n = n.saying(func(b *beside) { b.prose = true })
		}
		return n
	}
	n := p.trailing(p.relation(), end)
	for n.Kind == Quantity && p.peek().kind == tNumber && p.at(1).kind != tOp { // 2 hours 30 minutes
		start := p.i
		p.i++
		sum := compound(n, p.trailing(p.number(p.toks[start].text), end))
		if sum == nil {
			p.syntax("two numbers side by side")
		}
		n = sum
	}
	return n
}

// label finds the words before a value: how many tokens they are.
func (p *parser) label() (tokens int, words string) {
	var sb strings.Builder
	long := false
	k := 0
	for ; k < 12; k++ {
		t := p.at(k)
		word := t.kind == tText || t.kind == tWord && (t.text[0] < 0x80 && len(t.text) > 1 || t.text[0] >= 0x80)
		if !word && !(k > 0 && t.kind == tLetter && (t.text == "a" || t.text == "I" || t.text == "A")) {
			break
		}
		long = long || t.kind == tText || len(t.text) > 2
		sb.WriteString(t.text + " ")
	}
	if k == 0 || !long {
		return 0, ""
	}
	t := p.at(k)
	if t.kind == tOp && t.text == ":" {
		k++
		t = p.at(k)
	}
	if t.kind == tOp && t.text == "-" {
		t = p.at(k + 1)
	}
	if t.kind != tNumber && t.kind != tCurrency {
		return 0, ""
	}
	return k, sb.String()
}

// spreadModulus gives the modulus after the last residue of a list to those before it: x = 1, 3 (mod 4).
func spreadModulus(ns []*Node) {
	last := ns[len(ns)-1]
	if !isModulo(last) {
		return
	}
	for i, n := range ns[:len(ns)-1] {
		if !isModulo(n) {
			ns[i] = call("modulo", n, last.Args[1])
		}
	}
}

func isModulo(n *Node) bool { return n.Kind == Call && n.Name == "modulo" && len(n.Args) == 2 }

func anyInequality(ns []*Node) bool {
	for _, n := range ns {
		if n.Kind == Relation && !isEquation(n) {
			return true
		}
	}
	return false
}

// trailing reads what may follow an element: a unit, a remark in words or in brackets, "(mod n)".
func (p *parser) trailing(n *Node, end func() bool) *Node {
	for !end() {
		t := p.peek()
		switch {
		case t.kind == tText || t.kind == tWord || t.kind == tCurrency:
			n = p.unit(n)
		case p.isOp("mod") || p.isOp("pmod"):
			p.i++
			n = call("modulo", n, p.primary())
		case p.isOp("("):
			switch u := p.at(1); {
			case u.kind == tOp && u.text == "mod":
				p.i += 2
				n = call("modulo", n, p.primary())
				p.want(")")
			case u.kind == tText || u.kind == tWord && (len(u.text) > 2 || isUnit(u.text)):
				n = p.remark(n)
			default:
				return n
			}
		case p.isOp("'") && p.i == len(p.toks)-1 && n.Kind == Number: // feet, or minutes, or another number's name
			p.i++
			n = call("prime", n)
		case p.isOp("!"), p.isOp("."), p.isOp("'"), p.isOp("?"):
			if p.i == len(p.toks)-1 {
				p.i++
				continue
			}
			return n
		default:
			return n
		}
	}
	return n
}

// remark reads (words) or (a unit) after a value. Mathematics in it is left out.
func (p *parser) remark(n *Node) *Node {
	depth := 0
	var words []string
	for p.i < len(p.toks) {
		t := p.toks[p.i]
		p.i++
		switch {
		case t.kind == tText || t.kind == tWord || t.kind == tLetter:
			words = append(words, strings.Fields(t.text)...)
		case t.kind == tOp && t.text == "^" && p.peek().kind == tNumber:
			words = append(words, "^"+p.peek().text)
			p.i++
		case t.kind == tOp && t.text == "/":
			words = append(words, "/")
		case t.kind == tOp && t.text == "(":
			depth++
		case t.kind == tOp && t.text == ")":
			if depth--; depth == 0 {
				return quantity(n, words)
			}
		}
	}
	return quantity(n, words)
}

// unit reads a run of words after a value: a known unit becomes a Quantity, anything else is a note. "11 to 3" is a ratio, "1 in 5" a
// fraction, "7 R 4" a quotient with its remainder.
func (p *parser) unit(n *Node) *Node {
	start := p.i
	var words []string
	letters := false
	for {
		t := p.peek()
		switch {
		case t.kind == tText || t.kind == tWord || t.kind == tCurrency || t.kind == tLetter && len(t.text) == 1:
			letters = letters || t.kind == tLetter && t.text != "a" && t.text != "I" && !isUnit(t.text)
			words = append(words, unitWords(t.text)...)
			p.i++
			continue
		case t.kind == tOp && (t.text == "/" || t.text == "-" || t.text == "." || t.text == "*") && p.i > start && p.at(1).kind != tNumber &&
			p.at(1).kind != tEnd:
			words = append(words, t.text)
			p.i++
			continue
		case t.kind == tOp && t.text == "." && p.i > start:
			p.i++
			continue
		case t.kind == tOp && t.text == "^" && p.i > start:
			p.i++
			words = append(words, "^"+p.unitPower())
			continue
		}
		break
	}
	if p.peek().kind == tNumber {
		switch strings.ToLower(strings.Join(words, " ")) {
		case "to":
			return &Node{Kind: Ratio, Args: []*Node{n, p.sum()}}
		case "in", "out of":
			return binary(Quotient, n, p.sum())
		case "r", "rem", "remainder", "with remainder", "with a remainder of":
			return call("remainder", n, p.sum())
		}
	}
	if op, ok := bounded[strings.ToLower(strings.Join(words, " "))]; ok && n.Kind != Relation {
		return &Node{Kind: Relation, Ops: []string{op}, Args: []*Node{unnamed(), n}}
	}
	if letters { // a variable among words: what they say together is not understood
		p.syntax("words and letters mixed")
	}
	return quantity(n, words)
}

// unitWords cuts the words and signs of a unit apart: m/s, kg*m.
func unitWords(s string) []string {
	if !strings.ContainsAny(s, "/^·*²³\\") {
		return strings.Fields(s)
	}
	s = strings.NewReplacer("\\,", " ", "\\;", " ", "\\ ", " ", "{", "", "}", "", "/", " / ", "·", " * ", "*", " * ", "²",
		" ^2", "³", " ^3", "^", " ^", "\\cdot", " * ").Replace(s)
	return strings.Fields(s)
}

// unitPower reads the exponent of a unit.
func (p *parser) unitPower() string {
	brace := p.take("{")
	sign := ""
	if p.take("-") {
		sign = "-"
	}
	q := p.peek()
	switch {
	case q.kind == tNumber && len(q.text) == 1:
		p.i++
	case p.isOp("°") || p.isOp("'"):
		p.i++
		q.text = "1"
	default:
		p.syntax("exponent of a unit")
	}
	if brace {
		p.want("}")
	}
	return sign + q.text
}

// relation reads a chain a = b < c ...
func (p *parser) relation() *Node {
	p.enter()
	defer p.leave()
	var first *Node
	p.take("~") // about 5
	if p.bareOp() {
		first = unnamed()
	} else if first = p.setExpr(); !p.relOp() {
		return first
	}
	n := &Node{Kind: Relation, Args: []*Node{first}}
	for p.relOp() {
		op := p.peek().text
		p.i++
		if (op == "<" || op == ">") && p.isOp("=") {
			op += "="
			p.i++
		}
		for p.isOp("=") { // "= =" and "=>" leftovers
			p.i++
		}
		if op == "=" && p.isOp("~") {
			op = "~"
			p.i++
		}
		n.Ops = append(n.Ops, op)
		if p.i >= len(p.toks) { // "x =": nothing after it
			p.syntax("nothing after " + op)
		}
		n.Args = append(n.Args, p.setExpr())
	}
	return n.settled()
}

// bareOp reports an inequality without its left side: >= 3.
func (p *parser) bareOp() bool {
	return p.isOp("<") || p.isOp(">") || p.isOp("<=") || p.isOp(">=") || p.isOp("!=")
}

// settled gives signs of several meanings the one that they have in this chain, and a congruence its modulus.
func (n *Node) settled() *Node {
	congruent := false
	for i, op := range n.Ops {
		switch op {
		case "≡":
			n.Ops[i], congruent = "=", true
		case "∼", "≅": // of figures; of numbers it is about the same
			if v := n.Args[i+1]; isNumeric(v) || v.Kind == Degree {
				n.Ops[i] = "~"
			}
		}
	}
	last := len(n.Args) - 1
	if m := n.Args[last]; congruent && m.Kind == Call && m.Name == "mod" {
		n.Args[last] = m.Args[0]
		return call("modulo", n, m.Args[1])
	}
	return n
}

func (p *parser) relOp() bool {
	t := p.peek()
	if t.kind != tOp {
		return false
	}
	switch t.text {
	case "∣":
		return p.sets == 0
	case "=", "!=", "<", ">", "<=", ">=", "~", "in", "notin", "subset", "⊆", "→", "⟂", "∥", "≡", "∼", "≅", "∤", "←",
		"↔", "⇒", "⇐", "⇔", "↑", "↓":
		return true
	}
	return false
}

// setExpr reads sets joined by union, intersection and difference, or a ratio a:b.
func (p *parser) setExpr() *Node {
	left := p.ratio()
	for {
		name := ""
		switch {
		case p.isOp("∪"):
			name = "union"
		case p.isOp("∩"):
			name = "intersection"
		case p.isOp("∖"):
			name = "difference"
		default:
			return left
		}
		p.i++
		right := p.ratio()
		if left.Kind == SetOp && left.Name == name && name != "difference" {
			left.Args = append(left.Args, right)
		} else {
			left = &Node{Kind: SetOp, Name: name, Args: []*Node{left, right}}
		}
	}
}

func (p *parser) ratio() *Node {
	left := p.sum()
	if !p.isOp(":") {
		return left
	}
	n := &Node{Kind: Ratio, Args: []*Node{left}}
	for p.isOp(":") {
		if p.i+1 >= len(p.toks) {
			p.i++
			return left
		}
		p.i++
		if p.isOp("=") { // :=
			return left
		}
		n.Args = append(n.Args, p.sum())
	}
	return n
}

func (p *parser) sum() *Node {
	p.enter()
	defer p.leave()
	var terms []*Node
	var left *Node
	if p.isOp("±") || p.isOp("∓") {
		name := ""
		if p.isOp("∓") {
			name = "-+"
		}
		p.i++
		left = &Node{Kind: PlusMinus, Name: name, Args: []*Node{integer(0), p.product()}}
	} else {
		left = p.product()
	}
	terms = append(terms, left)
	flat := func() *Node {
		if len(terms) == 1 {
			return terms[0]
		}
		return &Node{Kind: Sum, Args: terms}
	}
	for {
		switch {
		case p.isOp("+"):
			p.i++
			terms = append(terms, p.product())
		case p.isOp("-"):
			p.i++
			terms = append(terms, negate(p.product()))
		case p.isOp("±"), p.isOp("∓"):
			name := ""
			if p.isOp("∓") {
				name = "-+"
			}
			p.i++
			terms = []*Node{{Kind: PlusMinus, Name: name, Args: []*Node{flat(), p.product()}}}
		default:
			return flat()
		}
	}
}

// product reads factors joined by *, /, mod, or nothing.
func (p *parser) product() *Node {
	p.enter()
	defer p.leave()
	left := p.unary()
	for {
		switch {
		case p.isOp("*"):
			p.i++
			left = p.times(left, p.unary())
		case p.isOp("/"):
			p.i++
			left = binary(Quotient, left, p.unary())
		case p.isOp("÷"):
			p.i++
			left = binary(Quotient, left, p.unary())
			left.Name = "÷"
		case p.isOp("mod"):
			p.i++
			left = call("mod", left, p.unary())
		case p.startsFactor():
			// A single unit letter at the very end, set apart by a space, is a unit: "5 m".
			t := p.peek()
			if t.kind == tLetter && t.space && p.i == len(p.toks)-1 && isNumeric(left) && strings.Contains("mgslLhJNWVKC", t.text) && p.depth < 8 {
				return p.unit(left)
			}
			if t.kind == tLetter && (t.text == "R" || t.text == "r") && left.Kind == Number && p.at(1).kind == tNumber && p.at(2).kind == tEnd {
				return p.unit(left)
			}
			if t.kind == tLetter && strings.Contains("hms", t.text) && left.Kind == Number && p.at(1).kind == tNumber && p.at(2).kind != tOp {
				return p.unit(left) // 1 h 20 min
			}
			if t.kind == tLetter && (t.text == "x" || t.text == "X") && isNumeric(left) && p.at(1).kind == tNumber && p.at(1).text == "10" &&
				p.at(2).kind == tOp && p.at(2).text == "^" { // 1.23 x 10^3
				p.i++
				left = p.times(left, p.unary())
				continue
			}
			if t.kind == tNumber && left.Kind == Number {
				left = p.spacedMixed(left)
				continue
			}
			right := p.power()
			if q := mixed(left, right); q != nil {
				left = q
				continue
			}
			left = p.times(left, right)
		default:
			return left
		}
	}
}

func isNumeric(n *Node) bool {
	switch n.Kind {
	case Number:
		return true
	case Quotient, Negate:
		for _, a := range n.Args {
			if !isNumeric(a) {
				return false
			}
		}
		return true
	}
	return false
}

func (p *parser) times(a, b *Node) *Node {
	if a.Kind == Product && a.Name == "" {
		a.Args = append(a.Args, b)
		return a
	}
	return binary(Product, a, b)
}

// mixed joins a whole number and a proper fraction written side by side: 1\frac{1}{4}.
func mixed(left, right *Node) *Node {
	minus := left.Kind == Number && left.Num.Sign() < 0
	if left.Kind != Number || !left.Num.IsInt() || left.Decimals >= 0 || left.Base != 0 || left.Num.Sign() == 0 {
		return nil
	}
	if right.Kind != Quotient || right.Name != "frac" || !isNumeric(right) {
		return nil
	}
	a, b := right.Args[0], right.Args[1]
	if a.Kind != Number || b.Kind != Number || !a.Num.IsInt() || !b.Num.IsInt() || a.Num.Sign() <= 0 || b.Num.Cmp(a.Num) <= 0 {
		return nil
	}
	f := new(big.Rat).Quo(a.Num, b.Num)
	if minus {
		f.Neg(f)
	}
	return &Node{Kind: Number, Num: f.Add(f, left.Num), Decimals: -1}
}

// spacedMixed reads "1 1/4": a whole number, a space and a proper fraction. Two numbers side by side mean nothing else.
func (p *parser) spacedMixed(left *Node) *Node {
	a, slash, b := p.at(0), p.at(1), p.at(2)
	if a.space && slash.kind == tOp && slash.text == "/" && b.kind == tNumber {
		p.i++
		num := p.number(a.text)
		p.want("/")
		p.i++
		den := p.number(b.text)
		f := binary(Quotient, num, den)
		f.Name = "frac"
		if q := mixed(left, f); q != nil {
			return q
		}
	}
	p.syntax("two numbers side by side")
	return nil
}

func (p *parser) unary() *Node {
	p.enter()
	defer p.leave()
	switch {
	case p.take("-"):
		return negate(p.unary())
	case p.take("+"):
		return p.unary()
	case p.isOp("±"):
		p.i++
		return &Node{Kind: PlusMinus, Args: []*Node{integer(0), p.unary()}}
	}
	return p.power()
}

// startsFactor reports whether the next token can begin a factor that stands beside another without a sign.
func (p *parser) startsFactor() bool {
	t := p.peek()
	switch t.kind {
	case tNumber, tLetter, tCall, tBegin:
		return true
	case tWord:
		switch t.text {
		case "to", "in", "out", "of":
			if p.i > 0 && p.toks[p.i-1].kind == tNumber {
				return false
			}
		}
		return t.text[0] < utf8.RuneSelf && (len(t.text) <= 3 && !isUnit(t.text) || p.i > 0 && p.toks[p.i-1].kind != tNumber && len(t.text) <= 2)
	case tOp:
		switch t.text {
		case "(":
			u := p.at(1)
			return u.kind != tText && !(u.kind == tOp && u.text == "mod") && !(u.kind == tWord && isUnit(u.text))
		case "[":
			return p.left == 0
		case "{", "∞", "⌊", "⌈", "‖":
			return true
		case "|":
			return p.bars == 0
		}
	}
	return false
}

func (p *parser) power() *Node {
	p.enter()
	defer p.leave()
	base := p.postfix(p.primary())
	for p.isOp("^") {
		p.i++
		if p.isOp("°") {
			p.i++
			base = p.degrees(base)
			continue
		}
		if p.isOp("'") {
			p.i++
			continue
		}
		if p.isOp("{") && p.at(1).kind == tOp && p.at(1).text == "°" && p.at(2).text == "}" {
			p.i += 3
			base = p.degrees(base)
			continue
		}
		if p.isOp("{") && p.at(1).text == "'" {
			for p.i < len(p.toks) && !p.take("}") {
				p.i++
			}
			continue
		}
		var exp *Node
		if p.take("-") {
			exp = negate(p.power())
		} else if p.take("+") {
			exp = p.power()
		} else {
			exp = p.script()
			if p.isOp("^") { // right associative
				p.i++
				exp = binary(Power, exp, p.chainPower())
			}
		}
		// x^{th}, x^{nd}: an ordinal's ending
		if exp.Kind == Text || exp.Kind == Symbol && (exp.Name == "th" || exp.Name == "st") {
			continue
		}
		if base.Kind == Symbol && (exp.Kind == Symbol && exp.Name == "*") {
			continue
		}
		base = p.postfix(binary(Power, base, exp))
	}
	return base
}

func (p *parser) chainPower() *Node {
	p.enter()
	defer p.leave()
	if p.take("-") {
		return negate(p.chainPower())
	}
	e := p.script()
	if p.isOp("^") {
		p.i++
		return binary(Power, e, p.chainPower())
	}
	return e
}

// script reads the one token or braced group that LaTeX takes as an exponent. A number keeps all its digits: x^12 is
// meant as x to the twelfth wherever it is written without braces.
func (p *parser) script() *Node {
	if p.isOp("*") {
		p.i++
		return &Node{Kind: Symbol, Name: "*"}
	}
	n := p.primary()
	return p.postfixNoPercent(n)
}

func (p *parser) postfixNoPercent(n *Node) *Node {
	for p.isOp("!") {
		p.i++
		n = call("factorial", n)
	}
	return n
}

// postfix reads factorials, percent signs, degrees.
func (p *parser) postfix(n *Node) *Node {
	for {
		switch {
		case p.isOp("!"):
			if p.i == len(p.toks)-1 && n.Kind == Text {
				p.i++
				return n
			}
			p.i++
			if p.isOp("!") {
				p.i++
				n = call("doublefactorial", n)
				continue
			}
			n = call("factorial", n)
		case p.isOp("%"):
			p.i++
			if n.Kind == Percent {
				p.syntax("a percent sign after another")
			}
			n = &Node{Kind: Percent, Args: []*Node{n}}
		case p.isOp("°"):
			p.i++
			n = p.degrees(n)
		default:
			return n
		}
	}
}

// degrees is a value in degrees: of an angle, or of the scale that the letter or the word after the sign names.
func (p *parser) degrees(n *Node) *Node {
	t := p.peek()
	if t.kind == tLetter && p.i == len(p.toks)-1 || t.kind == tText || t.kind == tWord && len(t.text) > 2 {
		if q, rest := degree(n, []string{t.text}); len(rest) == 0 {
			p.i++
			return q
		}
	}
	return &Node{Kind: Degree, Args: []*Node{n}}
}

func (p *parser) primary() *Node {
	p.enter()
	defer p.leave()
	t := p.peek()
	switch t.kind {
	case tNumber:
		p.i++
		return p.number(t.text)
	case tLetter:
		p.i++
		return p.symbol(t.text)
	case tWord:
		p.i++
		return p.spelled(t.text)
	case tText:
		p.i++
		return p.textSymbol(t.text)
	case tCurrency:
		p.i++
		for p.peek().kind == tCurrency { // US$
			p.i++
		}
		if p.take("-") {
			return negate(inUnit(p.power(), t.text))
		}
		return inUnit(p.power(), t.text)
	case tCall:
		p.i++
		return p.function(t.text)
	case tBegin:
		p.i++
		return p.environment(t.text)
	case tOp:
		return p.bracket(t.text)
	}
	p.syntax("nothing there")
	return nil
}

// textSymbol reads \text{...} in the middle of mathematics: a name, with subscript or arguments.
func (p *parser) textSymbol(s string) *Node {
	name := fold(s)
	if p.isOp("_") {
		name += "_" + p.subscript()
	}
	if p.isOp("(") && (p.i+1 < len(p.toks)) {
		p.i++
		arg := p.list(func() bool { return p.isOp(")") })
		p.want(")")
		return call(name, arg)
	}
	if t := p.peek(); t.kind == tNumber || t.kind == tOp && t.text == ":" {
		// a label before a value: \text{Area} 5, \text{Answer:} 5
		if t.kind == tOp {
			p.i++
		}
		return labelled(s, p.sum())
	}
	return noted(&Node{Kind: Text, Name: name}, s)
}

// spelled spells a short run of letters out as a product of variables.
func (p *parser) spelled(run string) *Node {
	if len(run) > 8 {
		return &Node{Kind: Text, Name: fold(run)}
	}
	var args []*Node
	for i := 0; i < len(run); i++ {
		if run[i] >= 0x80 {
			return &Node{Kind: Text, Name: fold(run)}
		}
		if i == len(run)-1 {
			args = append(args, p.symbol(run[i:]))
		} else {
			args = append(args, letter(run[i:i+1]))
		}
	}
	if p.isOp("^") || p.isOp("!") {
		// the exponent binds to the last letter alone
		last := args[len(args)-1]
		for p.isOp("^") || p.isOp("!") {
			if p.take("!") {
				last = call("factorial", last)
				continue
			}
			p.i++
			if p.take("-") {
				last = binary(Power, last, negate(p.script()))
			} else {
				last = binary(Power, last, p.script())
			}
		}
		args[len(args)-1] = last
	}
	n := &Node{Kind: Product, Args: args}
	if len(run) >= 3 || english[run] {
		n.Name = "word"
	}
	return n
}

// english lists two-letter words that running text is full of; other pairs of letters are products.
var english = set("is it we so to of in on at be by as an if my he us up do go me It We So If In No no Is")

// Prose reports a tree in which running text was read as mathematics.
func (n *Node) Prose() bool {
	return n.contains(func(m *Node) bool { return m.said().prose || m.Kind == Text || m.Kind == Product && m.Name == "word" })
}

func letter(s string) *Node {
	switch s {
	case "e", "i", "pi":
		return &Node{Kind: Constant, Name: s}
	}
	return &Node{Kind: Symbol, Name: s}
}

// symbol reads a variable with its subscript, primes and, for f, g, h, arguments.
func (p *parser) symbol(s string) *Node {
	n := letter(s)
	if p.isOp("_") {
		sub := p.subscript()
		n = &Node{Kind: Symbol, Name: s + "_" + sub}
	}
	if p.isOp("'") {
		primes := 0
		for p.take("'") {
			primes++
		}
		if primes > 16 {
			p.syntax("too many primes")
		}
		n = &Node{Kind: Symbol, Name: n.Name + strings.Repeat("'", primes)}
	}
	if s == "∠" || s == "△" { // an angle or a triangle named by its vertices
		name := s
		for (p.peek().kind == tLetter || p.peek().kind == tWord) && len(name) < 64 {
			name += p.peek().text
			p.i++
		}
		return &Node{Kind: Symbol, Name: name}
	}
	if p.isOp("(") && p.applies(s) {
		p.i++
		args := p.elements(func() bool { return p.isOp(")") })
		p.want(")")
		var flat []*Node
		for _, g := range args {
			flat = append(flat, g...)
		}
		return call(n.Name, flat...)
	}
	return n
}

// applies decides whether a letter before a bracket is a function: f, g, h always; another letter when the bracket
// holds plain arguments and a relation follows, as in P(x) = ...
func (p *parser) applies(s string) bool {
	if len(s) == 1 && strings.Contains("fghFGH", s) {
		return true
	}
	depth := 0
	for j := p.i; j < len(p.toks); j++ {
		t := p.toks[j]
		if t.kind != tOp {
			continue
		}
		switch t.text {
		case "(":
			depth++
		case ")":
			if depth--; depth == 0 {
				if j+1 < len(p.toks) {
					next := p.toks[j+1]
					return next.kind == tOp && comparisons[next.text] && j-p.i <= 4
				}
				return j-p.i == 2 && p.toks[p.i+1].kind == tLetter
			}
		case "=":
			return false
		}
		if j-p.i > 8 {
			return false
		}
	}
	return false
}

// subscript reads _x or _{...} and returns its canonical print.
func (p *parser) subscript() string {
	p.want("_")
	if p.take("{") {
		var sb strings.Builder
		depth := 1
		for p.i < len(p.toks) {
			t := p.toks[p.i]
			p.i++
			if t.kind == tOp && t.text == "{" {
				depth++
			}
			if t.kind == tOp && t.text == "}" {
				if depth--; depth == 0 {
					break
				}
			}
			sb.WriteString(t.text)
		}
		return sb.String()
	}
	t := p.peek()
	if t.kind == tEnd {
		p.syntax("nothing after _")
	}
	p.i++
	return t.text
}

func (p *parser) number(text string) *Node {
	if strings.HasSuffix(text, ".") { // 0.\overline{3}
		if t := p.peek(); t.kind == tCall && t.text == "overline" {
			p.i++
			return p.recurring(text)
		}
		text = text[:len(text)-1]
	} else if t := p.peek(); t.kind == tCall && t.text == "overline" && strings.Contains(text, ".") {
		p.i++
		return p.recurring(text)
	}
	r, decimals := parseDecimal(text, p.b)
	n := &Node{Kind: Number, Num: r, Decimals: decimals, Name: text}
	if p.take(furtherDigits) {
		n = n.saying(func(b *beside) { b.endless = true })
	}
	if p.isOp("_") {
		sub := p.subscript()
		n.numeral(sub, p.b)
		return n
	}
	if t := p.peek(); t.kind == tOp && t.text == ":" && clockLike(text) {
		return p.clock(n)
	}
	if clockLike(text) && (p.peek().kind == tWord || p.peek().kind == tLetter || p.peek().kind == tText) {
		return p.hour(n)
	}
	if p.isOp("'") && p.at(1).kind == tNumber && p.at(2).text == "'" && p.at(3).text == "'" { // 5'6\"
		inches, _ := parseDecimal(p.at(1).text, p.b)
		p.i += 4
		if sum := compound(inUnit(n, "ft"), inUnit(&Node{Kind: Number, Num: inches, Decimals: -1}, "in")); sum != nil {
			return sum
		}
		p.syntax("feet and inches")
	}
	return n
}

// parseDecimal reads digits, a point and an exponent exactly.
func parseDecimal(text string, b *budget) (*big.Rat, int) {
	decimals := -1
	mantissa, exp := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa = text[:i]
		neg := false
		digits := text[i+1:]
		if digits[0] == '-' || digits[0] == '+' {
			neg = digits[0] == '-'
			digits = digits[1:]
		}
		for _, c := range digits {
			if exp = exp*10 + int(c-'0'); exp > b.Bits/3 {
				b.fail()
			}
		}
		if neg {
			exp = -exp
		}
		decimals = max(0, -exp)
	}
	whole, frac := mantissa, ""
	if i := strings.IndexByte(mantissa, '.'); i >= 0 {
		whole, frac = mantissa[:i], mantissa[i+1:]
		decimals = max(0, len(frac)-exp)
	}
	digits := strings.TrimLeft(whole+frac, "0")
	if len(digits)*10/3 > b.Bits {
		b.fail()
	}
	b.spend(len(digits) * len(digits) / 512)
	n := new(big.Int)
	if digits != "" {
		n.SetString(digits, 10)
	}
	shift := exp - len(frac)
	r := new(big.Rat).SetInt(n)
	if shift != 0 {
		p := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(shift, -shift))), nil)
		b.spend(p.BitLen() * p.BitLen() / 8192)
		if shift > 0 {
			r.Mul(r, new(big.Rat).SetInt(p))
		} else {
			r.SetFrac(n, p)
		}
	}
	return r, decimals
}

// recurring reads the digits under the bar of 0.1\overline{6}.
func (p *parser) recurring(prefix string) *Node {
	brace := p.take("{")
	t := p.peek()
	if t.kind != tNumber || strings.ContainsAny(t.text, ".eE") || len(t.text) > 60 || len(prefix) > 200 {
		p.syntax("digits expected under the bar")
	}
	p.i++
	if brace {
		p.want("}")
	}
	head, _ := parseDecimal(strings.TrimSuffix(prefix, "."), p.b)
	places := 0
	if i := strings.IndexByte(prefix, '.'); i >= 0 {
		places = len(prefix) - i - 1
	}
	period, _ := parseDecimal(t.text, p.b)
	ten := big.NewInt(10)
	nines := new(big.Int).Exp(ten, big.NewInt(int64(len(t.text))), nil)
	nines.Sub(nines, big.NewInt(1))
	den := new(big.Int).Mul(nines, new(big.Int).Exp(ten, big.NewInt(int64(places)), nil))
	period.Quo(period, new(big.Rat).SetInt(den))
	return &Node{Kind: Number, Num: head.Add(head, period), Decimals: -1}
}

// numeral marks a number as written in a base; a subscript that is no base, or digits outside it, leave a symbol.
func (n *Node) numeral(sub string, b *budget) {
	base := 0
	for _, c := range sub {
		if c < '0' || c > '9' || base > 36 {
			base = 0
			break
		}
		base = base*10 + int(c-'0')
	}
	switch strings.ToLower(sub) {
	case "two", "binary":
		base = 2
	case "eight":
		base = 8
	case "ten":
		base = 10
	}
	valid := base >= 2 && base <= 36
	for _, c := range n.Name {
		valid = valid && c >= '0' && c < '0'+rune(base)
	}
	if !valid {
		*n = Node{Kind: Symbol, Name: n.Name + "_" + sub}
		return
	}
	if base == 10 {
		return
	}
	b.spend(len(n.Name) * len(n.Name) / 512)
	v, ok := new(big.Int).SetString(n.Name, base)
	if !ok {
		*n = Node{Kind: Symbol, Name: n.Name + "_" + sub}
		return
	}
	n.Name = strings.TrimLeft(n.Name, "0")
	n.Num, n.Base = new(big.Rat).SetInt(v), base
}
