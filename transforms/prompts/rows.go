package prompts

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/files/parquetrows"
)

// Row is a row of a file as far as it can be read, for whoever says what is wrong with rows: one without an answer, with an empty
// response or with numbers that are no log-probs is not set aside.
type Row struct {
	File      string
	Number    int    // in the file, from 1
	Prompt    string // as the model reads it, without a chat template
	Question  string // what the user says in it
	Answer    string
	HasAnswer bool
	Responses []Given
	// Reason is why the row cannot be read, "" where it can; Why says more.
	Reason schemas.Reason
	Why    string

	fields map[string]any
}

// Given is a response that comes with a row.
type Given struct {
	Text     string
	Tokens   []int32   // nil where it comes as text alone
	LogProbs []float64 // as they are written; NaN is none
	Finish   string    // stop, length, error, or "" where nobody says
}

// Columns are the names of the fields of the row, in order.
func (r Row) Columns() []string { return slices.Sorted(maps.Keys(r.fields)) }

// Value is what the row has at a dotted path: nil, a truth value, json.Number, a text, a list or a map. False where it has nothing.
func (r Row) Value(path string) (any, bool) {
	v, err := field(r.fields, path)
	return v, err == nil
}

// EachRow gives all rows of the files in their order. Memory does not grow with the files.
func (f File) EachRow(ctx context.Context, emit func(Row) error) error {
	paths, err := f.Paths(ctx)
	if err != nil {
		return err
	}
	s := scanner{file: f}
	for _, path := range paths {
		err := s.one(ctx, path, func(raw rawRow) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return emit(f.look(path, raw))
		})
		if has := (*files.ParquetError)(nil); err != nil && !errors.As(err, &has) {
			err = named(path, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// look reads a row.
func (f File) look(path string, raw rawRow) Row {
	out := Row{File: path, Number: raw.number, fields: raw.fields}
	rows, err := []promptRow(nil), raw.err
	if err == nil {
		fields := f.Fields
		fields.LogProbs, fields.Outcome = "", "" // which may hold anything
		rows, err = fields.readFrom(&fieldReader{row: raw.fields, rest: maps.Clone(raw.fields), lax: true})
	}
	if err != nil {
		out.Reason, out.Why = schemas.ReasonUnreadable, err.Error()
		if re := (*rowError)(nil); errors.As(err, &re) {
			out.Reason = re.reason
		}
		return out
	}
	first := rows[0]
	out.Prompt, out.Question, out.Answer, out.HasAnswer = first.identity(), said(first), first.answer, first.hasAnswer
	if !f.Fields.answered() {
		return out
	}
	for _, r := range rows {
		out.Responses = append(out.Responses,
			Given{Text: r.response, Tokens: r.responseTokens, LogProbs: f.logProbs(raw.fields), Finish: r.finish})
	}
	return out
}

// logProbs are the numbers of the row's log-probs, whatever they are.
func (f File) logProbs(row map[string]any) []float64 {
	if f.Fields.LogProbs == "" {
		return nil
	}
	v, _ := field(row, f.Fields.LogProbs)
	list, _ := v.([]any)
	out := make([]float64, len(list))
	for i, x := range list {
		out[i] = math.NaN()
		switch x := x.(type) {
		case json.Number:
			if n, err := x.Float64(); err == nil {
				out[i] = n
			}
		case parquetrows.NotFinite:
			if x != "NaN" {
				out[i] = math.Inf(map[bool]int{true: -1, false: 1}[x[0] == '-'])
			}
		}
	}
	return out
}

// absent reports whether a field is not there, or holds nothing.
func absent(err error) bool {
	re := (*rowError)(nil)
	return errors.As(err, &re) && re.reason == schemas.ReasonMissingField
}

// emptyList reports whether a field holds a list without items.
func emptyList(row map[string]any, path string) bool {
	v, err := field(row, path)
	list, ok := v.([]any)
	return err == nil && ok && len(list) == 0
}

// EachPrompt gives the prompts that a run takes of the file, in its order, each with its id and the first of its rows as JSON.
func (f File) EachPrompt(ctx context.Context, emit func(id uuid.UUID, row []byte) error) error {
	s := scanner{file: f, keep: true, group: func(g group) error { return emit(g.id, g.raws[0]) }}
	return s.scan(ctx)
}
