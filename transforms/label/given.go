package label

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/label/verify"
	"github.com/millrace/millrace/transforms/stage"
)

// Given takes outcomes that came with the rows, such as the labels of an imported dataset, in the place of a verifier: an
// outcome of one half or more is correct.
type Given struct {
	Std string `json:"std"` // as in Config
	// Steps places the steps that came with the responses on their tokens.
	Steps bool `json:"steps,omitempty"`
}

// FromSource adds what follows from outcomes that rows already have: rows with outcomes in, the same with
// verdict and group statistics out, and dead letters.
func FromSource(s beam.Scope, cfg Given, in stage.Rows) (labeled, dead stage.Rows) {
	return stage.Apply(s, cfg, in)
}

func init() { stage.Register[Given]() }

// Contract says which columns are needed and added.
func (c *Given) Contract() schemas.Contract {
	out := schemas.Contract{Name: "label_given", Needs: []schemas.Descriptor{schemas.PromptID, schemas.Outcome},
		Adds: []schemas.Descriptor{schemas.Verdict, schemas.GroupMean, schemas.GroupStd, schemas.GroupValid}}
	if c.Steps {
		out.Needs, out.Adds = append(out.Needs, schemas.StepBytes, schemas.TokenEnds), append(out.Adds, schemas.StepEnds)
	}
	return out
}

// Setup does nothing.
func (c *Given) Setup(context.Context) error { return nil }

// Map takes the statistics of each group over the rows that have an outcome.
func (c *Given) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	groups, err := b.Groups()
	if err != nil {
		return b, err
	}
	n := b.NumRows()
	outcome := schemas.Outcome.Of(b)
	verdicts, values, known := make([]string, n), make([]float64, n), make([]bool, n)
	for i := range n {
		x, ok := outcome.At(i)
		values[i], known[i], verdicts[i] = float64(x), ok, verify.Incorrect.String()
		switch {
		case !ok:
			verdicts[i] = verify.UnparsableAnswer.String() // nobody judged it
		case x >= 0.5:
			verdicts[i] = verify.Correct.String()
		}
	}
	mean, std := make([]float32, n), make([]float32, n)
	grouped, usable := make([]bool, n), make([]bool, n)
	for _, g := range groups {
		stats := Statistics(values[g.Lo:g.Hi], known[g.Lo:g.Hi], c.Std == SampleStd)
		for i := g.Lo; i < g.Hi; i++ {
			mean[i], std[i], grouped[i] = float32(stats.Mean), float32(stats.Std), stats.Valid > 0
			usable[i] = known[i] && stats.Mixed()
		}
	}
	cols := []schemas.Filled{schemas.Verdict.From(verdicts), schemas.GroupMean.From(mean, grouped...), schemas.GroupStd.From(std, grouped...),
		schemas.GroupValid.From(usable)}
	if c.Steps {
		bytes, ends := schemas.StepBytes.Of(b), tokenEndsOf(b)
		stepEnds, placed := make([][]int32, n), make([]bool, n)
		for i := range n {
			stepEnds[i], placed[i] = placeSteps(bytes.Row(i), ends(i))
		}
		cols = append(cols, schemas.StepEnds.FromRows(stepEnds, placed...))
	}
	return b.With(cols...)
}
