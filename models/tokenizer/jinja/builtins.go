package jinja

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// functions are the global ones. There is none that tells the time: the same conversation has to give the same text.
var functions = map[string]function{
	"range": func(r *run, a call) any {
		bounds := make([]int64, len(a.args))
		for i, v := range a.args {
			n, ok := integer(v)
			if !ok {
				r.fail("range of a %s", typeName(v))
			}
			bounds[i] = n
		}
		start, stop, step := int64(0), int64(0), int64(1)
		switch len(bounds) {
		case 1:
			stop = bounds[0]
		case 2:
			start, stop = bounds[0], bounds[1]
		case 3:
			start, stop, step = bounds[0], bounds[1], bounds[2]
		default:
			r.fail("range takes one to three numbers")
		}
		if step == 0 {
			r.fail("the step of a range is 0")
		}
		l := &list{}
		for i := start; step > 0 && i < stop || step < 0 && i > stop; {
			r.alloc(32)
			l.items = append(l.items, i)
			next := i + step
			if (next > i) != (step > 0) {
				break
			}
			i = next
		}
		return l
	},
	"namespace": func(r *run, a call) any {
		ns := &namespace{map[string]any{}}
		for i, name := range a.names {
			ns.vars[name] = a.values[i]
		}
		return ns
	},
	"dict": func(r *run, a call) any {
		d := &Dict{}
		r.alloc(64 * len(a.names))
		for i, name := range a.names {
			d.set(name, a.values[i])
		}
		return d
	},
	"raise_exception": func(r *run, a call) any {
		v, _ := a.arg(0, "message")
		panic(failure{&Error{Line: r.line, Problem: r.text(v), Raised: true}})
	},
}

// str returns an argument that has to be a string.
func (r *run) str(a call, i int, name, what string) string {
	v, _ := a.arg(i, name)
	s, ok := v.(string)
	if !ok {
		r.fail("%s: %s where a string should be", what, typeName(v))
	}
	return s
}

// count returns an argument that has to be a whole number, or otherwise.
func (r *run) count(a call, i int, name string, otherwise int64) int64 {
	v, ok := a.arg(i, name)
	if !ok || v == nil {
		return otherwise
	}
	n, ok := integer(v)
	if !ok {
		r.fail("%s where a whole number should be", typeName(v))
	}
	return n
}

// cutset returns the characters that strip takes off, "" for white space.
func (r *run) cutset(a call, what string) string {
	if v, ok := a.arg(0, "chars"); !ok || v == nil {
		return ""
	}
	return r.str(a, 0, "chars", what)
}

func trim(s, chars string, left, right bool) string {
	in := unicode.IsSpace
	if chars != "" {
		set := map[rune]bool{}
		for _, c := range chars {
			set[c] = true
		}
		in = func(c rune) bool { return set[c] }
	}
	if left {
		s = strings.TrimLeftFunc(s, in)
	}
	if right {
		s = strings.TrimRightFunc(s, in)
	}
	return s
}

// replace is strings.Replace with its memory counted; n < 0 replaces all.
func (r *run) replace(s, old, with string, n int64) string {
	r.step(len(s))
	found := int64(strings.Count(s, old))
	if n >= 0 {
		found = min(found, n)
	}
	if grow := int64(len(with) - len(old)); grow > 0 && found > int64(r.bytes)/grow {
		r.alloc(r.bytes + 1)
	}
	r.alloc(max(0, len(s)+int(found)*(len(with)-len(old))))
	return strings.Replace(s, old, with, int(found))
}

func (r *run) strings(parts []string) *list {
	l := &list{items: make([]any, len(parts))}
	size := 0
	for i, p := range parts {
		l.items[i] = p
		size += len(p) + 32
	}
	r.alloc(size)
	return l
}

func (r *run) affix(s string, a call, has func(string, string) bool) any {
	v, _ := a.arg(0, "prefix")
	if l, ok := v.(*list); ok {
		for _, item := range l.items {
			if p, ok := item.(string); ok && has(s, p) {
				return true
			}
		}
		return false
	}
	return has(s, r.str(a, 0, "prefix", "startswith or endswith"))
}

