package schemas

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/google/uuid"
)

// Number is the element type of a numeric column.
type Number interface {
	int32 | int64 | float32 | float64
}

// The typed descriptors. Of returns a view and panics with a *ColumnError when the record does not hold the column,
// which inside a stage means that its Contract does not name it; Find returns the error instead, for optional columns
// and for files from elsewhere. From builds the column without copying: the slices belong to the column from then on.
type (
	// Scalar is a column with one number a row.
	Scalar[T Number] struct{ Column }
	// List is a column with one list of numbers a row, in most cases one number a response token.
	List[T Number] struct{ Column }
	// Nested is a column with one list of lists a row, in most cases the listed tokens of each response token.
	Nested[T Number] struct{ Column }
	// Text is a column with one string a row.
	Text struct{ Column }
	// ID is a column with one uuid a row.
	ID struct{ Column }
	// Flag is a column with one truth value a row.
	Flag struct{ Column }
	// Bytes is a column with one byte string a row.
	Bytes struct{ Column }
)

// The constructors. Each declares a column, so it is called once, in a package-level variable; Name, Stage, Shape and Doc
// are the caller's, the type is the constructor's.

// NewColumn declares a column with one number a row.
func NewColumn[T Number](c Column) Scalar[T] { return Scalar[T]{declare(c, numberType[T]())} }

// NewList declares a column with one list of numbers a row.
func NewList[T Number](c Column) List[T] {
	return List[T]{declare(c, arrow.ListOfNonNullable(numberType[T]()))}
}

// NewLists declares a column with one list of lists of numbers a row.
func NewLists[T Number](c Column) Nested[T] {
	return Nested[T]{declare(c, arrow.ListOfNonNullable(arrow.ListOfNonNullable(numberType[T]())))}
}

// NewText declares a column with one string a row.
func NewText(c Column) Text { return Text{declare(c, arrow.BinaryTypes.String)} }

// NewID declares a column with one uuid a row.
func NewID(c Column) ID { return ID{declare(c, uuidType)} }

// NewFlag declares a column with one truth value a row.
func NewFlag(c Column) Flag { return Flag{declare(c, arrow.FixedWidthTypes.Boolean)} }

// NewBytes declares a column with one byte string a row.
func NewBytes(c Column) Bytes { return Bytes{declare(c, arrow.BinaryTypes.Binary)} }

func numberType[T Number]() arrow.DataType {
	switch any(*new(T)).(type) {
	case int32:
		return arrow.PrimitiveTypes.Int32
	case int64:
		return arrow.PrimitiveTypes.Int64
	case float32:
		return arrow.PrimitiveTypes.Float32
	default:
		return arrow.PrimitiveTypes.Float64
	}
}

// Scalars is the view of a Scalar column: one number a row.
type Scalars[T Number] struct {
	Values []T // undefined where the row is null
	nulls  arrow.Array
}

// Len returns the number of rows.
func (v Scalars[T]) Len() int { return len(v.Values) }

// At returns the number of row i, and false where it is null.
func (v Scalars[T]) At(i int) (T, bool) {
	if !v.Valid(i) {
		return 0, false
	}
	return v.Values[i], true
}

// Valid reports whether row i is not null.
func (v Scalars[T]) Valid(i int) bool { return v.nulls == nil || v.nulls.IsValid(i) }

// Lists is the view of a List column: row i is Values[Offsets[i]:Offsets[i+1]].
type Lists[T Number] struct {
	Offsets []int32 // rows+1; the first is not 0 in a slice of a record
	Values  []T
	nulls   arrow.Array
}

// Len returns the number of rows.
func (v Lists[T]) Len() int { return max(0, len(v.Offsets)-1) }

// Row returns the numbers of row i, none where it is null.
func (v Lists[T]) Row(i int) []T {
	lo, hi := v.Offsets[i], v.Offsets[i+1]
	return v.Values[lo:hi:hi]
}

// Valid reports whether row i is not null.
func (v Lists[T]) Valid(i int) bool { return v.nulls == nil || v.nulls.IsValid(i) }

// Total returns the number of values of all rows; Values may hold those of other rows beside them.
func (v Lists[T]) Total() int {
	if len(v.Offsets) == 0 {
		return 0
	}
	return int(v.Offsets[len(v.Offsets)-1] - v.Offsets[0])
}

