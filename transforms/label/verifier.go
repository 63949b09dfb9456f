package label

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/schemas"
)

// Question is what a verifier is asked: is this response to this prompt right?
type Question struct {
	Prompt    string `json:"prompt"`
	Answer    string `json:"answer"` // the reference answer; empty when HasAnswer is false
	HasAnswer bool   `json:"has_answer"`
	Response  string `json:"response"`
	Extra     string `json:"extra,omitempty"` // further fields of the prompt, a JSON object
}

// Judgement is what a verifier decided.
type Judgement struct {
	Verdict   string // one of schemas.Verdicts, truncated excepted
	Extracted string // the final answer it found in the response
	Found     bool   // whether it found one
	Rule      string // which rule decided, for people

	Judged     bool  // steps were judged: FirstError and StepEnds mean something
	FirstError int   // index of the first wrong step, -1 when every step is right
	StepEnds   []int // bytes of the response up to and with the end of each step
}

// Verifier decides whether responses are right. It is safe for concurrent use, and decides the same on every machine and
// in any order. Fields of the question come from data: a question it cannot answer is abstained from
// (unparsable_answer, budget), never guessed.
//
// An error is the world's fault (an endpoint is down) unless it is a [RowError].
type Verifier interface {
	Verify(ctx context.Context, q Question) (Judgement, error)
	// Version names the verifier and everything about it that its verdicts depend on; it goes into the lineage.
	Version() string
}

// RowError says that one row cannot be judged for a fault of its own; the row goes to the dead letters.
type RowError struct {
	Reason schemas.Reason
	Err    error
}

func (e *RowError) Error() string { return e.Err.Error() }
func (e *RowError) Unwrap() error { return e.Err }

// The verdicts.
const (
	Correct            = "correct"
	Incorrect          = "incorrect"
	UnparsableResponse = "unparsable_response"
	UnparsableAnswer   = "unparsable_answer"
	Budget             = "budget"
	Truncated          = "truncated"
)

// verifiers is the registry: how each kind is made from its part of the configuration.
var verifiers = map[string]func(VerifierConfig) (Verifier, error){
	"exact":          func(c VerifierConfig) (Verifier, error) { return newExact(c.Exact) },
	"numeric":        func(c VerifierConfig) (Verifier, error) { return newNumeric(c.Numeric) },
	"choice":         func(c VerifierConfig) (Verifier, error) { return newChoice(c.Choice) },
	"json":           func(c VerifierConfig) (Verifier, error) { return newJSONField(c.JSON) },
	"regexp":         func(c VerifierConfig) (Verifier, error) { return newPattern(c.Regexp) },
	"command":        func(c VerifierConfig) (Verifier, error) { return newCommand(c.Command) },
	"http":           func(c VerifierConfig) (Verifier, error) { return newHTTP(c.HTTP) },
	"proving_ground": func(VerifierConfig) (Verifier, error) { return provingGround{}, nil },
}

// Verifiers lists the kinds of verifiers.
func Verifiers() []string {
	out := make([]string, 0, len(verifiers))
	for name := range verifiers {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// VerifierConfig chooses a verifier and holds the settings of each kind; those of other kinds are ignored.
type VerifierConfig struct {
	Kind    string        `json:"kind"`
	Exact   ExactConfig   `json:"exact"`
	Numeric NumericConfig `json:"numeric"`
	Choice  ChoiceConfig  `json:"choice"`
	JSON    JSONConfig    `json:"json"`
	Regexp  RegexpConfig  `json:"regexp"`
	Command CommandConfig `json:"command"`
	HTTP    HTTPConfig    `json:"http"`
}

// DefaultVerifier holds the default settings of every kind.
func DefaultVerifier(kind string) VerifierConfig {
	return VerifierConfig{
		Kind:    kind,
		Exact:   ExactConfig{Trim: true},
		Numeric: NumericConfig{Absolute: 1e-9, Relative: 1e-6},
		Choice:  ChoiceConfig{Options: "ABCDE"},
		Command: CommandConfig{Seconds: 10, OutputBytes: 1 << 20, MemoryMiB: 1024},
		HTTP:    HTTPConfig{Seconds: 30, Attempts: 5},
	}
}

// New makes the verifier that c chooses.
func New(c VerifierConfig) (Verifier, error) {
	make, ok := verifiers[c.Kind]
	if !ok {
		return nil, fmt.Errorf("kind: %q is not one of %s", c.Kind, strings.Join(Verifiers(), ", "))
	}
	v, err := make(c)
	if err != nil {
		return nil, fmt.Errorf("%s.%w", c.Kind, err)
	}
	return v, nil
}

// decide is the judgement on a final answer that was found.
func decide(right bool, extracted, rule string) Judgement {
	j := Judgement{Verdict: Incorrect, Extracted: extracted, Found: true, Rule: rule}
	if right {
		j.Verdict = Correct
	}
	return j
}

// after returns what follows the last occurrence of marker, up to the end of its line; all of s when marker is empty.
func after(s, marker string) (string, bool) {
	if marker == "" {
		return s, true
	}
	at := strings.LastIndex(s, marker)
	if at < 0 {
		return "", false
	}
	line, _, _ := strings.Cut(s[at+len(marker):], "\n")
	return line, true
}
