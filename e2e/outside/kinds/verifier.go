package kinds

import (
	"context"
	"strings"

	"github.com/millrace/millrace/transforms/label/verify"
)

// EndsWith is a verifier: a response is right when it ends with the reference answer.
type EndsWith struct {
	Trim bool `json:"trim" doc:"leave white space at the end out of account"`
}

func init() { verify.Register("ends_with", EndsWith{Trim: true}) }

// New makes the verifier.
func (e EndsWith) New() (verify.Verifier, error) { return endsWith{e}, nil }

type endsWith struct{ EndsWith }

// Version goes into the lineage of what it judged.
func (endsWith) Version() string { return "ends_with-1" }

// Verify decides one pair.
func (e endsWith) Verify(_ context.Context, gold verify.Gold, r verify.Response) (verify.Result, error) {
	text := r.Text
	if e.Trim {
		text = strings.TrimSpace(text)
	}
	v := verify.Incorrect
	if strings.HasSuffix(text, gold.Answer) {
		v = verify.Correct
	}
	return verify.Result{Verdict: v, Extracted: gold.Answer}, nil
}
