// Package parquetrows reads the rows of a Parquet file as objects, as the lines of a JSONL file are read.
package parquetrows

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/schema"

	"github.com/millrace/millrace/transforms/files"
)

// Reader says what is read of a file. Values are text, json.Number, bool, nil, []any, map[string]any, and what neither text nor JSON
// can hold: []byte and NotFinite.
type Reader struct {
	// Asked reports whether somebody needs a column, by its dotted path; nil: all are. One that cannot be read ends the reading, as rows
	// do that unpack to more than the file may.
	Asked func(path string) bool
	// Left is told of every column that nobody needs and that cannot be read; from there on rows come without it. May be nil.
	Left func(error)
}

// Rows gives the rows of the file, row group after row group, a page of each column at a time.
//
// Rows are put together here from the columns' repetition and definition levels (Melnik et al., Dremel, VLDB 2010, section
// 4.2), because Arrow's reader decodes columns of structs in goroutines of its own, where a panic on a corrupt
// file could not be caught.
func (r Reader) Rows(f *files.ParquetFile, emit func(fields map[string]any) error) error {
	root, wideInts := f.MetaData().Schema.Root(), wideInts(f)
	left := map[int]bool{}
	fault := func(l *leaf, err error) error {
		var bound *files.BoundError
		if l.asked || errors.As(err, &bound) && bound.Whole() {
			return err
		}
		left[l.column] = true
		if r.Left != nil {
			r.Left(err)
		}
		return nil
	}
	number := 0
	for g := range f.NumRowGroups() {
		var leaves []*leaf
		seen := map[string]bool{}
		for i := range f.MetaData().Schema.NumColumns() {
			path := f.MetaData().Schema.Column(i).Path()
			l := &leaf{column: i, asked: r.Asked == nil || r.Asked(path)}
			if left[i] {
				continue
			}
			column, budget, err := f.Column(g, i)
			if err == nil {
				if err = l.open(column, budget, wideInts); err == nil && seen[path] {
					err = errDuplicate
				}
				err = budget.Fault(err)
			}
			if err != nil {
				if err = fault(l, err); err != nil {
					return err
				}
				continue
			}
			seen[path] = true
			leaves = append(leaves, l)
		}
		for range f.MetaData().RowGroup(g).NumRows() {
			number++
			fields := map[string]any{}
			for _, l := range leaves {
				if left[l.column] {
					continue
				}
				if err := l.row(fields); err != nil {
					if err = fault(l, l.budget.Fault(fmt.Errorf("row %d: %w", number, err))); err != nil {
						return err
					}
					delete(fields, l.path[0].Name())
				}
			}
			for i := range root.NumFields() {
				if n := root.Field(i); fields[n.Name()] != nil {
					fields[n.Name()] = collapse(n, fields[n.Name()])
				}
			}
			if err := emit(fields); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaf reads one column of primitive values. Of its entries, def says how many of the optional and repeated nodes on its
// path are there, rep at which repeated node a new element begins (0: a new row).
type leaf struct {
	column   int
	asked    bool
	budget   *files.ColumnBudget
	path     []schema.Node // from below the root to the column
	next     func() (n int, err error)
	value    func(i int) (v any, bytes int)
	def      []int16
	rep      []int16
	maxDef   int16
	repeated bool

	at, n    int // entry, of how many
	v        int // value: entries that are not null have one
	held     bool
	pending  entry
	finished bool
}

type entry struct {
	rep, def int16
	at       int // its value, where it is not null
	value    any // once it was taken
}

const leafBatch = 1024

func (l *leaf) open(column file.ColumnChunkReader, budget *files.ColumnBudget, wideInts map[string]bool) error {
	d := column.Descriptor()
	l.budget, l.maxDef, l.def, l.rep = budget, d.MaxDefinitionLevel(), make([]int16, leafBatch), make([]int16, leafBatch)
	for n := schema.Node(d.SchemaNode()); n.Parent() != nil; n = n.Parent() {
		l.path = append([]schema.Node{n}, l.path...)
		l.repeated = l.repeated || n.RepetitionType() == parquet.Repetitions.Repeated
	}
	switch c := column.(type) {
	case *file.ByteArrayColumnChunkReader:
		of, err := bytes(d)
		readInto(l, column, c.ReadBatch, func(v parquet.ByteArray) (any, int) { return of(v), len(v) })
		return err
	case *file.FixedLenByteArrayColumnChunkReader:
		of, err := bytes(d)
		if signed, is := wideInts[d.Path()]; is && logical(d) == nil {
			of = wide(signed)
		}
		readInto(l, column, c.ReadBatch, func(v parquet.FixedLenByteArray) (any, int) { return of(v), len(v) })
		return err
	case *file.Int32ColumnChunkReader:
		of, err := ints(d)
		readInto(l, column, c.ReadBatch, func(v int32) (any, int) { return of(int64(v)), 0 })
		return err
	case *file.Int64ColumnChunkReader:
		of, err := ints(d)
		readInto(l, column, c.ReadBatch, func(v int64) (any, int) { return of(v), 0 })
		return err
	case *file.Int96ColumnChunkReader:
		readInto(l, column, c.ReadBatch, func(v parquet.Int96) (any, int) { return int96(v), 0 })
	case *file.BooleanColumnChunkReader:
		readInto(l, column, c.ReadBatch, func(v bool) (any, int) { return v, 0 })
	case *file.Float32ColumnChunkReader:
		readInto(l, column, c.ReadBatch, func(v float32) (any, int) { return real(float64(v), 32), 0 })
	case *file.Float64ColumnChunkReader:
		readInto(l, column, c.ReadBatch, func(v float64) (any, int) { return real(v, 64), 0 })
	default:
		return errors.New("a column of this type is not read")
	}
	if logical(d) != nil {
		return errCarrier(d)
	}
	return nil
}

func readInto[T any](l *leaf, column file.ColumnChunkReader, read func(int64, []T, []int16, []int16) (int64, int, error),
	convert func(T) (any, int)) {
	values := make([]T, leafBatch)
	l.next = func() (int, error) {
		n, _, err := read(leafBatch, values, l.def, l.rep)
		if err == nil && n == 0 {
			err = column.Err() // a page that cannot be read looks like the end
		}
		return int(n), err
	}
	l.value = func(i int) (any, int) { return convert(values[i]) }
}

// peek gives the next entry without taking it; false at the end of the row group.
func (l *leaf) peek() (entry, bool, error) {
	if l.held || l.finished {
		return l.pending, l.held, nil
	}
	if l.at == l.n {
		n, err := l.next()
		if err != nil {
			return entry{}, false, err
		}
		if n == 0 {
			l.finished = true
			return entry{}, false, nil
		}
		l.at, l.n, l.v = 0, n, 0
	}
	e := entry{def: l.maxDef}
	if l.maxDef > 0 {
		e.def = l.def[l.at]
	}
	if l.repeated {
		e.rep = l.rep[l.at]
	}
	if e.def == l.maxDef {
		e.at = l.v
		l.v++
	}
	l.at++
	l.pending, l.held = e, true
	return e, true, nil
}

var errLevels = errors.New("repetition levels that fit no row")

// row puts the column's part of the next row into the object.
func (l *leaf) row(fields map[string]any) error {
	index := make([]int, 0, 4) // of the element at each repeated node
	l.budget.Row()
	for first := true; ; first = false {
		e, ok, err := l.peek()
		if err != nil {
			return err
		}
		if first && !ok {
			return errors.New("fewer values than rows")
		}
		if !first && (!ok || e.rep == 0) {
			return nil
		}
		if first != (e.rep == 0) || int(e.rep) > len(index) {
			return errLevels
		}
		l.held = false
		if e.rep > 0 {
			index = index[:e.rep]
			index[e.rep-1]++
		}
		bytes := 0
		if e.def == l.maxDef {
			e.value, bytes = l.value(e.at)
		}
		if err := l.budget.Entry(bytes); err != nil {
			return err
		}
		if index, err = l.put(fields, e, index); err != nil {
			return err
		}
	}
}

// put places an entry: down the path as far as its definition level goes.
func (l *leaf) put(into map[string]any, e entry, index []int) ([]int, error) {
	def, rep := int16(0), 0
	for k, n := range l.path {
		last := k == len(l.path)-1
		name := n.Name()
		switch n.RepetitionType() {
		case parquet.Repetitions.Optional:
			if def++; e.def < def {
				if _, there := into[name]; !there {
					into[name] = nil
				}
				return index, nil
			}
		case parquet.Repetitions.Repeated:
			def++
			list, _ := into[name].([]any)
			if e.def < def {
				if list == nil {
					into[name] = []any{}
				}
				return index, nil
			}
			if rep++; len(index) < rep {
				index = append(index, 0)
			}
			at := index[rep-1]
			if at > len(list) {
				return nil, errLevels
			}
			if at == len(list) {
				list = append(list, nil)
				into[name] = list
			}
			if last {
				list[at] = e.value
				return index, nil
			}
			object, _ := list[at].(map[string]any)
			if object == nil {
				object = map[string]any{}
				list[at] = object
			}
			into = object
			continue
		}
		if last {
			into[name] = e.value
			return index, nil
		}
		object, _ := into[name].(map[string]any)
		if object == nil {
			object = map[string]any{}
			into[name] = object
		}
		into = object
	}
	return index, nil
}

// collapse takes the wrappers that Parquet puts around the elements of a list and the entries of a map (LogicalTypes.md) off a
// value.
func collapse(n schema.Node, v any) any {
	group, ok := n.(*schema.GroupNode)
	if !ok || v == nil {
		return v
	}
	switch v := v.(type) {
	case []any: // of a repeated group
		for i := range v {
			v[i] = collapseFields(group, v[i])
		}
		return v
	case map[string]any:
		if group.NumFields() != 1 {
			return collapseFields(group, v)
		}
		inner := group.Field(0)
		list, _ := v[inner.Name()].([]any)
		wrapper, ok := inner.(*schema.GroupNode)
		switch kind := group.ConvertedType(); {
		case kind == schema.ConvertedTypes.List && (!ok || wrapper.NumFields() != 1):
			if list == nil {
				return []any{}
			}
			return collapse(inner, list)
		case kind == schema.ConvertedTypes.List:
			out := make([]any, len(list))
			for i, item := range list {
				if m, ok := item.(map[string]any); ok {
					out[i] = collapse(wrapper.Field(0), m[wrapper.Field(0).Name()])
				}
			}
			return out
		case (kind == schema.ConvertedTypes.Map || kind == schema.ConvertedTypes.MapKeyValue) && ok && wrapper.NumFields() == 2:
			return collapseMap(wrapper, list)
		}
		return collapseFields(group, v)
	}
	return v
}

// collapseMap is an object where the keys are texts or numbers that differ, and else the list of its entries.
func collapseMap(entry *schema.GroupNode, list []any) any {
	out := map[string]any{}
	for i := range list {
		list[i] = collapseFields(entry, list[i])
		m, _ := list[i].(map[string]any)
		key := ""
		switch k := m[entry.Field(0).Name()].(type) {
		case string:
			key = k
		case json.Number:
			key = k.String()
		}
		out[key] = m[entry.Field(1).Name()]
	}
	if _, none := out[""]; none || len(out) < len(list) {
		return list
	}
	return out
}

func collapseFields(group *schema.GroupNode, v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	for i := range group.NumFields() {
		f := group.Field(i)
		if of, there := m[f.Name()]; there {
			m[f.Name()] = collapse(f, of)
		}
	}
	return m
}
