package recordio

import (
	"context"
	"encoding/base64"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/metadata"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"github.com/apache/arrow/go/v15/parquet/schema"
	"github.com/google/uuid"
)

// parquetWriter writes records as Arrow's own writer does, but says of ids that they are UUIDs, so that other programs show and join
// them as such. Arrow's has no way to say it.
type parquetWriter struct {
	ctx context.Context
	to  *file.Writer
}

func newParquetWriter(s *arrow.Schema, to io.Writer, props *parquet.WriterProperties) (*parquetWriter, error) {
	arrowProps := pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema())
	plain, err := pqarrow.ToParquet(s, props, arrowProps)
	if err != nil {
		return nil, err
	}
	fields := make(schema.FieldList, plain.Root().NumFields())
	for i := range fields {
		fields[i] = plain.Root().Field(i)
		if t, ok := s.Field(i).Type.(*arrow.FixedSizeBinaryType); ok && t.ByteWidth == len(uuid.UUID{}) {
			f := fields[i]
			if fields[i], err = schema.NewPrimitiveNodeLogical(f.Name(), f.RepetitionType(), schema.UUIDLogicalType{},
				parquet.Types.FixedLenByteArray, t.ByteWidth, f.FieldID()); err != nil {
				return nil, err
			}
		}
	}
	root, err := schema.NewGroupNode(plain.Root().Name(), plain.Root().RepetitionType(), fields, plain.Root().FieldID())
	if err != nil {
		return nil, err
	}
	meta := make(metadata.KeyValueMetadata, 0)
	for i, key := range s.Metadata().Keys() {
		if err := meta.Append(key, s.Metadata().Values()[i]); err != nil {
			return nil, err
		}
	}
	stored := base64.StdEncoding.EncodeToString(flight.SerializeSchema(s, props.Allocator()))
	if err := meta.Append("ARROW:schema", stored); err != nil {
		return nil, err
	}
	return &parquetWriter{ctx: pqarrow.NewArrowWriteContext(context.Background(), &arrowProps),
		to: file.NewParquetWriter(to, root, file.WithWriterProps(props), file.WithWriteMetadata(meta))}, nil
}

// Write writes a record as a row group.
func (w *parquetWriter) Write(rec arrow.Record) error {
	rows := w.to.AppendRowGroup()
	for i, f := range rec.Schema().Fields() {
		column, err := rows.NextColumn()
		if err != nil {
			return err
		}
		l := levels{leaf: rec.Column(i), nullable: f.Nullable}
		depth := int(column.Descr().MaxRepetitionLevel())
		if depth > 0 {
			l.optional = int(column.Descr().MaxDefinitionLevel()) >= 2*depth // as Arrow makes them, even of elements that are never null
		}
		if depth > 0 || f.Nullable {
			l.of(rec.Column(i), f.Nullable, depth)
		}
		if err := pqarrow.WriteArrowToColumn(w.ctx, column, l.leaf, l.def, l.rep, l.nullable); err != nil {
			return err
		}
		if err := column.Close(); err != nil {
			return err
		}
	}
	return rows.Close()
}

// Close writes the footer.
func (w *parquetWriter) Close() error { return w.to.Close() }

// levels are what Parquet has in the place of nesting: of each entry how many of the optional and repeated nodes on its path are there,
// and at which repeated one it begins a new element.
type levels struct {
	leaf     arrow.Array
	nullable bool // the leaf
	optional bool // elements of lists
	def, rep []int16
}

// of goes down a column of lists of lists, whose parts lie side by side from the beginning on (Record.Canonical).
func (l *levels) of(a arrow.Array, nullable bool, depth int) {
	for leaf := a; ; {
		list, ok := leaf.(*array.List)
		if !ok {
			l.leaf = leaf
			break
		}
		l.nullable = list.DataType().(*arrow.ListType).ElemField().Nullable
		leaf = list.ListValues()
	}
	l.def = make([]int16, 0, l.leaf.Len())
	if depth > 0 {
		l.rep = make([]int16, 0, l.leaf.Len())
	}
	for i := range a.Len() {
		l.entry(a, i, nullable, 0, 0, 0)
	}
}

// entry adds what element i has: def optional and repeated nodes are there above it, it is in depth lists, and begins one at rep.
func (l *levels) entry(a arrow.Array, i int, nullable bool, def, rep, depth int16) {
	there := true
	if nullable {
		if there = a.IsValid(i); there {
			def++
		}
	}
	list, ok := a.(*array.List)
	if ok && there {
		lo, hi := list.ValueOffsets(i)
		if there = hi > lo; there {
			elements := list.ListValues()
			for k := lo; k < hi; k++ {
				at := depth + 1
				if k == lo {
					at = rep
				}
				l.entry(elements, int(k), l.optional, def+1, at, depth+1)
			}
			return
		}
	}
	l.def = append(l.def, def)
	if l.rep != nil {
		l.rep = append(l.rep, rep)
	}
}
