package importance

import (
	"context"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Imported is the stage that makes rows which came with log-probs what another engine has sampled: their log-probs become sampler_logp,
// so that old_logp can be the trainer's own. Advantages that came with them are kept beside the weighted ones.
type Imported struct {
	From       string                 `json:"from"` // the column of log-probs: old_logp, or sampler_logp of rows that another engine has sampled
	Defined    schemas.LogPDefinition `json:"defined"`
	Advantages bool                   `json:"advantages,omitempty"` // rows came with advantages
	// Other are columns that were of the policy which sampled.
	Other []string `json:"other,omitempty"`
}

// Weigh is the stage that multiplies the advantages that rows came with by importance weights.
type Weigh struct{}

func init() {
	stage.Register[Imported]()
	stage.Register[Weigh]()
}

// OfSampler are the columns that are of the policy which sampled, beside its log-probs of the response.
var OfSampler = []schemas.Descriptor{schemas.OldLogP, schemas.OldLogZ, schemas.CandidateOldLogP, schemas.TemperedOldLogP,
	schemas.TemperedOldLogZ, schemas.TemperedCandidateOldLogP, schemas.ImportanceWeight}

func (c *Imported) from() schemas.List[float32] {
	if c.From == schemas.SamplerLogP.Name {
		return schemas.SamplerLogP
	}
	return schemas.OldLogP
}

// Contract says which columns are needed, added and taken away.
func (c *Imported) Contract() schemas.Contract {
	out := schemas.Contract{Name: "imported", Needs: []schemas.Descriptor{schemas.ResponseTokens, c.from()},
		Adds: []schemas.Descriptor{schemas.SamplerLogP}, Removes: []schemas.Descriptor{c.from()},
		Reads:  map[string]schemas.LogPDefinition{c.from().Name: c.Defined},
		Writes: map[string]schemas.LogPDefinition{schemas.SamplerLogP.Name: c.Defined}}
	for _, d := range OfSampler {
		for _, name := range c.Other {
			if d.Describe().Name == name && name != c.From {
				out.Removes = append(out.Removes, d)
			}
		}
	}
	if c.Advantages {
		out.Needs, out.Removes = append(out.Needs, schemas.Advantage), append(out.Removes, schemas.Advantage)
		out.Adds = append(out.Adds, schemas.UnweightedAdvantage)
	}
	return out
}

// Setup does nothing.
func (c *Imported) Setup(context.Context) error { return nil }

// Map renames the columns.
func (c *Imported) Map(_ context.Context, b stage.Batch, _ *stage.DeadLetters) (stage.Batch, error) {
	defined := c.Defined
	if have, ok := schemas.LogPOf(b, c.from()); ok {
		defined = have // which names the model too
	}
	rows, known := copied(c.from().Of(b))
	filled := []schemas.Filled{schemas.SamplerLogP.FromRows(rows, known...).Defined(defined)}
	if c.Advantages {
		rows, known := copied(schemas.Advantage.Of(b))
		filled = append(filled, schemas.UnweightedAdvantage.FromRows(rows, known...))
	}
	return b.Without(c.Contract().Removes...).With(filled...)
}

func copied(v schemas.Lists[float32]) (rows [][]float32, known []bool) {
	rows, known = make([][]float32, v.Len()), make([]bool, v.Len())
	for i := range rows {
		rows[i], known[i] = v.Row(i), v.Valid(i)
	}
	return rows, known
}

// Contract says which columns are needed and added.
func (Weigh) Contract() schemas.Contract {
	return schemas.Contract{Name: "weigh",
		Needs: []schemas.Descriptor{schemas.ResponseTokens, schemas.UnweightedAdvantage, schemas.ImportanceWeight},
		Adds:  []schemas.Descriptor{schemas.Advantage}}
}

// Setup does nothing.
func (Weigh) Setup(context.Context) error { return nil }

// Map multiplies. Rows without advantages stay without.
func (Weigh) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	tokens, weights, given := schemas.ResponseTokens.Of(b), schemas.ImportanceWeight.Of(b), schemas.UnweightedAdvantage.Of(b)
	rows, known := make([][]float32, b.NumRows()), make([]bool, b.NumRows())
	for i := range rows {
		if !given.Valid(i) {
			continue
		}
		x, ok := stage.PerToken(schemas.UnweightedAdvantage, given, i, len(tokens.Row(i)), dead)
		if !ok {
			continue
		}
		for t, w := range weights.Row(i) {
			x[t] *= float64(w)
		}
		rows[i], known[i] = stage.Narrow(schemas.Advantage.Name, x, i, dead), true
	}
	return b.With(schemas.Advantage.FromRows(rows, known...))
}
