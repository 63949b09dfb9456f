package jinja

import (
	"fmt"
	"slices"
	"strconv"
)

// maxDepth bounds how deep expressions and statements nest, when parsed and when run.
const maxDepth = 200

type parser struct {
	tokens []token
	at     int
	depth  int
}

// failure carries an error up the recursive descent to Parse.
type failure struct{ err *Error }

func (p *parser) fail(format string, args ...any) {
	panic(failure{&Error{Line: p.peek().line, Problem: fmt.Sprintf(format, args...)}})
}

func (p *parser) peek() token { return p.tokens[min(p.at, len(p.tokens)-1)] }

func (p *parser) next() token {
	t := p.peek()
	p.at++
	return t
}

func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		p.fail("nested more than %d deep", maxDepth)
	}
}

func (p *parser) leave() { p.depth-- }

func (p *parser) isOp(ops ...string) bool {
	t := p.peek()
	return t.kind == kindOperator && slices.Contains(ops, t.text)
}

func (p *parser) isWord(words ...string) bool {
	t := p.peek()
	return t.kind == kindName && slices.Contains(words, t.text)
}

func (p *parser) acceptOp(op string) bool {
	if p.isOp(op) {
		p.at++
		return true
	}
	return false
}

func (p *parser) acceptWord(word string) bool {
	if p.isWord(word) {
		p.at++
		return true
	}
	return false
}

func (p *parser) expectOp(op string) {
	if !p.acceptOp(op) {
		p.fail("%s where %s should be", p.peek(), op)
	}
}

func (p *parser) expect(k kind, what string) token {
	if p.peek().kind != k {
		p.fail("%s where %s should be", p.peek(), what)
	}
	return p.next()
}

func (p *parser) endTag() { p.expect(kindEndTag, "%}") }

// body parses statements up to a tag that begins with one of the words, which it consumes and returns; without words, up
// to the end of the template.
func (p *parser) body(until ...string) ([]stmt, string) {
	p.enter()
	defer p.leave()
	var out []stmt
	begin := p.peek().line
	for {
		switch t := p.next(); t.kind {
		case kindEOF:
			if len(until) > 0 {
				p.at--
				p.fail("a tag of line %d is never closed: %q is missing", begin, until[len(until)-1])
			}
			return out, ""
		case kindText:
			out = append(out, textStmt{at(t.line), t.text})
		case kindOpen:
			e := p.expressions()
			p.expect(kindClose, "}}")
			out = append(out, outputStmt{at(t.line), e})
		case kindTag:
			word := p.expect(kindName, "the name of a tag")
			if slices.Contains(until, word.text) {
				return out, word.text
			}
			out = append(out, p.statement(word))
		default:
			p.at--
			p.fail("unexpected %s", t)
		}
	}
}

func (p *parser) statement(word token) stmt {
	line := at(word.line)
	switch word.text {
	case "if":
		s := ifStmt{at: line}
		for {
			s.conds = append(s.conds, p.expressions())
			p.endTag()
			body, end := p.body("elif", "else", "endif")
			s.bodies = append(s.bodies, body)
			if end == "elif" {
				continue
			}
			if end == "else" {
				p.endTag()
				s.otherwise, _ = p.body("endif")
			}
			p.endTag()
			return s
		}
	case "for":
		s := forStmt{at: line, targets: p.targets()}
		if !p.acceptWord("in") {
			p.fail("%s where \"in\" should be", p.peek())
		}
		s.in = p.orExpr()
		if p.isOp(",") {
			s.in = p.tuple(s.in)
		}
		if p.acceptWord("if") {
			s.cond = p.expression()
		}
		if p.isWord("recursive") {
			p.fail("recursive loops are not supported")
		}
		p.endTag()
		var end string
		s.body, end = p.body("else", "endfor")
		if end == "else" {
			p.endTag()
			s.otherwise, _ = p.body("endfor")
		}
		p.endTag()
		return s
	case "set":
		s := setStmt{at: line, targets: p.targets()}
		if len(s.targets) == 1 && p.acceptOp(".") {
			s.attr = p.expect(kindName, "a name").text
		}
		if p.acceptOp("=") {
			s.value = p.expressions()
			p.endTag()
			return s
		}
		if len(s.targets) > 1 {
			p.fail("%s where = should be", p.peek())
		}
		s.filters = p.filters()
		p.endTag()
		s.body, _ = p.body("endset")
		p.endTag()
		return s
	case "macro":
		s := macroStmt{at: line, name: p.expect(kindName, "a name").text}
		p.expectOp("(")
		for !p.acceptOp(")") {
			s.params = append(s.params, p.expect(kindName, "a parameter").text)
			if p.acceptOp("=") {
				s.defaults = append(s.defaults, p.expression())
			} else if len(s.defaults) > 0 {
				p.fail("a parameter without a default after one with a default")
			}
			if !p.isOp(")") {
				p.expectOp(",")
			}
		}
		p.endTag()
		s.body, _ = p.body("endmacro")
		p.endTag()
		return s
	case "filter":
		first := p.expect(kindName, "a filter").text
		s := filterStmt{at: line, filters: []filter{{name: first, args: p.callArguments()}}}
		s.filters = append(s.filters, p.filters()...)
		p.endTag()
		s.body, _ = p.body("endfilter")
		p.endTag()
		return s
	case "generation":
		p.endTag()
		s := blockStmt{at: line}
		s.body, _ = p.body("endgeneration")
		p.endTag()
		return s
	case "break", "continue":
		p.endTag()
		return loopControl{line, word.text == "break"}
	}
	p.at--
	p.fail("tag %q is not supported", word.text)
	return nil
}

