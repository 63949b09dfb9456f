// Package evaluate measures policies and reward models: avg@k and pass@k, Best-of-N, calibration of prefix values,
// ProcessBench's step F1, and paired comparisons of two runs. Every figure comes with its count, and with its standard
// error over prompts where it is a mean over prompts.
//
// An evaluation is one reduction over a batch (Sums), and a Report read off it. Sums do not depend on how the batch was
// cut into records.
package evaluate

import (
	"bytes"
	"cmp"
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
)

// Config says what is measured.
type Config struct {
	K []int `json:"k"` // pass@k for these k
	// Values measures a reward model too: Best-of-N by the last value and mean value, calibration of p_correct.
	Values bool `json:"values"`
	Bins   int  `json:"bins"` // of the expected calibration error
	// Steps measures ProcessBench's step F1, where rows have step labels; Beta is that of the value column.
	Steps bool    `json:"steps"`
	Beta  float64 `json:"beta"`
}

// Default measures the policy alone.
func Default() Config { return Config{K: []int{1, 2, 4, 8}, Bins: 10, Beta: 10} }

// Validate names the first key that is wrong.
func (c Config) Validate() error {
	for i, k := range c.K {
		if k < 1 {
			return fmt.Errorf("k[%d]: %d is not at least 1", i, k)
		}
	}
	switch {
	case c.Bins < 1 || c.Bins > 1000:
		return fmt.Errorf("bins: %d is not in [1, 1000]", c.Bins)
	case c.Steps && !(c.Beta > 0 && !math.IsInf(c.Beta, 0)):
		return fmt.Errorf("beta: %v is not a finite number above 0", c.Beta)
	}
	return nil
}

// Apply sums up labeled (and, for a reward model, valued) responses: PCollection<Batch> in, PCollection<Sums> of one out.
func Apply(s beam.Scope, cfg Config, in beam.PCollection) beam.PCollection {
	if err := cfg.Validate(); err != nil {
		panic(fmt.Sprintf("stage evaluate: %v", err))
	}
	return totals.Reduce[Config, Sums](s, cfg, in)
}

func encodeSums(t Sums) ([]byte, error) { return json.Marshal(t) }

func decodeSums(raw []byte) (t Sums, err error) { return t, json.Unmarshal(raw, &t) }

func init() { totals.Register[Config, Sums](encodeSums, decodeSums) }

// Contract says which columns are needed.
func (c *Config) Contract() schemas.Contract {
	out := schemas.Contract{Name: "evaluate", Needs: []schemas.Descriptor{schemas.PromptID, schemas.ResponseID, schemas.Verdict, schemas.Outcome}}
	if c.Values {
		out.Needs = append(out.Needs, schemas.PCorrect, schemas.MeanValue)
	}
	if c.Values || c.Steps {
		out.Needs = append(out.Needs, schemas.Value)
	}
	if c.Steps {
		out.Needs = append(out.Needs, schemas.FirstError, schemas.StepEnds)
	}
	return out
}

// BestOfScores are the columns whose last number Best-of-N goes by: the mean value for IPVRM and Q-RM, the value for
// Implicit PRM and DPO-RM (spec 5).
var BestOfScores = []string{"mean_value", "value"}

// PromptResult is what became of one prompt.
type PromptResult struct {
	ID      uuid.UUID `json:"id"`
	N       int       `json:"n"`       // responses with an outcome
	Correct int       `json:"correct"` // of these, right
	// Picked is the outcome of the response that each of BestOfScores picks; empty when values were not measured.
	Picked []float64 `json:"picked,omitempty"`
}

// Item is one response with step labels.
type Item struct {
	ID         uuid.UUID `json:"id"`
	FirstError int       `json:"first_error"` // -1: every step is right
	StepEnds   []int     `json:"step_ends"`
	Values     []float64 `json:"values"` // prefix values at the step ends, at beta 1
}

// Sums are what batches contribute to an evaluation.
type Sums struct {
	Responses, Abstained, Truncated int64
	Unvalued                        int64 // responses with an outcome but without usable values
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
	c.Gap[min(int(math.Floor(float64(bins)*p)), bins-1)].Add(y - p)
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
		scores := make([][]float64, len(BestOfScores))
		var right []float64
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
			if r > 0.5 {
				p.Correct++
			}
			switch {
			case !c.Values:
			case c.addValues(b, i, float64(r), scores, sums):
				right = append(right, float64(r))
			default:
				sums.Unvalued++
			}
		}
		for _, s := range scores {
			if k := BestOf(s); k >= 0 {
				p.Picked = append(p.Picked, right[k])
			}
		}
		sums.Prompts = append(sums.Prompts, p)
		for i := g.Lo; c.Steps && i < g.Hi; i++ {
			c.addSteps(b, i, sums)
		}
	}
	return nil
}

// addValues takes in the prefix values of row i; false when it has none.
func (c *Config) addValues(b stage.Batch, i int, r float64, scores [][]float64, sums *Sums) bool {
	p, value, mean := schemas.PCorrect.Of(b), schemas.Value.Of(b), schemas.MeanValue.Of(b)
	n := len(p.Row(i))
	if n == 0 || len(value.Row(i)) != n || len(mean.Row(i)) != n {
		return false
	}
	if !series.AllFinite(float64(mean.Row(i)[n-1]), float64(value.Row(i)[n-1])) {
		return false
	}
	for _, x := range p.Row(i) {
		if !(x >= 0 && x <= 1) {
			return false
		}
	}
	for t, x := range p.Row(i) {
		sums.Deciles[Decile(t, n)].add(float64(x), r, c.Bins)
	}
	scores[0] = append(scores[0], float64(mean.Row(i)[n-1]))
	scores[1] = append(scores[1], float64(value.Row(i)[n-1]))
	return true
}

