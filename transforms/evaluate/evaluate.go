// Package evaluate measures policies and reward models: avg@k and pass@k, Best-of-N, calibration of prefix values,
// ProcessBench's step F1, and paired comparisons of two runs. Every figure comes with its count, and with its standard
// error over prompts where it is a mean over prompts.
//
// An evaluation is one reduction over a batch (Sums), and a Report read off it. Sums do not depend on how the batch was
// cut into records.
package evaluate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/series"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/totals"

	"github.com/millrace/millrace/schemas/setting"
)

// Config says what is measured.
type Config struct {
	K []int `json:"k"` // pass@k for these k
	// Values measures a reward model too: Best-of-N by each of BestOfScores, calibration of p_correct.
	Values bool   `json:"values"`
	Score  string `json:"score"` // which of BestOfScores is the model's own
	Bins   int    `json:"bins"`  // of the expected calibration error
	// Steps measures ProcessBench's step F1, where rows have step labels; Beta is that of the value column.
	Steps bool    `json:"steps"`
	Beta  float64 `json:"beta"`
	// TokenScores: the value column holds a score of each token, not the value of a prefix, which is a running sum.
	TokenScores bool `json:"token_scores"`
	// Rules are the ways to score a step.
	Rules []string `json:"rules"`
	// Truth holds p_correct at step ends against the share of right continuations, where rows have it.
	Truth bool `json:"truth"`
}

// Default measures the policy alone.
func Default() Config {
	return Config{K: []int{1, 2, 4, 8}, Score: BestOfScores[0], Bins: 10, Beta: 10, Rules: Rules}
}

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	for i, k := range c.K {
		if k < 1 {
			return fmt.Errorf("k[%d]: %d is not at least 1", i, k)
		}
	}
	switch {
	case c.Bins < 1 || c.Bins > 1000:
		return setting.Errorf("bins", "%d is not in [1, 1000]", c.Bins)
	case c.Values && !slices.Contains(BestOfScores, c.Score):
		return setting.Errorf("score", "%q is not one of %q", c.Score, BestOfScores)
	case c.Truth && !c.Steps:
		return setting.Errorf("truth", "is known at step ends; steps must be measured too")
	case c.Steps && !c.Values:
		return setting.Errorf("steps", "are scored by values; values must be measured too")
	case c.Steps && len(c.Rules) == 0:
		return setting.Errorf("rules", "is empty; want some of %q", AllRules)
	case c.Steps && slices.ContainsFunc(c.Rules, func(r string) bool { return !slices.Contains(AllRules, r) }):
		return setting.Errorf("rules", "%q are not all of %q", c.Rules, AllRules)
	case c.Steps && !(c.Beta > 0 && !math.IsInf(c.Beta, 0)):
		return setting.Errorf("beta", "%v is not a finite number above 0", c.Beta)
	}
	return nil
}

// Apply sums up labeled (and, for a reward model, valued) responses: rows in, PCollection<Sums> of one out.
func Apply(s beam.Scope, cfg Config, in stage.Rows) beam.PCollection {
	if err := setting.Check(cfg); err != nil {
		panic(fmt.Sprintf("stage evaluate: %v", err))
	}
	return totals.Reduce[Config, Sums](s, cfg, in)
}

func encodeSums(t Sums) ([]byte, error) { return json.Marshal(t) }

func decodeSums(raw []byte) (t Sums, err error) { return t, json.Unmarshal(raw, &t) }

func init() { totals.Register[Config, Sums](encodeSums, decodeSums) }

// Contract says which columns are needed.
func (c *Config) Contract() schemas.Contract {
	out := schemas.Contract{Name: "evaluate",
		Needs: []schemas.Descriptor{schemas.PromptID, schemas.ResponseID, schemas.ResponseTokens, schemas.Verdict, schemas.Outcome}}
	if c.Values {
		out.Needs = append(out.Needs, schemas.PCorrect, schemas.MeanValue, schemas.Value)
	}
	if c.Steps {
		out.Needs = append(out.Needs, schemas.FirstError, schemas.StepEnds)
	}
	if c.Truth {
		out.Needs = append(out.Needs, schemas.StepTruth)
	}
	return out
}

