package schemas

import (
	"fmt"
	"maps"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/google/uuid"
)

// Record is an Arrow record of whole prompt groups with its metadata. It is immutable: every method that changes
// something returns another record that shares the untouched columns. The zero Record has no rows and no columns.
//
// Records live in Go's heap (Arrow's Go allocator), so the garbage collector owns them; nobody calls Retain or Release.
type Record struct{ rec arrow.Record }

// NewRecord makes a record of the columns.
func NewRecord(m Meta, cols ...Filled) (Record, error) {
	r := Record{array.NewRecord(arrow.NewSchema(nil, ptr(m.metadata())), nil, 0)}
	return r.With(cols...)
}

// FromArrow takes over an Arrow record, such as one read from a file. It checks the metadata and that the buffers of each
// column are what its type needs, so that views of the record never reach outside them. Columns of ours get the type
// they are declared with, whatever the file called the elements of a list; metadata that is not ours is dropped.
func FromArrow(rec arrow.Record) (Record, error) {
	meta, err := metaOf(rec.Schema().Metadata())
	if err != nil {
		return Record{}, err
	}
	seen := map[string]bool{}
	fields, arrays := make([]arrow.Field, rec.NumCols()), make([]arrow.Array, rec.NumCols())
	for i, f := range rec.Schema().Fields() {
		if seen[f.Name] {
			return Record{}, &ColumnError{f.Name, "is there twice"}
		}
		seen[f.Name] = true
		a := rec.Column(i)
		if int64(a.Len()) != rec.NumRows() {
			return Record{}, &ColumnError{f.Name, fmt.Sprintf("has %d rows, the record %d", a.Len(), rec.NumRows())}
		}
		if err := validate(a.Data()); err != nil {
			return Record{}, &ColumnError{f.Name, "is corrupt: " + err.Error()}
		}
		fields[i], arrays[i] = arrow.Field{Name: f.Name, Type: f.Type, Nullable: f.Nullable}, a
		if def, ok := logpOfField(f); ok {
			fields[i].Metadata = def.Metadata()
		}
		if c, ok := ByName(f.Name); ok && SameType(c.Type, f.Type) {
			fields[i].Type, fields[i].Nullable = c.Type, c.Nullable
			arrays[i] = array.MakeFromData(retyped(a.Data(), c.Type))
		}
	}
	return Record{array.NewRecord(arrow.NewSchema(fields, ptr(meta.metadata())), arrays, rec.NumRows())}, nil
}

// retyped returns the same buffers under a type that differs in the names of list elements at most.
func retyped(d arrow.ArrayData, t arrow.DataType) arrow.ArrayData {
	children := d.Children()
	if l, ok := t.(*arrow.ListType); ok {
		children = []arrow.ArrayData{retyped(children[0], l.Elem())}
	}
	return array.NewData(t, d.Len(), d.Buffers(), children, d.NullN(), d.Offset())
}

// Canonical returns the same rows in the one form they are written in, whatever larger record they were cut from.
func (r Record) Canonical() Record {
	if r.rec == nil {
		return r
	}
	cols := make([]arrow.Array, r.rec.NumCols())
	for i, a := range r.rec.Columns() {
		cols[i] = array.MakeFromData(canonical(a.Data()))
	}
	return Record{array.NewRecord(r.rec.Schema(), cols, r.rec.NumRows())}
}

// Size returns about how many bytes the record takes when written: the parts of its buffers that its rows use.
func (r Record) Size() int { return r.SizeOf(0, r.NumRows()) }

// SizeOf is the Size of rows lo to hi.
func (r Record) SizeOf(lo, hi int) int {
	if r.rec == nil {
		return 0
	}
	n := 0
	for _, a := range r.rec.Columns() {
		n += size(a, lo, hi)
	}
	return n
}

