package recordio

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/files/parquetrows"
	"github.com/millrace/millrace/transforms/stage"
)

// foreignBytes closes a batch of rows of another program's file.
const foreignBytes = 8 << 20

// readForeign reads what other programs write: large strings and lists, other codecs and encodings, ids as text or as bytes. Rows are
// read as objects and put into the columns that this program knows by their names; what it does not know keeps its own type.
func readForeign(f *files.ParquetFile, emit func(stage.Batch) error) error {
	found, err := pqarrow.FromParquet(f.MetaData().Schema, nil, nil)
	if err != nil {
		return err
	}
	fields := found.Fields()
	for i, of := range fields {
		if c, ok := schemas.ByName(of.Name); ok {
			fields[i] = c.Field()
		} else if !plain(of.Type) {
			return &schemas.ColumnError{Column: of.Name, Reason: fmt.Sprintf("has type %v, which records do not use", of.Type)}
		}
	}
	kv := f.MetaData().KeyValueMetadata()
	var keys, values []string
	for i, key := range kv.Keys() {
		if key != "ARROW:schema" {
			keys, values = append(keys, key), append(values, kv.Values()[i])
		}
	}
	meta := arrow.NewMetadata(keys, values)
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, &meta))
	defer b.Release()
	rows, size := 0, 0
	flush := func() error {
		if rows == 0 {
			return nil
		}
		rows, size = 0, 0
		batch, err := schemas.FromArrow(b.NewRecord())
		if err == nil {
			err = emit(batch)
		}
		return err
	}
	number := 0
	err = parquetrows.Reader{}.Rows(f, func(row map[string]any) error {
		number++
		for i, of := range fields {
			n, err := appendValue(b.Field(i), of, row[of.Name])
			if err != nil {
				return &schemas.ColumnError{Column: of.Name, Reason: fmt.Sprintf("row %d: %v", number, err)}
			}
			size += n
		}
		if rows++; rows < readRows && size < foreignBytes {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

func appendValue(b array.Builder, of arrow.Field, v any) (size int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	if v == nil {
		if !of.Nullable {
			return 0, errors.New("is null")
		}
		b.AppendNull()
		return 1, nil
	}
	if fixed, ok := of.Type.(*arrow.FixedSizeBinaryType); ok && fixed.ByteWidth == len(uuid.UUID{}) {
		switch id := v.(type) {
		case string:
			v = []byte(id) // as bytes that happen to be text
			if len(id) != len(uuid.UUID{}) {
				parsed, err := uuid.Parse(id)
				if err != nil {
					return 0, err
				}
				v = parsed[:]
			}
		case []byte:
			if len(id) != len(uuid.UUID{}) {
				return 0, fmt.Errorf("has %d bytes, want a UUID", len(id))
			}
		}
	}
	raw, err := json.Marshal([]any{quoted(v)})
	if err != nil {
		return 0, err
	}
	before := b.Len()
	if err := b.UnmarshalJSON(raw); err != nil {
		return 0, fmt.Errorf("is no %v: %w", of.Type, err)
	}
	if b.Len() != before+1 {
		return 0, fmt.Errorf("is no %v", of.Type)
	}
	return len(raw), nil
}

// quoted writes numbers as text, which builders read digit by digit; a bare one would go through a float64.
func quoted(v any) any {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case []any:
		for i := range v {
			v[i] = quoted(v[i])
		}
	}
	return v
}
