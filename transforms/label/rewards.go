package label

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// A reward of several parts is their weighted sum (algorithms.md 4.12). The outcome, right or wrong, stays a column of its own: reward
// models, pass@k and gates go by it, policy updates by the reward.

// Part is one part of a reward. Exactly one of Outcome, Verifier, Model, Penalty and Format says what it is.
type Part struct {
	Name     string          `json:"name" doc:"of the part: its column is reward_part_ and the name"`
	Weight   float64         `json:"weight" range:"[-1e6,1e6]" doc:"of the part in the sum"`
	Outcome  *OutcomePart    `json:"outcome,omitempty" doc:"1 or 0, as label.verifier decided"`
	Verifier *VerifierConfig `json:"verifier,omitempty" doc:"another verifier: its score where it grades, else 1 or 0"`
	Model    *ModelPart      `json:"model,omitempty" doc:"what a reward model says of the response"`
	Penalty  *Penalty        `json:"penalty,omitempty" doc:"of a response's length or repetitions, 0 or below"`
	Format   *Format         `json:"format,omitempty" doc:"1 for a response in the wanted form, 0 for another"`
}

// OutcomePart is the outcome.
type OutcomePart struct{}

// ModelPart reads the reward model's value of the whole response.
type ModelPart struct {
	Score string `json:"score" enum:"p_correct,mean_value,value,disagreement" doc:"which column's last number: the probability of a right outcome, a value, or how far several reward models are apart"`
	Of    string `json:"of,omitempty" doc:"which of reward_models; empty: that of section reward"`
}

// Disagrees reports whether the part is how far reward models are apart.
func (m ModelPart) Disagrees() bool { return m.Score == "disagreement" }

// Validate checks that disagreement is nobody's own.
func (m ModelPart) Validate() error {
	if m.Disagrees() && m.Of != "" {
		return setting.Errorf("of", "%q; disagreement is that of all reward models", m.Of)
	}
	return nil
}

// SetDefaults takes the probability.
func (m *ModelPart) SetDefaults() { *m = ModelPart{Score: schemas.PCorrect.Name} }

// Penalty is a number of at most 0 that a response's tokens earn.
type Penalty struct {
	// overlong is DAPO's (arXiv 2503.14476 eq. 13): 0 up to max_tokens - cache tokens, falling to -1 at max_tokens. length is
	// -tokens/max_tokens, at least -1. repetition is minus the share of n-grams of tokens that the response has already had.
	Kind      string `json:"kind" enum:"overlong,length,repetition" doc:"overlong: 0 up to max_tokens - cache, then falling to -1; length: -tokens/max_tokens; repetition: minus the share of repeated n-grams"`
	MaxTokens int    `json:"max_tokens" range:"[0,1e9]" doc:"of overlong and length: the token budget of a response"`
	Cache     int    `json:"cache" range:"[0,1e9]" doc:"of overlong: tokens before the budget over which the penalty grows"`
	NGram     int    `json:"ngram" range:"[1,64]" doc:"of repetition: tokens of an n-gram"`
}

// SetDefaults looks at repeated four-grams.
func (p *Penalty) SetDefaults() { *p = Penalty{NGram: 4} }

// Validate checks what the kind needs.
func (p Penalty) Validate() error {
	switch {
	case p.Kind != "repetition" && p.MaxTokens < 1:
		return setting.Errorf("max_tokens", "%d; penalty %s needs the token budget of a response", p.MaxTokens, p.Kind)
	case p.Kind == "overlong" && (p.Cache < 1 || p.Cache > p.MaxTokens):
		return setting.Errorf("cache", "%d is not in [1, max_tokens = %d]", p.Cache, p.MaxTokens)
	case p.Kind != "overlong" && p.Cache != 0:
		return setting.Errorf("cache", "is not read by penalty %s; overlong does", p.Kind)
	case p.Kind == "repetition" && p.MaxTokens != 0:
		return setting.Errorf("max_tokens", "is not read by penalty repetition; overlong and length do")
	}
	return nil
}

// Of is the penalty of a response's tokens.
func (p Penalty) Of(tokens []int32) float64 {
	n, limit := float64(len(tokens)), float64(p.MaxTokens)
	switch p.Kind {
	case "overlong":
		return math.Max(-1, math.Min(0, (limit-float64(p.Cache)-n)/float64(p.Cache)))
	case "length":
		return -math.Min(1, n/limit)
	}
	seen, repeated, all := map[string]bool{}, 0, 0
	for i := 0; i+p.NGram <= len(tokens); i++ {
		key := fmt.Sprint(tokens[i : i+p.NGram])
		if all++; seen[key] {
			repeated++
		}
		seen[key] = true
	}
	if all == 0 {
		return 0
	}
	return -float64(repeated) / float64(all)
}

