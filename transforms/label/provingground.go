package label

import (
	"context"
	"strconv"

	"github.com/millrace/millrace/transforms/provingground"
)

// provingGround judges chains of arithmetic, step by step. The right working follows from the prompt; where an answer is
// given it must agree with it.
type provingGround struct{}

func (provingGround) Version() string { return "proving_ground/1" }

func (provingGround) Verify(_ context.Context, q Question) (Judgement, error) {
	chain, err := provingground.Parse(q.Prompt)
	if err != nil {
		return Judgement{Verdict: UnparsableAnswer, Rule: err.Error()}, nil
	}
	if q.HasAnswer && q.Answer != strconv.Itoa(chain.Answer()) {
		return Judgement{Verdict: UnparsableAnswer, Rule: "the answer is not that of the prompt's chain"}, nil
	}
	c := chain.Judge(q.Response)
	j := decide(c.Correct, c.Answer, "step checker")
	j.Found = c.Answer != ""
	j.Judged, j.FirstError, j.StepEnds = true, c.FirstError, c.StepEnds
	return j, nil
}