func size(a arrow.Array, lo, hi int) int {
	n := 0
	if a.NullN() > 0 {
		for i := lo; i < hi && n == 0; i++ {
			if a.IsNull(i) {
				n = (hi - lo + 7) / 8
			}
		}
	}
	if lo == hi {
		return n
	}
	switch a := a.(type) {
	case *array.String:
		return n + 4*(hi-lo) + a.ValueOffset(hi-1) + a.ValueLen(hi-1) - a.ValueOffset(lo)
	case *array.Binary:
		return n + 4*(hi-lo) + a.ValueOffset(hi-1) + a.ValueLen(hi-1) - a.ValueOffset(lo)
	case *array.List:
		offs := offsets(a)
		return n + 4*(hi-lo) + size(a.ListValues(), int(offs[lo]), int(offs[hi]))
	}
	if t, ok := a.DataType().(arrow.FixedWidthDataType); ok {
		n += ((hi-lo)*t.BitWidth() + 7) / 8
	}
	return n
}

// Arrow returns the Arrow record, nil for the zero Record.
func (r Record) Arrow() arrow.Record { return r.rec }

// NumRows returns the number of rows.
func (r Record) NumRows() int {
	if r.rec == nil {
		return 0
	}
	return int(r.rec.NumRows())
}

// Columns returns the names of the columns in their order.
func (r Record) Columns() []string {
	if r.rec == nil {
		return nil
	}
	out := make([]string, r.rec.NumCols())
	for i := range out {
		out[i] = r.rec.ColumnName(i)
	}
	return out
}

// Has reports whether the record holds the column.
func (r Record) Has(d Descriptor) bool { return r.index(d.Describe().Name) >= 0 }

// Meta returns the metadata; empty when the record has none of ours.
func (r Record) Meta() Meta {
	if r.rec == nil {
		return Meta{}
	}
	m, _ := metaOf(r.rec.Schema().Metadata()) // checked when the record was made
	return m
}

// WithMeta replaces the metadata.
func (r Record) WithMeta(m Meta) Record {
	if r.rec == nil {
		return must(NewRecord(m))
	}
	return Record{array.NewRecord(arrow.NewSchema(r.rec.Schema().Fields(), ptr(m.metadata())), r.rec.Columns(), r.rec.NumRows())}
}

// WithLineage records by what the columns were written.
func (r Record) WithLineage(digest string, columns ...Descriptor) Record {
	m := r.Meta()
	lineage := maps.Clone(m.Lineage)
	if lineage == nil {
		lineage = map[string]string{}
	}
	for _, c := range columns {
		lineage[c.Describe().Name] = digest
	}
	m.Lineage = lineage
	return r.WithMeta(m)
}

// With adds columns. A column the record holds already is replaced in its place.
func (r Record) With(cols ...Filled) (Record, error) {
	if r.rec == nil {
		return NewRecord(Meta{}, cols...)
	}
	fields, arrays, n := slices.Clone(r.rec.Schema().Fields()), slices.Clone(r.rec.Columns()), r.rec.NumRows()
	if len(arrays) == 0 && n == 0 && len(cols) > 0 && cols[0].array != nil {
		n = int64(cols[0].array.Len())
	}
	for _, c := range cols {
		if c.err != nil {
			return Record{}, c.err
		}
		if c.array == nil {
			return Record{}, &ColumnError{c.Name, "was not filled"}
		}
		if int64(c.array.Len()) != n {
			return Record{}, &ColumnError{c.Name, fmt.Sprintf("has %d rows, want %d", c.array.Len(), n)}
		}
		f := c.Field()
		if c.logp != nil {
			f.Metadata = c.logp.Metadata()
		}
		if i := slices.IndexFunc(fields, func(o arrow.Field) bool { return o.Name == c.Name }); i >= 0 {
			fields[i], arrays[i] = f, c.array
		} else {
			fields, arrays = append(fields, f), append(arrays, c.array)
		}
	}
	md := r.rec.Schema().Metadata()
	return Record{array.NewRecord(arrow.NewSchema(fields, &md), arrays, n)}, nil
}