func (r *run) split(s string, a call, right bool) any {
	r.step(len(s))
	limit := r.count(a, 1, "maxsplit", -1)
	if v, ok := a.arg(0, "sep"); !ok || v == nil {
		fields := strings.Fields(s)
		if limit >= 0 && int64(len(fields)) > limit+1 {
			r.fail("split at white space with a limit is not supported")
		}
		return r.strings(fields)
	}
	sep := r.str(a, 0, "sep", "split")
	if sep == "" {
		r.fail("split at an empty string")
	}
	parts := strings.Split(s, sep)
	if n := int(min(limit, math.MaxInt32)) + 1; limit >= 0 && len(parts) > n {
		if right {
			head := strings.Join(parts[:len(parts)-n+1], sep)
			parts = append([]string{head}, parts[len(parts)-n+1:]...)
		} else {
			parts = strings.SplitN(s, sep, n)
		}
	}
	return r.strings(parts)
}

func all(s string, in func(rune) bool) bool {
	for _, c := range s {
		if !in(c) {
			return false
		}
	}
	return s != ""
}

func capitalize(s string) string {
	c, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return ""
	}
	return string(unicode.ToTitle(c)) + strings.ToLower(s[n:])
}

func title(s string) string {
	var b strings.Builder
	word := false
	for _, c := range s {
		switch {
		case !unicode.IsLetter(c):
			word = false
			b.WriteRune(c)
		case word:
			b.WriteRune(unicode.ToLower(c))
		default:
			word = true
			b.WriteRune(unicode.ToTitle(c))
		}
	}
	return b.String()
}

// simple methods and filters of strings: their result is at most three times as long as the string.
func plain(f func(string) string) func(r *run, s string, a call) any {
	return func(r *run, s string, a call) any {
		r.alloc(3 * len(s))
		return f(s)
	}
}

func question(f func(string) bool) func(r *run, s string, a call) any {
	return func(r *run, s string, a call) any {
		r.step(len(s) / 4)
		return f(s)
	}
}

var stringMethods = map[string]func(r *run, s string, a call) any{
	"strip": func(r *run, s string, a call) any {
		r.step(len(s) / 4)
		return trim(s, r.cutset(a, "strip"), true, true)
	},
	"lstrip": func(r *run, s string, a call) any {
		r.step(len(s) / 4)
		return trim(s, r.cutset(a, "lstrip"), true, false)
	},
	"rstrip": func(r *run, s string, a call) any {
		r.step(len(s) / 4)
		return trim(s, r.cutset(a, "rstrip"), false, true)
	},
	"startswith": func(r *run, s string, a call) any { return r.affix(s, a, strings.HasPrefix) },
	"endswith":   func(r *run, s string, a call) any { return r.affix(s, a, strings.HasSuffix) },
	"removeprefix": func(r *run, s string, a call) any {
		return strings.TrimPrefix(s, r.str(a, 0, "prefix", "removeprefix"))
	},
	"removesuffix": func(r *run, s string, a call) any {
		return strings.TrimSuffix(s, r.str(a, 0, "suffix", "removesuffix"))
	},
	"split":      func(r *run, s string, a call) any { return r.split(s, a, false) },
	"rsplit":     func(r *run, s string, a call) any { return r.split(s, a, true) },
	"splitlines": func(r *run, s string, a call) any { return r.strings(lines(s)) },
	"upper":      plain(strings.ToUpper),
	"lower":      plain(strings.ToLower),
	"title":      plain(title),
	"capitalize": plain(capitalize),
	"replace": func(r *run, s string, a call) any {
		return r.replace(s, r.str(a, 0, "old", "replace"), r.str(a, 1, "new", "replace"), r.count(a, 2, "count", -1))
	},
	"join": func(r *run, s string, a call) any {
		v, _ := a.arg(0, "iterable")
		return r.join(r.items(v), s)
	},
	"find": func(r *run, s string, a call) any {
		r.step(len(s))
		i := strings.Index(s, r.str(a, 0, "sub", "find"))
		if i < 0 {
			return int64(-1)
		}
		return int64(utf8.RuneCountInString(s[:i]))
	},
	"rfind": func(r *run, s string, a call) any {
		r.step(len(s))
		i := strings.LastIndex(s, r.str(a, 0, "sub", "rfind"))
		if i < 0 {
			return int64(-1)
		}
		return int64(utf8.RuneCountInString(s[:i]))
	},
	"count": func(r *run, s string, a call) any {
		r.step(len(s))
		return int64(strings.Count(s, r.str(a, 0, "sub", "count")))
	},
	"isdigit": question(func(s string) bool { return all(s, unicode.IsDigit) }),
	"isalpha": question(func(s string) bool { return all(s, unicode.IsLetter) }),
	"isalnum": question(func(s string) bool {
		return all(s, func(c rune) bool { return unicode.IsLetter(c) || unicode.IsNumber(c) })
	}),
	"isspace": question(func(s string) bool { return all(s, unicode.IsSpace) }),
	"isupper": question(func(s string) bool { return strings.ToUpper(s) == s && strings.ToLower(s) != s }),
	"islower": question(func(s string) bool { return strings.ToLower(s) == s && strings.ToUpper(s) != s }),
}

