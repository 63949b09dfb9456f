package label

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/label/verify"
)

// VerifierConfig chooses a verifier of package verify.
type VerifierConfig struct {
	Kind    string
	Options verify.Options // settings of the kind; nil: its defaults
}

// verifierKeys are a VerifierConfig as a recipe has it.
type verifierKeys struct {
	Kind    string         `json:"kind" doc:"what is compared, and how; its settings are in options"`
	Options map[string]any `json:"options,omitempty" doc:"settings of the kind"`
}

// DecodeSetting reads the kind and its settings.
func (c *VerifierConfig) DecodeSetting(tree any, path string) error {
	own := verifierKeys{Kind: c.Kind}
	if err := setting.Decode(tree, &own, path); err != nil {
		return err
	}
	return setting.In(path, c.read(own))
}

func (c *VerifierConfig) read(own verifierKeys) error {
	*c = VerifierConfig{Kind: own.Kind}
	if len(own.Options) == 0 {
		return c.known()
	}
	if err := c.known(); err != nil {
		return err
	}
	if none(own.Kind) {
		return setting.Errorf("options", "are not read: verifier %s has none", own.Kind)
	}
	var err error
	c.Options, err = verify.Decode(own.Kind, own.Options)
	return setting.In("options", err)
}

func (c VerifierConfig) known() error { return setting.OneOf("kind", c.Kind, verify.Names()...) }

// none reports whether a kind has no settings.
func none(kind string) bool { return len(verify.Schema(kind).Properties) == 0 }

// MarshalJSON writes the settings that differ from the kind's defaults.
func (c VerifierConfig) MarshalJSON() ([]byte, error) {
	own := verifierKeys{Kind: c.Kind}
	if c.Options != nil {
		var err error
		if own.Options, err = verify.Encode(c.Kind, c.Options); err != nil {
			return nil, err
		}
	}
	return json.Marshal(own)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *VerifierConfig) UnmarshalJSON(raw []byte) error {
	var own verifierKeys
	if err := json.Unmarshal(raw, &own); err != nil {
		return err
	}
	return c.read(own)
}

// Validate checks the settings of the kind.
func (c VerifierConfig) Validate() error {
	if err := c.known(); err != nil {
		return err
	}
	o, err := c.options()
	if err == nil {
		err = setting.Check(o)
	}
	return setting.In("options", err)
}

// options are those of the kind, nil where it has none.
func (c VerifierConfig) options() (verify.Options, error) {
	if c.Options != nil {
		return c.Options, nil
	}
	return verify.Decode(c.Kind, nil)
}

// JudgesSteps reports whether the verifier finds the first wrong step of a response.
func (c VerifierConfig) JudgesSteps() bool {
	o, err := c.options()
	_, ok := o.(verify.Stepwise)
	return ok && err == nil
}

// SettingSchema describes the settings of every kind.
func (c *VerifierConfig) SettingSchema() *setting.Schema {
	s := setting.SchemaOf(verifierKeys{Kind: c.Kind})
	s.Properties["kind"].Enum = verify.Names()
	s.Closed = nil // each kind is
	for _, kind := range verify.Names() {
		own := setting.SchemaOf(verifierKeys{})
		own.Title = kind
		own.Properties["kind"] = &setting.Schema{Const: kind}
		if kind != c.Kind {
			own.Required = []string{"kind"}
		}
		if options := verify.Schema(kind); len(options.Properties) > 0 {
			options.Description = own.Properties["options"].Description
			own.Properties["options"] = options
		} else {
			delete(own.Properties, "options")
			own.Order = []string{"kind"}
		}
		s.OneOf = append(s.OneOf, own)
	}
	return s
}

// question is what a verifier is asked: is this response to this prompt right?
type question struct {
	prompt, answer string
	extra          string
	tokens         []int32
	finish         string
	hasAnswer      bool
	response       verify.Response
}

// judgement is what it decided.
type judgement struct {
	verdict   verify.Verdict
	extracted string
	score     *float64
	rule      string
	reason    string

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
	if err := c.Validate(); err != nil {
		return nil, err
	}
	o, err := c.options()
	if err != nil {
		return nil, err
	}
	v, err := o.New()
	return answers{v, c.JudgesSteps()}, setting.In("options", err)
}

// answers compares final answers, or works of whole responses with the right one.
type answers struct {
	verify.Verifier
	stepwise bool // a reference answer may be missing
}

func (a answers) judge(ctx context.Context, q question) (judgement, error) {
	if !q.hasAnswer && !a.stepwise {
		return judgement{verdict: verify.UnparsableAnswer}, nil
	}
	q.response.Prompt, q.response.Extra, q.response.Tokens, q.response.Finish = q.prompt, q.extra, q.tokens, q.finish
	r, err := a.Verify(ctx, verify.Gold{Answer: q.answer}, q.response)
	if row := (*verify.RowError)(nil); errors.As(err, &row) {
		err = rowError{faultReasons[row.Fault], row}
	}
	switch {
	case err != nil:
	case !r.Verdict.Known():
		err = rowError{schemas.ReasonVerifier, fmt.Errorf("verifier %s returned no verdict, but %s", a.Version(), r.Verdict)}
	case r.Score != nil && (math.IsNaN(*r.Score) || math.Abs(*r.Score) > math.MaxFloat32):
		err = rowError{schemas.ReasonVerifier, fmt.Errorf("verifier %s returned the score %v, want one that a 32-bit number can hold",
			a.Version(), *r.Score)}
	}
	j := judgement{verdict: r.Verdict, extracted: r.Extracted, score: r.Score, rule: r.Rule, reason: r.Reason}
	if r.Steps != nil {
		j.judged, j.firstError = true, r.Steps.FirstError
		for _, end := range r.Steps.Ends {
			j.stepEnds = append(j.stepEnds, int32(end))
		}
	}
	return j, err
}

// faultReasons are the reasons of rows that a verifier could not judge.
var faultReasons = map[verify.Fault]schemas.Reason{verify.FaultUnreadable: schemas.ReasonUnreadable,
	verify.FaultVerifier: schemas.ReasonVerifier}

// Close ends what the verifier started, such as processes.
func (a answers) Close() error {
	if c, ok := a.Verifier.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
