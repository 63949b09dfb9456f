package value

import (
	"context"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Given takes the steps that the rows bring, or that their judge has found: step_ends.
const Given = "given"

// Steps is the stage that reads values off at the ends of steps: rows with value, mean_value and p_correct of every token in, the same
// with those of every step out.
type Steps struct {
	Of string `json:"of"` // stage.Lines, stage.Blocks or Given
}

func init() { stage.Register[Steps]() }

// Contract says which columns are needed and added.
func (c *Steps) Contract() schemas.Contract {
	needs := []schemas.Descriptor{schemas.ResponseTokens, schemas.Value, schemas.MeanValue, schemas.PCorrect}
	if c.Of == Given {
		needs = append(needs, schemas.StepEnds)
	} else {
		needs = append(needs, schemas.Response, schemas.TokenEnds)
	}
	return schemas.Contract{Name: "step_values", Needs: needs,
		Adds: []schemas.Descriptor{schemas.ValueStepEnds, schemas.StepValue, schemas.StepMeanValue, schemas.StepPCorrect}}
}

// Setup does nothing.
func (c *Steps) Setup(context.Context) error { return nil }

// Map reads values off, row by row.
func (c *Steps) Map(_ context.Context, b stage.Batch, dead *stage.DeadLetters) (stage.Batch, error) {
	n := b.NumRows()
	ends, known := make([][]int32, n), make([]bool, n)
	from := [3]schemas.Lists[float32]{schemas.Value.Of(b), schemas.MeanValue.Of(b), schemas.PCorrect.Of(b)}
	var at [3][][]float32
	for k := range at {
		at[k] = make([][]float32, n)
	}
	tokens, ownOf, endsOf := schemas.ResponseTokens.Of(b), stage.OwnOf(b), c.ends(b)
	for i := range n {
		if ends[i] = endsOf(i); ends[i] == nil {
			continue
		}
		length := len(tokens.Row(i))
		if last := int(ends[i][len(ends[i])-1]); last > length || ends[i][0] < 1 {
			dead.Rowf(i, schemas.ReasonMismatch, "steps end at tokens %d to %d of a response of %d tokens", ends[i][0], last, length)
			continue
		}
		known[i] = true
		own := ownOf(i, length)
		for _, end := range ends[i] {
			t := lastOwn(own, int(end))
			for k, x := range [3]float32{0, 0, 0.5} { // where nothing is written yet
				if t >= 0 {
					x = from[k].Row(i)[t]
				}
				at[k][i] = append(at[k][i], x)
			}
		}
	}
	return b.With(schemas.ValueStepEnds.FromRows(ends, known...), schemas.StepValue.FromRows(at[0], known...),
		schemas.StepMeanValue.FromRows(at[1], known...), schemas.StepPCorrect.FromRows(at[2], known...))
}

// ends gives the tokens with which the steps of each row end, nil where that is not known.
func (c *Steps) ends(b stage.Batch) func(row int) []int32 {
	if c.Of == Given {
		given := schemas.StepEnds.Of(b)
		return func(i int) []int32 {
			if !given.Valid(i) || len(given.Row(i)) == 0 {
				return nil
			}
			return given.Row(i)
		}
	}
	texts, tokenEnds := schemas.Response.Of(b), schemas.TokenEnds.Of(b)
	return func(i int) []int32 {
		if !tokenEnds.Valid(i) {
			return nil
		}
		return stage.StepTokens(stage.StepBytes(texts.At(i), c.Of), tokenEnds.Row(i))
	}
}

// lastOwn is the index of the last token before an end that the policy wrote, -1 where there is none.
func lastOwn(own stage.Own, end int) int {
	if own.At == nil {
		return end - 1
	}
	last := -1
	for _, t := range own.At {
		if t < end {
			last = t
		}
	}
	return last
}
