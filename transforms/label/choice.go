package label

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// ChoiceConfig compares the letter of a multiple choice.
type ChoiceConfig struct {
	Options string `json:"options"` // the letters on offer, such as ABCDE
}

type choice struct {
	ChoiceConfig
	stated, alone *regexp.Regexp
}

func newChoice(c ChoiceConfig) (Verifier, error) {
	for i, r := range c.Options {
		if !unicode.IsUpper(r) || strings.ContainsRune(c.Options[:i], r) {
			return nil, fmt.Errorf("options: %q is not a list of different capital letters such as ABCDE", c.Options)
		}
	}
	if len(c.Options) < 2 {
		return nil, fmt.Errorf("options: %q; want at least two letters such as ABCDE", c.Options)
	}
	set := regexp.QuoteMeta(c.Options)
	return choice{
		ChoiceConfig: c,
		stated:       regexp.MustCompile(`(?i:answer|choice|option)(?i:\s+is)?\s*[:=]?\s*(?:\*\*|\\boxed\{|\\text\{|\$|\s)*\(?([` + set + `])(?:[^\p{L}\p{N}]|$)`),
		alone:        regexp.MustCompile(`(?:^|[^\p{L}\p{N}])\(?([` + set + `])(?:[^\p{L}\p{N}']|$)`),
	}, nil
}

func (v choice) Version() string { return version("choice", 1, v.ChoiceConfig) }

func (v choice) Verify(_ context.Context, q Question) (Judgement, error) {
	want := v.letter(strings.TrimSpace(q.Answer))
	if !q.HasAnswer || want == "" {
		return Judgement{Verdict: UnparsableAnswer, Rule: "the answer names none of " + v.Options}, nil
	}
	got := v.letter(q.Response)
	if got == "" {
		return Judgement{Verdict: UnparsableResponse, Rule: "none of " + v.Options}, nil
	}
	return decide(got == want, got, "same letter"), nil
}

// letter is the option a text settles on: the last one it calls the answer, else the last that stands alone.
func (v choice) letter(s string) string {
	for _, form := range []*regexp.Regexp{v.stated, v.alone} {
		found := ""
		for rest := s; ; {
			m := form.FindStringSubmatchIndex(rest)
			if m == nil {
				break
			}
			found = rest[m[2]:m[3]]
			rest = rest[m[3]:] // what follows the letter may open the next match
		}
		if found != "" {
			return found
		}
	}
	return ""
}
