package verify

import (
	"context"
	"errors"
	"strings"

	"github.com/millrace/millrace/transforms/label/verify/expr"
)

// MathVersion names the rules of the mathematical verifier. It changes whenever a verdict may.
const MathVersion = "math-5"

// MathConfig configures the mathematical verifier.
type MathConfig struct {
	Limits   expr.Limits `json:"limits" doc:"bounds of the work of one verdict"`
	Decimals int         `json:"decimals" range:"[0,inf)" doc:"places to which a decimal must agree with another number; 0: 6"`
	// Whoever may answer 45+73 need not add.
	Expressions bool `json:"expressions" doc:"an expression that still has an operation to do, as 45+73, is an answer where the reference answer is a number"`
	Echoes      bool `json:"echoes" doc:"an expression copied from the prompt is an answer"`
}

// Math extracts a response's answer and decides whether it is equivalent to the gold answer: numbers, expressions,
// sets, intervals, matrices, relations, words, options.
type Math struct {
	limits  expr.Limits
	options expr.Options
	echoes  bool
	version string
}

// NewMath returns the mathematical verifier.
func NewMath(c MathConfig) *Math {
	l, d := c.Limits, expr.DefaultLimits()
	for _, f := range []struct{ v, d *int }{{&l.Bytes, &d.Bytes}, {&l.Depth, &d.Depth}, {&l.Nodes, &d.Nodes}, {&l.Bits, &d.Bits},
		{&l.Terms, &d.Terms}, {&l.Steps, &d.Steps}} {
		if *f.v <= 0 {
			*f.v = *f.d
		}
	}
	return &Math{limits: l, options: expr.Options{Decimals: c.Decimals, Finished: !c.Expressions}, echoes: c.Echoes,
		version: version(MathVersion, MathConfig{}, c)}
}

func init() { Register("math", MathConfig{}) }

// New makes the verifier.
func (c MathConfig) New() (Verifier, error) { return NewMath(c), nil }

// Version is MathVersion, with a digest of a configuration that is not the default.
func (m *Math) Version() string { return m.version }

// answer is one reading of an answer's text.
type answer struct {
	text string
	node *expr.Node // nil where it is no mathematics
	err  error
	// other readings: 1,234 as a list, 1,5 with a decimal comma
	more []*expr.Node
}

// Verify decides one pair. It never returns an error.
func (m *Math) Verify(_ context.Context, gold Gold, response Response) (Result, error) {
	var res Result
	goldText := strings.TrimSpace(narrow(gold.Answer))
	if goldText == "" {
		return Result{Verdict: UnparsableAnswer, Reason: "the gold answer is empty"}, nil
	}
	if goldText == strings.TrimSpace(response.Text) {
		return Result{Verdict: Correct, Rule: "identical text", Extracted: short(goldText), From: "whole", Gold: short(goldText),
			Canonical: short(goldText)}, nil
	}
	g := m.goldAnswer(goldText)
	rest, open := afterThinking(narrow(tail(response.Text)))
	if open && response.Truncated {
		return Result{Verdict: Truncated, Gold: short(g.text), Reason: "the response ends inside its thinking"}, nil
	}
	r, from := m.responseAnswer(rest, g, response.Truncated)
	res.Extracted, res.From = short(r.text), from
	res.Gold, res.Canonical = short(g.text), short(r.text)
	if g.node != nil {
		res.Gold = short(g.node.String())
	}
	if r.node != nil {
		res.Canonical = short(r.node.String())
	}
	if from == "" {
		res.Verdict, res.Reason = UnparsableResponse, "no answer found"
		if response.Truncated {
			res.Verdict, res.Reason = Truncated, "the response was cut off before its answer"
		}
		return res, nil
	}
	if !m.echoes && response.Prompt != "" && repeated(r, from, rest, response.Prompt) {
		res.Verdict, res.Rule = Incorrect, "echo"
		return res, nil
	}
	if s := squeeze(g.text); s != "" && squeeze(r.text) == s {
		res.Verdict, res.Rule = Correct, "identical text"
		return res, nil
	}
	if !m.echoes && response.Prompt != "" && echoed(r, response.Prompt) {
		res.Verdict, res.Rule = Incorrect, "echo"
		return res, nil
	}
	return m.decide(res, g, r), nil
}

// repeated reports a response that is nothing but a part of the prompt's text, and more of it than an answer.
func repeated(r answer, from, response, prompt string) bool {
	const atom = 8 // a number, a name or an option of the prompt may well be the answer
	own := squeeze(strings.TrimSpace(response))
	return from != "boxed" && len(own) > 2*len(r.text)+atom && strings.Contains(squeeze(narrow(prompt)), own)
}