// BestOfScores are what Best-of-N goes by: the last mean value (IPVRM, Q-RM), the last value (Implicit PRM, DPO-RM; algorithms.md
// 5), or the least score of a token.
var BestOfScores = []string{"mean_value", "value", "min"}

// PromptResult is what became of one prompt.
type PromptResult struct {
	ID      uuid.UUID `json:"id"`
	N       int       `json:"n"`       // responses with an outcome
	Correct int       `json:"correct"` // of these, right
	// Random is the outcome of a random choice among the distinct of these responses: what a score that knows nothing picks, since
	// equal responses have equal scores. Vote is that of the most frequent answer; nil where no answer is known.
	Random float64  `json:"random"`
	Vote   *float64 `json:"vote,omitempty"`
	// Responses are those with an outcome and usable values; none when values were not measured.
	Responses []ValuedResponse `json:"responses,omitempty"`
}

// ValuedResponse is what a reward model thinks of one response.
type ValuedResponse struct {
	Outcome float64 `json:"outcome"`
	Mean    float64 `json:"mean_value"` // last mean value
	Value   float64 `json:"value"`      // last value
	Least   float64 `json:"min"`        // least score of a token
	Tokens  int     `json:"tokens"`
	// Deciles holds p_correct at up to keptOfDecile evenly spaced tokens of each tenth.
	Deciles [Deciles][]float32 `json:"p_correct"`
}

// keptOfDecile bounds what an evaluation keeps of a response for the errors of its calibration.
const keptOfDecile = 8

func (r ValuedResponse) score(name string) float64 {
	switch name {
	case "value":
		return r.Value
	case "min":
		return r.Least
	}
	return r.Mean
}

// bestOf is [BestOfK] over the prompt's responses; false with fewer than k.
func (p PromptResult) bestOf(score string, k int) (float64, bool) {
	scores, outcomes := p.scored(score)
	if len(scores) < k {
		return 0, false
	}
	return BestOfK(scores, outcomes, k), true
}

// auc is the area under the curve within the prompt; false with one class.
func (p PromptResult) auc(score string) (float64, bool) {
	a := auc(p.scored(score))
	if a == nil {
		return 0, false
	}
	return *a, true
}

func (p PromptResult) scored(score string) (scores, outcomes []float64) {
	for _, r := range p.Responses {
		scores, outcomes = append(scores, r.score(score)), append(outcomes, r.Outcome)
	}
	return scores, outcomes
}

// Item is one response with step labels.
type Item struct {
	ID         uuid.UUID `json:"id"`
	PromptID   uuid.UUID `json:"prompt_id"`
	FirstError int       `json:"first_error"` // -1: every step is right
	StepEnds   []int     `json:"step_ends"`
	Values     []float64 `json:"values"` // running sums of token scores at the step ends, at beta 1
	Least      []float64 `json:"min"`    // least score of a token in each step
	Last       []float64 `json:"last"`   // score of each step's last token
	P          []float64 `json:"p_correct"`
	// Truth is the share of right continuations after the first steps; Outcome is what became of the response itself.
	Truth   []float64 `json:"truth,omitempty"`
	Outcome float64   `json:"outcome"`
}

// Sums are what batches contribute to an evaluation.
type Sums struct {
	Responses, Abstained, Truncated int64
	Unvalued                        int64 // responses with an outcome but without usable values
	Unplaced                        int64 // responses with a judged step but without usable step ends
	Prompts                         []PromptResult
	Items                           []Item
	Deciles                         [Deciles]calibrated // of p_correct, by position
}

