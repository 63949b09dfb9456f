package update

import (
	"fmt"
	"math"
	"slices"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/schemas"
)

// unit is what a minibatch is made of: one response, or a pair of responses that must stay together.
type unit struct {
	table     *table
	row       int
	responses []side
	tokens    int // prompt and response tokens, both sides together
}

// side is one response of a unit: which token column holds it and what it is to the loss.
type side struct {
	role   losses.Role
	prefix string // "", "chosen_" or "rejected_"
}

var (
	responseSides = []side{{losses.Sample, ""}}
	pairSides     = []side{{losses.Chosen, "chosen_"}, {losses.Rejected, "rejected_"}}
)

// table gives the columns of one record that the loss reads, as typed views. Lists of a side are kept by their column name.
type table struct {
	record  schemas.Record
	prompt  schemas.Lists[int32]
	ints    map[string]schemas.Lists[int32]
	floats  map[string]schemas.Lists[float32]
	nestedI map[string]schemas.NestedLists[int32]
	nestedF map[string]schemas.NestedLists[float32]
	scalars map[string]schemas.Scalars[float32]
	mask    *schemas.Lists[int32]
}

// newTable finds the columns; an error names the one that is missing.
func newTable(r schemas.Record, spec losses.Spec, sides []side) (*table, error) {
	t := &table{record: r,
		ints: map[string]schemas.Lists[int32]{}, floats: map[string]schemas.Lists[float32]{},
		nestedI: map[string]schemas.NestedLists[int32]{}, nestedF: map[string]schemas.NestedLists[float32]{},
		scalars: map[string]schemas.Scalars[float32]{}}
	var err error
	if t.prompt, err = schemas.PromptTokens.Find(r); err != nil {
		return nil, err
	}
	for _, s := range sides {
		for _, name := range columnsOf(spec, s) {
			if err := t.find(name); err != nil {
				return nil, err
			}
		}
	}
	if mask, err := schemas.TokenMask.Find(r); err == nil && slices.Contains(spec.Columns, schemas.Advantage.Name) {
		t.mask = &mask
	}
	return t, nil
}

// columnsOf lists the record columns a side of a unit is filled from.
func columnsOf(spec losses.Spec, s side) []string {
	out := []string{tokensColumn(s)}
	columns := spec.Columns
	if s.role == losses.Sample {
		columns = slices.Concat(columns, spec.SampleColumns)
	}
	for _, name := range columns {
		if name != schemas.ResponseTokens.Name {
			out = append(out, s.prefix+name)
		}
	}
	return out
}

func tokensColumn(s side) string {
	if s.prefix == "" {
		return schemas.ResponseTokens.Name
	}
	return s.prefix + "tokens"
}

func (t *table) find(name string) error {
	c, ok := schemas.ByName(name)
	if !ok {
		return &schemas.ColumnError{Column: name, Reason: "is not a column of any stage"}
	}
	var err error
	switch c.Type.String() {
	case schemas.ResponseTokens.Type.String():
		t.ints[name], err = schemas.List[int32]{Column: c}.Find(t.record)
	case schemas.OldLogP.Type.String():
		t.floats[name], err = schemas.List[float32]{Column: c}.Find(t.record)
	case schemas.CandidateIDs.Type.String():
		t.nestedI[name], err = schemas.Nested[int32]{Column: c}.Find(t.record)
	case schemas.CandidateOldLogP.Type.String():
		t.nestedF[name], err = schemas.Nested[float32]{Column: c}.Find(t.record)
	case schemas.Outcome.Type.String():
		t.scalars[name], err = schemas.Scalar[float32]{Column: c}.Find(t.record)
	default:
		err = &schemas.ColumnError{Column: name, Reason: "has type " + c.Type.String() + ", which no loss reads"}
	}
	return err
}

// usable says whether the row can enter the loss: it has tokens, and no column that the loss reads is null.
func (t *table) usable(row int, spec losses.Spec, sides []side) (int, bool) {
	tokens := 0
	for _, s := range sides {
		n := len(t.ints[tokensColumn(s)].Row(row))
		if n == 0 || len(t.prompt.Row(row)) == 0 {
			return 0, false
		}
		tokens += n + len(t.prompt.Row(row))
		for _, name := range columnsOf(spec, s) {
			if !t.valid(name, row) {
				return 0, false
			}
		}
	}
	if t.mask != nil && (!t.mask.Valid(row) || !slices.ContainsFunc(t.mask.Row(row), func(m int32) bool { return m != 0 })) {
		return 0, false
	}
	return tokens, true
}

func (t *table) valid(name string, row int) bool {
	if v, ok := t.ints[name]; ok {
		return v.Valid(row)
	}
	if v, ok := t.floats[name]; ok {
		return v.Valid(row)
	}
	if v, ok := t.nestedI[name]; ok {
		return v.Valid(row)
	}
	if v, ok := t.nestedF[name]; ok {
		return v.Valid(row)
	}
	v := t.scalars[name]
	return v.Valid(row)
}

