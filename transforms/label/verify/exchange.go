package verify

import (
	"encoding/json"
	"fmt"
	"math"
)

// question is one row as external verifiers get it: a line of JSON. docs/verifier.md describes it.
type question struct {
	ID        int             `json:"id"` // counts what one process or request was asked
	Prompt    string          `json:"prompt,omitempty"`
	Extra     json.RawMessage `json:"extra,omitempty"`
	Gold      json.RawMessage `json:"gold"`
	Response  string          `json:"response"`
	Tokens    []int32         `json:"tokens,omitempty"`
	Finish    string          `json:"finish,omitempty"`
	Truncated bool            `json:"truncated"`
}

// GoldForms are the ways in which a reference answer is sent.
const (
	GoldText = "text" // as a string
	GoldJSON = "json" // as the value that its text is in JSON
)

func newQuestion(gold Gold, r Response, form string) (question, error) {
	q := question{Prompt: r.Prompt, Response: r.Text, Tokens: r.Tokens, Finish: r.Finish, Truncated: r.Truncated}
	if r.Extra != "" {
		if !json.Valid([]byte(r.Extra)) {
			return q, &RowError{Fault: FaultUnreadable, Message: "extra is not JSON"}
		}
		q.Extra = json.RawMessage(r.Extra)
	}
	if form == GoldJSON {
		if !json.Valid([]byte(gold.Answer)) {
			return q, &RowError{Fault: FaultUnreadable,
				Message: fmt.Sprintf("the reference answer %q is not JSON, and the setting gold is json", short(gold.Answer))}
		}
		q.Gold = json.RawMessage(gold.Answer)
		return q, nil
	}
	text, err := json.Marshal(gold.Answer)
	q.Gold = text
	return q, err
}

// reply is one row's answer.
type reply struct {
	ID        *int     `json:"id"`
	Verdict   *Verdict `json:"verdict"`
	Score     *float64 `json:"score"`
	Rule      string   `json:"rule"`
	Extracted string   `json:"extracted"`
	Reason    string   `json:"reason"`
	Error     string   `json:"error"`
}

// readReply reads a line of answers. An error says that the line is none.
func readReply(line []byte) (reply, error) {
	var a reply
	if err := json.Unmarshal(line, &a); err != nil {
		return a, fmt.Errorf("the answer is not the expected JSON (%w): %s", err, short(string(line)))
	}
	return a, nil
}

// result is what a row's answer says about it; from names who answered.
func (a reply) result(from string) (Result, error) {
	switch {
	case a.Error != "":
		return Result{}, &RowError{Fault: FaultVerifier, Message: short(a.Error)}
	case a.Verdict == nil:
		return Result{}, &RowError{Fault: FaultVerifier, Message: "the answer has no verdict; want one of correct, incorrect, " +
			"unparsable_response, unparsable_answer, budget, truncated, or an error"}
	case a.Score != nil && math.Abs(*a.Score) > math.MaxFloat32:
		return Result{}, &RowError{Fault: FaultVerifier, Message: fmt.Sprintf("the score %v is larger than a 32-bit number can hold", *a.Score)}
	}
	if a.Rule == "" {
		a.Rule = from
	}
	return Result{Verdict: *a.Verdict, Score: a.Score, Rule: short(a.Rule), Extracted: short(a.Extracted), From: from,
		Reason: short(a.Reason)}, nil
}