func lines(s string) []string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// Methods that would change a list or a dictionary are missing: templates are run by their publishers without them too.
var listMethods = map[string]func(r *run, l *list, a call) any{
	"index": func(r *run, l *list, a call) any {
		v, _ := a.arg(0, "value")
		for i, item := range l.items {
			if r.step(1); r.equal(item, v) {
				return int64(i)
			}
		}
		r.fail("index: not in the list")
		return nil
	},
	"count": func(r *run, l *list, a call) any {
		v, _ := a.arg(0, "value")
		n := int64(0)
		for _, item := range l.items {
			if r.step(1); r.equal(item, v) {
				n++
			}
		}
		return n
	},
}

var dictMethods = map[string]func(r *run, d *Dict, a call) any{
	"items":  func(r *run, d *Dict, a call) any { return r.pairs(d) },
	"keys":   func(r *run, d *Dict, a call) any { return &list{items: d.keys} },
	"values": func(r *run, d *Dict, a call) any { return &list{items: d.values} },
	"get": func(r *run, d *Dict, a call) any {
		key, _ := a.arg(0, "key")
		if v, ok := d.get(key); ok {
			return v
		}
		v, _ := a.arg(1, "default")
		return v
	},
}

func (r *run) pairs(d *Dict) *list {
	r.alloc(80 * len(d.keys))
	l := &list{items: make([]any, len(d.keys))}
	for i, key := range d.keys {
		l.items[i] = &list{[]any{key, d.values[i]}, true}
	}
	return l
}

func (r *run) join(items []any, sep string) string {
	var b strings.Builder
	for i, item := range items {
		if i > 0 {
			r.alloc(len(sep))
			b.WriteString(sep)
		}
		s := r.text(item)
		r.alloc(len(s) + 1)
		b.WriteString(s)
	}
	return b.String()
}

// ofString makes a filter of a method of strings.
func ofString(name string) func(r *run, v any, a call) any {
	return func(r *run, v any, a call) any { return stringMethods[name](r, r.text(v), a) }
}

var filters map[string]func(r *run, v any, a call) any

