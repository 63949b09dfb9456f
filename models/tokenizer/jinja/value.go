package jinja

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Values are nil, bool, int64, float64, string and these. Nothing but a namespace changes once it is made.
type (
	undefined struct{ name string }
	list      struct {
		items []any
		tuple bool
	}
	// Dict is a dictionary that keeps its keys in order.
	Dict struct {
		keys   []any
		values []any
		index  map[any]int
	}
	namespace struct{ vars map[string]any }
	function  func(r *run, a call) any
	macro     struct {
		stmt  macroStmt
		scope *scope
	}
)

// call are the evaluated arguments of a call.
type call struct {
	args   []any
	names  []string
	values []any
}

// arg returns the argument at a position or of a name.
func (a call) arg(i int, name string) (any, bool) {
	if i < len(a.args) {
		return a.args[i], true
	}
	for j, n := range a.names {
		if n == name {
			return a.values[j], true
		}
	}
	return nil, false
}

func (d *Dict) get(key any) (any, bool) {
	if !hashable(key) {
		return nil, false
	}
	i, ok := d.index[key]
	if !ok {
		return nil, false
	}
	return d.values[i], true
}

func (d *Dict) set(key, value any) {
	if d.index == nil {
		d.index = map[any]int{}
	}
	if i, ok := d.index[key]; ok {
		d.values[i] = value
		return
	}
	d.index[key] = len(d.keys)
	d.keys, d.values = append(d.keys, key), append(d.values, value)
}

func hashable(key any) bool {
	switch key.(type) {
	case nil, bool, int64, float64, string:
		return true
	}
	return false
}

// FromJSON decodes a JSON text, keeping the order of the keys of its objects.
func FromJSON(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	v, err := decodeValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("text after the JSON value")
	}
	return v, nil
}

func decodeValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("JSON nested more than %d deep", maxDepth)
	}
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		if i, err := t.Int64(); err == nil {
			return i, nil
		}
		return t.Float64()
	case json.Delim:
		if t == '[' {
			l := &list{}
			for dec.More() {
				v, err := decodeValue(dec, depth+1)
				if err != nil {
					return nil, err
				}
				l.items = append(l.items, v)
			}
			_, err := dec.Token()
			return l, err
		}
		d := &Dict{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			v, err := decodeValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			d.set(key.(string), v)
		}
		_, err := dec.Token()
		return d, err
	}
	return t, nil
}

// convert turns what a caller gives into a value, and returns its size in bytes.
func (r *run) convert(v any) (any, int) {
	r.enter()
	defer r.leave()
	switch v := v.(type) {
	case nil, bool, int64, float64:
		return v, 8
	case int:
		return int64(v), 8
	case string:
		return v, len(v) + 8
	case []any:
		l, size := &list{items: make([]any, len(v))}, 8
		for i, item := range v {
			value, n := r.convert(item)
			l.items[i] = value
			size += n + 8
		}
		return l, size
	case map[string]any:
		d, size := &Dict{}, 8
		for _, key := range slices.Sorted(maps.Keys(v)) {
			value, n := r.convert(v[key])
			d.set(key, value)
			size += n + len(key) + 8
		}
		return d, size
	case *list:
		size := 8
		for _, item := range v.items {
			_, n := r.convert(item)
			size += n + 8
		}
		return v, size
	case *Dict:
		size := 8
		for i := range v.keys {
			_, n := r.convert(v.values[i])
			size += n + 16
			if s, ok := v.keys[i].(string); ok {
				size += len(s)
			}
		}
		return v, size
	}
	r.fail("a variable of type %T is not supported", v)
	return nil, 0
}

func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case undefined:
		return fmt.Sprintf("undefined (%s)", v.name)
	case bool:
		return "boolean"
	case int64, float64:
		return "number"
	case string:
		return "string"
	case *list:
		return "list"
	case *Dict:
		return "dictionary"
	case *namespace:
		return "namespace"
	}
	return "function"
}

func truth(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case *list:
		return len(v.items) > 0
	case *Dict:
		return len(v.keys) > 0
	}
	return true
}