func (p *parser) targets() []string {
	paren := p.acceptOp("(")
	var out []string
	for {
		out = append(out, p.expect(kindName, "a name").text)
		if !p.acceptOp(",") {
			break
		}
	}
	if paren {
		p.expectOp(")")
	}
	return out
}

// filters parses |name(args)... of tags.
func (p *parser) filters() []filter {
	var out []filter
	for p.acceptOp("|") {
		n := p.expect(kindName, "a filter").text
		out = append(out, filter{name: n, args: p.callArguments()})
	}
	return out
}

// expressions parses an expression, or several with commas between, which are a tuple.
func (p *parser) expressions() expr {
	e := p.expression()
	if p.isOp(",") {
		return p.tuple(e)
	}
	return e
}

func (p *parser) tuple(first expr) expr {
	items := []expr{first}
	for p.acceptOp(",") {
		if t := p.peek(); t.kind == kindClose || t.kind == kindEndTag || p.isOp(")") {
			break
		}
		items = append(items, p.expression())
	}
	return listExpr{items, true}
}

func (p *parser) expression() expr {
	p.enter()
	defer p.leave()
	e := p.orExpr()
	for p.acceptWord("if") {
		c := conditional{cond: p.orExpr(), then: e}
		if p.acceptWord("else") {
			c.otherwise = p.expression()
		}
		e = c
	}
	return e
}

func (p *parser) orExpr() expr {
	e := p.andExpr()
	for p.acceptWord("or") {
		e = binary{"or", e, p.andExpr()}
	}
	return e
}

func (p *parser) andExpr() expr {
	e := p.notExpr()
	for p.acceptWord("and") {
		e = binary{"and", e, p.notExpr()}
	}
	return e
}

func (p *parser) notExpr() expr {
	if p.acceptWord("not") {
		p.enter()
		defer p.leave()
		return unary{"not", p.notExpr()}
	}
	return p.comparison()
}

func (p *parser) comparison() expr {
	e := p.sum()
	var c compare
	for {
		op := ""
		switch {
		case p.isOp("==", "!=", "<", ">", "<=", ">="):
			op = p.next().text
		case p.acceptWord("in"):
			op = "in"
		case p.isWord("not") && p.at+1 < len(p.tokens) && p.tokens[p.at+1].kind == kindName && p.tokens[p.at+1].text == "in":
			p.at += 2
			op = "not in"
		}
		if op == "" {
			break
		}
		c.ops, c.rest = append(c.ops, op), append(c.rest, p.sum())
	}
	if len(c.ops) == 0 {
		return e
	}
	c.first = e
	return c
}

func (p *parser) sum() expr {
	e := p.concatenation()
	for p.isOp("+", "-") {
		e = binary{p.next().text, e, p.concatenation()}
	}
	return e
}

func (p *parser) concatenation() expr {
	e := p.product()
	for p.acceptOp("~") {
		e = binary{"~", e, p.product()}
	}
	return e
}

func (p *parser) product() expr {
	e := p.power()
	for p.isOp("*", "/", "//", "%") {
		e = binary{p.next().text, e, p.power()}
	}
	return e
}

func (p *parser) power() expr {
	e := p.unary(true)
	for p.acceptOp("**") {
		e = binary{"**", e, p.unary(true)}
	}
	return e
}

func (p *parser) unary(filters bool) expr {
	p.enter()
	defer p.leave()
	var e expr
	if p.isOp("-", "+") {
		e = unary{p.next().text, p.unary(false)}
	} else {
		e = p.postfix(p.primary())
	}
	if filters {
		e = p.filtered(e)
	}
	return e
}

