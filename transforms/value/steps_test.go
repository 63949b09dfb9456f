package value

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// TestStepValues: the values of a step are those after its last token that the policy wrote.
func TestStepValues(t *testing.T) {
	var ids []uuid.UUID
	for i := range 4 {
		ids = append(ids, uuid.NewSHA1(uuid.Nil, []byte{byte(i)}))
	}
	tokens := [][]int32{{1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2}, {1, 2}}
	values := [][]float32{{1, 2, 3, 4}, {1, 2, 0, 4}, {5, 6}, {7, 8}}
	half := [][]float32{{.1, .2, .3, .4}, {.1, .2, .2, .4}, {.5, .6}, {.7, .8}}
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(ids), schemas.ResponseID.From(ids),
		schemas.ResponseTokens.FromRows(tokens), schemas.LossMask.FromRows([][]int32{nil, {0, 1, 0, 1}, nil, nil}, false, true, false, false),
		schemas.Response.From([]string{"a\nb\n\nc", "a\nb\n\nc", "x", "two"}),
		schemas.TokenEnds.FromRows([][]int32{{2, 4, 5, 6}, {2, 4, 5, 6}, {1, 1}, nil}, true, true, true, false),
		schemas.StepEnds.FromRows([][]int32{{3, 4}, {1, 3}, {9}, nil}, true, true, true, false),
		schemas.Value.FromRows(values), schemas.MeanValue.FromRows(values), schemas.PCorrect.FromRows(half))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		of          string
		ends        [][]int32
		value, half [][]float32
		dead        []schemas.Reason
	}{
		{stage.Lines, [][]int32{{1, 3, 4}, {1, 3, 4}, {2}, nil}, [][]float32{{1, 3, 4}, {0, 2, 4}, {6}, nil},
			[][]float32{{.1, .3, .4}, {.5, .2, .4}, {.6}, nil}, nil},
		{stage.Blocks, [][]int32{{3, 4}, {3, 4}, {2}, nil}, [][]float32{{3, 4}, {2, 4}, {6}, nil},
			[][]float32{{.3, .4}, {.2, .4}, {.6}, nil}, nil},
		{Given, [][]int32{{3, 4}, {1, 3}, nil}, [][]float32{{3, 4}, {0, 2}, nil}, [][]float32{{.3, .4}, {.5, .2}, nil},
			[]schemas.Reason{schemas.ReasonMismatch}},
	} {
		out, dead := stagetest.Run(t, Steps{Of: c.of}, b)
		stagetest.Dead(t, dead, c.dead...)
		for i := range c.ends {
			ends, value, p := schemas.ValueStepEnds.Of(out), schemas.StepValue.Of(out), schemas.StepPCorrect.Of(out)
			if ends.Valid(i) != (c.ends[i] != nil) || !slices.Equal(ends.Row(i), c.ends[i]) || !slices.Equal(value.Row(i), c.value[i]) ||
				!slices.Equal(schemas.StepMeanValue.Of(out).Row(i), c.value[i]) || !slices.Equal(p.Row(i), c.half[i]) {
				t.Errorf("%s, row %d: ends %v, values %v, p %v; want %v, %v, %v", c.of, i, ends.Row(i), value.Row(i), p.Row(i), c.ends[i],
					c.value[i], c.half[i])
			}
		}
	}
}