// calibrated gathers probabilities and outcomes. For the area under the curve p is told apart to about one part in two
// thousand of its distance from 0 or 1; what is closer counts as a tie. So its size is bounded.
type calibrated struct {
	N     int64
	Gap   []series.Sum // per bin, of y - p
	Brier series.Sum
	Ranks map[uint32]tally
}

func (c *calibrated) add(p, y float64, bins int) {
	if c.Gap == nil {
		c.Gap, c.Ranks = make([]series.Sum, bins), map[uint32]tally{}
	}
	c.N++
	c.Gap[bin(p, bins)].Add(y - p)
	c.Brier.AddProduct(y-p, y-p)
	t := c.Ranks[rank(p)]
	if y > 0.5 {
		t.Right++
	} else {
		t.Wrong++
	}
	c.Ranks[rank(p)] = t
}

// rank maps a probability to an integer that grows with it, fine near 0 and near 1.
func rank(p float64) uint32 {
	const half = 0x3f000000 // the bits of 0.5
	if p <= 0.5 {
		return math.Float32bits(float32(p)) >> 12
	}
	return (2*half - math.Float32bits(float32(1-p))) >> 12
}

func (c *calibrated) merge(o calibrated) {
	if o.N == 0 {
		return
	}
	if c.Gap == nil {
		c.Gap, c.Ranks = make([]series.Sum, len(o.Gap)), map[uint32]tally{}
	}
	c.N += o.N
	for b := range o.Gap {
		c.Gap[b].Merge(o.Gap[b])
	}
	c.Brier.Merge(o.Brier)
	for key, t := range o.Ranks {
		have := c.Ranks[key]
		c.Ranks[key] = tally{have.Right + t.Right, have.Wrong + t.Wrong}
	}
}

func (c *calibrated) calibration() Calibration {
	if c.N == 0 {
		return Calibration{}
	}
	ece := 0.0
	for _, g := range c.Gap {
		ece += math.Abs(g.Value()) / float64(c.N)
	}
	brier := c.Brier.Value() / float64(c.N)
	var ranked []tally
	for _, key := range slices.Sorted(maps.Keys(c.Ranks)) {
		ranked = append(ranked, c.Ranks[key])
	}
	return Calibration{N: int(c.N), ECE: &ece, Brier: &brier, AUC: rankedAUC(ranked)}
}

// Merge takes in all of o. o is unchanged.
func (s *Sums) Merge(o Sums) {
	s.Responses += o.Responses
	s.Abstained += o.Abstained
	s.Truncated += o.Truncated
	s.Unvalued += o.Unvalued
	s.Unplaced += o.Unplaced
	s.Prompts = append(s.Prompts, o.Prompts...)
	s.Items = append(s.Items, o.Items...)
	for d := range s.Deciles {
		s.Deciles[d].merge(o.Deciles[d])
	}
}

// Add sums up one batch.
func (c *Config) Add(b stage.Batch, sums *Sums) error {
	groups, err := b.Groups()
	if err != nil {
		return err
	}
	outcomes, verdicts := schemas.Outcome.Of(b), schemas.Verdict.Of(b)
	for _, g := range groups {
		p := PromptResult{ID: g.ID}
		var answers ballot
		for i := g.Lo; i < g.Hi; i++ {
			sums.Responses++
			if verdicts.At(i) == "truncated" {
				sums.Truncated++
			}
			r, ok := outcomes.At(i)
			if !ok {
				sums.Abstained++
				continue
			}
			p.N++
			answers.add(b, i, float64(r))
			if r > 0.5 {
				p.Correct++
			}
			if !c.Values {
				continue
			}
			if v, ok := c.valued(b, i, float64(r), sums); ok {
				p.Responses = append(p.Responses, v)
			} else {
				sums.Unvalued++
			}
		}
		p.Random, p.Vote = answers.random(), answers.majority()
		sums.Prompts = append(sums.Prompts, p)
		for i := g.Lo; c.Steps && i < g.Hi; i++ {
			c.addSteps(b, i, g.ID, sums)
		}
	}
	return nil
}

