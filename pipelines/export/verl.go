package export

import (
	"context"
	"fmt"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// Verl writes the prompts as verl's RLHFDataset reads them, a Parquet file, and the responses as verl's trainer keeps its rollouts, a
// JSONL file a step.
type Verl struct {
	DataSource string `json:"data_source" doc:"what verl chooses its reward function by; empty: the source of the prompt"`
	Ability    string `json:"ability" doc:"what the prompts ask for"`
	Split      string `json:"split" doc:"the split that the prompts are of"`
	Rollouts   bool   `json:"rollouts" doc:"write the responses too"`

	prompts Prompts
}

func init() { Register("verl", Verl{Ability: "math", Split: "train", Rollouts: true}) }

// Prepare asks for prompts with their answers, and for judged responses where they are written.
func (f Verl) Prepare(of Origin, heads []stage.Batch) (Format, error) {
	if err := withoutPairs("verl", heads); err != nil {
		return nil, err
	}
	if err := need("verl", heads, schemas.PromptID, schemas.Prompt, schemas.Answer, schemas.Source); err != nil {
		return nil, err
	}
	if f.Rollouts {
		if err := need("verl with rollouts", heads, schemas.ResponseID, schemas.Response); err != nil {
			return nil, err
		}
		if err := needScore("verl with rollouts", heads); err != nil {
			return nil, err
		}
	}
	f.prompts = Prompts{Prompt: "messages"}.known(of, heads) // verl has no prompts that are texts
	return f, nil
}

// Begin starts the prompts.
func (f Verl) Begin(ctx context.Context, dir string) (Writer, error) {
	s, err := newSpool()
	if err != nil {
		return nil, err
	}
	path := files.Join(dir, "prompts.parquet")
	to, err := files.Create(ctx, path)
	if err != nil {
		s.drop()
		return nil, err
	}
	out, err := pqarrow.NewFileWriter(verlSchema, to, parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy)),
		pqarrow.DefaultWriterProps())
	if err != nil {
		to.Abort()
		s.drop()
		return nil, err
	}
	return &verl{Verl: f, ctx: ctx, dir: dir, path: path, file: to, out: out, rollouts: s,
		rows: array.NewRecordBuilder(memory.DefaultAllocator, verlSchema), promptGroups: promptGroups{of: f.prompts, answered: true}}, nil
}

func text(name string) arrow.Field { return arrow.Field{Name: name, Type: arrow.BinaryTypes.String} }

var verlSchema = arrow.NewSchema([]arrow.Field{
	text("data_source"),
	{Name: "prompt", Type: arrow.ListOf(arrow.StructOf(text("role"), text("content")))},
	text("ability"),
	{Name: "reward_model", Type: arrow.StructOf(text("style"), text("ground_truth"))},
	{Name: "extra_info", Type: arrow.StructOf(text("split"), arrow.Field{Name: "index", Type: arrow.PrimitiveTypes.Int64}, text("prompt_id"))},
}, nil)

// verlRows are the rows of a row group.
const verlRows = 1024

type verl struct {
	Verl
	promptGroups
	ctx      context.Context
	dir      string
	path     string
	file     *files.Writer
	out      *pqarrow.FileWriter
	rows     *array.RecordBuilder
	index    int64 // of the next prompt
	rollouts *spool
	step     int
}

// Step begins a file of responses.
func (w *verl) Step(iteration int) error {
	w.step = iteration
	if w.Rollouts {
		w.rollouts.begin(files.Join(w.dir, "rollouts", fmt.Sprintf("%d.jsonl", iteration)))
	}
	return nil
}

// End has nothing to add.
func (w *verl) End() (map[string]int, error) { return nil, nil }