// Without drops the named columns; names it does not hold are ignored.
func (r Record) Without(columns ...Descriptor) Record {
	if r.rec == nil {
		return r
	}
	drop := Names(columns)
	var fields []arrow.Field
	var arrays []arrow.Array
	for i, f := range r.rec.Schema().Fields() {
		if !slices.Contains(drop, f.Name) {
			fields, arrays = append(fields, f), append(arrays, r.rec.Column(i))
		}
	}
	md := r.rec.Schema().Metadata()
	return Record{array.NewRecord(arrow.NewSchema(fields, &md), arrays, r.rec.NumRows())}
}

// Select keeps the named columns, in that order.
func (r Record) Select(columns ...Descriptor) (Record, error) {
	var fields []arrow.Field
	var arrays []arrow.Array
	for _, d := range columns {
		i := r.index(d.Describe().Name)
		if i < 0 {
			return Record{}, &ColumnError{d.Describe().Name, "is missing; the record holds " + fmt.Sprint(r.Columns())}
		}
		fields, arrays = append(fields, r.rec.Schema().Field(i)), append(arrays, r.rec.Column(i))
	}
	if r.rec == nil {
		return r, nil
	}
	md := r.rec.Schema().Metadata()
	return Record{array.NewRecord(arrow.NewSchema(fields, &md), arrays, r.rec.NumRows())}, nil
}

// Slice returns rows lo to hi without copying.
func (r Record) Slice(lo, hi int) Record {
	if r.rec == nil {
		return r
	}
	return Record{r.rec.NewSlice(int64(lo), int64(hi))}
}

// Take returns the rows of the given indices, in that order.
func (r Record) Take(rows []int) (Record, error) {
	var spans []span
	for i := 0; i < len(rows); {
		j := i + 1
		for j < len(rows) && rows[j] == rows[j-1]+1 {
			j++
		}
		if rows[i] < 0 || rows[j-1] >= r.NumRows() {
			return Record{}, fmt.Errorf("row %d of a record of %d", rows[j-1], r.NumRows())
		}
		spans = append(spans, span{rows[i], rows[i] + j - i})
		i = j
	}
	switch len(spans) {
	case 0:
		return r.Slice(0, 0), nil
	case 1:
		return r.Slice(spans[0].lo, spans[0].hi), nil
	}
	arrays := make([]arrow.Array, r.rec.NumCols())
	for k, a := range r.rec.Columns() {
		d, err := gather(a.Data(), spans)
		if err != nil {
			return Record{}, &ColumnError{r.rec.ColumnName(k), err.Error()}
		}
		arrays[k] = array.MakeFromData(d)
	}
	return Record{array.NewRecord(r.rec.Schema(), arrays, int64(len(rows)))}, nil
}

// Filter returns the rows for which keep holds.
func (r Record) Filter(keep func(row int) bool) (Record, error) {
	var rows []int
	for i := range r.NumRows() {
		if keep(i) {
			rows = append(rows, i)
		}
	}
	return r.Take(rows)
}

// Append puts the rows of the records below each other. All must hold the same columns, in any order; lineage is joined,
// and log-probs that are defined differently are an error.
func Append(recs ...Record) (Record, error) {
	recs = slices.DeleteFunc(slices.Clone(recs), func(r Record) bool { return r.rec == nil })
	if len(recs) == 0 {
		return Record{}, nil
	}
	if len(recs) == 1 {
		return recs[0], nil
	}
	first := recs[0].rec.Schema()
	metas := make([]Meta, len(recs))
	var n int64
	for i, r := range recs {
		metas[i] = r.Meta()
		n += r.rec.NumRows()
		if r.rec.NumCols() != recs[0].rec.NumCols() {
			return Record{}, fmt.Errorf("record %d has columns %v, the first %v", i, r.Columns(), recs[0].Columns())
		}
	}
	arrays := make([]arrow.Array, len(first.Fields()))
	for c, f := range first.Fields() {
		parts := make([]arrow.Array, 0, len(recs))
		for i, r := range recs {
			k := r.index(f.Name)
			if k < 0 {
				return Record{}, fmt.Errorf("record %d: %w", i, &ColumnError{f.Name, "is missing"})
			}
			other := r.rec.Schema().Field(k)
			if !arrow.TypeEqual(other.Type, f.Type) {
				return Record{}, fmt.Errorf("record %d: %w", i, &ColumnError{f.Name, fmt.Sprintf("has type %v, want %v", other.Type, f.Type)})
			}
			d, dok := logpOfField(f)
			o, ook := logpOfField(other)
			if dok != ook || d != o {
				return Record{}, fmt.Errorf("record %d: %w", i, &ColumnError{f.Name, fmt.Sprintf("holds %v, the first record %v", o, d)})
			}
			parts = append(parts, r.rec.Column(k))
		}
		a, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			return Record{}, fmt.Errorf("column %q: %w", f.Name, err)
		}
		arrays[c] = a
	}
	return Record{array.NewRecord(arrow.NewSchema(first.Fields(), ptr(MergeMeta(metas...).metadata())), arrays, n)}, nil
}

