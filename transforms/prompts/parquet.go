package prompts

import (
	"context"
	"encoding/json"

	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/files/parquetrows"
)

// readParquet reads the rows of a Parquet file. A column of a field that is named must be readable; left is told of another that is
// not, which rows come without.
func readParquet(ctx context.Context, path string, asked func(column string) bool, left func(error), emit func(rawRow) error) error {
	return files.ReadParquet(ctx, path, func(f *files.ParquetFile) error {
		number := 0
		return parquetrows.Reader{Asked: asked, Left: left}.Rows(f, func(fields map[string]any) error {
			number++
			return emit(rawRow{number: number, fields: fields, raw: func() []byte {
				raw, err := json.Marshal(fields)
				if err != nil {
					return []byte(err.Error())
				}
				return raw
			}})
		})
	})
}