// Write writes the prompts of a batch that are new, and the responses to all.
func (w *verl) Write(b stage.Batch) (map[string]int, error) {
	var out []byte
	unscored := 0
	var line func(row int, p promptRow) ([]byte, error)
	if w.Rollouts {
		line = w.lines(b)
	}
	left, err := w.each(b, func(p promptRow, in schemas.Group, again bool) error {
		if !again {
			if err := w.prompt(p); err != nil {
				return err
			}
		}
		for row := in.Lo; w.Rollouts && row < in.Hi; row++ {
			raw, err := line(row, p)
			if err != nil {
				return err
			}
			if raw == nil {
				unscored++
			}
			out = append(out, raw...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if unscored > 0 {
		left[leftNoScore] = unscored
	}
	if len(out) > 0 {
		_, err = w.rollouts.Write(out)
	}
	return left, err
}

// lines gives the line of a response, nil where it has no score.
func (w *verl) lines(b stage.Batch) func(row int, p promptRow) ([]byte, error) {
	score, texts, ids, verdict := scoreOf(b), schemas.Response.Of(b), schemas.ResponseID.Of(b), textOf(schemas.Verdict, b)
	prompts := Prompts{Prompt: "text", chat: w.prompts.chat}.of(b)
	parts := map[string]schemas.Scalars[float32]{}
	for _, name := range b.Columns() {
		if part, ok := strings.CutPrefix(name, schemas.RewardPartPrefix); ok {
			if values, err := schemas.RewardPart(part).Find(b); err == nil {
				parts[name] = values
			}
		}
	}
	return func(row int, p promptRow) ([]byte, error) {
		y, ok := score(row)
		if !ok || !finite([]float32{y}) {
			return nil, nil
		}
		fields := map[string]any{"input": prompts(row).text, "output": texts.At(row), "gts": *p.answer, "score": y, "step": w.step,
			"prompt_id": p.id.String(), "response_id": ids[row].String(), "verdict": verdict(row)}
		for name, of := range parts {
			fields[name] = nil
			if x, ok := of.At(row); ok && finite([]float32{x}) {
				fields[name] = x
			}
		}
		raw, err := marshal(fields)
		return append(raw, '\n'), err
	}
}

// prompt adds a row.
func (w *verl) prompt(p promptRow) error {
	put := func(b array.Builder, s string) { b.(*array.StringBuilder).Append(s) }
	source := w.DataSource
	if source == "" && p.source != nil {
		source = *p.source
	}
	put(w.rows.Field(0), source)
	turns := w.rows.Field(1).(*array.ListBuilder)
	turns.Append(true)
	turn := turns.ValueBuilder().(*array.StructBuilder)
	for _, m := range p.prompt.turns {
		turn.Append(true)
		put(turn.FieldBuilder(0), m.Role)
		put(turn.FieldBuilder(1), m.Content)
	}
	put(w.rows.Field(2), w.Ability)
	model := w.rows.Field(3).(*array.StructBuilder)
	model.Append(true)
	put(model.FieldBuilder(0), "rule")
	put(model.FieldBuilder(1), *p.answer)
	extra := w.rows.Field(4).(*array.StructBuilder)
	extra.Append(true)
	put(extra.FieldBuilder(0), w.Split)
	extra.FieldBuilder(1).(*array.Int64Builder).Append(w.index)
	put(extra.FieldBuilder(2), p.id.String())
	w.index++
	if w.index%verlRows == 0 {
		return w.flush()
	}
	return nil
}

// flush writes a row group.
func (w *verl) flush() error {
	rows := w.rows.NewRecord()
	defer rows.Release()
	if rows.NumRows() == 0 {
		return nil
	}
	return w.out.Write(rows)
}

// Records counts the prompts.
func (w *verl) Records() int { return int(w.index) }

// Close puts the files under their names.
func (w *verl) Close() ([]string, error) {
	err := w.flush()
	if err == nil {
		err = w.out.Close()
	}
	if err != nil {
		w.Abort()
		return nil, err
	}
	paths, err := w.rollouts.commit(w.ctx)
	if err != nil {
		w.file.Abort()
		return nil, err
	}
	if err := w.file.Commit(true); err != nil {
		remove(w.ctx, paths)
		return nil, err
	}
	return append([]string{w.path}, paths...), nil
}

// Abort leaves nothing behind.
func (w *verl) Abort() {
	w.file.Abort()
	w.rollouts.drop()
}
