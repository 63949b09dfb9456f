package kinds

import (
	"context"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/stage"
)

// Counting is a source of prompts that the proving ground's tokenizer can write: chains of one operation.
type Counting struct {
	Step int `json:"step" range:"[1,9]" doc:"what is added"`
}

func init() {
	prompts.Register("counting", Counting{Step: 1})
	beam.RegisterDoFn(&countFn{})
}

// Columns are those of its rows.
func (c Counting) Columns() []schemas.Descriptor {
	return []schemas.Descriptor{schemas.PromptID, schemas.Prompt, schemas.Answer, schemas.Source, schemas.Extra}
}

// Read makes one record of the window's prompts.
func (c Counting) Read(s beam.Scope, w prompts.Window) (rows, dead stage.Rows) {
	known := schemas.Known{}
	for _, d := range c.Columns() {
		known.Columns = append(known.Columns, d.Describe())
	}
	made := beam.ParDo(s, &countFn{Counting: c, Window: w}, beam.Impulse(s))
	return stage.Rows{PCollection: made, Known: &known, MaxRecordBytes: w.MaxRecordBytes}, stage.Rows{}
}

type countFn struct {
	Counting Counting
	Window   prompts.Window
}

// ProcessElement writes the prompts.
func (f *countFn) ProcessElement(_ context.Context, _ []byte, emit func(stage.Batch)) error {
	var ids []uuid.UUID
	var texts, answers, sources, extras []string
	for i := range f.Window.Count {
		at := f.Window.First + f.Window.Drawn + i
		x := at % 10
		text, answer := fmt.Sprintf("%da+%d=", x, f.Counting.Step), fmt.Sprint((x+f.Counting.Step)%10)
		source := fmt.Sprintf("counting/%s/%d", f.Window.Split, at)
		ids = append(ids, prompts.PromptID(text, answer, source))
		texts, answers, sources, extras = append(texts, text), append(answers, answer), append(sources, source), append(extras, "{}")
	}
	b, err := schemas.NewRecord(f.Window.Meta, schemas.PromptID.From(ids), schemas.Prompt.From(texts), schemas.Answer.From(answers),
		schemas.Source.From(sources), schemas.Extra.From(extras))
	if err != nil {
		return err
	}
	emit(b)
	return nil
}