// Starts returns the offsets counted from 0, as a column of the same shape is built from.
func (v Lists[T]) Starts() []int32 {
	if len(v.Offsets) == 0 {
		return []int32{0}
	}
	if v.Offsets[0] == 0 {
		return v.Offsets
	}
	out := slices.Clone(v.Offsets)
	for i := range out {
		out[i] -= v.Offsets[0]
	}
	return out
}

// NestedLists is the view of a Nested column: row i holds the items Rows[i]..Rows[i+1], item j is
// Values[Items[j]:Items[j+1]].
type NestedLists[T Number] struct {
	Rows   []int32 // rows+1
	Items  []int32 // items+1
	Values []T
	nulls  arrow.Array
}

// Len returns the number of rows.
func (v NestedLists[T]) Len() int { return max(0, len(v.Rows)-1) }

// Row returns the lists of row i, none where it is null.
func (v NestedLists[T]) Row(i int) Lists[T] {
	return Lists[T]{Offsets: v.Items[v.Rows[i] : v.Rows[i+1]+1], Values: v.Values}
}

// Valid reports whether row i is not null.
func (v NestedLists[T]) Valid(i int) bool { return v.nulls == nil || v.nulls.IsValid(i) }

// Texts is the view of a Text column.
type Texts struct{ array *array.String }

// Len returns the number of rows.
func (v Texts) Len() int { return v.array.Len() }

// At returns the text of row i without copying, "" where it is null.
func (v Texts) At(i int) string {
	if v.array.IsNull(i) {
		return ""
	}
	return v.array.Value(i)
}

// Valid reports whether row i is not null.
func (v Texts) Valid(i int) bool { return v.array.IsValid(i) }

// Flags is the view of a Flag column.
type Flags struct{ array *array.Boolean }

// Len returns the number of rows.
func (v Flags) Len() int { return v.array.Len() }

// At returns the truth value of row i, false where it is null.
func (v Flags) At(i int) bool { return v.array.IsValid(i) && v.array.Value(i) }

// Valid reports whether row i is not null.
func (v Flags) Valid(i int) bool { return v.array.IsValid(i) }

// ByteStrings is the view of a Bytes column.
type ByteStrings struct{ array *array.Binary }

// Len returns the number of rows.
func (v ByteStrings) Len() int { return v.array.Len() }

// At returns the bytes of row i without copying, nil where it is null.
func (v ByteStrings) At(i int) []byte {
	if v.array.IsNull(i) {
		return nil
	}
	return v.array.Value(i)
}

// Valid reports whether row i is not null.
func (v ByteStrings) Valid(i int) bool { return v.array.IsValid(i) }

// Of returns the column's numbers.
func (c Scalar[T]) Of(r Record) Scalars[T] { return must(c.Find(r)) }

// Find returns the column's numbers, or an error when the record does not hold the column.
func (c Scalar[T]) Find(r Record) (Scalars[T], error) {
	a, err := r.find(c.Column)
	if err != nil {
		return Scalars[T]{}, err
	}
	return Scalars[T]{Values: numbers[T](a), nulls: nulls(a)}, nil
}

// From builds the column from one number a row. valid says which rows are not null; none given means all.
func (c Scalar[T]) From(values []T, valid ...bool) Filled {
	n := len(values)
	return c.fill(valid, n, nil, buffer(values))
}

// Of returns the column's lists.
func (c List[T]) Of(r Record) Lists[T] { return must(c.Find(r)) }

// Find returns the column's lists, or an error when the record does not hold the column.
func (c List[T]) Find(r Record) (Lists[T], error) {
	a, err := r.find(c.Column)
	if err != nil {
		return Lists[T]{}, err
	}
	l := a.(*array.List)
	return Lists[T]{Offsets: offsets(l), Values: numbers[T](l.ListValues()), nulls: nulls(a)}, nil
}

// From builds the column from all values and rows+1 offsets into them. valid says which rows are not null; none given
// means all.
func (c List[T]) From(offsets []int32, values []T, valid ...bool) Filled {
	if err := checkOffsets(offsets, len(values)); err != nil {
		return Filled{Column: c.Column, err: fmt.Errorf("column %q: %w", c.Name, err)}
	}
	elem := array.NewData(numberType[T](), len(values), []*memory.Buffer{nil, buffer(values)}, nil, 0, 0)
	return c.fill(valid, len(offsets)-1, []arrow.ArrayData{elem}, buffer(offsets))
}

// FromRows builds the column from one slice a row, copying them side by side; a nil slice is an empty row.
func (c List[T]) FromRows(rows [][]T, valid ...bool) Filled {
	return c.From(OffsetsOf(rows), slices.Concat(rows...), valid...)
}

