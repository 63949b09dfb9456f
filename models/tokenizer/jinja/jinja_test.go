package jinja

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// testCases were rendered by Jinja 3.1.6 in the environment published templates are written for: sandboxed, immutable,
// trim_blocks, lstrip_blocks, loop controls, tojson without escapes.
type testCases struct {
	Vars  json.RawMessage `json:"vars"`
	Cases []struct {
		Template string `json:"template"`
		Text     string `json:"text"`
		Error    bool   `json:"error"`
	} `json:"cases"`
}

func loadCases(t testing.TB) (testCases, map[string]any) {
	t.Helper()
	raw, err := os.ReadFile("testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var c testCases
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	v, err := FromJSON(c.Vars)
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]any{}
	for i, key := range v.(*Dict).keys {
		vars[key.(string)] = v.(*Dict).values[i]
	}
	return c, vars
}

func render(source string, vars map[string]any) (string, error) {
	tmpl, err := Parse(source)
	if err != nil {
		return "", err
	}
	return tmpl.Render(vars, Limits{})
}

func TestRendersLikeJinja(t *testing.T) {
	cases, vars := loadCases(t)
	for _, c := range cases.Cases {
		got, err := render(c.Template, vars)
		switch {
		case c.Error && err == nil:
			t.Errorf("%q: %q, want an error", c.Template, got)
		case !c.Error && (err != nil || got != c.Text):
			t.Errorf("%q: %q (%v), want %q", c.Template, got, err, c.Text)
		}
	}
}

// hostile templates ask for more time or memory than there is. Each has to end in an error, and to say that a limit was
// the reason.
var hostile = map[string]string{
	"long loop":             "{% for i in range(10**15) %}{% endfor %}",
	"nested loops":          strings.Repeat("{% for i in range(10000) %}", 8) + strings.Repeat("{% endfor %}", 8),
	"huge string":           "{{ 'a' * 10**12 }}",
	"huge string, turned":   "{{ 10**12 * 'a' }}",
	"huge list":             "{{ [1] * 10**12 }}",
	"doubling":              "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
	"doubling lists":        "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
	"doubling by joining":   "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s.join(['a','b','c']) %}{% endfor %}",
	"doubling by replacing": "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s.replace('a','aa') %}{% endfor %}",
	"replacing nothing":     "{% set x = 'a' * 100000 %}{{ x.replace('', x) }}",
	"output":                "{% for i in range(100000) %}{{ s * 1000 }}{% endfor %}",
	"macro calls itself":    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
	"macro calls twice":     "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
	"wide indent":           "{{ 'a\nb'|indent(10**12) }}",
	"wide indent of JSON": "{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = [ns.l] %}{% endfor %}" +
		"{% for i in range(1000) %}{% set x = ns.l|tojson(indent=64) %}{% endfor %}",
	"lists within lists": "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
	"equal, deep": "{% set ns = namespace(l=[], k=[]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}" +
		"{% set ns.k = [ns.k, ns.k] %}{% endfor %}{{ ns.l == ns.k }}",
	"printing, wide": "{% set ns = namespace(l=[]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
	"unique of many": "{% set x = range(30000)|list %}{% for i in range(100) %}{% set y = x|unique %}{% endfor %}",
	"searching":      "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{% set y = 'ab' in x %}{% endfor %}",
	"slices":         "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{% set y = x[::2] %}{% endfor %}",
	"lengths":        "{% set x = 'a' * 1000000 %}{% for i in range(1000000) %}{% set y = x|length %}{% endfor %}",
	"long sum":       "{{ " + strings.Repeat("1 + ", 3000) + "1 }}",
	"filters":        "{{ ('a' * 1000000)" + strings.Repeat("|upper", 150) + " }}",
}

func TestHostileTemplatesEnd(t *testing.T) {
	_, vars := loadCases(t)
	for name, source := range hostile {
		_, err := render(source, vars)
		var e *Error
		if !errors.As(err, &e) || !e.Budget {
			t.Errorf("%s: %v, want a limit to be reached", name, err)
		}
	}
}