// echoed reports an expression that is copied from the prompt and is not written as the gold answer is.
func echoed(r answer, prompt string) bool {
	return r.node != nil && r.node.Works() && strings.Contains(squeeze(narrow(prompt)), squeeze(r.text))
}

func (m *Math) decide(res Result, g, r answer) Result {
	if asks(r.text) && !asks(g.text) {
		res.Verdict, res.Rule = Incorrect, "question"
		return res
	}
	if done, correct := optionsAgree(g.text, r.text); done {
		res.Rule = "choice"
		res.Verdict = Incorrect
		if correct {
			res.Verdict = Correct
		}
		return res
	}
	switch {
	case errors.Is(g.err, expr.ErrBudget), errors.Is(r.err, expr.ErrBudget):
		res.Verdict, res.Reason = Budget, "an answer is too large"
		return res
	case g.node == nil:
		res.Verdict, res.Reason = UnparsableAnswer, "the gold answer: "+g.err.Error()
		return res
	case r.node == nil:
		res.Verdict, res.Reason = UnparsableResponse, r.err.Error()
		return res
	}
	exhausted := false
	for i, pair := range readings(g, r) {
		c, err := expr.Compare(pair[0], pair[1], m.limits, m.options)
		if err != nil {
			exhausted = true
			continue
		}
		if i == 0 || c.Equal {
			res.Rule = c.Rule
		}
		if c.Equal {
			res.Verdict = Correct
			res.Gold, res.Canonical = short(pair[0].String()), short(pair[1].String())
			return res
		}
	}
	if exhausted {
		res.Verdict, res.Rule, res.Reason = Budget, "", "deciding takes more work than allowed"
		return res
	}
	res.Verdict = Incorrect
	return res
}

// asks reports an answer that ends in a question mark: it says that it may be another one.
func asks(s string) bool {
	return strings.HasSuffix(strings.TrimRight(s, " \n\t.})$*\\\"]"), "?")
}

// readings pairs the gold answer's readings with the response's, the plain ones first.
func readings(g, r answer) [][2]*expr.Node {
	out := make([][2]*expr.Node, 0, 4)
	out = append(out, [2]*expr.Node{g.node, r.node})
	for _, n := range r.more {
		out = append(out, [2]*expr.Node{g.node, n})
	}
	for _, n := range g.more {
		out = append(out, [2]*expr.Node{n, r.node})
		for _, k := range r.more {
			out = append(out, [2]*expr.Node{n, k})
		}
	}
	return out
}

// goldAnswer reads the gold answer: boxed or after ####, else the whole of it, else the end of a solution.
func (m *Math) goldAnswer(s string) answer {
	if boxed, _, ok := lastBoxed(tail(s), false); ok {
		return m.read(boxed, "boxed")
	}
	if h, ok := afterHash(tail(s)); ok {
		return m.read(h, "hash")
	}
	whole := m.read(s, "gold")
	if whole.node != nil && whole.node.InWords() { // see figure 7
		whole = answer{text: whole.text, err: errors.New("words with a number among them")}
	}
	if whole.node != nil && (whole.node.Kind != expr.Text || len(s) < 60) || words(s[:min(len(s), 4000)]) < 4 {
		return whole
	}
	// a solution in words that says "the answer is"; its last number alone would be a guess
	for c := range lastAnchored(tail(s)) {
		if a := m.read(c.text, c.from); a.node != nil && a.node.Kind != expr.Text {
			return a
		}
		break
	}
	return whole
}

// responseAnswer tries the candidates in order and takes the first that is an answer.
func (m *Math) responseAnswer(s string, g answer, truncated bool) (answer, string) {
	goldIsText := g.node == nil || g.node.Kind == expr.Text
	goldIsLetter := goldOptions(g.text) != 0
	if goldIsLetter {
		if text, from, ok := chosenOptions(s, truncated); ok {
			return m.read(text, from), from
		}
	}
	for c := range candidates(s, truncated) {
		if c.denied {
			break
		}
		if strings.TrimSpace(c.text) == "" {
			continue
		}
		if truncated && (c.from == "whole" || c.from == "last") {
			continue // without its end, only an explicit answer counts
		}
		a := m.read(c.text, c.from)
		if a.node == nil && !errors.Is(a.err, expr.ErrBudget) && c.from != "boxed" && c.from != "hash" {
			continue
		}
		if c.soft && a.node == nil {
			continue
		}
		if c.soft && a.node.Prose() && !(goldIsText && a.node.Kind == expr.Text) {
			continue
		}
		return a, c.from
	}
	return answer{}, ""
}

