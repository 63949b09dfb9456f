// Package revise makes training data by revising responses instead of judging them (SEFT, arXiv 2406.10813; algorithms.md 4.5).
//
// From preference pairs: Gain scores each pair with the base reviser, Tasks makes what the base and the adaptive reviser
// are trained on. From unannotated responses: Revise asks the adaptive reviser for a label and a revision. No stage here
// reads an outcome: the point of the method is that it needs none.
package revise

import (
	"context"
	"math"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// Layout says how a reviser is shown a prompt and a response: before, prompt, between, response, after.
type Layout struct {
	Before  Tokens `json:"before,omitzero" doc:"before the prompt: a text, or the ids of tokens"`
	Between Tokens `json:"between,omitzero" doc:"between the prompt and the response"`
	After   Tokens `json:"after,omitzero" doc:"after the response"`
}

func (l Layout) prompt(prompt, response []int32) []int32 {
	return slices.Concat(l.Before.IDs, prompt, l.Between.IDs, response, l.After.IDs)
}

func (l *Layout) parts() []named {
	return []named{{"before", &l.Before}, {"between", &l.Between}, {"after", &l.After}}
}

func (l *Layout) encode(open func() (tokenizer.Tokenizer, error)) error {
	return encode(open, l.parts()...)
}

// Labels are what a reviser writes for each label, before the revision.
type Labels struct {
	No    Tokens `json:"no" doc:"says that a response needs no revision: a text, or the ids of tokens"`
	Minor Tokens `json:"minor" doc:"announces a minor revision"`
	Major Tokens `json:"major" doc:"announces a major revision"`
}

func (l *Labels) parts() []named {
	return []named{{"no", &l.No}, {"minor", &l.Minor}, {"major", &l.Major}}
}

// encode checks the labels once more: texts that differ may begin with the same tokens.
func (l *Labels) encode(open func() (tokenizer.Tokenizer, error)) error {
	if err := encode(open, l.parts()...); err != nil {
		return err
	}
	return l.Validate()
}

func (l Labels) tokens(label string) []int32 {
	switch label {
	case Minor:
		return l.Minor.IDs
	case Major:
		return l.Major.IDs
	}
	return l.No.IDs
}

// Validate checks that the labels can be told apart. One that begins another would always be the likelier of the two.
func (l Labels) Validate() error {
	all := l.parts()
	for _, k := range all {
		if k.of.IsZero() {
			return setting.Errorf(k.key, "has no tokens; want a text, such as \"No Revise\\n\", or the ids of tokens")
		}
	}
	for _, a := range all {
		for _, b := range all {
			switch {
			case a.key < b.key && a.of.equal(*b.of):
				return setting.Errorf(a.key, "has the same tokens as %s; want labels that differ", b.key)
			case a.key != b.key && a.of.begins(*b.of):
				return setting.Errorf(b.key, "begins with all of %s, which would always be the likelier of the two; want labels of which none "+
					"begins another", a.key)
			}
		}
	}
	return nil
}

// Config says how responses are revised.
type Config struct {
	Layout Layout `json:"layout" doc:"how a reviser is shown a prompt and a response"`
	Labels Labels `json:"labels" doc:"what a reviser writes before a revision"`
	// Label says who decides that a response is revised. A reviser that cannot tell right from wrong keeps the wrong ones, and may still
	// revise well.
	Label     string          `json:"label" enum:"decided,always" doc:"decided: the reviser keeps what needs no revision; always: every response is revised"`
	Threshold float64         `json:"threshold" range:"[0,1]" doc:"share of the three labels' probability with which No Revise keeps a response, label decided"`
	Sampling  models.Sampling `json:"sampling" doc:"how revisions are sampled"`
}

// Validate refuses a threshold that nothing reads.
func (c Config) Validate() error {
	if c.Label == Always && c.Threshold != Default(1).Threshold {
		return setting.Errorf("threshold", "is not read by label %s", Always)
	}
	return nil
}

// Who decides that a response is revised.
const (
	Decided = "decided"
	Always  = "always"
)

// Default revises greedily what the reviser says needs it, with at most that many new tokens.
func Default(maxNewTokens int) Config {
	return Config{Label: Decided, Threshold: 0.5, Sampling: models.Sampling{Greedy: true, MaxNewTokens: maxNewTokens}}
}

// Revise labels and revises responses: rows of responses in, the same with revision_label, revised_tokens and
// revised out. A revision that reaches the length limit is filtered, and counted.
func Revise(s beam.Scope, cfg Config, reviser models.Ref, seed uint64, responses stage.Rows) (revised, dead stage.Rows) {
	return stage.Apply(s, Reviser{Config: cfg, Model: reviser, Seed: seed}, responses)
}

func init() { stage.Register[Reviser]() }

// Reviser is the stage behind [Revise].
type Reviser struct {
	Config
	Model models.Ref `json:"model"`
	Seed  uint64     `json:"seed"`

	model *models.Handle
	tok   tokenizer.Tokenizer
}

// Contract says which columns are needed and added.
func (c *Reviser) Contract() schemas.Contract {
	return schemas.Contract{Name: "revise",
		Needs: []schemas.Descriptor{schemas.PromptTokens, schemas.ResponseID, schemas.ResponseTokens},
		Adds:  []schemas.Descriptor{schemas.RevisionLabel, schemas.RevisedTokens, schemas.Revised}}
}

// Setup loads the reviser.
func (c *Reviser) Setup(ctx context.Context) (err error) {
	if c.tok, err = tokenizer.Open(ctx, c.Model); err != nil {
		return err
	}
	if err := c.Config.encode(c.tok); err != nil {
		return err
	}
	c.model, err = models.Acquire(ctx, c.Model)
	return err
}

// Teardown gives the reviser back.
func (c *Reviser) Teardown() error { return release(c.model) }

// Lineage names the reviser.
func (c *Reviser) Lineage() string { return "reviser@" + c.model.Ref.Identity() }

// Map decides the labels, then has the responses revised that need it.
func (c *Reviser) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	n := b.NumRows()
	labels, err := c.labels(ctx, b, dead)
	if err != nil {
		return b, err
	}
	ids, prompts, responses := schemas.ResponseID.Of(b), schemas.PromptTokens.Of(b), schemas.ResponseTokens.Of(b)
	revised, texts := make([][]int32, n), make([]string, n)
	var requests []models.GenerateRequest
	var rows []int
	for i, label := range labels {
		switch {
		case dead.Marked(i):
			labels[i] = No // the row is taken out; the column must hold something
		case label == No:
			revised[i] = responses.Row(i)
		default:
			sampling := c.Sampling
			if len(sampling.Stop) == 0 {
				sampling.Stop = c.tok.EOS()
			}
			prompt := append(c.Layout.prompt(prompts.Row(i), responses.Row(i)), c.Labels.tokens(label)...)
			requests = append(requests, models.GenerateRequest{PromptID: ids[i], Prompt: prompt, Seed: c.Seed, Samples: 1, Sampling: sampling})
			rows = append(rows, i)
		}
	}
	results, err := c.model.Generate(ctx, requests)
	if err != nil {
		return b, err
	}
	for k, r := range results {
		i := rows[k]
		switch {
		case r.Err != nil:
			dead.Row(i, schemas.ReasonModel, r.Err)
		case len(r.Responses) != 1 || len(r.Responses[0].Tokens) == 0 || r.Responses[0].Err != nil:
			dead.Rowf(i, schemas.ReasonModel, "the reviser gave no revision")
		case r.Responses[0].Finish == models.FinishLength:
			stage.Count(ctx, "revise", "revisions_cut_off", 1)
			dead.Filter(i)
		default:
			revised[i] = r.Responses[0].Tokens
		}
	}
	for i, tokens := range revised {
		texts[i] = tokenizer.Text(c.tok, tokens)
	}
	return b.With(schemas.RevisionLabel.From(labels), schemas.RevisedTokens.FromRows(revised), schemas.Revised.From(texts))
}