// Group is the rows [Lo, Hi) of one prompt.
type Group struct {
	ID     uuid.UUID
	Lo, Hi int
}

// Len returns the number of rows of the group.
func (g Group) Len() int { return g.Hi - g.Lo }

// Groups returns the record's prompt groups in their order. Rows of one prompt that do not lie side by side are an error:
// group statistics would silently be those of a part.
func (r Record) Groups() ([]Group, error) {
	ids, err := PromptID.Find(r)
	if err != nil {
		return nil, err
	}
	var out []Group
	seen := make(map[uuid.UUID]int, len(ids))
	for i, id := range ids {
		if n := len(out); n > 0 && out[n-1].ID == id {
			out[n-1].Hi = i + 1
			continue
		}
		if first, ok := seen[id]; ok {
			return nil, &ColumnError{"prompt_id",
				fmt.Sprintf("has prompt %s at row %d and again at row %d; the rows of a prompt must lie side by side", id, first, i)}
		}
		seen[id] = i
		out = append(out, Group{id, i, i + 1})
	}
	return out, nil
}

// RowIDs returns the ids that tell the rows apart: pair_id, response_id or prompt_id, whichever the record holds first in
// this order; nil when it holds none.
func (r Record) RowIDs() []uuid.UUID {
	for _, c := range []ID{PairID, ResponseID, PromptID} {
		if ids, err := c.Find(r); err == nil {
			return ids
		}
	}
	return nil
}

// Check reports the first of the columns that the record does not hold as declared.
func (r Record) Check(columns ...Descriptor) error {
	for _, d := range columns {
		if _, err := r.find(d.Describe()); err != nil {
			return err
		}
	}
	return nil
}

func (r Record) index(name string) int {
	if r.rec == nil {
		return -1
	}
	idx := r.rec.Schema().FieldIndices(name)
	if len(idx) == 0 {
		return -1
	}
	return idx[0]
}

func (r Record) find(c Column) (arrow.Array, error) {
	i := r.index(c.Name)
	if i < 0 {
		return nil, &ColumnError{c.Name, fmt.Sprintf("is missing; the record holds %v", r.Columns())}
	}
	a := r.rec.Column(i)
	if !SameType(a.DataType(), c.Type) {
		return nil, &ColumnError{c.Name, fmt.Sprintf("has type %v, want %v", a.DataType(), c.Type)}
	}
	if !c.Nullable && a.NullN() > 0 {
		return nil, &ColumnError{c.Name, fmt.Sprintf("has %d null rows and may have none", a.NullN())}
	}
	for l, ok := a.(*array.List); ok; l, ok = l.ListValues().(*array.List) {
		if n := l.ListValues().NullN(); n > 0 {
			return nil, &ColumnError{c.Name, fmt.Sprintf("has %d nulls inside its lists and may have none", n)}
		}
	}
	return a, nil
}

func ptr[T any](v T) *T { return &v }

// MessagesOf gives the messages of each row's prompt; "" where it came as a text, or the record has no such column.
func MessagesOf(r Record) func(row int) string {
	v, err := Messages.Find(r)
	if err != nil {
		return func(int) string { return "" }
	}
	return v.At
}
