package label

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/provingground"
)

// ProvingGround is the kind of verifier that judges chains of arithmetic step by step. All other kinds are those of
// package verify.
const ProvingGround = "proving_ground"

// VerifierConfig chooses a verifier.
type VerifierConfig struct {
	Kind    string          `json:"kind"`
	Options json.RawMessage `json:"options,omitempty"` // settings of the kind; none: its defaults
}

// Kinds lists the verifiers.
func Kinds() []string {
	out := append(verify.Names(), ProvingGround)
	slices.Sort(out)
	return out
}

// question is what a verifier is asked: is this response to this prompt right?
type question struct {
	prompt, answer string
	hasAnswer      bool
	response       verify.Response
}

// judgement is what it decided.
type judgement struct {
	verdict   verify.Verdict
	extracted string

	judged     bool    // steps were judged: firstError and stepEnds mean something
	firstError int     // index of the first wrong step, -1 when every step is right
	stepEnds   []int32 // bytes of the response up to and with the end of each step
}

// judge is a verifier as this stage sees it. It is safe for concurrent use; an error is the world's fault.
type judge interface {
	judge(ctx context.Context, q question) (judgement, error)
	Version() string
}

func newJudge(c VerifierConfig) (judge, error) {
	switch {
	case !slices.Contains(Kinds(), c.Kind):
		return nil, fmt.Errorf("kind: %q is not one of %q", c.Kind, Kinds())
	case c.Kind == ProvingGround && len(bytes.TrimSpace(c.Options)) > 0 && string(c.Options) != "null" && string(c.Options) != "{}":
		return nil, errors.New("options: the proving ground has none")
	case c.Kind == ProvingGround:
		return steps{}, nil
	}
	v, err := verify.New(c.Kind, c.Options)
	if err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	return answers{v}, nil
}

// answers compares final answers.
type answers struct{ verify.Verifier }

func (a answers) judge(ctx context.Context, q question) (judgement, error) {
	if !q.hasAnswer {
		return judgement{verdict: verify.UnparsableAnswer}, nil
	}
	r, err := a.Verify(ctx, verify.Gold{Answer: q.answer}, q.response)
	return judgement{verdict: r.Verdict, extracted: r.Extracted}, err
}

// steps judges the proving ground. The right working follows from the prompt; an answer that is given must agree with it.
type steps struct{}

func (steps) Version() string { return "proving_ground-1" }

func (steps) judge(_ context.Context, q question) (judgement, error) {
	chain, err := provingground.Parse(q.prompt)
	if err != nil || q.hasAnswer && q.answer != strconv.Itoa(chain.Answer()) {
		return judgement{verdict: verify.UnparsableAnswer}, nil
	}
	c := chain.Judge(q.response.Text)
	j := judgement{verdict: verify.Incorrect, extracted: c.Answer, judged: true, firstError: c.FirstError}
	for _, end := range c.StepEnds {
		j.stepEnds = append(j.stepEnds, int32(end))
	}
	if c.Correct {
		j.verdict = verify.Correct
	}
	return j, nil
}