// read parses an answer's text.
func (m *Math) read(s, from string) answer {
	s = clean(s)
	if from == "boxed" && (strings.Contains(s, "nswer") || strings.Contains(s, "答案")) { // \boxed{\text{The answer is 460}}
		for c := range lastAnchored(strings.TrimSuffix(strings.TrimPrefix(s, "\\text{"), "}")) {
			s = clean(c.text)
			break
		}
	}
	a := answer{text: s}
	var merged bool
	a.node, merged, a.err = expr.Parse(s, m.limits, expr.Options{})
	if merged {
		if n, _, err := expr.Parse(s, m.limits, expr.Options{Lists: true}); err == nil {
			a.more = append(a.more, n)
		}
	}
	if d := decimalComma(s, from); d != "" {
		if n, _, err := expr.Parse(d, m.limits, expr.Options{}); err == nil {
			a.more = append(a.more, n)
		}
	}
	return a
}

// decimalComma rewrites 2,74 as 2.74 where that is a likely reading: running text, or at least two places.
func decimalComma(s, from string) string {
	i := strings.IndexByte(s, ',')
	if i <= 0 || i != strings.LastIndexByte(s, ',') || len(s) > 40 {
		return ""
	}
	whole, frac := strings.TrimLeft(s[:i], "-$€£ "), s[i+1:]
	if whole == "" || frac == "" {
		return ""
	}
	for _, c := range []byte(whole) {
		if !digit(c) {
			return ""
		}
	}
	j := 0
	for j < len(frac) && digit(frac[j]) {
		j++
	}
	if j == 0 || strings.Trim(frac[j:], "%€$£ ") != "" {
		return ""
	}
	if j == 3 && whole != "0" {
		return "" // a separator of thousands
	}
	if j == 1 && (from == "gold" || from == "boxed") {
		return "" // 0,4 lists two numbers
	}
	return s[:i] + "." + frac
}

// clean strips what surrounds an answer: stars of Markdown, stray delimiters, a full stop.
func clean(s string) string {
	for range 8 {
		t := strings.TrimSpace(s)
		t = strings.Trim(t, "*`")
		if n := len(t); n > 1 && t[0] == '"' && t[n-1] == '"' { // 3'4" ends in inches
			t = t[1 : n-1]
		}
		t = strings.TrimSuffix(t, "\\\\")
		if n := len(t); n > 1 && !strings.HasSuffix(t, "...") && (t[n-1] == '.' || t[n-1] == ',' || t[n-1] == ';' || t[n-1] == ':') {
			t = t[:n-1]
		}
		if n := len(t); n >= 2 && t[0] == '{' && t[n-1] == '}' && t[n-2] != '\\' {
			if content, after, ok := braceContent(t, 0); ok && after == n && !strings.Contains(content, "\\choose") &&
				!strings.Contains(content, "\\over") {
				t = content
			}
		}
		for _, d := range [...][2]string{{"$$", "$$"}, {"$", "$"}, {"\\(", "\\)"}, {"\\[", "\\]"}} {
			if len(t) > len(d[0])+len(d[1]) && strings.HasPrefix(t, d[0]) && strings.HasSuffix(t, d[1]) &&
				!strings.Contains(t[len(d[0]):len(t)-len(d[1])], d[0]) {
				t = t[len(d[0]) : len(t)-len(d[1])]
			}
		}
		if t == s {
			break
		}
		s = t
	}
	return s
}

// squeeze is a text without its layout, for a comparison as written. Spaces stay where they keep two words or two numbers apart.
func squeeze(s string) string {
	if !strings.ContainsAny(s, " \n\t\\$") {
		return s
	}
	var sb strings.Builder
	sb.Grow(len(s))
	last, space := byte(0), false
	put := func(text string) {
		if space && last != 0 && wordByte(last) && wordByte(text[0]) {
			sb.WriteByte(' ')
		}
		space = false
		sb.WriteString(text)
		last = text[len(text)-1]
	}
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == ' ' || c == '\n' || c == '\t' || c == '$':
			space = true
			i++
		case c == '\\':
			j := i + 1
			for j < len(s) && letter(s[j]) {
				j++
			}
			if j == i+1 {
				j = min(j+1, len(s))
			}
			switch name := s[i:j]; name {
			case "\\left", "\\right", "\\,", "\\!", "\\;", "\\ ", "\\:", "\\$":
				space = space || name != "\\!"
			case "\\dfrac", "\\tfrac":
				put("\\frac")
				space = true
			default:
				put(name)
				space = letter(name[len(name)-1])
			}
			i = j
		default:
			put(s[i : i+1])
			i++
		}
	}
	return sb.String()
}

func wordByte(c byte) bool { return letter(c) || digit(c) || c == '.' || c >= 0x80 }

// short bounds what a result carries.
func short(s string) string {
	const limit = 300
	if len(s) <= limit {
		return strings.ToValidUTF8(s, "�")
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
