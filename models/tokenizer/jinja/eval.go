package jinja

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// maxRunDepth bounds how deep evaluation recurses, macros that call themselves included.
const maxRunDepth = 2000

// run is the state of one rendering.
type run struct {
	scope *scope
	out   *strings.Builder
	line  int
	steps int
	bytes int
	depth int
}

type scope struct {
	vars   map[string]any
	parent *scope
}

func (r *run) fail(format string, args ...any) {
	panic(failure{&Error{Line: r.line, Problem: fmt.Sprintf(format, args...)}})
}

// step counts work.
func (r *run) step(n int) {
	if r.steps -= n; r.steps < 0 {
		panic(failure{&Error{Line: r.line, Problem: "takes more steps than the limit allows", Budget: true}})
	}
}

// alloc counts memory that is about to be used, and the work of filling it. It counts all that is ever made: what is
// alive at a time can only be less.
func (r *run) alloc(n int) {
	if n < 0 || n > r.bytes {
		panic(failure{&Error{Line: r.line, Problem: "makes more text than the limit allows", Budget: true}})
	}
	r.bytes -= n
	r.step(n / 16)
}

func (r *run) enter() {
	if r.depth++; r.depth > maxRunDepth {
		panic(failure{&Error{Line: r.line, Problem: fmt.Sprintf("nested more than %d deep", maxRunDepth), Budget: true}})
	}
}

func (r *run) leave() { r.depth-- }

func (r *run) lookup(name string) any {
	for s := r.scope; s != nil; s = s.parent {
		if v, ok := s.vars[name]; ok {
			return v
		}
	}
	return undefined{name}
}

// within runs f in a scope inside the given one.
func (r *run) within(parent *scope, f func()) {
	outer := r.scope
	r.scope = &scope{vars: map[string]any{}, parent: parent}
	f()
	r.scope = outer
}

// capture returns what f writes.
func (r *run) capture(f func()) string {
	outer := r.out
	var b strings.Builder
	r.out = &b
	f()
	r.out = outer
	return b.String()
}

func (r *run) write(s string) {
	r.alloc(len(s))
	r.out.WriteString(s)
}

// signal says that a loop is to go on or to stop.
type signal uint8

const (
	goOn signal = iota
	nextItem
	stopLoop
)

func (r *run) runBody(body []stmt) signal {
	r.enter()
	defer r.leave()
	for _, s := range body {
		r.line = s.position()
		r.step(1)
		if sig := r.runStmt(s); sig != goOn {
			return sig
		}
	}
	return goOn
}

func (r *run) runStmt(s stmt) signal {
	switch s := s.(type) {
	case textStmt:
		r.write(s.text)
	case outputStmt:
		r.write(r.text(r.eval(s.of)))
	case ifStmt:
		for i, cond := range s.conds {
			if truth(r.eval(cond)) {
				return r.runBody(s.bodies[i])
			}
		}
		return r.runBody(s.otherwise)
	case forStmt:
		return r.runFor(s)
	case setStmt:
		r.runSet(s)
	case macroStmt:
		r.scope.vars[s.name] = &macro{s, r.scope}
	case filterStmt:
		r.within(r.scope, func() {
			var v any = r.capture(func() { r.runBody(s.body) })
			for _, f := range s.filters {
				v = r.applyFilter(f.name, v, r.evalArguments(f.args))
			}
			r.write(r.text(v))
		})
	case blockStmt:
		r.within(r.scope, func() { r.runBody(s.body) })
	case loopControl:
		if s.stop {
			return stopLoop
		}
		return nextItem
	}
	return goOn
}

func (r *run) assign(targets []string, v any) {
	if len(targets) == 1 {
		r.scope.vars[targets[0]] = v
		return
	}
	items := r.items(v)
	if len(items) != len(targets) {
		r.fail("%d values for %d names", len(items), len(targets))
	}
	for i, name := range targets {
		r.scope.vars[name] = items[i]
	}
}

func (r *run) runSet(s setStmt) {
	var v any
	if s.value != nil {
		v = r.eval(s.value)
	} else {
		r.within(r.scope, func() { v = r.capture(func() { r.runBody(s.body) }) })
		for _, f := range s.filters {
			v = r.applyFilter(f.name, v, r.evalArguments(f.args))
		}
	}
	if s.attr == "" {
		r.assign(s.targets, v)
		return
	}
	ns, ok := r.lookup(s.targets[0]).(*namespace)
	if !ok {
		r.fail("attributes can be set on a namespace only, %q is none", s.targets[0])
	}
	ns.vars[s.attr] = v
}

