package label

import (
	"context"
	"strings"
	"unicode"
)

// ExactConfig compares texts character by character.
type ExactConfig struct {
	After string `json:"after"` // the answer is what follows the last occurrence of this on its line; "": the whole response
	Trim  bool   `json:"trim"`  // ignore white space at both ends
	Fold  bool   `json:"fold"`  // ignore the difference of upper and lower case
}

type exact struct{ ExactConfig }

func newExact(c ExactConfig) (Verifier, error) { return exact{c}, nil }

func (v exact) Version() string { return version("exact", 1, v.ExactConfig) }

func (v exact) Verify(_ context.Context, q Question) (Judgement, error) {
	if !q.HasAnswer {
		return Judgement{Verdict: UnparsableAnswer, Rule: "no answer to compare with"}, nil
	}
	found, ok := after(q.Response, v.After)
	if !ok {
		return Judgement{Verdict: UnparsableResponse, Rule: "no " + v.After}, nil
	}
	want := q.Answer
	if v.Trim {
		found, want = strings.TrimFunc(found, unicode.IsSpace), strings.TrimFunc(want, unicode.IsSpace)
	}
	if v.Fold {
		return decide(strings.EqualFold(found, want), found, "exact match, case ignored"), nil
	}
	return decide(found == want, found, "exact match"), nil
}