func init() { // filters refer to each other
	filters = map[string]func(r *run, v any, a call) any{
		"trim":       ofString("strip"),
		"upper":      ofString("upper"),
		"lower":      ofString("lower"),
		"title":      ofString("title"),
		"capitalize": ofString("capitalize"),
		"replace":    ofString("replace"),
		"string":     func(r *run, v any, a call) any { return r.text(v) },
		"safe":       func(r *run, v any, a call) any { return v },
		"length":     func(r *run, v any, a call) any { return r.length(v) },
		"count":      func(r *run, v any, a call) any { return r.length(v) },
		"escape":     escape,
		"e":          escape,
		"tojson":     tojson,
		"default":    fallback,
		"d":          fallback,
		"indent":     indent,
		"join": func(r *run, v any, a call) any {
			sep := ""
			if _, ok := a.arg(0, "d"); ok {
				sep = r.str(a, 0, "d", "join")
			}
			items := r.items(v)
			if attr, ok := a.arg(1, "attribute"); ok {
				items = r.each(items, func(item any) any { return r.path(item, attr, false) })
			}
			return r.join(items, sep)
		},
		"first": func(r *run, v any, a call) any {
			if items := r.items(v); len(items) > 0 {
				return items[0]
			}
			return undefined{"first"}
		},
		"last": func(r *run, v any, a call) any {
			if items := r.items(v); len(items) > 0 {
				return items[len(items)-1]
			}
			return undefined{"last"}
		},
		"list": func(r *run, v any, a call) any { return r.newList(slices.Clone(r.items(v))) },
		"reverse": func(r *run, v any, a call) any {
			items := slices.Clone(r.items(v))
			slices.Reverse(items)
			if _, ok := v.(string); ok {
				return r.join(items, "")
			}
			return r.newList(items)
		},
		"items": func(r *run, v any, a call) any {
			switch v := v.(type) {
			case undefined:
				return &list{}
			case *Dict:
				return r.pairs(v)
			}
			r.fail("items of a %s", typeName(v))
			return nil
		},
		"dictsort": func(r *run, v any, a call) any {
			d, ok := v.(*Dict)
			if !ok {
				r.fail("dictsort of a %s", typeName(v))
			}
			l := r.pairs(d)
			r.sort(l.items, func(item any) any { return r.fold(item.(*list).items[0]) })
			return l
		},
		"sort": func(r *run, v any, a call) any {
			items := slices.Clone(r.items(v))
			attr, byAttr := a.arg(2, "attribute")
			exact, _ := a.arg(1, "case_sensitive")
			r.sort(items, func(item any) any {
				if byAttr {
					item = r.path(item, attr, false)
				}
				if truth(exact) {
					return item
				}
				return r.fold(item)
			})
			if down, ok := a.arg(0, "reverse"); ok && truth(down) {
				slices.Reverse(items)
			}
			return r.newList(items)
		},
		"unique": func(r *run, v any, a call) any {
			var kept []any
			for _, item := range r.items(v) {
				if !r.contains(&list{items: kept}, item) {
					kept = append(kept, item)
				}
			}
			return r.newList(kept)
		},
		"map": func(r *run, v any, a call) any {
			items := r.items(v)
			if attr, ok := (call{names: a.names, values: a.values}).arg(0, "attribute"); ok {
				otherwise, has := (call{names: a.names, values: a.values}).arg(0, "default")
				return r.newList(r.each(items, func(item any) any {
					if got := r.path(item, attr, has); got != any(missing) {
						return got
					}
					return otherwise
				}))
			}
			name := r.str(a, 0, "", "map")
			rest := call{a.args[1:], a.names, a.values}
			return r.newList(r.each(items, func(item any) any { return r.applyFilter(name, item, rest) }))
		},
		"select":     func(r *run, v any, a call) any { return r.choose(v, a, false, true) },
		"reject":     func(r *run, v any, a call) any { return r.choose(v, a, false, false) },
		"selectattr": func(r *run, v any, a call) any { return r.choose(v, a, true, true) },
		"rejectattr": func(r *run, v any, a call) any { return r.choose(v, a, true, false) },
		"int": func(r *run, v any, a call) any {
			switch v := v.(type) {
			case float64:
				if math.Abs(v) < 1<<62 {
					return int64(v)
				}
			case string:
				if i, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
					return i
				}
				if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil && math.Abs(f) < 1<<62 {
					return int64(f)
				}
			default:
				if i, ok := integer(v); ok {
					return i
				}
			}
			return r.count(a, 0, "default", 0)
		},
		"float": func(r *run, v any, a call) any {
			if s, ok := v.(string); ok {
				if f, err := strconv.ParseFloat(strings.TrimSpace(s), 64); err == nil {
					return f
				}
			}
			if f, _, ok := number(v); ok {
				return f
			}
			if d, ok := a.arg(0, "default"); ok {
				return d
			}
			return 0.0
		},
		"abs": func(r *run, v any, a call) any {
			if i, ok := integer(v); ok {
				return max(i, -i)
			}
			f, _, ok := number(v)
			if !ok {
				r.fail("abs of a %s", typeName(v))
			}
			return math.Abs(f)
		},
		"round": func(r *run, v any, a call) any {
			f, _, ok := number(v)
			if !ok || r.count(a, 0, "precision", 0) != 0 {
				r.fail("round of a %s, or with a precision, is not supported", typeName(v))
			}
			return math.RoundToEven(f)
		},
		"sum": func(r *run, v any, a call) any {
			var total any = int64(0)
			for _, item := range r.items(v) {
				total = r.binary(binary{"+", literal{total}, literal{item}})
			}
			return total
		},
		"max": func(r *run, v any, a call) any { return r.extreme(v, 1) },
		"min": func(r *run, v any, a call) any { return r.extreme(v, -1) },
	}
}

func (r *run) newList(items []any) *list {
	r.alloc(16 * len(items))
	return &list{items: items}
}

func (r *run) each(items []any, f func(any) any) []any {
	r.alloc(16 * len(items))
	out := make([]any, len(items))
	for i, item := range items {
		r.step(1)
		out[i] = f(item)
	}
	return out
}

// missing is what path returns where there is nothing and a default is to take its place.
var missing = new(int)