// fill makes the microbatch of the units, and the sequences whose response tokens its rows are.
func fill(units []unit, spec losses.Spec) ([]models.Sequence, *losses.Microbatch, error) {
	var sequences []models.Sequence
	var lengths []int
	for _, u := range units {
		for _, s := range u.responses {
			response := u.table.ints[tokensColumn(s)].Row(u.row)
			sequences = append(sequences, models.Sequence{Prompt: u.table.prompt.Row(u.row), Response: response})
			lengths = append(lengths, len(response))
		}
	}
	mb := losses.NewMicrobatch(lengths, nil)
	mb.List = mb.List[:1]
	n := mb.N()
	if spec.Candidates {
		mb.Candidates = make([]losses.Span, 0, n)
	}
	if spec.Teacher {
		mb.Teacher = make([]losses.Span, 0, n)
	}
	for _, u := range units {
		for _, s := range u.responses {
			if err := fillResponse(mb, u, s, spec); err != nil {
				return nil, nil, err
			}
		}
	}
	return sequences, mb, mb.Check(spec)
}

// responseFields and rowFields say which column fills which field of a microbatch; a field is filled when the loss reads
// its column.
var (
	responseFields = []struct {
		column schemas.Scalar[float32]
		field  func(*losses.Microbatch) *[]float64
	}{
		{schemas.Outcome, func(mb *losses.Microbatch) *[]float64 { return &mb.Responses.Outcome }},
		{schemas.GroupMean, func(mb *losses.Microbatch) *[]float64 { return &mb.Responses.GroupMean }},
	}
	rowFields = []struct {
		column schemas.List[float32]
		field  func(*losses.Microbatch) *[]float64
	}{
		{schemas.Advantage, func(mb *losses.Microbatch) *[]float64 { return &mb.Rows.Advantage }},
		{schemas.RestAdvantage, func(mb *losses.Microbatch) *[]float64 { return &mb.Rows.RestAdvantage }},
		{schemas.OldLogZ, func(mb *losses.Microbatch) *[]float64 { return &mb.Rows.OldLogZ }},
		{schemas.CriticValue, func(mb *losses.Microbatch) *[]float64 { return &mb.Rows.OldValue }},
		{schemas.Return, func(mb *losses.Microbatch) *[]float64 { return &mb.Rows.Return }},
		{schemas.TeacherRest, func(mb *losses.Microbatch) *[]float64 { return &mb.Rows.TeacherRest }},
	}
)

// listedFields say which columns fill a field that has one number a listed token: that of the sampled token, those of the
// candidates (whichever the loss reads), that of the teacher's tokens.
var listedFields = []listedField{
	{schemas.OldLogP.Name, []string{schemas.CandidateOldLogP.Name}, "", func(mb *losses.Microbatch) *[]float64 { return &mb.Listed.OldLogP }},
	{schemas.ReferenceLogP.Name, []string{schemas.CandidateReferenceLogP.Name}, "", func(mb *losses.Microbatch) *[]float64 { return &mb.Listed.RefLogP }},
	{schemas.RewardLogP.Name, []string{schemas.CandidateRewardLogP.Name}, "", func(mb *losses.Microbatch) *[]float64 { return &mb.Listed.RewardLogP }},
	{"", updateColumns, schemas.TeacherAdvantage.Name, func(mb *losses.Microbatch) *[]float64 { return &mb.Listed.Advantage }},
	{"", nil, schemas.TeacherProb.Name, func(mb *losses.Microbatch) *[]float64 { return &mb.Listed.Prob }},
}

type listedField struct {
	sampled    string
	candidates []string
	teacher    string
	field      func(*losses.Microbatch) *[]float64
}

// ofSamples reports whether the loss reads the field of samples only; it is 0 then for other responses.
func (f listedField) ofSamples(spec losses.Spec) bool {
	return slices.ContainsFunc(spec.SampleColumns, func(name string) bool {
		return name == f.sampled || name == f.teacher || slices.Contains(f.candidates, name)
	})
}

// updateColumns hold what a candidate is pushed by. A position where they list nothing has no candidate update.
var updateColumns = []string{schemas.CandidateAdvantage.Name, schemas.TargetAdvantage.Name}

func fillResponse(mb *losses.Microbatch, u unit, s side, spec losses.Spec) error {
	tab, row := u.table, u.row
	tokens := tab.ints[tokensColumn(s)].Row(row)
	mb.Responses.Role = append(mb.Responses.Role, s.role)
	for _, f := range responseFields {
		v, ok := tab.scalars[s.prefix+f.column.Name]
		if !ok {
			continue
		}
		x, valid := v.At(row)
		if !valid {
			x = float32(math.NaN())
		}
		into := f.field(mb)
		*into = append(*into, float64(x))
	}
	for _, f := range rowFields {
		into := f.field(mb)
		v, ok := tab.floats[s.prefix+f.column.Name]
		if !ok {
			if slices.Contains(spec.SampleColumns, f.column.Name) {
				*into = append(*into, make([]float64, len(tokens))...)
			}
			continue
		}
		xs := v.Row(row)
		if err := sameLength(s.prefix+f.column.Name, row, len(xs), len(tokens)); err != nil {
			return err
		}
		for _, x := range xs {
			*into = append(*into, float64(x))
		}
	}
	if tab.mask != nil {
		mask := tab.mask.Row(row)
		if err := sameLength(schemas.TokenMask.Name, row, len(mask), len(tokens)); err != nil {
			return err
		}
		for _, m := range mask {
			mb.Rows.Mask = append(mb.Rows.Mask, float64(m))
		}
	}
	for t, token := range tokens {
		if err := fillList(mb, u, s, spec, t, token); err != nil {
			return err
		}
	}
	return nil
}