// Each limit holds without the other.
func TestLimits(t *testing.T) {
	for source, limits := range map[string]Limits{
		"{{ 'a' * 1001 }}": {Steps: 1 << 40, Bytes: 1000},
		"{% for i in range(40) %}{{ 'abcdefghijklmnopqrstuvwxyz' }}{% endfor %}": {Steps: 1 << 40, Bytes: 1000},
		"{% for i in 'abcdefghijklmnopqrstuvwxyz' %}{% endfor %}":                {Steps: 100, Bytes: 1 << 40},
	} {
		tmpl, err := Parse(source)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tmpl.Render(nil, Limits{Steps: 1 << 40, Bytes: 1 << 40}); err != nil {
			t.Errorf("%s: %v without limits", source, err)
		}
		var e *Error
		if _, err := tmpl.Render(nil, limits); !errors.As(err, &e) || !e.Budget {
			t.Errorf("%s: %v, want a limit to be reached", source, err)
		}
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	for name, source := range map[string]string{
		"parentheses": "{{ " + strings.Repeat("(", 100000) + "1" + strings.Repeat(")", 100000) + " }}",
		"lists":       "{{ " + strings.Repeat("[", 100000) + " }}",
		"not":         "{{ " + strings.Repeat("not ", 100000) + "1 }}",
		"minus":       "{{ " + strings.Repeat("-", 100000) + "1 }}",
		"if":          strings.Repeat("{% if 1 %}", 100000) + strings.Repeat("{% endif %}", 100000),
		"attributes":  "{{ a" + strings.Repeat(".a", 100000) + " }}",
		"calls":       "{{ a" + strings.Repeat("()", 100000) + " }}",
		"conditions":  "{{ " + strings.Repeat("1 if 1 else ", 50000) + "1 }}",
		"open tags":   strings.Repeat("{%", 200000),
		"open braces": strings.Repeat("{", 400000),
		"comments":    strings.Repeat("{#", 200000),
		"too long":    strings.Repeat("a", maxSource+1),
	} {
		if _, err := render(source, nil); err == nil && name != "open braces" {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTheTemplateCanRefuse(t *testing.T) {
	_, err := render("a\n{{ raise_exception('roles must alternate') }}", nil)
	var e *Error
	if !errors.As(err, &e) || !e.Raised || e.Line != 2 || e.Problem != "roles must alternate" {
		t.Errorf("%v", err)
	}
}

// Rendering is the same whatever order Go's maps come in, and leaves what it was given as it was.
func TestVariablesOfGo(t *testing.T) {
	vars := map[string]any{"m": []any{map[string]any{"b": 1, "a": "x", "c": nil, "d": 2.5, "e": true}}}
	for range 20 {
		got, err := render("{{ m[0]|tojson }}", vars)
		if want := `{"a": "x", "b": 1, "c": null, "d": 2.5, "e": true}`; err != nil || got != want {
			t.Fatalf("%q (%v), want %q", got, err, want)
		}
	}
	if _, err := render("{{ x }}", map[string]any{"x": struct{}{}}); err == nil {
		t.Error("a struct is accepted as a variable")
	}
}

func FuzzRender(f *testing.F) {
	cases, vars := loadCases(f)
	for _, c := range cases.Cases {
		f.Add(c.Template)
	}
	for _, source := range hostile {
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		tmpl, err := Parse(source)
		if err != nil {
			return
		}
		limits := Limits{Steps: 100_000, Bytes: 1_000_000}
		a, errA := tmpl.Render(vars, limits)
		b, errB := tmpl.Render(vars, limits)
		if a != b || (errA == nil) != (errB == nil) {
			t.Errorf("rendered twice: %q (%v) and %q (%v)", a, errA, b, errB)
		}
		if len(a) > limits.Bytes {
			t.Errorf("%d bytes of output", len(a))
		}
	})
}