// path follows an attribute of filters such as map: names and numbers with dots between.
func (r *run) path(v, attr any, hasDefault bool) any {
	keys := []any{attr}
	if s, ok := attr.(string); ok {
		keys = keys[:0]
		for _, part := range strings.Split(s, ".") {
			if i, err := strconv.ParseInt(part, 10, 64); err == nil {
				keys = append(keys, i)
			} else {
				keys = append(keys, part)
			}
		}
	}
	for _, key := range keys {
		v = r.item(v, key)
		if _, none := v.(undefined); none && hasDefault {
			return missing
		}
	}
	return v
}

func (r *run) fold(v any) any {
	if s, ok := v.(string); ok {
		r.alloc(len(s))
		return strings.ToLower(s)
	}
	return v
}

func (r *run) sort(items []any, key func(any) any) {
	keys := r.each(items, key)
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		r.step(1)
		return r.order(keys[i], keys[j])
	})
	sorted := r.each(items, func(any) any { return nil })
	for i, at := range order {
		sorted[i] = items[at]
	}
	copy(items, sorted)
}

func (r *run) extreme(v any, sign int) any {
	items := r.items(v)
	if len(items) == 0 {
		return undefined{"extreme"}
	}
	best := items[0]
	for _, item := range items[1:] {
		if r.step(1); sign*r.order(r.fold(item), r.fold(best)) > 0 {
			best = item
		}
	}
	return best
}

func (r *run) choose(v any, a call, byAttr, want bool) any {
	args := a.args
	var attr any
	if byAttr {
		if len(args) == 0 {
			r.fail("selectattr and rejectattr need an attribute")
		}
		attr, args = args[0], args[1:]
	}
	var kept []any
	for _, item := range r.items(v) {
		r.step(1)
		subject := item
		if byAttr {
			subject = r.path(item, attr, false)
		}
		ok := false
		if len(args) == 0 {
			ok = truth(subject)
		} else {
			name, isName := args[0].(string)
			if !isName {
				r.fail("%s where the name of a test should be", typeName(args[0]))
			}
			ok = r.applyTest(name, subject, call{args: args[1:]})
		}
		if ok == want {
			kept = append(kept, item)
		}
	}
	return r.newList(kept)
}