// fillList lists the tokens of one row: the sampled one, then the other candidates, then the teacher's.
func fillList(mb *losses.Microbatch, u unit, s side, spec losses.Spec, t int, token int32) error {
	tab, row := u.table, u.row
	first := len(mb.Listed.ID)
	mb.Listed.ID = append(mb.Listed.ID, token)
	others, taught := 0, 0
	if spec.Candidates {
		ids, err := item(tab.nestedI, s.prefix+schemas.CandidateIDs.Name, row, t)
		if err != nil {
			return err
		}
		for _, name := range updateColumns {
			if v, ok := tab.nestedF[s.prefix+name]; ok && t < v.Row(row).Len() && len(v.Row(row).Row(t)) == 0 {
				ids = nil
			}
		}
		span := losses.Span{}
		if len(ids) > 0 {
			if ids[0] != token {
				return fmt.Errorf("column %q: row %d, token %d: slot 0 holds token %d, not the sampled token %d", s.prefix+schemas.CandidateIDs.Name, row, t, ids[0], token)
			}
			span = losses.Span{Lo: first, Hi: first + len(ids)}
			others = len(ids) - 1
			mb.Listed.ID = append(mb.Listed.ID, ids[1:]...)
		}
		mb.Candidates = append(mb.Candidates, span)
	}
	if spec.Teacher {
		var ids []int32
		if _, ok := tab.nestedI[s.prefix+schemas.TeacherIDs.Name]; ok { // a loss may read it for its samples alone
			var err error
			if ids, err = item(tab.nestedI, s.prefix+schemas.TeacherIDs.Name, row, t); err != nil {
				return err
			}
		}
		taught = len(ids)
		mb.Teacher = append(mb.Teacher, losses.Span{Lo: len(mb.Listed.ID), Hi: len(mb.Listed.ID) + taught})
		mb.Listed.ID = append(mb.Listed.ID, ids...)
	}
	mb.List = append(mb.List, len(mb.Listed.ID))
	for _, f := range listedFields {
		into := f.field(mb)
		filled := f.ofSamples(spec)
		values := make([]float64, 1+others+taught) // what no column gives stays 0, and no loss reads it
		if v, ok := tab.floats[s.prefix+f.sampled]; ok {
			xs := v.Row(row)
			if t >= len(xs) {
				return fmt.Errorf("column %q: row %d has %d values, want one for each of its tokens", s.prefix+f.sampled, row, len(xs))
			}
			values[0], filled = float64(xs[t]), true
		}
		for _, name := range f.candidates {
			if _, ok := tab.nestedF[s.prefix+name]; ok && spec.Candidates {
				filled = true
				if err := copyItem(values[:1+others], tab, s.prefix+name, row, t, others > 0 || mb.Candidates[len(mb.Candidates)-1].Len() > 0); err != nil {
					return err
				}
			}
		}
		if _, ok := tab.nestedF[s.prefix+f.teacher]; ok && spec.Teacher {
			filled = true
			if err := copyItem(values[1+others:], tab, s.prefix+f.teacher, row, t, taught > 0); err != nil {
				return err
			}
		}
		if filled {
			*into = append(*into, values...)
		}
	}
	return nil
}

// copyItem copies the numbers of one token of a nested column, which must be as many as the token lists.
func copyItem(dst []float64, tab *table, name string, row, t int, listed bool) error {
	if !listed {
		return nil
	}
	xs, err := item(tab.nestedF, name, row, t)
	if err != nil {
		return err
	}
	if len(xs) != len(dst) {
		return fmt.Errorf("column %q: row %d, token %d has %d values for %d listed tokens", name, row, t, len(xs), len(dst))
	}
	for i, x := range xs {
		dst[i] = float64(x)
	}
	return nil
}

func item[T schemas.Number](columns map[string]schemas.NestedLists[T], name string, row, t int) ([]T, error) {
	v, ok := columns[name]
	if !ok {
		return nil, &schemas.ColumnError{Column: name, Reason: "is missing"}
	}
	lists := v.Row(row)
	if t >= lists.Len() {
		return nil, fmt.Errorf("column %q: row %d lists tokens at %d positions, want one list for each of its tokens", name, row, lists.Len())
	}
	return lists.Row(t), nil
}

func sameLength(column string, row, got, want int) error {
	if got != want {
		return fmt.Errorf("column %q: row %d has %d values for %d tokens", column, row, got, want)
	}
	return nil
}