// number returns a number as float64; booleans count, as in the language.
func number(v any) (f float64, isFloat, ok bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, false, true
		}
		return 0, false, true
	case int64:
		return float64(v), false, true
	case float64:
		return v, true, true
	}
	return 0, false, false
}

// integer returns a whole number.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int64:
		return v, true
	}
	return 0, false
}

func (r *run) equal(a, b any) bool {
	r.enter()
	defer r.leave()
	if x, _, ok := number(a); ok {
		i, isInt := a.(int64)
		if j, ok := b.(int64); ok && isInt {
			return i == j
		}
		y, _, ok := number(b)
		return ok && x == y
	}
	switch x := a.(type) {
	case nil:
		return b == nil
	case undefined:
		_, ok := b.(undefined)
		return ok
	case string:
		y, ok := b.(string)
		r.step(min(len(x), len(y)) / 16)
		return ok && x == y
	case *list:
		y, ok := b.(*list)
		if !ok || len(x.items) != len(y.items) || x.tuple != y.tuple {
			return false
		}
		for i := range x.items {
			if r.step(1); !r.equal(x.items[i], y.items[i]) {
				return false
			}
		}
		return true
	case *Dict:
		y, ok := b.(*Dict)
		if !ok || len(x.keys) != len(y.keys) {
			return false
		}
		for i, key := range x.keys {
			r.step(1)
			if v, ok := y.get(key); !ok || !r.equal(x.values[i], v) {
				return false
			}
		}
		return true
	case *namespace:
		return a == b
	}
	return false
}

// order compares two numbers, strings or lists.
func (r *run) order(a, b any) int {
	r.enter()
	defer r.leave()
	if x, ok := integer(a); ok {
		if y, ok := integer(b); ok {
			return cmp.Compare(x, y)
		}
	}
	x, _, okX := number(a)
	y, _, okY := number(b)
	if okX && okY {
		return cmp.Compare(x, y)
	}
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			r.step(min(len(x), len(y)) / 16)
			return strings.Compare(x, y)
		}
	}
	if x, ok := a.(*list); ok {
		if y, ok := b.(*list); ok {
			for i := range min(len(x.items), len(y.items)) {
				if r.step(1); !r.equal(x.items[i], y.items[i]) {
					return r.order(x.items[i], y.items[i])
				}
			}
			return cmp.Compare(len(x.items), len(y.items))
		}
	}
	r.fail("%s and %s cannot be compared", typeName(a), typeName(b))
	return 0
}

// contains is the operator in.
func (r *run) contains(container, v any) bool {
	switch c := container.(type) {
	case undefined:
		return false
	case string:
		s, ok := v.(string)
		if !ok {
			r.fail("%s in a string", typeName(v))
		}
		r.step(len(c) + len(s))
		return strings.Contains(c, s)
	case *list:
		for _, item := range c.items {
			if r.step(1); r.equal(item, v) {
				return true
			}
		}
		return false
	case *Dict:
		_, ok := c.get(v)
		return ok
	}
	r.fail("%s is not a container", typeName(container))
	return false
}

// items returns what a loop over a value goes through.
func (r *run) items(v any) []any {
	switch v := v.(type) {
	case undefined:
		return nil
	case *list:
		return v.items
	case *Dict:
		return v.keys
	case string:
		r.alloc(32 * len(v))
		out := make([]any, 0, len(v))
		for _, c := range v {
			out = append(out, string(c))
		}
		return out
	}
	r.fail("%s cannot be iterated over", typeName(v))
	return nil
}

// text is what printing a value gives.
func (r *run) text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case undefined:
		return ""
	}
	var b strings.Builder
	r.repr(&b, v)
	return b.String()
}