func escape(r *run, v any, a call) any {
	s := r.text(v)
	for _, p := range [][2]string{{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {`"`, "&#34;"}, {"'", "&#39;"}} {
		s = r.replace(s, p[0], p[1], -1)
	}
	return s
}

func tojson(r *run, v any, a call) any {
	width := int64(-1)
	if i, ok := (call{names: a.names, values: a.values}).arg(0, "indent"); ok && i != nil {
		if width, ok = integer(i); !ok || width < 0 || width > 64 {
			r.fail("tojson: the indent is not a number from 0 to 64")
		}
	}
	for _, name := range a.names {
		if name != "indent" && name != "ensure_ascii" && name != "sort_keys" {
			r.fail("tojson: argument %q is not supported", name)
		}
	}
	ascii, _ := (call{names: a.names, values: a.values}).arg(0, "ensure_ascii")
	if truth(ascii) {
		r.fail("tojson: ensure_ascii is not supported")
	}
	sorted, _ := (call{names: a.names, values: a.values}).arg(0, "sort_keys")
	var b strings.Builder
	r.json(&b, v, int(width), 0, truth(sorted))
	return b.String()
}

func fallback(r *run, v any, a call) any {
	otherwise, ok := a.arg(0, "default_value")
	if !ok {
		otherwise = ""
	}
	always, _ := a.arg(1, "boolean")
	if _, missing := v.(undefined); missing || truth(always) && !truth(v) {
		return otherwise
	}
	return v
}

func indent(r *run, v any, a call) any {
	s := r.text(v)
	prefix := ""
	if w, ok := a.arg(0, "width"); ok {
		switch w := w.(type) {
		case string:
			prefix = w
		case int64:
			prefix = r.repeat(" ", w)
		default:
			r.fail("indent by a %s", typeName(w))
		}
	} else {
		prefix = "    "
	}
	first, _ := a.arg(1, "first")
	blank, _ := a.arg(2, "blank")
	var b strings.Builder
	for i, line := range strings.Split(s, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		if (i > 0 || truth(first)) && (line != "" || truth(blank) || i == 0) {
			r.alloc(len(prefix))
			b.WriteString(prefix)
		}
		r.alloc(len(line) + 1)
		b.WriteString(line)
	}
	return b.String()
}

func (r *run) applyFilter(name string, v any, a call) any {
	r.step(1)
	f, ok := filters[name]
	if !ok {
		r.fail("filter %q is not supported", name)
	}
	return f(r, v, a)
}

func (r *run) applyTest(name string, v any, a call) bool {
	r.step(1)
	test, ok := tests[name]
	if !ok {
		r.fail("test %q is not supported", name)
	}
	return test(r, v, operand{name, a})
}

// operand is what stands behind a test: "x is divisibleby 3".
type operand struct {
	test string
	args call
}

func (o operand) value(r *run) any {
	x, ok := o.args.arg(0, "other")
	if !ok {
		r.fail("test %q needs an argument", o.test)
	}
	return x
}

var tests = map[string]func(r *run, v any, o operand) bool{
	"defined":   func(_ *run, v any, _ operand) bool { return !is[undefined](v) },
	"undefined": func(_ *run, v any, _ operand) bool { return is[undefined](v) },
	"none":      func(_ *run, v any, _ operand) bool { return v == nil },
	"true":      func(_ *run, v any, _ operand) bool { return v == true },
	"false":     func(_ *run, v any, _ operand) bool { return v == false },
	"boolean":   func(_ *run, v any, _ operand) bool { return is[bool](v) },
	"integer":   func(_ *run, v any, _ operand) bool { return is[int64](v) },
	"float":     func(_ *run, v any, _ operand) bool { return is[float64](v) },
	"number":    func(_ *run, v any, _ operand) bool { _, _, ok := number(v); return ok },
	"string":    func(_ *run, v any, _ operand) bool { return is[string](v) },
	"mapping":   func(_ *run, v any, _ operand) bool { return is[*Dict](v) },
	"sequence":  iterable,
	"iterable":  iterable,
	"callable":  func(_ *run, v any, _ operand) bool { return is[function](v) || is[*macro](v) },

	"equalto": equalTo, "eq": equalTo, "==": equalTo,
	"ne": notEqualTo, "!=": notEqualTo,
	"lt": less, "lessthan": less, "<": less,
	"le": atMost, "<=": atMost,
	"gt": more, "greaterthan": more, ">": more,
	"ge": atLeast, ">=": atLeast,
	"in": func(r *run, v any, o operand) bool { return r.contains(o.value(r), v) },
	"sameas": func(r *run, v any, o operand) bool {
		other := o.value(r)
		return typeName(v) == typeName(other) && r.equal(v, other)
	},

	"odd":  func(r *run, v any, o operand) bool { return r.whole(v, o.test)%2 != 0 },
	"even": func(r *run, v any, o operand) bool { return r.whole(v, o.test)%2 == 0 },
	"divisibleby": func(r *run, v any, o operand) bool {
		n, ok := integer(o.value(r))
		if !ok || n == 0 {
			r.fail("divisibleby needs a whole number other than 0")
		}
		return r.whole(v, o.test)%n == 0
	},
	"upper": func(r *run, v any, _ operand) bool {
		s := r.text(v)
		return strings.ToUpper(s) == s && strings.ToLower(s) != s
	},
	"lower": func(r *run, v any, _ operand) bool {
		s := r.text(v)
		return strings.ToLower(s) == s && strings.ToUpper(s) != s
	},
}

func is[T any](v any) bool {
	_, ok := v.(T)
	return ok
}

func iterable(_ *run, v any, _ operand) bool {
	return is[string](v) || is[*list](v) || is[*Dict](v) || is[undefined](v)
}

func equalTo(r *run, v any, o operand) bool    { return r.equal(v, o.value(r)) }
func notEqualTo(r *run, v any, o operand) bool { return !r.equal(v, o.value(r)) }
func less(r *run, v any, o operand) bool       { return r.order(v, o.value(r)) < 0 }
func atMost(r *run, v any, o operand) bool     { return r.order(v, o.value(r)) <= 0 }
func more(r *run, v any, o operand) bool       { return r.order(v, o.value(r)) > 0 }
func atLeast(r *run, v any, o operand) bool    { return r.order(v, o.value(r)) >= 0 }

// whole is the number that a test is of.
func (r *run) whole(v any, test string) int64 {
	n, ok := integer(v)
	if !ok {
		r.fail("test %q of a %s", test, typeName(v))
	}
	return n
}
