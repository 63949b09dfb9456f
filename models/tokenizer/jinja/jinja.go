// Package jinja renders the chat templates of published models: the part of the Jinja language that they use, with the
// white space rules and helper functions that they are written for. A template comes with the model and is as untrusted as
// the weights: it can reach nothing but the variables it is given, change none of them, and its nesting, its steps and
// the memory it asks for are bounded, so that rendering ends whatever the template says.
//
// Language: https://jinja.palletsprojects.com/en/stable/templates/. Not supported, and refused when a template is parsed:
// inheritance, include and import, call blocks, recursive loops.
package jinja

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxSource bounds the length of a template in bytes; published ones have up to 20 KB.
const maxSource = 1 << 20

// Limits bound the rendering of a template. The defaults are a few hundred times what published templates need.
type Limits struct {
	Steps int // evaluated nodes, and bytes and items that operations look at; 0: 4 million and 256 for every byte of input
	Bytes int // text and items that are made, in all; 0: 16 million and 64 for every byte of input
}

// Error says what is wrong with a template, or what went wrong when it was rendered.
type Error struct {
	Line    int
	Problem string
	Budget  bool // a limit was reached
	Raised  bool // the template itself refused its input, by raise_exception
}

func (e *Error) Error() string { return fmt.Sprintf("chat template, line %d: %s", e.Line, e.Problem) }

// Template is a parsed template. It is immutable.
type Template struct {
	body []stmt
}

// Parse parses a template.
func Parse(source string) (_ *Template, err error) {
	if len(source) > maxSource {
		return nil, &Error{Line: 1, Problem: fmt.Sprintf("%d bytes are more than the limit of %d", len(source), maxSource)}
	}
	if !utf8.ValidString(source) {
		return nil, &Error{Line: 1, Problem: "not valid UTF-8"}
	}
	tokens, err := lex(source)
	if err != nil {
		return nil, err
	}
	defer recoverFailure(&err)
	p := &parser{tokens: tokens}
	body, _ := p.body()
	return &Template{body}, nil
}

// Render runs the template. Values are nil, bool, int, int64, float64, string, []any, map[string]any (whose keys are taken
// in sorted order) and what FromJSON returns, nested in each other.
func (t *Template) Render(vars map[string]any, limits Limits) (_ string, err error) {
	defer recoverFailure(&err)
	r := &run{line: 1, steps: 1 << 60, bytes: 1 << 60}
	globals := &scope{vars: map[string]any{}}
	for name, f := range functions {
		globals.vars[name] = f
	}
	size := 0
	for name, v := range vars {
		value, n := r.convert(v)
		globals.vars[name] = value
		size += n
	}
	if r.steps = limits.Steps; r.steps == 0 {
		r.steps = 4_000_000 + 256*size
	}
	if r.bytes = limits.Bytes; r.bytes == 0 {
		r.bytes = 16_000_000 + 64*size
	}
	r.scope = &scope{vars: map[string]any{}, parent: globals}
	var out strings.Builder
	r.out = &out
	r.runBody(t.body)
	return out.String(), nil
}

func recoverFailure(err *error) {
	switch f := recover().(type) {
	case nil:
	case failure:
		*err = f.err
	default:
		panic(f)
	}
}
