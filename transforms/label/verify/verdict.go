// Package verify decides whether a response answers a prompt: the outcome labels every other signal starts from.
//
// A Verifier takes a gold answer and a response, which are different types so that they cannot be exchanged by
// mistake, and returns a Result: the verdict, the rule that decided, the part of the response that was taken for its
// answer, and both answers in canonical form. The mathematical verifier (Math) bounds its work by a budget and never by
// a clock: a pair has the same verdict on every machine, in every batch, from every goroutine.
package verify

import (
	"encoding/json"
	"fmt"
)

// Gold is a reference answer: LaTeX, plain mathematics or words, or a whole solution that ends in one.
type Gold struct{ Answer string }

// Response is what a policy wrote, and what is known about it. Truncated says that generation stopped at its length
// limit; Prompt is what it answers. Verifiers that compare answers look at the text alone.
type Response struct {
	Text      string
	Truncated bool
	Prompt    string
	Extra     string  // further fields of the prompt, as a JSON object
	Tokens    []int32 // ids of the text's tokens
	Finish    string  // why generation stopped: stop, length
}

// Verdict says what was decided. Its zero value is none, so that a verifier which forgets it calls nothing correct.
type Verdict uint8

const (
	Correct Verdict = 1 + iota
	Incorrect
	UnparsableResponse // no answer was found in the response, or it is no mathematics
	UnparsableAnswer   // the gold answer is not understood: nothing is known about the response
	Budget             // deciding would take more work than allowed: nothing is known about the response
	Truncated          // the response was cut off before its answer
)

var verdictNames = [...]string{"correct", "incorrect", "unparsable_response", "unparsable_answer", "budget", "truncated"}

// Known reports whether v is one of the verdicts.
func (v Verdict) Known() bool { return v >= Correct && int(v-Correct) < len(verdictNames) }

func (v Verdict) String() string {
	if v.Known() {
		return verdictNames[v-Correct]
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// MarshalText writes the verdict's name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads a verdict's name.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, n := range verdictNames {
		if n == string(text) {
			*v = Correct + Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("verify: no verdict %q; known: %v", text, verdictNames)
}

// Abstains names the verdicts that leave a row without an outcome.
type Abstains struct {
	// UnparsableResponse abstains on a response without a readable answer, which otherwise counts as incorrect: writing
	// a readable answer is the policy's task.
	UnparsableResponse bool `json:"unparsable_response,omitempty"`
	// Truncated abstains on a response that was cut off, which otherwise counts as incorrect.
	Truncated bool `json:"truncated,omitempty"`
}

// Outcome is the label: 1 or 0, or unknown. Unparsable gold answers and exhausted budgets are always unknown.
func (v Verdict) Outcome(a Abstains) (outcome float32, known bool) {
	switch v {
	case Correct:
		return 1, true
	case Incorrect:
		return 0, true
	case UnparsableResponse:
		return 0, !a.UnparsableResponse
	case Truncated:
		return 0, !a.Truncated
	}
	return 0, false
}

// Result is a verdict with its reasons. Without a verdict, or with a score that is no finite number, it sets its row aside.
type Result struct {
	Verdict   Verdict  `json:"verdict"`
	Score     *float64 `json:"score,omitempty"`     // a grade in whatever range, where the verifier gives one
	Rule      string   `json:"rule"`                // what decided: number, normal form, numeric, set, text, ...
	Extracted string   `json:"extracted"`           // the response's answer as written
	From      string   `json:"from,omitempty"`      // where it stood: boxed, answer, hash, whole, last
	Gold      string   `json:"gold,omitempty"`      // the gold answer in canonical form
	Canonical string   `json:"canonical,omitempty"` // the response's answer in canonical form
	Reason    string   `json:"reason,omitempty"`    // why nothing was decided
	Steps     *Steps   `json:"steps,omitempty"`     // of a kind that judges steps
}

// Explain tells a person how the result came about.
func (r Result) Explain() string {
	s := fmt.Sprintf("verdict    %s\n", r.Verdict)
	line := func(name, text string) {
		if text != "" {
			s += fmt.Sprintf("%-10s %s\n", name, text)
		}
	}
	if r.Score != nil {
		line("score", fmt.Sprint(*r.Score))
	}
	line("rule", r.Rule)
	line("reason", r.Reason)
	if r.From != "" {
		line("extracted", fmt.Sprintf("%s   (%s)", r.Extracted, r.From))
	}
	line("response", r.Canonical)
	line("gold", r.Gold)
	return s
}

// JSON is the result for machines.
func (r Result) JSON() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic("verify: result does not marshal") // strings and a verdict always do
	}
	return b
}
