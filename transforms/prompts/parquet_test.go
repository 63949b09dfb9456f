package prompts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

// Rows put together from levels are the rows that were written, for every way to nest lists, structs and nulls.
func TestParquetRowsAreWhatWasWritten(t *testing.T) {
	str := arrow.BinaryTypes.String
	inner := arrow.StructOf(arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		arrow.Field{Name: "tags", Type: arrow.ListOf(str), Nullable: true})
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "plain", Type: str},
		{Name: "maybe", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "flag", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "matrix", Type: arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Int64)), Nullable: true},
		{Name: "one", Type: inner, Nullable: true},
		{Name: "many", Type: arrow.ListOf(inner), Nullable: true},
	}, nil)
	random := rand.New(rand.NewPCG(1, 2))
	var value func(dt arrow.DataType, nullable bool) any
	value = func(dt arrow.DataType, nullable bool) any {
		if nullable && random.IntN(4) == 0 {
			return nil
		}
		switch dt := dt.(type) {
		case *arrow.StringType:
			return strings.Repeat("x", random.IntN(4))
		case *arrow.BooleanType:
			return random.IntN(2) == 0
		case *arrow.Float64Type:
			return float64(random.IntN(1000)) / 8
		case *arrow.ListType:
			out := []any{}
			for range random.IntN(4) {
				out = append(out, value(dt.Elem(), true))
			}
			return out
		case *arrow.StructType:
			out := map[string]any{}
			for _, f := range dt.Fields() {
				out[f.Name] = value(f.Type, f.Nullable)
			}
			return out
		}
		return random.IntN(1000)
	}
	var lines bytes.Buffer
	const rows = 3000 // more than one batch of levels
	for range rows {
		row := map[string]any{}
		for _, f := range schema.Fields() {
			row[f.Name] = value(f.Type, f.Nullable)
		}
		raw, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(raw, '\n'))
	}
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema,
		strings.NewReader("["+strings.ReplaceAll(strings.TrimSpace(lines.String()), "\n", ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.parquet")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pqarrow.NewFileWriter(schema, f, parquet.NewWriterProperties(parquet.WithDataPageSize(2000)), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(rec.NewSlice(0, 1000)), w.Write(rec.NewSlice(1000, rows)), w.Close()); err != nil {
		t.Fatal(err)
	}
	want := json.NewDecoder(&lines)
	want.UseNumber()
	n := 0
	err = readParquet(context.Background(), path, nil, nil, func(row rawRow) error {
		var w map[string]any
		if err := want.Decode(&w); err != nil {
			return err
		}
		if !reflect.DeepEqual(row.fields, w) {
			t.Fatalf("row %d is %v, want %v", row.number, row.fields, w)
		}
		n++
		return nil
	})
	if err != nil || n != rows {
		t.Errorf("%d rows, %v", n, err)
	}
}