func (r *run) runFor(s forStmt) signal {
	items := r.items(r.eval(s.in))
	if s.cond != nil {
		var kept []any
		for _, item := range items {
			r.step(1)
			r.alloc(16)
			r.within(r.scope, func() {
				r.assign(s.targets, item)
				if truth(r.eval(s.cond)) {
					kept = append(kept, item)
				}
			})
		}
		items = kept
	}
	if len(items) == 0 {
		return r.runBody(s.otherwise)
	}
	l := &loop{items: items}
	for i, item := range items {
		r.step(8) // a scope costs more than a node
		l.at = i
		var sig signal
		r.within(r.scope, func() {
			r.assign(s.targets, item)
			r.scope.vars["loop"] = l
			sig = r.runBody(s.body)
		})
		if sig == stopLoop {
			break
		}
	}
	return goOn
}

// loop is the variable of that name within a loop.
type loop struct {
	items []any
	at    int
	last  *list // of changed
}

func (l *loop) attr(name string) any {
	i, n := int64(l.at), int64(len(l.items))
	switch name {
	case "index":
		return i + 1
	case "index0":
		return i
	case "revindex":
		return n - i
	case "revindex0":
		return n - i - 1
	case "first":
		return i == 0
	case "last":
		return i == n-1
	case "length":
		return n
	case "depth":
		return int64(1) // only recursive loops go deeper
	case "depth0":
		return int64(0)
	case "previtem":
		if i > 0 {
			return l.items[i-1]
		}
	case "nextitem":
		if i < n-1 {
			return l.items[i+1]
		}
	case "cycle":
		return function(func(r *run, a call) any {
			if len(a.args) == 0 {
				r.fail("loop.cycle needs an argument")
			}
			return a.args[l.at%len(a.args)]
		})
	case "changed":
		return function(func(r *run, a call) any {
			now := &list{items: a.args}
			same := l.last != nil && r.equal(l.last, now)
			l.last = now
			return !same
		})
	}
	return undefined{"loop." + name}
}

func (r *run) eval(e expr) any {
	r.step(1)
	r.enter()
	defer r.leave()
	switch e := e.(type) {
	case literal:
		return e.value
	case name:
		return r.lookup(e.name)
	case listExpr:
		r.alloc(16 * len(e.items))
		return &list{r.evalAll(e.items), e.tuple}
	case dictExpr:
		r.alloc(64 * len(e.keys))
		d := &Dict{}
		for i := range e.keys {
			key := r.eval(e.keys[i])
			if !hashable(key) {
				r.fail("%s cannot be a key", typeName(key))
			}
			d.set(key, r.eval(e.values[i]))
		}
		return d
	case getAttr:
		return r.attr(r.eval(e.of), e.name)
	case getItem:
		return r.item(r.eval(e.of), r.eval(e.key))
	case slice:
		return r.slice(e)
	case callExpr:
		return r.call(r.eval(e.of), r.evalArguments(e.args))
	case filter:
		return r.applyFilter(e.name, r.eval(e.of), r.evalArguments(e.args))
	case test:
		return r.applyTest(e.name, r.eval(e.of), r.evalArguments(e.args)) != e.not
	case unary:
		v := r.eval(e.of)
		if e.op == "not" {
			return !truth(v)
		}
		f, isFloat, ok := number(v)
		if !ok {
			r.fail("%s has no sign", typeName(v))
		}
		if e.op == "+" {
			return v
		}
		if isFloat {
			return -f
		}
		i, _ := integer(v)
		return -i
	case binary:
		return r.binary(e)
	case compare:
		left := r.eval(e.first)
		for i, op := range e.ops {
			right := r.eval(e.rest[i])
			if !r.compare(op, left, right) {
				return false
			}
			left = right
		}
		return true
	case conditional:
		if truth(r.eval(e.cond)) {
			return r.eval(e.then)
		}
		if e.otherwise == nil {
			return undefined{"else"}
		}
		return r.eval(e.otherwise)
	}
	r.fail("unknown expression %T", e)
	return nil
}

func (r *run) evalAll(exprs []expr) []any {
	out := make([]any, len(exprs))
	for i, e := range exprs {
		out[i] = r.eval(e)
	}
	return out
}

func (r *run) evalArguments(a arguments) call {
	r.alloc(16 * (len(a.args) + len(a.values)))
	return call{r.evalAll(a.args), a.names, r.evalAll(a.values)}
}

func (r *run) compare(op string, a, b any) bool {
	switch op {
	case "==":
		return r.equal(a, b)
	case "!=":
		return !r.equal(a, b)
	case "in":
		return r.contains(b, a)
	case "not in":
		return !r.contains(b, a)
	case "<":
		return r.order(a, b) < 0
	case "<=":
		return r.order(a, b) <= 0
	case ">":
		return r.order(a, b) > 0
	}
	return r.order(a, b) >= 0
}