// labels asks the reviser how probable each label is for each response, and decides.
func (c *Reviser) labels(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) ([]string, error) {
	prompts, responses := schemas.PromptTokens.Of(b), schemas.ResponseTokens.Of(b)
	out := make([]string, b.NumRows())
	var requests []models.ScoreRequest
	var rows []int
	for i := range out {
		if len(prompts.Row(i)) == 0 || len(responses.Row(i)) == 0 {
			dead.Rowf(i, schemas.ReasonEmpty, "%d prompt tokens and %d response tokens; both need at least one",
				len(prompts.Row(i)), len(responses.Row(i)))
			continue
		}
		shown := c.Layout.prompt(prompts.Row(i), responses.Row(i))
		for _, label := range schemas.RevisionLabels {
			requests = append(requests, models.ScoreRequest{Sequence: models.Sequence{Prompt: shown, Response: c.Labels.tokens(label)}})
		}
		rows = append(rows, i)
	}
	results, err := c.model.Score(ctx, requests)
	if err != nil {
		return nil, err
	}
	for k, i := range rows {
		var p [3]float64
		for l, r := range results[3*k : 3*k+3] {
			if r.Err != nil {
				dead.Row(i, schemas.ReasonModel, r.Err)
				break
			}
			sum := 0.0
			for _, x := range r.LogP {
				sum += float64(x)
			}
			if p[l] = math.Exp(sum); math.IsNaN(p[l]) {
				dead.Rowf(i, schemas.ReasonNotFinite, "the reviser gives label %q no finite log-prob", schemas.RevisionLabels[l])
			}
		}
		out[i] = Decide(p[0], p[1], p[2], c.Threshold)
		if c.Label == Always {
			out[i] = Revision(p[1], p[2])
		}
	}
	return out, nil
}

func release(h *models.Handle) error {
	if h == nil {
		return nil
	}
	return h.Release()
}
