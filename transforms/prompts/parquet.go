package prompts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/schema"
	"github.com/millrace/millrace/transforms/files"
)

// readParquet reads the rows of a Parquet file as objects, row group after row group, a page of each column at a time.
//
// Rows are put together here from the columns' repetition and definition levels (Melnik et al., Dremel, VLDB 2010, section
// 4.2), because Arrow's reader decodes columns of structs in goroutines of its own, where a panic on a corrupt
// file could not be caught.
func readParquet(ctx context.Context, path string, emit func(rawRow) error) error {
	return files.ReadParquet(ctx, path, func(r *file.Reader, _ memory.Allocator) error { return readRows(r, emit) })
}

func readRows(r *file.Reader, emit func(rawRow) error) error {
	number := 0
	for g := range r.NumRowGroups() {
		group := r.RowGroup(g)
		leaves := make([]*leaf, r.MetaData().Schema.NumColumns())
		for i := range leaves {
			column, err := group.Column(i)
			if err != nil {
				return err
			}
			if leaves[i], err = newLeaf(column); err != nil {
				return err
			}
		}
		for range group.NumRows() {
			number++
			fields := map[string]any{}
			for _, l := range leaves {
				if err := l.row(fields); err != nil {
					return fmt.Errorf("row %d, column %s: %w", number, l.name, err)
				}
			}
			for _, root := range rootsOf(r.MetaData().Schema) {
				fields[root.Name()] = collapse(root, fields[root.Name()])
			}
			row := rawRow{number: number, fields: fields, raw: func() []byte {
				raw, err := json.Marshal(fields)
				if err != nil {
					return fmt.Append(nil, fields)
				}
				return raw
			}}
			if err := emit(row); err != nil {
				return err
			}
		}
	}
	return nil
}

func rootsOf(s *schema.Schema) []schema.Node {
	root := s.Root()
	out := make([]schema.Node, root.NumFields())
	for i := range out {
		out[i] = root.Field(i)
	}
	return out
}

// leaf reads one column of primitive values. Of its entries, def says how many of the optional and repeated nodes on its
// path are there, rep at which repeated node a new element begins (0: a new row).
type leaf struct {
	name   string
	path   []schema.Node // from below the root to the column
	next   func() (n, values int, err error)
	value  func(i int) any
	def    []int16
	rep    []int16
	maxDef int16

	at, n    int // entry, of how many
	v        int // value: entries that are not null have one
	held     bool
	pending  entry
	finished bool
}

type entry struct {
	rep, def int16
	value    any
}

const leafBatch = 1024

func newLeaf(column file.ColumnChunkReader) (*leaf, error) {
	d := column.Descriptor()
	l := &leaf{name: d.Path(), maxDef: d.MaxDefinitionLevel(), def: make([]int16, leafBatch), rep: make([]int16, leafBatch)}
	for n := schema.Node(d.SchemaNode()); n.Parent() != nil; n = n.Parent() {
		l.path = append([]schema.Node{n}, l.path...)
	}
	switch c := column.(type) {
	case *file.ByteArrayColumnChunkReader:
		readInto(l, c.ReadBatch, func(v parquet.ByteArray) any { return string(v) })
	case *file.FixedLenByteArrayColumnChunkReader:
		readInto(l, c.ReadBatch, func(v parquet.FixedLenByteArray) any { return string(v) })
	case *file.BooleanColumnChunkReader:
		readInto(l, c.ReadBatch, func(v bool) any { return v })
	case *file.Int32ColumnChunkReader:
		readInto(l, c.ReadBatch, func(v int32) any { return json.Number(strconv.FormatInt(int64(v), 10)) })
	case *file.Int64ColumnChunkReader:
		readInto(l, c.ReadBatch, func(v int64) any { return json.Number(strconv.FormatInt(v, 10)) })
	case *file.Float32ColumnChunkReader:
		readInto(l, c.ReadBatch, func(v float32) any { return json.Number(strconv.FormatFloat(float64(v), 'g', -1, 32)) })
	case *file.Float64ColumnChunkReader:
		readInto(l, c.ReadBatch, func(v float64) any { return json.Number(strconv.FormatFloat(v, 'g', -1, 64)) })
	default:
		return nil, fmt.Errorf("column %s: type %v is not read", l.name, column.Type())
	}
	return l, nil
}

func readInto[T any](l *leaf, read func(int64, []T, []int16, []int16) (int64, int, error), convert func(T) any) {
	values := make([]T, leafBatch)
	l.next = func() (int, int, error) {
		n, got, err := read(leafBatch, values, l.def, l.rep)
		return int(n), got, err
	}
	l.value = func(i int) any { return convert(values[i]) }
}

// peek gives the next entry without taking it; false at the end of the row group.
func (l *leaf) peek() (entry, bool, error) {
	if l.held || l.finished {
		return l.pending, l.held, nil
	}
	if l.at == l.n {
		n, _, err := l.next()
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
	if l.repeated() {
		e.rep = l.rep[l.at]
	}
	if e.def == l.maxDef {
		e.value = l.value(l.v)
		l.v++
	}
	l.at++
	l.pending, l.held = e, true
	return e, true, nil
}

func (l *leaf) repeated() bool {
	for _, n := range l.path {
		if n.RepetitionType() == parquet.Repetitions.Repeated {
			return true
		}
	}
	return false
}

var errLevels = errors.New("repetition levels that fit no row")

// row puts the column's part of the next row into the object.
func (l *leaf) row(fields map[string]any) error {
	index := make([]int, 0, 4) // of the element at each repeated node
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

// collapse takes the wrappers that Parquet puts around the elements of a list (LogicalTypes.md, "Lists") off a value.
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
		if group.ConvertedType() == schema.ConvertedTypes.List && group.NumFields() == 1 {
			inner := group.Field(0)
			list, _ := v[inner.Name()].([]any)
			wrapper, ok := inner.(*schema.GroupNode)
			if !ok || wrapper.NumFields() != 1 {
				if list == nil {
					return []any{}
				}
				return collapse(inner, list)
			}
			out := make([]any, len(list))
			for i, item := range list {
				if m, ok := item.(map[string]any); ok {
					out[i] = collapse(wrapper.Field(0), m[wrapper.Field(0).Name()])
				}
			}
			return out
		}
		return collapseFields(group, v)
	}
	return v
}

func collapseFields(group *schema.GroupNode, v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	for i := range group.NumFields() {
		f := group.Field(i)
		m[f.Name()] = collapse(f, m[f.Name()])
	}
	return m
}
