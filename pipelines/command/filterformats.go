package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	arrowmemory "github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/millrace/millrace/transforms/files"
)

// keptWriter writes the prompts that a filter keeps, objects of JSON, in a format.
type keptWriter interface {
	Write(row []byte) error
	Commit() (path string, err error)
	Abort()
}

func newKept(ctx context.Context, dir, format string) (keptWriter, error) {
	path := files.Join(dir, "prompts."+format)
	if format == formatParquet {
		spool, err := files.UnnamedFile()
		if err != nil {
			return nil, err
		}
		return &keptParquet{ctx: ctx, path: path, spool: spool, rows: bufio.NewWriter(spool), of: &jsonType{}}, nil
	}
	to, err := files.Create(ctx, path)
	return &keptLines{to, path}, err
}

type keptLines struct {
	*files.Writer
	path string
}

func (k *keptLines) Write(row []byte) error {
	_, err := k.Writer.Write(append(row, '\n'))
	return err
}

func (k *keptLines) Commit() (string, error) { return k.path, k.Writer.Commit(true) }

// keptParquet keeps the rows in a temporary file until the types of their columns are known.
type keptParquet struct {
	ctx   context.Context
	path  string
	spool *os.File
	rows  *bufio.Writer
	of    *jsonType
}

func (k *keptParquet) Abort() { k.spool.Close() }

func (k *keptParquet) Write(row []byte) error {
	v, err := parseRow(row)
	if err != nil {
		return fmt.Errorf("a row is no JSON that Parquet can hold (%w); write them with --format jsonl", err)
	}
	k.of.add(v)
	_, err = k.rows.Write(append(row, '\n'))
	return err
}

func parseRow(row []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(row))
	d.UseNumber()
	return v, d.Decode(&v)
}

// keptRows are the rows of a row group.
const keptRows = 1024

// Commit writes the file.
func (k *keptParquet) Commit() (path string, err error) {
	defer k.Abort()
	if err := k.rows.Flush(); err != nil {
		return "", err
	}
	if _, err := k.spool.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	if k.of.kind == 0 { // no row is kept
		k.of.add(map[string]any{"pass_rate": json.Number("0.5"), "pass_right": json.Number("0.5"), "pass_samples": json.Number("1")})
	}
	schema := arrow.NewSchema(k.of.arrow().(*arrow.StructType).Fields(), nil)
	to, err := files.Create(k.ctx, k.path)
	if err != nil {
		return "", err
	}
	defer to.Abort()
	out, err := pqarrow.NewFileWriter(schema, to, parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy)),
		pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	if err != nil {
		return "", err
	}
	build := array.NewRecordBuilder(arrowmemory.DefaultAllocator, schema)
	n := 0
	flush := func() error {
		if n == 0 {
			return nil
		}
		n = 0
		return out.Write(build.NewRecord())
	}
	in := bufio.NewReader(k.spool)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
		v, err := parseRow(line)
		if err != nil {
			return "", err
		}
		for i, f := range schema.Fields() {
			if err := put(build.Field(i), v.(map[string]any)[f.Name], k.of.fields[f.Name]); err != nil {
				return "", fmt.Errorf("column %s: %w", f.Name, err)
			}
		}
		if n++; n == keptRows {
			if err := flush(); err != nil {
				return "", err
			}
		}
	}
	if err := errors.Join(flush(), out.Close()); err != nil {
		return "", err
	}
	return k.path, to.Commit(true)
}

// jsonType is the type that the values of a column have together. Values of several types are written as the JSON they are.
type jsonType struct {
	kind   byte // 0: null alone
	elem   *jsonType
	fields map[string]*jsonType
}

func kindOfJSON(v any) byte {
	switch v := v.(type) {
	case bool:
		return 'b'
	case json.Number:
		if _, err := v.Int64(); err == nil {
			return 'i'
		}
		return 'f'
	case string:
		return 's'
	case []any:
		return 'l'
	case map[string]any:
		return 'o'
	}
	return 0
}

func (t *jsonType) add(v any) {
	kind := kindOfJSON(v)
	switch {
	case kind == 0:
		return
	case t.kind == 0:
		t.kind = kind
	case t.kind == 'i' && kind == 'f', t.kind == 'f' && kind == 'i':
		t.kind = 'f'
	case t.kind != kind:
		t.kind = 'j'
	}
	switch v := v.(type) {
	case []any:
		if t.elem == nil {
			t.elem = &jsonType{}
		}
		for _, x := range v {
			t.elem.add(x)
		}
	case map[string]any:
		if t.fields == nil {
			t.fields = map[string]*jsonType{}
		}
		for key, x := range v {
			if t.fields[key] == nil {
				t.fields[key] = &jsonType{}
			}
			t.fields[key].add(x)
		}
	}
}

func (t *jsonType) arrow() arrow.DataType {
	switch t.kind {
	case 'b':
		return arrow.FixedWidthTypes.Boolean
	case 'i':
		return arrow.PrimitiveTypes.Int64
	case 'f':
		return arrow.PrimitiveTypes.Float64
	case 'l':
		return arrow.ListOf(t.elem.arrow())
	case 'o':
		if len(t.fields) == 0 { // Parquet has no groups without fields
			t.kind = 'j'
			return arrow.BinaryTypes.String
		}
		var fields []arrow.Field
		for _, key := range slices.Sorted(maps.Keys(t.fields)) {
			fields = append(fields, arrow.Field{Name: key, Type: t.fields[key].arrow(), Nullable: true})
		}
		return arrow.StructOf(fields...)
	}
	return arrow.BinaryTypes.String
}

// put appends a value to a column of its type.
func put(to array.Builder, v any, t *jsonType) error {
	if v == nil {
		to.AppendNull()
		return nil
	}
	switch to := to.(type) {
	case *array.BooleanBuilder:
		to.Append(v.(bool))
	case *array.Int64Builder:
		n, err := v.(json.Number).Int64()
		to.Append(n)
		return err
	case *array.Float64Builder:
		x, err := v.(json.Number).Float64()
		to.Append(x)
		return err
	case *array.ListBuilder:
		to.Append(true)
		for _, x := range v.([]any) {
			if err := put(to.ValueBuilder(), x, t.elem); err != nil {
				return err
			}
		}
	case *array.StructBuilder:
		to.Append(true)
		for i, key := range slices.Sorted(maps.Keys(t.fields)) {
			if err := put(to.FieldBuilder(i), v.(map[string]any)[key], t.fields[key]); err != nil {
				return err
			}
		}
	case *array.StringBuilder:
		if s, ok := v.(string); ok && t.kind == 's' {
			to.Append(s)
			return nil
		}
		raw, err := json.Marshal(v)
		to.Append(string(raw))
		return err
	}
	return nil
}