func (p *parser) primary() expr {
	t := p.next()
	switch t.kind {
	case kindName:
		switch t.text {
		case "true", "True":
			return literal{true}
		case "false", "False":
			return literal{false}
		case "none", "None":
			return literal{nil}
		case "if", "else", "elif", "and", "or", "in", "is":
			p.at--
			p.fail("unexpected %q", t.text)
		}
		return name{t.text}
	case kindString:
		s := t.text
		for p.peek().kind == kindString {
			s += p.next().text
		}
		return literal{s}
	case kindInt:
		i, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			p.fail("number %.20s is too large", t.text)
		}
		return literal{i}
	case kindFloat:
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			p.fail("number %.20s is too large", t.text)
		}
		return literal{f}
	case kindOperator:
		switch t.text {
		case "(":
			if p.acceptOp(")") {
				return listExpr{tuple: true}
			}
			e := p.expressions()
			p.expectOp(")")
			return e
		case "[":
			var l listExpr
			for !p.acceptOp("]") {
				l.items = append(l.items, p.expression())
				if !p.isOp("]") {
					p.expectOp(",")
				}
			}
			return l
		case "{":
			var d dictExpr
			for !p.acceptOp("}") {
				d.keys = append(d.keys, p.expression())
				p.expectOp(":")
				d.values = append(d.values, p.expression())
				if !p.isOp("}") {
					p.expectOp(",")
				}
			}
			return d
		}
	}
	p.at--
	p.fail("unexpected %s", t)
	return nil
}

// postfix parses .name, [item] and (call) after a value. A chain of them nests, so its length is bounded like any depth.
func (p *parser) postfix(e expr) expr {
	for n := 0; ; n++ {
		if n > maxDepth {
			p.fail("nested more than %d deep", maxDepth)
		}
		switch {
		case p.acceptOp("."):
			t := p.next()
			switch t.kind {
			case kindName:
				e = getAttr{e, t.text}
			case kindInt:
				i, err := strconv.ParseInt(t.text, 10, 64)
				if err != nil {
					p.fail("number %.20s is too large", t.text)
				}
				e = getItem{e, literal{i}}
			default:
				p.at--
				p.fail("%s where a name should be", t)
			}
		case p.acceptOp("["):
			e = p.subscript(e)
		case p.isOp("("):
			e = callExpr{e, p.callArguments()}
		default:
			return e
		}
	}
}

func (p *parser) subscript(of expr) expr {
	var parts [3]expr
	part, colon := 0, false
	for !p.isOp("]") {
		if p.acceptOp(":") {
			colon = true
			if part++; part == 3 {
				p.fail("a slice has at most three parts")
			}
			continue
		}
		if parts[part] != nil {
			p.fail("%s where ] should be", p.peek())
		}
		parts[part] = p.expression()
	}
	p.expectOp("]")
	if colon {
		return slice{of, parts[0], parts[1], parts[2]}
	}
	if parts[0] == nil {
		p.fail("empty subscript")
	}
	return getItem{of, parts[0]}
}

// filtered parses |filter, is test and calls after a value.
func (p *parser) filtered(e expr) expr {
	for n := 0; ; n++ {
		if n > maxDepth {
			p.fail("nested more than %d deep", maxDepth)
		}
		switch {
		case p.acceptOp("|"):
			word := p.expect(kindName, "a filter").text
			e = filter{e, word, p.callArguments()}
		case p.acceptWord("is"):
			t := test{of: e, not: p.acceptWord("not")}
			t.name = p.expect(kindName, "a test").text
			if p.isOp("(") {
				t.args = p.callArguments()
			} else if k := p.peek(); (k.kind == kindName && !p.isWord("else", "or", "and", "is", "if", "in", "not")) ||
				k.kind == kindString || k.kind == kindInt || k.kind == kindFloat || p.isOp("[", "{") {
				t.args.args = []expr{p.postfix(p.primary())}
			}
			e = t
		case p.isOp("("):
			e = callExpr{e, p.callArguments()}
		default:
			return e
		}
	}
}

// callArguments parses (a, b, name=c), or nothing.
func (p *parser) callArguments() arguments {
	var a arguments
	if !p.acceptOp("(") {
		return a
	}
	for !p.acceptOp(")") {
		if p.isOp("*", "**") {
			p.fail("* arguments are not supported")
		}
		if t := p.peek(); t.kind == kindName && p.at+1 < len(p.tokens) && p.tokens[p.at+1].kind == kindOperator && p.tokens[p.at+1].text == "=" {
			p.at += 2
			a.names, a.values = append(a.names, t.text), append(a.values, p.expression())
		} else {
			if len(a.names) > 0 {
				p.fail("an argument without a name after one with a name")
			}
			a.args = append(a.args, p.expression())
		}
		if !p.isOp(")") {
			p.expectOp(",")
		}
	}
	return a
}
