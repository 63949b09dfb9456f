package label

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// grader gives grades and fails on some rows, and looks at what it is told.
type grader struct{}

func init() { verify.Register("test_grader", grader{}) }

func (g grader) New() (verify.Verifier, error) { return g, nil }
func (grader) Version() string                 { return "test_grader-1" }

func (grader) Verify(_ context.Context, gold verify.Gold, r verify.Response) (verify.Result, error) {
	switch {
	case r.Prompt == "" || len(r.Tokens) == 0 || r.Finish == "":
		return verify.Result{}, &verify.RowError{Fault: verify.FaultVerifier, Message: "not told what the row holds"}
	case strings.HasPrefix(r.Text, "fail"):
		return verify.Result{}, &verify.RowError{Fault: verify.FaultVerifier, Message: "no compiler"}
	case r.Text == "forget":
		return verify.Result{}, nil
	case r.Text == "no number":
		score := math.NaN()
		return verify.Result{Verdict: verify.Correct, Score: &score}, nil
	case r.Text == gold.Answer:
		score := 40.5
		return verify.Result{Verdict: verify.Correct, Score: &score}, nil
	}
	return verify.Result{Verdict: verify.Incorrect}, nil
}

// A grade is a column of its own, beside an outcome that it does not touch; a row on which the verifier fails, or
// gives no verdict or no number, is that row's dead letter.
func TestVerifierScore(t *testing.T) {
	out, dead := stagetest.Run(t, Default("test_grader"), responses(t, row{prompt: "p", answer: "1", response: "1"},
		row{prompt: "p", answer: "1", response: "2"}, row{prompt: "p", answer: "1", response: "fail"},
		row{prompt: "p", answer: "1", response: "forget"}, row{prompt: "p", answer: "1", response: "no number"}))
	stagetest.Dead(t, dead, schemas.ReasonVerifier, schemas.ReasonVerifier, schemas.ReasonVerifier)
	score, outcome := schemas.VerifierScore.Of(out), schemas.Outcome.Of(out)
	if v, ok := score.At(0); !ok || v != 40.5 {
		t.Errorf("score %v, %v", v, ok)
	}
	if _, ok := score.At(1); ok {
		t.Error("a row without a grade has one")
	}
	if v, ok := outcome.At(0); !ok || v != 1 {
		t.Errorf("outcome %v, %v", v, ok)
	}
	if !strings.Contains(schemas.DeadMessage.Of(dead).At(0), "no compiler") {
		t.Errorf("message %q", schemas.DeadMessage.Of(dead).At(0))
	}
}
