package target

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// Forms of an LCO target.
const (
	DenseForm    = "dense"          // advantages of the candidates, scaled to unit spread; all other tokens one low constant
	EstimateForm = "vocab_estimate" // all other tokens get what makes the expected advantage about zero
)

// LCOConfig says how LCO's advantages over the vocabulary follow from those of the candidates (arXiv 2603.00963; spec
// 4.3). The loss reads them with its form dense.
type LCOConfig struct {
	Form     string  `json:"form" enum:"dense,vocab_estimate" doc:"dense: the candidates' advantages in unit spread, the others' one low constant; vocab_estimate: expectation about zero"`
	Centre   bool    `json:"centre" doc:"dense: subtract the position's mean too, as losses lco_mse and lco_lch want it"`
	Unlisted float64 `json:"unlisted" range:"[-1e6,0]" doc:"dense: advantage of every token off the list"`
	MinRest  float64 `json:"min_rest" range:"(0,1]" doc:"vocab_estimate: least mass that the tokens off the list are taken to have"`
}

// DefaultLCO holds the paper's settings of a form.
func DefaultLCO(form string) LCOConfig {
	return LCOConfig{Form: form, Unlisted: -100, MinRest: 0.1}
}

// SetDefaults is DefaultLCO without a form.
func (c *LCOConfig) SetDefaults() { *c = DefaultLCO("") }

// Validate checks that only dense advantages are centred.
func (c LCOConfig) Validate() error {
	if c.Centre && c.Form != DenseForm {
		return setting.Errorf("centre", "goes with form %s only", DenseForm)
	}
	return nil
}

// LCO adds target_advantage and rest_advantage: rows with candidate advantages in, the same with targets out.
func LCO(s beam.Scope, cfg LCOConfig, in stage.Rows) (out, dead stage.Rows) {
	return stage.Apply(s, cfg, in)
}

func init() { stage.Register[LCOConfig]() }

// Contract says which columns are needed and added.
func (c *LCOConfig) Contract() schemas.Contract {
	return schemas.Contract{Name: "target_lco",
		Needs: []schemas.Descriptor{schemas.CandidateIDs, schemas.CandidateOldLogP, schemas.CandidateAdvantage},
		Adds:  []schemas.Descriptor{schemas.TargetAdvantage, schemas.RestAdvantage},
		Reads: map[string]schemas.LogPDefinition{schemas.CandidateOldLogP.Name: schemas.FullLogP("")}}
}

// Setup does nothing.
func (c *LCOConfig) Setup(context.Context) error { return nil }

// Map scales the candidates' advantages position by position. A response without advantages gets no target; a position
// without candidates gets none either, and a rest of 0: its target is the old policy.
func (c *LCOConfig) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	ids, logps, advantages := schemas.CandidateIDs.Of(b), schemas.CandidateOldLogP.Of(b), schemas.CandidateAdvantage.Of(b)
	n := b.NumRows()
	targets, rests, known := make([][][]float32, n), make([][]float32, n), make([]bool, n)
	for i := range n {
		if !advantages.Valid(i) {
			continue
		}
		listed := ids.Row(i)
		logp, ok := stage.PerListed(schemas.CandidateOldLogP, logps, i, listed, dead)
		if !ok {
			continue
		}
		row := advantages.Row(i)
		if row.Len() != listed.Len() {
			dead.Rowf(i, schemas.ReasonMismatch, "column candidate_advantage has %d lists, candidate_ids %d", row.Len(), listed.Len())
			continue
		}
		rest, at := make([]float64, row.Len()), 0
		targets[i] = make([][]float32, row.Len())
		for t := range row.Len() {
			k := len(listed.Row(t))
			old := logp[at : at+k]
			at += k
			a := make([]float64, len(row.Row(t)))
			for s, x := range row.Row(t) {
				a[s] = float64(x)
			}
			switch {
			case len(a) == 0:
				continue
			case len(a) != k:
				dead.Rowf(i, schemas.ReasonMismatch, "column candidate_advantage has %d numbers for the %d candidates at token %d", len(a), k, t)
				continue
			case c.Form == EstimateForm:
				rest[t] = VocabEstimate(a, old, c.MinRest)
			default:
				Dense(a, c.Centre)
				rest[t] = c.Unlisted
			}
			targets[i][t] = stage.Narrow(schemas.TargetAdvantage.Name, a, i, dead)
		}
		rests[i], known[i] = stage.Narrow(schemas.RestAdvantage.Name, rest, i, dead), true
	}
	return b.With(schemas.TargetAdvantage.FromRows(targets, known...), schemas.RestAdvantage.FromRows(rests, known...))
}
