package prompts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// parquetRows is how many rows are decoded at a time.
const parquetRows = 64

// readParquet reads the rows of a Parquet file as objects, a row group after the other.
func readParquet(ctx context.Context, path string, emit func(rawRow) error) (err error) {
	defer func() {
		// The decoder panics on some corrupt files.
		if p := recover(); p != nil {
			err = fmt.Errorf("corrupt Parquet file: %v", p)
		}
	}()
	f, err := stage.OpenSeekable(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := file.NewParquetReader(f)
	if err != nil {
		return err
	}
	defer r.Close()
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{BatchSize: parquetRows}, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	number := 0
	for g := range r.NumRowGroups() {
		rows, err := fr.GetRecordReader(ctx, nil, []int{g})
		if err != nil {
			return err
		}
		for err == nil && rows.Next() {
			rec := rows.Record()
			for i := 0; i < int(rec.NumRows()) && err == nil; i++ {
				number++
				err = emit(objectOf(rec, i, number))
			}
		}
		if err == nil {
			err = rows.Err()
		}
		rows.Release()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

func objectOf(rec arrow.Record, i, number int) rawRow {
	row := rawRow{number: number, fields: map[string]any{}}
	for c, name := range rec.Schema().Fields() {
		v, err := valueOf(rec.Column(c), i)
		if err != nil && row.err == nil {
			row.err = bad(schemas.ReasonUnreadable, "column %q: %v", name.Name, err)
		}
		row.fields[name.Name] = v
	}
	row.raw = func() []byte {
		raw, err := json.Marshal(row.fields)
		if err != nil {
			return []byte(fmt.Sprint(row.fields))
		}
		return raw
	}
	return row
}

// valueOf turns one value into what a JSON decoder would have given.
func valueOf(a arrow.Array, i int) (any, error) {
	if a.IsNull(i) {
		return nil, nil
	}
	switch a := a.(type) {
	case *array.String:
		return a.Value(i), nil
	case *array.LargeString:
		return a.Value(i), nil
	case *array.Binary:
		return string(a.Value(i)), nil
	case *array.Boolean:
		return a.Value(i), nil
	case *array.Float32:
		return json.Number(strconv.FormatFloat(float64(a.Value(i)), 'g', -1, 32)), nil
	case *array.Float64:
		return json.Number(strconv.FormatFloat(a.Value(i), 'g', -1, 64)), nil
	case *array.Int8, *array.Int16, *array.Int32, *array.Int64, *array.Uint8, *array.Uint16, *array.Uint32, *array.Uint64:
		return json.Number(a.ValueStr(i)), nil
	case array.ListLike:
		lo, hi := a.ValueOffsets(i)
		out := make([]any, 0, hi-lo)
		for k := lo; k < hi; k++ {
			v, err := valueOf(a.ListValues(), int(k))
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case *array.Struct:
		out := map[string]any{}
		for k, f := range a.DataType().(*arrow.StructType).Fields() {
			v, err := valueOf(a.Field(k), i)
			if err != nil {
				return nil, err
			}
			out[f.Name] = v
		}
		return out, nil
	case *array.Dictionary:
		return valueOf(a.Dictionary(), a.GetValueIndex(i))
	case *array.Date32, *array.Date64, *array.Timestamp, *array.Decimal128:
		return a.ValueStr(i), nil
	}
	return nil, fmt.Errorf("type %v is not read", a.DataType())
}