// Format is the form that a response should have.
type Format struct {
	Pattern string   `json:"pattern,omitempty" doc:"regular expression (RE2) that the text must hold"`
	Tags    []string `json:"tags,omitempty" doc:"names of tags, such as think and answer, that the text must open and close once each, in this order"`

	pattern *regexp.Regexp
}

// maxPattern bounds a pattern.
const maxPattern = 4096

// Validate compiles the pattern.
func (f Format) Validate() error {
	switch {
	case (f.Pattern == "") == (len(f.Tags) == 0):
		return setting.Errorf("pattern", "set it or tags, one of them")
	case len(f.Pattern) > maxPattern:
		return setting.Errorf("pattern", "%d bytes, at most %d are read", len(f.Pattern), maxPattern)
	}
	for i, tag := range f.Tags {
		if !tagName.MatchString(tag) {
			return setting.Errorf(fmt.Sprintf("tags[%d]", i), "%q is no name of a tag, such as think", tag)
		}
	}
	if _, err := regexp.Compile(f.Pattern); err != nil {
		return setting.Errorf("pattern", "%v", err)
	}
	return nil
}

var tagName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

// compile compiles the pattern, which Validate has found to be one.
func (f *Format) compile() {
	if f.Pattern != "" {
		f.pattern = regexp.MustCompile(f.Pattern)
	}
}

// Of is 1 or 0; the pattern is compiled.
func (f *Format) Of(text string) float64 {
	if f.pattern != nil {
		if f.pattern.MatchString(text) {
			return 1
		}
		return 0
	}
	at := 0
	for _, tag := range f.Tags {
		for _, mark := range []string{"<" + tag + ">", "</" + tag + ">"} {
			found := strings.Index(text, mark)
			if found < at || strings.Count(text, mark) != 1 {
				return 0
			}
			at = found + len(mark)
		}
	}
	return 1
}

