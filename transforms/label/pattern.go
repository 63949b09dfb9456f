package label

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// RegexpConfig searches the response with a regular expression in Go's syntax, which takes time linear in the response.
type RegexpConfig struct {
	// Pattern's last match decides. With {answer} in it, which stands for the reference answer's literal text, a match is a
	// right answer; without, the match's first group (or all of it) must equal the reference answer.
	Pattern string `json:"pattern"`
}

const answerMark = "{answer}"

type pattern struct {
	RegexpConfig
	compiled *regexp.Regexp // nil when it depends on the answer
}

func newPattern(c RegexpConfig) (Verifier, error) {
	if c.Pattern == "" {
		return nil, errors.New("pattern: is empty")
	}
	compiled, err := regexp.Compile(strings.ReplaceAll(c.Pattern, answerMark, "answer"))
	if err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	if strings.Contains(c.Pattern, answerMark) {
		compiled = nil
	}
	return pattern{c, compiled}, nil
}

func (v pattern) Version() string { return version("regexp", 1, v.RegexpConfig) }

// maxAnswerBytes bounds the answers that are compiled into a pattern.
const maxAnswerBytes = 4096

func (v pattern) Verify(_ context.Context, q Question) (Judgement, error) {
	want := strings.TrimSpace(q.Answer)
	if !q.HasAnswer || len(want) > maxAnswerBytes {
		return Judgement{Verdict: UnparsableAnswer, Rule: "no answer, or one too long to search for"}, nil
	}
	form := v.compiled
	if form == nil {
		var err error
		if form, err = regexp.Compile(strings.ReplaceAll(v.Pattern, answerMark, regexp.QuoteMeta(want))); err != nil {
			return Judgement{Verdict: UnparsableAnswer, Rule: "the answer does not fit into the pattern"}, nil
		}
	}
	all := form.FindAllStringSubmatch(q.Response, -1)
	if len(all) == 0 {
		if v.compiled == nil {
			return Judgement{Verdict: Incorrect, Rule: "the pattern with the answer does not match"}, nil
		}
		return Judgement{Verdict: UnparsableResponse, Rule: "the pattern does not match"}, nil
	}
	last := all[len(all)-1]
	found := last[min(1, len(last)-1)]
	return decide(v.compiled == nil || strings.TrimSpace(found) == want, found, "regular expression"), nil
}