// valued takes in the prefix values of row i; false when it has none.
func (c *Config) valued(b stage.Batch, i int, r float64, sums *Sums) (v ValuedResponse, ok bool) {
	p, value, mean := schemas.PCorrect.Of(b), schemas.Value.Of(b), schemas.MeanValue.Of(b)
	n := len(p.Row(i))
	if n == 0 || len(value.Row(i)) != n || len(mean.Row(i)) != n {
		return v, false
	}
	v = ValuedResponse{Outcome: r, Mean: float64(mean.Row(i)[n-1]), Value: float64(value.Row(i)[n-1]), Tokens: n,
		Least: slices.Min(c.tokenScores(value.Row(i)))}
	if !series.AllFinite(v.Mean, v.Value, v.Least) {
		return v, false
	}
	for _, x := range p.Row(i) {
		if !(x >= 0 && x <= 1) {
			return v, false
		}
	}
	for t, x := range p.Row(i) {
		sums.Deciles[Decile(t, n)].add(float64(x), r, c.Bins)
	}
	at := 0
	for d := range v.Deciles {
		size := decileLen(d, n)
		kept := min(size, keptOfDecile)
		for k := range kept {
			v.Deciles[d] = append(v.Deciles[d], p.Row(i)[at+(2*k+1)*size/(2*kept)])
		}
		at += size
	}
	return v, true
}

// addSteps takes in the steps of row i.
func (c *Config) addSteps(b stage.Batch, i int, prompt uuid.UUID, sums *Sums) {
	first, ok := schemas.FirstError.Of(b).At(i)
	if !ok {
		return
	}
	ends, values, p := schemas.StepEnds.Of(b).Row(i), schemas.Value.Of(b).Row(i), schemas.PCorrect.Of(b).Row(i)
	outcome, known := schemas.Outcome.Of(b).At(i)
	item := Item{ID: schemas.ResponseID.Of(b)[i], PromptID: prompt, FirstError: int(first), Outcome: float64(outcome)}
	scores := c.tokenScores(values)
	running := make([]float64, len(scores))
	series.Running(running, scores)
	last := 0
	for _, end := range ends {
		if int(end) <= last || int(end) > len(values) || len(p) != len(values) || !series.AllFinite(running[end-1], float64(p[end-1])) {
			sums.Unplaced++
			return
		}
		item.StepEnds = append(item.StepEnds, int(end))
		item.Values = append(item.Values, running[end-1]/c.Beta)
		item.Least = append(item.Least, slices.Min(scores[last:end])/c.Beta)
		item.Last = append(item.Last, scores[end-1]/c.Beta)
		last = int(end)
		item.P = append(item.P, float64(p[end-1]))
	}
	if len(ends) == 0 {
		sums.Unplaced++
		return
	}
	if c.Truth && known {
		truth := schemas.StepTruth.Of(b).Row(i)
		for k := range min(len(truth), len(ends)) {
			item.Truth = append(item.Truth, float64(truth[k]))
		}
	}
	sums.Items = append(sums.Items, item)
}

// tokenScores are the scores of single tokens: what a value column holds, or by how much its values grow.
func (c *Config) tokenScores(values []float32) []float64 {
	out := make([]float64, len(values))
	before := 0.0
	for t, x := range values {
		out[t] = float64(x) - before
		if !c.TokenScores {
			before = float64(x)
		}
	}
	return out
}

// Shares is the share of right responses of each prompt that has one with an outcome.
func Shares(prompts []PromptResult) []float64 {
	var out []float64
	for _, p := range prompts {
		if p.N > 0 {
			out = append(out, float64(p.Correct)/float64(p.N))
		}
	}
	return out
}

func byID(a, b PromptResult) int { return bytes.Compare(a.ID[:], b.ID[:]) }