var partName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`)

// Validate checks that the part says what it is, once.
func (p Part) Validate() error {
	of := 0
	for _, given := range []bool{p.Outcome != nil, p.Verifier != nil, p.Model != nil, p.Penalty != nil, p.Format != nil} {
		if given {
			of++
		}
	}
	switch {
	case !partName.MatchString(p.Name):
		return setting.Errorf("name", "%q; every part of a reward needs a name of small letters, digits and _, such as short", p.Name)
	case of != 1:
		return setting.Errorf("", "part %s says %d times what it is; want one of outcome, verifier, model, penalty, format", p.Name, of)
	}
	return nil
}

// SetDefaults gives a part the weight 1.
func (p *Part) SetDefaults() { p.Weight = 1 }

// Column is the part's.
func (p Part) Column() schemas.Scalar[float32] { return schemas.RewardPart(p.Name) }

// Rewards are the parts of a reward.
type Rewards struct {
	Parts []Part `json:"parts"`
	Std   string `json:"std"` // of a group's rewards, as Config has it

	judges []*Config
}

// Reward adds the weighted sum of the parts, each part, and the statistics of the group: rows of judged (and scored) responses in.
func Reward(s beam.Scope, r Rewards, in stage.Rows) (out, dead stage.Rows) {
	return stage.Apply(s, r, in)
}

func init() { stage.Register[Rewards]() }

// CheckParts checks that names are used once.
func CheckParts(parts []Part) error {
	seen := map[string]bool{}
	for i, p := range parts {
		if seen[p.Name] {
			return setting.Errorf(fmt.Sprintf("[%d].name", i), "%q is used twice", p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}

// Contract says which columns are needed and added.
func (r *Rewards) Contract() schemas.Contract {
	c := schemas.Contract{Name: "reward", Needs: []schemas.Descriptor{schemas.PromptID, schemas.ResponseTokens, schemas.Response},
		Adds: []schemas.Descriptor{schemas.Reward, schemas.RewardMean, schemas.RewardStd}}
	for _, p := range r.Parts {
		c.Adds = append(c.Adds, p.Column())
		switch {
		case p.Outcome != nil:
			c.Needs = append(c.Needs, schemas.Outcome)
		case p.Verifier != nil:
			c.Needs = append(c.Needs, schemas.Prompt, schemas.Answer, schemas.FinishReason)
		case p.Model != nil:
			c.Needs = append(c.Needs, p.Model.column())
		}
	}
	c.Needs = slices.CompactFunc(c.Needs, func(a, b schemas.Descriptor) bool { return a.Describe().Name == b.Describe().Name })
	return c
}

func (m ModelPart) column() schemas.List[float32] {
	if m.Disagrees() {
		return schemas.RewardDisagreement
	}
	return schemas.OfModel(map[string]schemas.List[float32]{"p_correct": schemas.PCorrect, "mean_value": schemas.MeanValue,
		"value": schemas.Value}[m.Score], m.Of)
}

// Setup makes the verifiers.
func (r *Rewards) Setup(ctx context.Context) error {
	r.judges = make([]*Config, len(r.Parts))
	for i, p := range r.Parts {
		if p.Format != nil {
			p.Format.compile()
		}
		if p.Verifier == nil {
			continue
		}
		var err error
		if r.judges[i], err = judgeBy(ctx, *p.Verifier); err != nil {
			return setting.In(fmt.Sprintf("[%d]", i), err)
		}
	}
	return nil
}

// Teardown ends the processes of verifiers that have some.
func (r *Rewards) Teardown() error {
	var err error
	for _, c := range r.judges {
		if c != nil {
			err = errors.Join(err, c.Teardown())
		}
	}
	return err
}

// Lineage names the parts and the versions of their verifiers.
func (r *Rewards) Lineage() string {
	out := "reward@" + stage.Digest(r)[:16]
	for _, c := range r.judges {
		if c != nil {
			out += ";" + c.verifier.Version()
		}
	}
	return out
}

// Map adds up the parts. A part that is not known (a verifier that abstains, a value that is not there) leaves the response without a
// reward; one that fails on a row is the row's dead letter.
func (r *Rewards) Map(ctx context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	n := b.NumRows()
	parts, known := make([][]float64, len(r.Parts)), make([][]bool, len(r.Parts))
	for k := range r.Parts {
		parts[k], known[k] = make([]float64, n), make([]bool, n)
		if err := r.part(ctx, k, b, dead, parts[k], known[k]); err != nil {
			return b, err
		}
	}
	weights := make([]float64, len(r.Parts))
	for k, p := range r.Parts {
		weights[k] = p.Weight
	}
	rewards, all := make([]float64, n), make([]bool, n)
	for i := range n {
		row := make([]float64, len(parts))
		all[i] = !dead.Marked(i)
		for k := range parts {
			row[k], all[i] = parts[k][i], all[i] && known[k][i]
		}
		if all[i] {
			rewards[i] = Compose(weights, row)
		}
	}
	groups, err := b.Groups()
	if err != nil {
		return b, err
	}
	mean, std, has := make([]float32, n), make([]float32, n), make([]bool, n)
	for _, g := range groups {
		s := Statistics(rewards[g.Lo:g.Hi], all[g.Lo:g.Hi], r.Std == SampleStd)
		for i := g.Lo; i < g.Hi; i++ {
			mean[i], std[i], has[i] = float32(s.Mean), float32(s.Std), s.Valid > 0
		}
	}
	out := []schemas.Filled{schemas.Reward.From(narrow(rewards), all...), schemas.RewardMean.From(mean, has...),
		schemas.RewardStd.From(std, has...)}
	for k, p := range r.Parts {
		out = append(out, p.Column().From(narrow(parts[k]), known[k]...))
	}
	return b.With(out...)
}

// Compose is the weighted sum of a response's parts, in their order.
func Compose(weights, parts []float64) float64 {
	sum := 0.0
	for k, w := range weights {
		sum += w * parts[k]
	}
	return sum
}

func narrow(xs []float64) []float32 {
	out := make([]float32, len(xs))
	for i, x := range xs {
		out[i] = float32(x)
	}
	return out
}

// part fills in one part of every row.
func (r *Rewards) part(ctx context.Context, k int, b stage.Batch, dead *stage.DeadLetters, into []float64, known []bool) error {
	p := &r.Parts[k]
	tokens, texts, ownOf := schemas.ResponseTokens.Of(b), schemas.Response.Of(b), stage.OwnOf(b)
	if p.Verifier != nil {
		judged, err := r.judges[k].judgeAll(ctx, b, dead)
		if err != nil {
			return fmt.Errorf("reward %s: %w", p.Name, err)
		}
		for i, j := range judged {
			if into[i], known[i] = r.judges[k].outcome(j.verdict); j.score != nil {
				into[i], known[i] = *j.score, true
			}
		}
	}
	for i := range b.NumRows() {
		switch {
		case p.Outcome != nil:
			x, ok := schemas.Outcome.Of(b).At(i)
			into[i], known[i] = float64(x), ok
		case p.Model != nil:
			if xs := p.Model.column().Of(b).Row(i); len(xs) > 0 {
				into[i], known[i] = float64(xs[len(xs)-1]), true
			}
		case p.Penalty != nil:
			ids := tokens.Row(i)
			into[i], known[i] = p.Penalty.Of(stage.Pick(ownOf(i, len(ids)), ids)), true
		case p.Format != nil:
			into[i], known[i] = p.Format.Of(texts.At(i)), true
		}
		if math.IsNaN(into[i]) || math.IsInf(into[i], 0) {
			dead.Rowf(i, schemas.ReasonNotFinite, "part %s of the reward is %v", p.Name, into[i])
			into[i], known[i] = 0, false
		}
	}
	return nil
}
