package verify

import (
	"context"
	"strconv"

	"github.com/millrace/millrace/transforms/provingground"
	"github.com/millrace/millrace/transforms/textchains"
)

// Steps are the steps of a response, as a verifier that knows the right working finds them.
type Steps struct {
	FirstError int   `json:"first_error"` // index of the first wrong one, -1 when every step is right
	Ends       []int `json:"ends"`        // bytes of the response up to and with the end of each
}

// Stepwise are options of a kind that judges steps: its results have Steps wherever it comes to a verdict. The right working follows from
// the prompt, so a reference answer may be missing; one that is given must agree.
type Stepwise interface {
	Options
	JudgesSteps()
}

// ProvingGround judges the proving ground's chains of arithmetic modulo 10.
type ProvingGround struct{}

// TextChains judges the chains of text-chains: an answer is the last line, "Answer: " and the number.
type TextChains struct{}

func init() {
	Register("proving_ground", ProvingGround{})
	Register("text_chains", TextChains{})
}

// JudgesSteps marks the kind.
func (ProvingGround) JudgesSteps() {}

// JudgesSteps marks the kind.
func (TextChains) JudgesSteps() {}

// New makes the verifier.
func (ProvingGround) New() (Verifier, error) {
	return stepwise{"proving_ground-1", func(prompt string) (working, error) {
		c, err := provingground.Parse(prompt)
		return working{c.Answer(), func(response string) found { return found(c.Judge(response)) }}, err
	}}, nil
}

// New makes the verifier.
func (TextChains) New() (Verifier, error) {
	return stepwise{"text_chains-1", func(prompt string) (working, error) {
		c, err := textchains.Parse(prompt)
		return working{c.Answer(), func(response string) found { return found(c.Judge(response)) }}, err
	}}, nil
}

// found is what a step checker finds in a response.
type found struct {
	Correct    bool
	Answer     string
	FirstError int
	StepEnds   []int
}

// working is the one right working of a prompt.
type working struct {
	answer int
	judge  func(response string) found
}

// stepwise judges by the right working that a prompt has.
type stepwise struct {
	version string
	parse   func(prompt string) (working, error)
}

// Version names the rules.
func (s stepwise) Version() string { return s.version }

// Verify holds the response against the right working of its prompt.
func (s stepwise) Verify(_ context.Context, gold Gold, response Response) (Result, error) {
	w, err := s.parse(response.Prompt)
	if err != nil {
		return Result{Verdict: UnparsableAnswer, Reason: err.Error()}, nil
	}
	want := strconv.Itoa(w.answer)
	if gold.Answer != "" && gold.Answer != want {
		return Result{Verdict: UnparsableAnswer, Gold: want, Reason: "the reference answer is not that of the prompt"}, nil
	}
	f := w.judge(response.Text)
	out := Result{Verdict: Incorrect, Rule: "working", Extracted: f.Answer, Gold: want, Canonical: f.Answer,
		Steps: &Steps{FirstError: f.FirstError, Ends: f.StepEnds}}
	if f.Correct {
		out.Verdict = Correct
	}
	return out, nil
}