func (r *run) binary(e binary) any {
	left := r.eval(e.left)
	switch e.op { // the right side only where it counts
	case "and":
		if !truth(left) {
			return left
		}
		return r.eval(e.right)
	case "or":
		if truth(left) {
			return left
		}
		return r.eval(e.right)
	}
	right := r.eval(e.right)
	if v, ok := r.joined(e.op, left, right); ok {
		return v
	}
	x, floatX, okX := number(left)
	y, floatY, okY := number(right)
	if !okX || !okY {
		r.fail("%s %s %s is not defined", typeName(left), e.op, typeName(right))
	}
	if (e.op == "/" || e.op == "//" || e.op == "%") && y == 0 {
		r.fail("division by zero")
	}
	if e.op == "/" || floatX || floatY {
		return floatOperators[e.op](x, y)
	}
	i, _ := integer(left)
	j, _ := integer(right)
	if e.op == "**" {
		if p := math.Pow(x, y); j < 0 {
			return p
		} else if math.Abs(p) < 1<<53 {
			return int64(p)
		}
	} else if v, ok := integerOperators[e.op](i, j); ok {
		return v
	}
	r.fail("%d %s %d is too large", i, e.op, j)
	return nil
}

// joined applies the operators that make texts and lists of texts and lists; ok is false where the operands are none.
func (r *run) joined(op string, left, right any) (v any, ok bool) {
	switch op {
	case "~":
		a, b := r.text(left), r.text(right)
		r.alloc(len(a) + len(b))
		return a + b, true
	case "+":
		switch a := left.(type) {
		case string:
			if b, ok := right.(string); ok {
				r.alloc(len(a) + len(b))
				return a + b, true
			}
		case *list:
			if b, ok := right.(*list); ok {
				r.alloc(16 * (len(a.items) + len(b.items)))
				return &list{slices.Concat(a.items, b.items), a.tuple}, true
			}
		}
	case "*":
		a, b := left, right
		if _, ok := integer(a); ok {
			a, b = b, a
		}
		n, ok := integer(b)
		if !ok {
			return nil, false
		}
		switch a := a.(type) {
		case string:
			return r.repeat(a, n), true
		case *list:
			return r.repeatList(a, n), true
		}
	case "%":
		if is[string](left) {
			r.fail("string formatting with %% is not supported")
		}
	}
	return nil, false
}

var floatOperators = map[string]func(x, y float64) float64{
	"+":  func(x, y float64) float64 { return x + y },
	"-":  func(x, y float64) float64 { return x - y },
	"*":  func(x, y float64) float64 { return x * y },
	"/":  func(x, y float64) float64 { return x / y },
	"//": func(x, y float64) float64 { return math.Floor(x / y) },
	"%":  func(x, y float64) float64 { return x - y*math.Floor(x/y) },
	"**": math.Pow,
}

// integerOperators give whole numbers; ok is false where the result is none that fits. Division rounds down.
var integerOperators = map[string]func(i, j int64) (n int64, ok bool){
	"+": func(i, j int64) (int64, bool) { s := i + j; return s, (s > i) == (j > 0) },
	"-": func(i, j int64) (int64, bool) { d := i - j; return d, (d < i) == (j > 0) },
	"*": func(i, j int64) (int64, bool) {
		p := i * j
		return p, i == 0 || p/i == j && !(i == -1 && j == math.MinInt64)
	},
	"//": func(i, j int64) (int64, bool) {
		q := i / j
		if i%j != 0 && (i < 0) != (j < 0) {
			q--
		}
		return q, true
	},
	"%": func(i, j int64) (int64, bool) {
		m := i % j
		if m != 0 && (m < 0) != (j < 0) {
			m += j
		}
		return m, true
	},
}

func (r *run) repeatList(l *list, n int64) *list {
	n = max(n, 0)
	if len(l.items) > 0 && n > int64(r.bytes/16/len(l.items)) {
		r.alloc(r.bytes + 1)
	}
	r.alloc(16 * len(l.items) * int(n))
	return &list{slices.Repeat(l.items, int(n)), l.tuple}
}

func (r *run) repeat(s string, n int64) string {
	n = max(n, 0)
	if len(s) > 0 && n > int64(r.bytes/len(s)) {
		r.alloc(r.bytes + 1)
	}
	r.alloc(len(s) * int(n))
	return strings.Repeat(s, int(n))
}

