package export

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// JSONL writes every row as a JSON object of its columns, numbers as numbers and ids as text.
type JSONL struct {
	Columns []string `json:"columns,omitempty" doc:"columns that are written; none named: all"`
}

func init() { Register("jsonl", JSONL{}) }

// LogProbs are those among the columns that are written.
func (f JSONL) LogProbs(head stage.Batch) (out []schemas.Descriptor) {
	for _, name := range head.Columns() {
		if c, ok := schemas.ByName(name); ok && c.LogProb && (f.Columns == nil || slices.Contains(f.Columns, name)) {
			out = append(out, c)
		}
	}
	return out
}

// Begin starts rows.jsonl.
func (f JSONL) Begin(ctx context.Context, dir string) (Writer, error) {
	l, err := newLines(ctx, dir, "rows.jsonl")
	if err != nil {
		return nil, err
	}
	return &jsonl{lines: l, columns: f.Columns}, nil
}

type jsonl struct {
	*lines
	columns []string
}

// Write writes all rows.
func (w *jsonl) Write(b stage.Batch) (map[string]int, error) {
	if w.columns != nil {
		var keep []schemas.Descriptor
		for _, name := range w.columns {
			c, ok := schemas.ByName(name)
			if !ok || !b.Has(c) {
				return nil, setting.Errorf("columns", "the rows have no column %q", name)
			}
			keep = append(keep, c)
		}
		var err error
		if b, err = b.Select(keep...); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	if err := array.RecordToJSON(b.Arrow(), &out); err != nil {
		return nil, err
	}
	ids := idsOf(b)
	row := 0
	for line := range bytes.Lines(out.Bytes()) {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(line, &fields); err != nil {
			return nil, err
		}
		for name, of := range ids {
			fields[name] = fmt.Appendf(nil, "%q", of[row])
		}
		raw, err := json.Marshal(fields)
		if err == nil {
			err = w.add(raw)
		}
		if err != nil {
			return nil, err
		}
		row++
	}
	return nil, nil
}

// idsOf are the columns of ids, which Arrow would write as bytes.
func idsOf(b stage.Batch) map[string][]uuid.UUID {
	out := map[string][]uuid.UUID{}
	for _, f := range b.Arrow().Schema().Fields() {
		c, known := schemas.ByName(f.Name)
		if !known || !arrow.TypeEqual(f.Type, schemas.PromptID.Type) {
			continue
		}
		if of, err := (schemas.ID{Column: c}).Find(b); err == nil {
			out[f.Name] = of
		}
	}
	return out
}