// Of returns the column's lists of lists.
func (c Nested[T]) Of(r Record) NestedLists[T] { return must(c.Find(r)) }

// Find returns the column's lists of lists, or an error when the record does not hold the column.
func (c Nested[T]) Find(r Record) (NestedLists[T], error) {
	a, err := r.find(c.Column)
	if err != nil {
		return NestedLists[T]{}, err
	}
	outer := a.(*array.List)
	inner := outer.ListValues().(*array.List)
	return NestedLists[T]{Rows: offsets(outer), Items: offsets(inner), Values: numbers[T](inner.ListValues()), nulls: nulls(a)}, nil
}

// From builds the column from all values, items+1 offsets into them, and rows+1 offsets into the items. valid says which
// rows are not null; none given means all.
func (c Nested[T]) From(rows, items []int32, values []T, valid ...bool) Filled {
	if err := checkOffsets(items, len(values)); err != nil {
		return Filled{Column: c.Column, err: fmt.Errorf("column %q, items: %w", c.Name, err)}
	}
	if err := checkOffsets(rows, len(items)-1); err != nil {
		return Filled{Column: c.Column, err: fmt.Errorf("column %q, rows: %w", c.Name, err)}
	}
	elem := array.NewData(numberType[T](), len(values), []*memory.Buffer{nil, buffer(values)}, nil, 0, 0)
	inner := array.NewData(c.Type.(*arrow.ListType).Elem(), len(items)-1, []*memory.Buffer{nil, buffer(items)}, []arrow.ArrayData{elem}, 0, 0)
	return c.fill(valid, len(rows)-1, []arrow.ArrayData{inner}, buffer(rows))
}

// FromRows builds the column from one slice of slices a row, copying them side by side.
func (c Nested[T]) FromRows(rows [][][]T, valid ...bool) Filled {
	flat := slices.Concat(rows...)
	return c.From(OffsetsOf(rows), OffsetsOf(flat), slices.Concat(flat...), valid...)
}

// Of returns the column's texts.
func (c Text) Of(r Record) Texts { return must(c.Find(r)) }

// Find returns the column's texts, or an error when the record does not hold the column.
func (c Text) Find(r Record) (Texts, error) {
	a, err := r.find(c.Column)
	if err != nil {
		return Texts{}, err
	}
	return Texts{a.(*array.String)}, nil
}

// From builds the column from one string a row. valid says which rows are not null; none given means all.
func (c Text) From(values []string, valid ...bool) Filled {
	if c.Enum != nil {
		for i, s := range values {
			if (len(valid) == 0 || i < len(valid) && valid[i]) && !slices.Contains(c.Enum, s) {
				return Filled{Column: c.Column, err: &ColumnError{c.Name, fmt.Sprintf("row %d is %q, not one of %q", i, s, c.Enum)}}
			}
		}
	}
	offs, data := joined(values)
	return c.fill(valid, len(values), nil, buffer(offs), memory.NewBufferBytes(data))
}

// Of returns the column's ids, without copying.
func (c ID) Of(r Record) []uuid.UUID { return must(c.Find(r)) }

// Find returns the column's ids, or an error when the record does not hold the column.
func (c ID) Find(r Record) ([]uuid.UUID, error) {
	a, err := r.find(c.Column)
	if err != nil {
		return nil, err
	}
	if a.Len() == 0 {
		return nil, nil
	}
	raw := a.Data().Buffers()[1].Bytes()[16*a.Data().Offset():]
	return unsafe.Slice((*uuid.UUID)(unsafe.Pointer(unsafe.SliceData(raw))), len(raw)/16)[:a.Len()], nil
}

// From builds the column from one id a row.
func (c ID) From(values []uuid.UUID, valid ...bool) Filled {
	var raw []byte
	if len(values) > 0 {
		raw = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), 16*len(values))
	}
	return c.fill(valid, len(values), nil, memory.NewBufferBytes(raw))
}

// Of returns the column's truth values.
func (c Flag) Of(r Record) Flags { return must(c.Find(r)) }

// Find returns the column's truth values, or an error when the record does not hold the column.
func (c Flag) Find(r Record) (Flags, error) {
	a, err := r.find(c.Column)
	if err != nil {
		return Flags{}, err
	}
	return Flags{a.(*array.Boolean)}, nil
}

// From builds the column from one truth value a row.
func (c Flag) From(values []bool, valid ...bool) Filled {
	return c.fill(valid, len(values), nil, bitmap(values))
}

