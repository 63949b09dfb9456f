package prompts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// Inspector is a source that can be looked at before a pipeline reads it. What the settings get wrong about it is a setting.Error
// of the source's section.
type Inspector interface {
	Inspect(ctx context.Context) (Findings, error)
}

// Findings are what the first rows of a source are like; of a generator, which has no rows, what some of its problems are.
type Findings struct {
	Source string   `json:"source"`
	Drawn  bool     `json:"drawn,omitempty"` // by a generator
	Rows   int      `json:"rows"`            // read
	Whole  bool     `json:"whole"`           // there are no more
	Fields []string `json:"fields"`          // of the first row
	// Prompts are those of the rows that can be used, by split.
	Prompts  map[string]int         `json:"prompts"`
	Dead     map[schemas.Reason]int `json:"dead,omitempty"` // rows that would be set aside, by reason
	Repeated int                    `json:"repeated,omitempty"`
	Fault    string                 `json:"fault,omitempty"` // the first one
	// Contaminated are rows of prompts that are in test sets, of which Contamination names the first.
	Contaminated  int      `json:"contaminated,omitempty"`
	Contamination string   `json:"contamination,omitempty"`
	Left          []string `json:"left,omitempty"`        // Parquet columns that no field names and that cannot be read: rows come without
	NearCopies    int      `json:"near_copies,omitempty"` // prompts of test much of which is in train
	// Examples are prompts at even distances among the rows, or some that were drawn, with their responses.
	Examples []Example `json:"-"`
}

// Example is a prompt of a source.
type Example struct {
	Prompt, Messages string // as in the columns
	Responses        []string
}

// DeadShare is the share of the rows that would be set aside; repeated prompts are counted apart.
func (f Findings) DeadShare() float64 {
	n := 0
	for _, k := range f.Dead {
		n += k
	}
	return float64(n) / float64(max(f.Rows, 1))
}

// inspectedRows bounds what an inspection reads.
const inspectedRows = 20_000

var errInspected = errors.New("enough rows")

// Inspect reads the first rows of the file.
func (f File) Inspect(ctx context.Context) (Findings, error) {
	out := Findings{Source: f.name(), Whole: true, Prompts: map[string]int{}, Dead: map[schemas.Reason]int{}}
	found, null := map[string]int{}, map[string]int{}
	named := f.Fields.named()
	s := scanner{file: f}
	s.look = func(row rawRow) error {
		if out.Rows == inspectedRows {
			out.Whole = false
			return errInspected
		}
		out.Rows++
		if row.err == nil && out.Fields == nil {
			out.Fields = slices.Sorted(maps.Keys(row.fields))
		}
		for key, path := range named {
			if _, err := field(row.fields, path); err == nil {
				found[key]++
			} else if errors.Is(err, errNull) {
				null[key]++
			}
		}
		return nil
	}
	near := newNearCopies()
	var examples examples
	s.group = func(g group) error {
		examples.add(g)
		test := f.test(g.rows[0])
		if f.TestShare > 0 {
			near.add(g.rows[0], test)
		}
		for _, split := range []string{"train", "test"} {
			if inSplit(test, split) {
				out.Prompts[split]++
			}
		}
		return nil
	}
	s.bad = func(row badRow) error {
		if row.Reason == schemas.ReasonRepeated {
			out.Repeated++
			return nil
		}
		if row.Reason == schemas.ReasonContaminated {
			if out.Contaminated++; out.Contamination == "" {
				out.Contamination = row.Where + ": " + row.Why
			}
			return nil
		}
		if out.Dead[row.Reason]++; out.Fault == "" {
			out.Fault = row.Where + ": " + row.Why
		}
		return nil
	}
	s.left = func(err error) { out.Left = append(out.Left, err.Error()) }
	err := s.scan(ctx)
	out.NearCopies, out.Repeated, out.Examples = near.count(), out.Repeated+s.again, examples.kept
	switch {
	case errors.Is(err, errInspected):
	case errors.Is(err, fs.ErrNotExist):
		return out, f.missing(err)
	case err != nil:
		if has := (*setting.Error)(nil); errors.As(err, &has) {
			return out, err
		}
		return out, setting.Errorf("path", "%v", err)
	case out.Rows == 0:
		return out, setting.Errorf("path", "%s has no rows", f.Path)
	}
	for _, key := range slices.Sorted(maps.Keys(named)) {
		if key == "messages" && null[key] > 0 { // rows of runs whose prompts are texts have none
			continue
		}
		if found[key] == 0 && null[key] > 0 {
			return out, setting.Errorf("fields."+key, "field %q of %s is null in all of the first %d rows; name one that has values", named[key],
				f.Path, out.Rows)
		}
		if found[key] == 0 && out.Fields != nil {
			return out, setting.Errorf("fields."+key, "no row of %s has a field %q%s", f.Path, named[key],
				setting.Suggest(named[key], out.Fields))
		}
	}
	return out, nil
}

// Inspect looks at the source, at every part of a mixture; of a generator it has examples. Sources that cannot be looked
// at are left out.
func Inspect(ctx context.Context, c Config) ([]Findings, error) {
	if m, ok := c.Of.(Mixture); ok {
		var all []Findings
		for i, p := range m {
			f, ok, err := inspect(ctx, p.of())
			if !ok {
				continue
			}
			if err != nil {
				return all, setting.In(fmt.Sprintf("%s[%d].%s", mixtureSource, i, p.Source), err)
			}
			all = append(all, f)
		}
		return all, nil
	}
	f, ok, err := inspect(ctx, c.Of)
	if !ok {
		return nil, nil
	}
	return []Findings{f}, setting.In(c.Source, err)
}

// inspect looks at one source; ok is false where it cannot be looked at.
func inspect(ctx context.Context, s Source) (f Findings, ok bool, err error) {
	switch of := s.(type) {
	case Inspector:
		f, err = of.Inspect(ctx)
		return f, true, err
	case task:
		f, err = examplesOf(of)
		return f, true, err
	}
	return f, false, nil
}

// missing says of a file that is not there that the setting names it; other errors stay as they are.
func (f File) missing(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	missing := f.Path.String()
	if has := (*fs.PathError)(nil); errors.As(err, &has) {
		missing = has.Path
	}
	if errors.Is(err, files.ErrNoneBelow) {
		return setting.Errorf("path", "%s: no file of a format that is read (jsonl, json, parquet, arrow) lies in the folder", missing)
	}
	return setting.Errorf("path", "%s: there is no such file", missing)
}
