package prompts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/millrace/millrace/schemas"
)

// layout is what some program writes whose rows hold their fields too deep for paths: it makes rows of them that Fields can name.
type layout interface {
	// tells reports whether a row is one of its.
	tells(row map[string]any) bool
	// rows are those that a row of a file holds, one a response. What it says of how they were sampled is under sampledBy.
	rows(row map[string]any) ([]map[string]any, error)
	// defines is what log-probs of a row are that was sampled in a way, nil where that is not known.
	defines(how sampled) *LogProbs
}

// layouts are those that there are, by the name that a recipe has for them (File.Layout). Each is a file of its own.
var layouts = map[string]layout{}

// sampledBy is the field of a row that says how it was sampled.
const sampledBy = "sampling"

// sampled is how a response was sampled. What a request does not say is what its server takes, which is not known.
type sampled struct{ temperature, topP, topK float64 }

// samplingOf reads temperature, top_p and top_k of a request; false where it has no temperature.
func samplingOf(row map[string]any) (how sampled, ok bool) {
	of, _ := row[sampledBy].(map[string]any)
	read := func(key string, into *float64) bool {
		n, there := of[key].(json.Number)
		if !there {
			return false
		}
		x, err := n.Float64()
		*into = x
		return err == nil
	}
	how.topP = 1
	ok = read("temperature", &how.temperature)
	read("top_p", &how.topP)
	if read("top_k", &how.topK); how.topK < 0 {
		how.topK = 0 // all, as vLLM writes it
	}
	return how, ok
}

// sampling keeps of a request what says how it was sampled.
func sampling(request map[string]any) map[string]any {
	out := map[string]any{}
	for _, key := range []string{"temperature", "top_p", "top_k", "min_p", "seed", "model"} {
		if v := request[key]; v != nil {
			out[key] = v
		}
	}
	return out
}

// unfolded gives the rows that the rows of a layout hold.
func unfolded(of layout, emit func(rawRow) error) func(rawRow) error {
	return func(row rawRow) error {
		if row.err != nil {
			return emit(row)
		}
		all, err := of.rows(row.fields)
		var broken parts
		if err != nil && !errors.As(err, &broken) {
			broken = parts{err}
		}
		for _, fields := range all {
			if err := emit(rawRow{number: row.number, fields: fields, raw: row.raw}); err != nil {
				return err
			}
		}
		for _, err := range broken {
			if err := emit(rawRow{number: row.number, raw: row.raw, err: err}); err != nil {
				return err
			}
		}
		return nil
	}
}

// parts are the errors of parts of a row whose other parts are rows.
type parts []error

func (p parts) Error() string { return errors.Join(p...).Error() }

// layoutOf is the name of the layout that the first row which can be read is of, "" of none.
func (f File) layoutOf(ctx context.Context) (name string, err error) {
	err = f.each(ctx, nil, func(row rawRow) error {
		if row.err != nil {
			return nil
		}
		for key, of := range layouts {
			if of.tells(row.fields) {
				name = key
			}
		}
		return errEnoughRows
	})
	return name, err
}

// each gives the rows of the files before their fields are read, until errEnoughRows; left, which may be nil, is told of columns of Parquet
// files that cannot be read.
func (f File) each(ctx context.Context, left func(error), emit func(rawRow) error) error {
	paths, err := f.Paths(ctx)
	s := scanner{file: f, left: left}
	for _, path := range paths {
		err := s.one(ctx, path, emit)
		if errors.Is(err, errEnoughRows) {
			return nil
		}
		if err != nil {
			return named(path, err)
		}
	}
	return err
}

// definedBy is what the log-probs of all rows are by what their requests say: nil where a row does not say it, or two say different
// things.
func (f File) definedBy(ctx context.Context) (*LogProbs, error) {
	var all *sampled
	known := true
	err := f.each(ctx, nil, func(row rawRow) error {
		if row.err != nil || row.fields["logprobs"] == nil {
			return nil
		}
		how, ok := samplingOf(row.fields)
		if all == nil {
			all = &how
		}
		if !ok || how != *all {
			known = false
			return errEnoughRows
		}
		return nil
	})
	if err != nil || all == nil || !known {
		return nil, err
	}
	return layouts[f.Layout].defines(*all), nil
}

// object is an object at a path of a row, nil where there is none.
func object(row map[string]any, path ...string) map[string]any {
	for _, key := range path {
		row, _ = row[key].(map[string]any)
	}
	return row
}

// without is a row without some of its fields.
func without(row map[string]any, fields ...string) map[string]any {
	out := make(map[string]any, len(row))
	for key, v := range row {
		out[key] = v
	}
	for _, key := range fields {
		delete(out, key)
	}
	return out
}

// listAt is a list of a row; nil where there is none, an error where it is something else.
func listAt(row map[string]any, key, where string) ([]any, error) {
	v := row[key]
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, bad(schemas.ReasonBadType, "%s.%s is %s, want a list", where, key, kindOf(v))
	}
	return list, nil
}

func item(list []any, i int, where string) (map[string]any, error) {
	m, ok := list[i].(map[string]any)
	if !ok {
		return nil, bad(schemas.ReasonBadType, "%s[%d] is %s, want an object", where, i, kindOf(list[i]))
	}
	return m, nil
}

// number is how a layout writes a number.
func number(x float64) json.Number { return json.Number(fmt.Sprint(x)) }
