package run

import (
	"context"
	"errors"
	"math"
	"strings"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/telemetry/trackers"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// sampleTable is a table of responses of a committed iteration: of each prompt the first right and the first wrong one, or of rows without
// outcomes the first. It has the columns that the rows have; nil where they hold no responses as text.
func (run *Dir) sampleTable(ctx context.Context, number int, s trackers.Samples) (*trackers.Table, error) {
	paths, err := RowFiles(ctx, run.IterPath(number), chain.BatchName)
	if err != nil {
		return nil, err
	}
	enough := errors.New("enough rows")
	var out *trackers.Table
	for _, path := range paths {
		err := recordio.ReadFile(ctx, path, func(b stage.Batch) error {
			columns := sampleColumns(b, s.Characters)
			if columns == nil {
				return enough
			}
			if out == nil {
				out = &trackers.Table{Step: number + 1, Columns: []string{"iterations"}}
				for _, c := range columns {
					out.Columns = append(out.Columns, c.name)
				}
			}
			for _, i := range contrasted(b) {
				if len(out.Rows) == s.Rows {
					return enough
				}
				row := []any{number + 1}
				for _, c := range columns {
					row = append(row, c.at(i))
				}
				out.Rows = append(out.Rows, row)
			}
			return nil
		})
		if errors.Is(err, enough) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sampleColumn is a column of such a table.
type sampleColumn struct {
	name string
	at   func(row int) any
}

// sampleColumns are those of a batch, always the same for the batches of a file.
func sampleColumns(b stage.Batch, characters int) (out []sampleColumn) {
	text := func(name string, c schemas.Text) bool {
		values, err := c.Find(b)
		if err == nil {
			out = append(out, sampleColumn{name, func(i int) any {
				if !values.Valid(i) {
					return nil
				}
				return trackers.Cut(strings.ToValidUTF8(values.At(i), "\uFFFD"), characters)
			}})
		}
		return err == nil
	}
	number := func(name string, c schemas.Scalar[float32]) {
		if values, err := c.Find(b); err == nil {
			out = append(out, sampleColumn{name, func(i int) any {
				x, ok := values.At(i)
				return finite(float64(x), ok)
			}})
		}
	}
	text("prompt", schemas.Prompt)
	if !text("response", schemas.Response) {
		return nil
	}
	number("outcome", schemas.Outcome)
	text("verdict", schemas.Verdict)
	text("reason", schemas.VerdictReason)
	number("reward", schemas.Reward)
	for _, name := range b.Columns() {
		if part, ok := strings.CutPrefix(name, schemas.RewardPartPrefix); ok {
			number("reward/"+part, schemas.RewardPart(part))
		}
	}
	if values, err := schemas.Advantage.Find(b); err == nil {
		out = append(out, sampleColumn{"advantage", func(i int) any { return mean(values.Row(i), values.Valid(i)) }})
	}
	if values, err := schemas.ResponseTokens.Find(b); err == nil {
		out = append(out, sampleColumn{"tokens", func(i int) any { return len(values.Row(i)) }})
	}
	return out
}

// finite is a number that JSON has, nil for another one.
func finite(x float64, known bool) any {
	if !known || math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return x
}

// mean is that of the tokens of a row.
func mean(xs []float32, known bool) any {
	sum := 0.0
	for _, x := range xs {
		sum += float64(x)
	}
	return finite(sum/float64(len(xs)), known)
}

// contrasted lists of each prompt group the first row with each outcome that is known, or the first row where none is.
func contrasted(b stage.Batch) (out []int) {
	outcomes, outcomesErr := schemas.Outcome.Find(b)
	ids, idsErr := schemas.PromptID.Find(b)
	for i := 0; i < b.NumRows(); {
		first, taken := i, map[float32]bool{}
		for ; i < b.NumRows() && (i == first || idsErr == nil && ids[i] == ids[first]); i++ {
			if outcomesErr != nil {
				continue
			}
			if y, known := outcomes.At(i); known && !taken[y] {
				taken[y] = true
				out = append(out, i)
			}
		}
		if len(taken) == 0 {
			out = append(out, first)
		}
	}
	return out
}