// attr is v.name: a method or attribute, else an item.
func (r *run) attr(v any, name string) any {
	if u, ok := v.(undefined); ok {
		r.fail("%q of %q, which is not defined", name, u.name)
	}
	if strings.HasPrefix(name, "_") {
		return undefined{name}
	}
	switch v := v.(type) {
	case string:
		if m, ok := stringMethods[name]; ok {
			return function(func(r *run, a call) any { return m(r, v, a) })
		}
	case *list:
		if m, ok := listMethods[name]; ok {
			return function(func(r *run, a call) any { return m(r, v, a) })
		}
	case *Dict:
		if m, ok := dictMethods[name]; ok {
			return function(func(r *run, a call) any { return m(r, v, a) })
		}
		if value, ok := v.get(name); ok {
			return value
		}
	case *namespace:
		if value, ok := v.vars[name]; ok {
			return value
		}
	case *loop:
		return v.attr(name)
	}
	return undefined{name}
}

// item is v[key]: an item, else an attribute.
func (r *run) item(v, key any) any {
	switch v := v.(type) {
	case undefined:
		r.fail("an item of %q, which is not defined", v.name)
	case *Dict:
		if value, ok := v.get(key); ok {
			return value
		}
	case *list:
		if i, ok := integer(key); ok {
			if i < 0 {
				i += int64(len(v.items))
			}
			if i >= 0 && i < int64(len(v.items)) {
				return v.items[i]
			}
			return undefined{"item"}
		}
	case string:
		if i, ok := integer(key); ok {
			r.step(len(v) / 4)
			runes := []rune(v)
			if i < 0 {
				i += int64(len(runes))
			}
			if i >= 0 && i < int64(len(runes)) {
				return string(runes[i])
			}
			return undefined{"item"}
		}
	}
	if name, ok := key.(string); ok {
		return r.attr(v, name)
	}
	return undefined{"item"}
}

func (r *run) slice(e slice) any {
	v := r.eval(e.of)
	var items []any
	var runes []rune
	n := 0
	switch v := v.(type) {
	case string:
		r.alloc(5 * len(v))
		runes = []rune(v)
		n = len(runes)
	case *list:
		items = v.items
		n = len(items)
	default:
		r.fail("%s cannot be sliced", typeName(v))
	}
	bound := func(e expr, otherwise int) int {
		if e == nil {
			return otherwise
		}
		v := r.eval(e)
		if v == nil {
			return otherwise
		}
		i, ok := integer(v)
		if !ok {
			r.fail("%s is not the bound of a slice", typeName(v))
		}
		return int(max(min(i, math.MaxInt32), math.MinInt32))
	}
	step := bound(e.step, 1)
	if step == 0 {
		r.fail("the step of a slice is 0")
	}
	low, high := 0, n
	if step < 0 {
		low, high = -1, n-1
	}
	fit := func(i int) int {
		if i < 0 {
			i += n
		}
		return max(low, min(i, high))
	}
	start, stop := low, high
	if step < 0 {
		start, stop = high, low
	}
	if s := bound(e.start, math.MinInt); s != math.MinInt {
		start = fit(s)
	}
	if s := bound(e.stop, math.MinInt); s != math.MinInt {
		stop = fit(s)
	}
	var picked []int
	r.alloc(8 * n)
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		picked = append(picked, i)
	}
	if items == nil && runes != nil || n == 0 {
		if _, ok := v.(string); ok {
			out := make([]rune, len(picked))
			for i, at := range picked {
				out[i] = runes[at]
			}
			return string(out)
		}
	}
	r.alloc(16 * len(picked))
	out := make([]any, len(picked))
	for i, at := range picked {
		out[i] = items[at]
	}
	return &list{items: out}
}

func (r *run) call(f any, a call) any {
	r.enter()
	defer r.leave()
	switch f := f.(type) {
	case function:
		return f(r, a)
	case *macro:
		return r.callMacro(f, a)
	case undefined:
		r.fail("%q is not defined", f.name)
	}
	r.fail("%s cannot be called", typeName(f))
	return nil
}

func (r *run) callMacro(m *macro, a call) any {
	if len(a.args) > len(m.stmt.params) {
		r.fail("macro %s takes %d arguments, not %d", m.stmt.name, len(m.stmt.params), len(a.args))
	}
	for _, name := range a.names {
		if !slices.Contains(m.stmt.params, name) {
			r.fail("macro %s has no parameter %q", m.stmt.name, name)
		}
	}
	line := r.line
	var out string
	r.within(m.scope, func() {
		first := len(m.stmt.params) - len(m.stmt.defaults)
		for i, name := range m.stmt.params {
			v, ok := a.arg(i, name)
			if !ok && i >= first {
				v = r.eval(m.stmt.defaults[i-first])
			} else if !ok {
				v = undefined{name}
			}
			r.scope.vars[name] = v
		}
		out = r.capture(func() { r.runBody(m.stmt.body) })
	})
	r.line = line
	return out
}
