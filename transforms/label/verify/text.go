package verify

import (
	"context"
	"regexp"
	"strings"

	"github.com/millrace/millrace/schemas/setting"
)

// ExactConfig configures the comparison of answers as written.
type ExactConfig struct {
	Whole      bool `json:"whole" doc:"compare the whole response instead of its extracted answer"`
	IgnoreCase bool `json:"ignore_case" doc:"compare without regard to case"`
	KeepSpace  bool `json:"keep_space" doc:"white space counts; without it runs of it are one space"`
}

// Exact compares texts.
type Exact struct{ cfg ExactConfig }

func init() {
	Register("exact", ExactConfig{})
	Register("choice", defaultChoice)
	Register("regex", RegexConfig{})
}

// New makes the verifier.
func (c ExactConfig) New() (Verifier, error) { return &Exact{c}, nil }

// Version names the rules and the configuration.
func (e *Exact) Version() string { return version("exact-2", ExactConfig{}, e.cfg) }

// Verify compares as written.
func (e *Exact) Verify(_ context.Context, gold Gold, response Response) (Result, error) {
	want := e.form(gold.Answer)
	if want == "" {
		return Result{Verdict: UnparsableAnswer, Reason: "the gold answer is empty"}, nil
	}
	got, from := response.Text, "whole"
	if !e.cfg.Whole {
		c, ok := firstCandidate(response)
		if !ok {
			return missing(response, want), nil
		}
		got, from = clean(c.text), c.from
	}
	return compared(want, e.form(got), got, from, "exact"), nil
}

func (e *Exact) form(s string) string {
	if !e.cfg.KeepSpace {
		s = strings.Join(strings.Fields(s), " ")
	}
	if e.cfg.IgnoreCase {
		s = strings.ToLower(s)
	}
	return s
}

// firstCandidate is the likeliest answer of a response after its thinking, without any look at mathematics.
func firstCandidate(r Response) (candidate, bool) {
	rest, _ := afterThinking(tail(r.Text))
	for c := range candidates(rest, r.Truncated) {
		if strings.TrimSpace(c.text) != "" {
			return c, true
		}
	}
	return candidate{}, false
}

// missing is the result for a response without an answer.
func missing(r Response, gold string) Result {
	if r.Truncated {
		return Result{Verdict: Truncated, Gold: short(gold), Reason: "the response was cut off before its answer"}
	}
	return Result{Verdict: UnparsableResponse, Gold: short(gold), Reason: "no answer found"}
}

func compared(want, got, extracted, from, rule string) Result {
	r := Result{Verdict: Incorrect, Rule: rule, Extracted: short(extracted), From: from, Gold: short(want), Canonical: short(got)}
	if want == got {
		r.Verdict = Correct
	}
	return r
}

// ChoiceConfig names the options.
type ChoiceConfig struct {
	Options string `json:"options" doc:"the letters, such as ABCD"`
}

// Validate checks that there is a choice.
func (c ChoiceConfig) Validate() error {
	if len(c.Options) < 2 || strings.Trim(c.Options, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return setting.Errorf("options", "%q is not a list of at least two capital letters", c.Options)
	}
	return nil
}

// New makes the verifier.
func (c ChoiceConfig) New() (Verifier, error) { return &Choice{c}, nil }

// defaultChoice has as many options as questions have.
var defaultChoice = ChoiceConfig{Options: "ABCDEFGHIJ"}

// Choice compares the option a response names with the gold letter.
type Choice struct{ cfg ChoiceConfig }

// Version names the rules and the configuration.
func (c *Choice) Version() string { return version("choice-3", defaultChoice, c.cfg) }

// Verify finds the option named in a box, after "answer", alone, or in brackets at the end.
func (c *Choice) Verify(_ context.Context, gold Gold, response Response) (Result, error) {
	want := goldOptions(clean(narrow(gold.Answer)))
	if want == 0 || want&^c.mask() != 0 {
		return Result{Verdict: UnparsableAnswer, Gold: short(gold.Answer), Reason: "the gold answer is not one of " + c.cfg.Options}, nil
	}
	rest, _ := afterThinking(narrow(tail(response.Text)))
	text, from, ok := chosenOptions(rest, response.Truncated)
	if !ok {
		return missing(response, want.String()), nil
	}
	got, _ := optionsIn(clean(text))
	if got == 0 || got&^c.mask() != 0 {
		return missing(response, want.String()), nil
	}
	return compared(want.String(), got.String(), text, from, "choice"), nil
}

// mask are the options that there are.
func (c *Choice) mask() (m options) {
	for i := range len(c.cfg.Options) {
		m |= 1 << (c.cfg.Options[i] - 'A')
	}
	return m
}

// RegexConfig configures extraction by a regular expression (RE2 syntax: linear time on any input).
type RegexConfig struct {
	Pattern string `json:"pattern" doc:"regular expression in RE2's syntax, whose last match counts"`
	Group   int    `json:"group" range:"[0,inf)" doc:"number of the capture that is the answer; 0: the whole match"`
	Compare string `json:"compare" doc:"the verifier that compares the capture with the reference answer; empty: exact, as a whole"`
}

// Validate checks the pattern and the comparison.
func (c RegexConfig) Validate() error {
	_, err := NewRegex(c)
	return err
}

// New makes the verifier.
func (c RegexConfig) New() (Verifier, error) {
	v, err := NewRegex(c)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Regex extracts by a pattern and leaves the comparison to another verifier.
type Regex struct {
	cfg     RegexConfig
	re      *regexp.Regexp
	compare Verifier
}

// NewRegex compiles the pattern.
func NewRegex(c RegexConfig) (*Regex, error) {
	if c.Pattern == "" {
		return nil, setting.Errorf("pattern", "is missing; want a regular expression whose matches hold the answer")
	}
	re, err := regexp.Compile(c.Pattern)
	if err != nil {
		return nil, setting.Errorf("pattern", "%q is not a regular expression: %v", c.Pattern, err)
	}
	if c.Group < 0 || c.Group > re.NumSubexp() {
		return nil, setting.Errorf("group", "the pattern has %d captures, not %d", re.NumSubexp(), c.Group)
	}
	v, err := comparison(c.Compare)
	if err != nil {
		return nil, err
	}
	return &Regex{c, re, v}, nil
}

// comparison builds the verifier that compares what another one extracted.
func comparison(name string) (Verifier, error) {
	if name == "" || name == "exact" {
		return &Exact{ExactConfig{Whole: true}}, nil
	}
	v, err := New(name, nil)
	return v, setting.In("compare", err)
}

// Version names the rules and the configuration.
func (r *Regex) Version() string {
	return version("regex-1", RegexConfig{}, r.cfg) + "/" + r.compare.Version()
}

// Verify compares the capture of the last match.
func (r *Regex) Verify(ctx context.Context, gold Gold, response Response) (Result, error) {
	text := tail(response.Text)
	all := r.re.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return missing(response, gold.Answer), nil
	}
	res, err := r.compare.Verify(ctx, gold, Response{Text: all[len(all)-1][r.cfg.Group]})
	res.From = "regex"
	return res, err
}