func (c *Config) addSteps(b stage.Batch, i int, sums *Sums) {
	first, ok := schemas.FirstError.Of(b).At(i)
	ends, values := schemas.StepEnds.Of(b).Row(i), schemas.Value.Of(b).Row(i)
	if !ok || len(ends) == 0 || len(values) == 0 {
		return
	}
	item := Item{ID: schemas.ResponseID.Of(b)[i], FirstError: int(first)}
	for _, end := range ends {
		if end < 1 || int(end) > len(values) || !series.AllFinite(float64(values[end-1])) {
			return
		}
		item.StepEnds = append(item.StepEnds, int(end))
		item.Values = append(item.Values, float64(values[end-1])/c.Beta)
	}
	sums.Items = append(sums.Items, item)
}

// Report holds the figures of an evaluation.
type Report struct {
	Prompts   int   `json:"prompts"`
	Responses int64 `json:"responses"`
	Abstained int64 `json:"abstained"` // responses without an outcome
	Truncated int64 `json:"truncated"`
	Unvalued  int64 `json:"unvalued,omitempty"` // responses with an outcome but without usable values

	Avg    Estimate `json:"avg"` // avg@k: mean share of right responses, k being the responses a prompt has
	PassAt []PassAt `json:"pass_at"`
	BestOf []BestAt `json:"best_of,omitempty"`

	Calibration *Calibration  `json:"calibration,omitempty"`
	ByDecile    []Calibration `json:"calibration_by_decile,omitempty"`

	Steps []StepF1 `json:"steps,omitempty"`
}

// PassAt is pass@k over the prompts that have k responses.
type PassAt struct {
	K int `json:"k"`
	Estimate
}

// BestAt is the share of prompts whose best response by a score is right.
type BestAt struct {
	Score string `json:"score"`
	Estimate
}

// StepF1 is ProcessBench's figure under one rule.
type StepF1 struct {
	Rule    string `json:"rule"`
	Items   int    `json:"items"`
	Best    F1     `json:"best"`     // at the best threshold of the grid
	Chosen  F1     `json:"chosen"`   // on the items the threshold was chosen on
	HeldOut F1     `json:"held_out"` // on the others
}

// Report reads the figures off the sums.
func (c Config) Report(s Sums) Report {
	prompts := slices.SortedFunc(slices.Values(s.Prompts), byID)
	out := Report{Prompts: len(prompts), Responses: s.Responses, Abstained: s.Abstained, Truncated: s.Truncated, Unvalued: s.Unvalued,
		Avg: Over(Shares(prompts))}
	for _, k := range c.K {
		var pass []float64
		for _, p := range prompts {
			if p.N >= k {
				pass = append(pass, PassAtK(p.N, p.Correct, k))
			}
		}
		out.PassAt = append(out.PassAt, PassAt{k, Over(pass)})
	}
	if c.Values {
		for k, score := range BestOfScores {
			var picked []float64
			for _, p := range prompts {
				if len(p.Picked) == len(BestOfScores) {
					picked = append(picked, p.Picked[k])
				}
			}
			out.BestOf = append(out.BestOf, BestAt{score, Over(picked)})
		}
		var all calibrated
		for d := range s.Deciles {
			all.merge(s.Deciles[d])
			out.ByDecile = append(out.ByDecile, s.Deciles[d].calibration())
		}
		whole := all.calibration()
		out.Calibration = &whole
	}
	if c.Steps {
		out.Steps = stepF1s(s.Items)
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

// stepF1s scores the items in the order of their ids, so that the halves do not depend on the order of records.
func stepF1s(items []Item) []StepF1 {
	items = slices.SortedFunc(slices.Values(items), func(a, b Item) int {
		return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(len(a.StepEnds), len(b.StepEnds)))
	})
	var out []StepF1
	for _, rule := range Rules {
		var scores [][]float64
		var labels []int
		for _, item := range items {
			s, err := scoresAt(rule, item.Values, item.StepEnds, BetaEval)
			if err != nil {
				continue // steps that end before they begin: no item of this project's labels
			}
			scores, labels = append(scores, s), append(labels, item.FirstError)
		}
		chosen, test := HeldOut(scores, labels, ReleasedGrid)
		out = append(out, StepF1{Rule: rule, Items: len(scores), Best: BestF1(scores, labels, ReleasedGrid), Chosen: chosen, HeldOut: test})
	}
	return out
}

// ComparePrompts ranks two runs by the share of right responses on the prompts that both have.
func ComparePrompts(a, b []PromptResult, confidence float64) Comparison {
	inB := map[uuid.UUID]PromptResult{}
	for _, p := range b {
		inB[p.ID] = p
	}
	var xs, ys []float64
	for _, p := range slices.SortedFunc(slices.Values(a), byID) {
		if q, ok := inB[p.ID]; ok && p.N > 0 && q.N > 0 {
			xs = append(xs, float64(p.Correct)/float64(p.N))
			ys = append(ys, float64(q.Correct)/float64(q.N))
		}
	}
	return Compare(xs, ys, confidence)
}