// repr writes a value as Python would.
func (r *run) repr(b *strings.Builder, v any) {
	r.enter()
	defer r.leave()
	before := b.Len()
	defer func() { r.alloc(b.Len() - before) }()
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case undefined:
		b.WriteString("Undefined")
	case bool:
		b.WriteString(map[bool]string{true: "True", false: "False"}[v])
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		b.WriteString(floatText(v))
	case string:
		reprString(b, v)
	case *list:
		open, end := "[", "]"
		if v.tuple {
			if open, end = "(", ")"; len(v.items) == 1 {
				end = ",)"
			}
		}
		b.WriteString(open)
		for i, item := range v.items {
			if i > 0 {
				b.WriteString(", ")
			}
			r.repr(b, item)
		}
		b.WriteString(end)
	case *Dict:
		b.WriteByte('{')
		for i, key := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			r.repr(b, key)
			b.WriteString(": ")
			r.repr(b, v.values[i])
		}
		b.WriteByte('}')
	default:
		b.WriteString("<" + typeName(v) + ">")
	}
}

func floatText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func reprString(b *strings.Builder, s string) {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteByte(quote)
	for _, c := range s {
		switch {
		case c == rune(quote) || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f || c < 0x100 && !unicode.IsPrint(c):
			fmt.Fprintf(b, `\x%02x`, c)
		case !unicode.IsPrint(c) && c < 0x10000:
			fmt.Fprintf(b, `\u%04x`, c)
		case !unicode.IsPrint(c):
			fmt.Fprintf(b, `\U%08x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte(quote)
}

// json writes a value as JSON; indent < 0 is one line.
func (r *run) json(b *strings.Builder, v any, indent, level int, sorted bool) {
	r.enter()
	defer r.leave()
	before := b.Len()
	defer func() { r.alloc(b.Len() - before) }()
	open := func(c byte) { b.WriteByte(c) }
	item := func(i int) {
		if i > 0 {
			b.WriteByte(',')
		}
		if indent >= 0 {
			r.alloc(indent * (level + 1))
			b.WriteByte('\n')
			b.WriteString(strings.Repeat(" ", indent*(level+1)))
		} else if i > 0 {
			b.WriteByte(' ')
		}
	}
	closing := func(n int, c byte) {
		if n > 0 && indent >= 0 {
			b.WriteByte('\n')
			b.WriteString(strings.Repeat(" ", indent*level))
		}
		b.WriteByte(c)
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		switch {
		case math.IsNaN(v):
			b.WriteString("NaN")
		case math.IsInf(v, 0):
			b.WriteString(strings.Replace(floatText(v), "inf", "Infinity", 1))
		default:
			b.WriteString(floatText(v))
		}
	case string:
		jsonString(b, v)
	case *list:
		open('[')
		for i, x := range v.items {
			item(i)
			r.json(b, x, indent, level+1, sorted)
		}
		closing(len(v.items), ']')
	case *Dict:
		order := make([]int, len(v.keys))
		for i := range order {
			order[i] = i
		}
		if sorted {
			slices.SortFunc(order, func(i, j int) int { return r.order(v.keys[i], v.keys[j]) })
		}
		open('{')
		for n, i := range order {
			item(n)
			switch key := v.keys[i].(type) {
			case string:
				jsonString(b, key)
			default:
				b.WriteByte('"')
				r.json(b, key, -1, 0, false)
				b.WriteByte('"')
			}
			b.WriteString(": ")
			r.json(b, v.values[i], indent, level+1, sorted)
		}
		closing(len(v.keys), '}')
	default:
		r.fail("tojson: %s has no JSON form", typeName(v))
	}
}

func jsonString(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, c := range s {
		switch c {
		case '"', '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case '\b':
			b.WriteString(`\b`)
		case '\f':
			b.WriteString(`\f`)
		default:
			if c < ' ' {
				fmt.Fprintf(b, `\u%04x`, c)
			} else {
				b.WriteRune(c)
			}
		}
	}
	b.WriteByte('"')
}

// length counts characters, items or keys.
func (r *run) length(v any) int64 {
	switch v := v.(type) {
	case string:
		r.step(len(v) / 16)
		return int64(utf8.RuneCountInString(v))
	case *list:
		return int64(len(v.items))
	case *Dict:
		return int64(len(v.keys))
	case undefined:
		return 0
	}
	r.fail("%s has no length", typeName(v))
	return 0
}
