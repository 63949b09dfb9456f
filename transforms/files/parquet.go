package files

import (
	"context"
	"fmt"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
)

// ReadParquet opens a Parquet file, wherever it lies, for read. Memory that the file asks for is capped; the decoder
// panics on some corrupt files, which becomes an error here as long as read decodes in its own goroutine.
func ReadParquet(ctx context.Context, path string, read func(r *file.Reader, alloc memory.Allocator) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("corrupt Parquet file: %v", p)
		}
	}()
	f, err := openSeekable(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close()
	alloc := &cappedAllocator{}
	r, err := file.NewParquetReader(f, file.WithReadProps(parquet.NewReaderProperties(alloc)))
	if err != nil {
		return err
	}
	defer r.Close()
	return read(r, alloc)
}