// Of returns the column's byte strings.
func (c Bytes) Of(r Record) ByteStrings { return must(c.Find(r)) }

// Find returns the column's byte strings, or an error when the record does not hold the column.
func (c Bytes) Find(r Record) (ByteStrings, error) {
	a, err := r.find(c.Column)
	if err != nil {
		return ByteStrings{}, err
	}
	return ByteStrings{a.(*array.Binary)}, nil
}

// From builds the column from one byte string a row.
func (c Bytes) From(values [][]byte, valid ...bool) Filled {
	offs, data := joined(values)
	return c.fill(valid, len(values), nil, buffer(offs), memory.NewBufferBytes(data))
}

// Filled is a column with its rows, ready for Record.With.
type Filled struct {
	Column
	array arrow.Array
	logp  *LogPDefinition
	err   error
}

// Defined states what the log-probs of the column are.
func (f Filled) Defined(d LogPDefinition) Filled { f.logp = &d; return f }

// Err returns what was wrong with the slices the column was built from, or nil.
func (f Filled) Err() error { return f.err }

func (c Column) fill(valid []bool, n int, children []arrow.ArrayData, buffers ...*memory.Buffer) Filled {
	f := Filled{Column: c}
	var mask *memory.Buffer
	nulls := 0
	if len(valid) > 0 {
		if len(valid) != n {
			f.err = &ColumnError{c.Name, fmt.Sprintf("has %d rows but %d marks of validity", n, len(valid))}
			return f
		}
		for _, ok := range valid {
			if !ok {
				nulls++
			}
		}
		if nulls > 0 && !c.Nullable {
			f.err = &ColumnError{c.Name, "is not nullable but has null rows"}
			return f
		}
		if nulls > 0 {
			mask = bitmap(valid)
		}
	}
	data := array.NewData(c.Type, n, append([]*memory.Buffer{mask}, buffers...), children, nulls, 0)
	f.array = array.MakeFromData(data)
	return f
}

// OffsetsOf returns the offsets of rows laid side by side: 0, len(rows[0]), len(rows[0])+len(rows[1]), ...
func OffsetsOf[T any](rows [][]T) []int32 {
	out := make([]int32, len(rows)+1)
	for i, r := range rows {
		out[i+1] = out[i] + int32(len(r))
	}
	return out
}

func joined[T ~string | ~[]byte](values []T) ([]int32, []byte) {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	offs, data := make([]int32, len(values)+1), make([]byte, 0, n)
	for i, v := range values {
		data = append(data, v...)
		offs[i+1] = int32(len(data))
	}
	return offs, data
}

func checkOffsets(offs []int32, n int) error {
	if len(offs) == 0 {
		return fmt.Errorf("no offsets; want rows+1")
	}
	if offs[0] != 0 || int(offs[len(offs)-1]) != n {
		return fmt.Errorf("offsets run from %d to %d over %d values; want 0 to %d", offs[0], offs[len(offs)-1], n, n)
	}
	for i := range offs[1:] {
		if offs[i+1] < offs[i] {
			return fmt.Errorf("offset %d is %d, below the one before (%d)", i+1, offs[i+1], offs[i])
		}
	}
	return nil
}

func buffer[T Number](v []T) *memory.Buffer {
	if len(v) == 0 {
		return memory.NewBufferBytes(nil)
	}
	size := int(unsafe.Sizeof(v[0]))
	return memory.NewBufferBytes(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), size*len(v)))
}

func bitmap(v []bool) *memory.Buffer {
	raw := make([]byte, bitutil.CeilByte(len(v))/8)
	for i, ok := range v {
		if ok {
			bitutil.SetBit(raw, i)
		}
	}
	return memory.NewBufferBytes(raw)
}

func numbers[T Number](a arrow.Array) []T {
	var v any
	switch a := a.(type) {
	case *array.Int32:
		v = a.Int32Values()
	case *array.Int64:
		v = a.Int64Values()
	case *array.Float32:
		v = a.Float32Values()
	case *array.Float64:
		v = a.Float64Values()
	}
	return v.([]T)
}

// offsets returns the rows+1 offsets of a list that may be a slice; an empty array may come without any.
func offsets(l *array.List) []int32 {
	if l.Len() == 0 {
		return []int32{0}
	}
	lo := l.Data().Offset()
	return l.Offsets()[lo : lo+l.Len()+1]
}

func nulls(a arrow.Array) arrow.Array {
	if a.NullN() == 0 {
		return nil
	}
	return a
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
