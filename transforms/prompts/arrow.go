package prompts

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/millrace/millrace/schemas"
)

// maxMessage bounds one record batch of an Arrow stream.
const maxMessage = 1 << 30

// readArrow reads the rows of an Arrow IPC stream, as runs leave them. Memory is that of a record batch.
func readArrow(r io.Reader, emit func(rawRow) error) error {
	in := schemas.NewStreamReader(r, maxMessage)
	number := 0
	for {
		b, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		rec := b.Arrow()
		for i := range b.NumRows() {
			number++
			if err := emit(arrowRow(rec, i, number)); err != nil {
				return err
			}
		}
	}
}

// arrowRow is a row as JSON has it. Columns that are null are not there.
func arrowRow(rec arrow.Record, i, number int) rawRow {
	fields := map[string]any{}
	for k, column := range rec.Columns() {
		if column.IsValid(i) {
			fields[rec.ColumnName(k)] = column.GetOneForMarshal(i)
		}
	}
	raw, err := json.Marshal(fields)
	row := rawRow{number: number, raw: func() []byte { return raw }}
	if err != nil {
		raw = fmt.Append(nil, err)
		row.err = bad(schemas.ReasonNotFinite, "the row holds what JSON does not: %v", err)
		return row
	}
	row.fields, row.err = parseLine(raw)
	return row
}
