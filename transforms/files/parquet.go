package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/file"
)

// A Parquet file says itself how large it is unpacked, and a file of some kilobytes can unpack to any size: by compression, by a
// dictionary of one long value, by a run of a billion nulls. These are the bytes that one of its columns may have.
const (
	MaxParquetCell     = 16 << 20  // in one row
	maxParquetPage     = 128 << 20 // in one page, which is decoded as a whole
	maxParquetRowGroup = 2 << 30   // in one row group
	parquetEntry       = 16        // what an entry counts beside its value, so that nulls are not free
)

// ParquetError says which part of a Parquet file cannot be read. RowGroup counts from 0.
type ParquetError struct {
	Path     string
	Column   string
	Type     string
	RowGroup int
	Err      error
}

func (e *ParquetError) Error() string {
	return fmt.Sprintf("%s: column %s (%s), row group %d: %v", e.Path, e.Column, e.Type, e.RowGroup, e.Err)
}

func (e *ParquetError) Unwrap() error { return e.Err }

// BoundError says that a part of a file unpacks to more than is read.
type BoundError struct {
	Part  string // such as "a cell"
	Bound int64  // bytes
}

func (e *BoundError) Error() string {
	return fmt.Sprintf("%s unpacks to more than %d bytes, which is the bound", e.Part, e.Bound)
}

// wholeFile is the part of a file that all its rows are, in an error that names the column with the most bytes.
const wholeFile = "the file, whose largest column this is,"

// Whole reports whether the bound is that of all rows of a file, which no column can be left out for: rows before it have been given.
func (e *BoundError) Whole() bool { return e.Part == wholeFile }

// ParquetFile is an open Parquet file.
type ParquetFile struct {
	*file.Reader
	// Alloc bounds each request of a decoder.
	Alloc memory.Allocator

	path  string
	from  seekable
	size  int64
	given []int64 // of each column, in all row groups so far
	total int64   // of all columns
}

// ReadParquet opens a Parquet file, wherever it lies, for read. Memory that the file asks for is bounded; the decoder
// panics on some corrupt files, which becomes an error here as long as read decodes in its own goroutine.
func ReadParquet(ctx context.Context, path string, read func(f *ParquetFile) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("corrupt Parquet file: %v", p)
		}
	}()
	from, err := openSeekable(ctx, path)
	if err != nil {
		return err
	}
	defer from.Close()
	size, err := from.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := parquetMarked(from, size); err != nil {
		return err
	}
	alloc := &cappedAllocator{}
	r, err := file.NewParquetReader(from, file.WithReadProps(parquet.NewReaderProperties(alloc)))
	if err != nil {
		return err
	}
	defer r.Close()
	f := &ParquetFile{Reader: r, Alloc: alloc, path: path, from: from, size: size, given: make([]int64, r.MetaData().Schema.NumColumns())}
	return read(f)
}

// parquetMarked says what is there instead of a Parquet file, which begins and ends with its name.
func parquetMarked(f io.ReaderAt, size int64) error {
	const mark, encrypted = "PAR1", "PARE"
	head, tail := make([]byte, min(size, 1024)), make([]byte, 4)
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return err
	}
	if err := NotData(head); err != nil {
		return err
	}
	switch begins := strings.HasPrefix(string(head), mark) || strings.HasPrefix(string(head), encrypted); {
	case !begins:
		return fmt.Errorf("is no Parquet file: it does not begin with %s", mark)
	case size < 12:
		return fmt.Errorf("is a Parquet file of %d bytes: it was cut off", size)
	}
	if _, err := f.ReadAt(tail, size-4); err != nil {
		return err
	}
	switch string(tail) {
	case mark:
		return nil
	case encrypted:
		return errors.New("is an encrypted Parquet file, and encrypted ones are not read")
	}
	return fmt.Errorf("is a Parquet file that does not end with %s: it was cut off", mark)
}

// Column gives a column of a row group for decoding, and its budget, of which whoever takes values spends.
func (f *ParquetFile) Column(group, column int) (file.ColumnChunkReader, *ColumnBudget, error) {
	descr := f.MetaData().Schema.Column(column)
	b := &ColumnBudget{file: f, column: column, group: group}
	pages, err := f.pages(group, column, b)
	if err != nil {
		return nil, nil, b.Fault(err)
	}
	return file.NewColumnReader(descr, pages, f.Alloc, &pageBuffers), b, nil
}

func (f *ParquetFile) pages(group, column int, b *ColumnBudget) (*pageReader, error) {
	rows := f.MetaData().RowGroup(group)
	if column >= rows.NumColumns() {
		return nil, errors.New("the row group does not have it")
	}
	chunk, err := rows.ColumnChunk(column)
	switch {
	case err != nil:
		return nil, err
	case chunk.CryptoMetadata() != nil:
		return nil, errors.New("it is encrypted, and encrypted columns are not read")
	case chunk.FilePath() != "":
		return nil, errors.New("its values lie in another file")
	}
	start := chunk.DataPageOffset()
	if at := chunk.DictionaryPageOffset(); chunk.HasDictionaryPage() && at > 0 && at < start {
		start = at
	}
	// Some old writers left a page's header out of the sum: a hundred bytes more cost nothing, and values are counted.
	length := min(chunk.TotalCompressedSize()+100, f.size-start)
	if start < 0 || chunk.TotalCompressedSize() < 0 || length < 0 {
		return nil, errors.New("its place is not in the file")
	}
	return newPageReader(io.NewSectionReader(f.from, start, length), chunk, f.MetaData().Schema.Column(column), b)
}

// ColumnBudget counts what a column unpacks to.
type ColumnBudget struct {
	file          *ParquetFile
	column, group int
	unpacked      int64 // pages of the row group
	given         int64 // cells of the row group
	cell          int64
}

// Row begins the column's part of another row.
func (b *ColumnBudget) Row() { b.cell = 0 }

// Entry counts an entry, which may hold bytes: each row's copy of a value, of which the file may hold one for all rows.
func (b *ColumnBudget) Entry(bytes int) error {
	n := int64(bytes) + parquetEntry
	b.cell += n
	b.given += n
	b.file.given[b.column] += n
	b.file.total += n
	switch bound := unpackedBound(b.file.size); {
	case b.cell > MaxParquetCell:
		return b.Fault(&BoundError{"a cell", MaxParquetCell})
	case b.given > maxParquetRowGroup:
		return b.Fault(&BoundError{"the row group", maxParquetRowGroup})
	case b.file.total > bound:
		most := *b
		most.column = slices.Index(b.file.given, slices.Max(b.file.given))
		return most.Fault(&BoundError{wholeFile, bound})
	}
	return nil
}

// page counts a page before it is unpacked.
func (b *ColumnBudget) page(bytes, values int64) error {
	b.unpacked += bytes
	switch {
	case bytes/(values+1) > MaxParquetCell:
		return &BoundError{"a cell", MaxParquetCell}
	case bytes > maxParquetPage:
		return &BoundError{"a page", maxParquetPage}
	case values > maxParquetPage/parquetEntry:
		return &BoundError{fmt.Sprintf("a page of %d values", values), maxParquetPage}
	case b.unpacked > maxParquetRowGroup:
		return &BoundError{"the row group", maxParquetRowGroup}
	}
	return nil
}

// Fault is an error of the column, with its name.
func (b *ColumnBudget) Fault(err error) error {
	var has *ParquetError
	if err == nil || errors.As(err, &has) {
		return err
	}
	d := b.file.MetaData().Schema.Column(b.column)
	kind := d.PhysicalType().String()
	if l := d.LogicalType(); l != nil && !l.IsNone() {
		kind += ", " + l.String()
	}
	return &ParquetError{Path: b.file.path, Column: d.Path(), Type: kind, RowGroup: b.group, Err: err}
}

// Simple reports whether Arrow's own reader may have the whole file: all of it is packed by snappy or not at all, as what recordio
// writes is, and no page says that it is larger than it may be or than it is.
func (f *ParquetFile) Simple() (bool, error) {
	for g := range f.NumRowGroups() {
		for c := range f.MetaData().Schema.NumColumns() {
			b := &ColumnBudget{file: f, column: c, group: g}
			chunk, err := f.MetaData().RowGroup(g).ColumnChunk(c)
			if err != nil {
				return false, b.Fault(err)
			}
			if codec := chunk.Compression(); codec != compress.Codecs.Snappy && codec != compress.Codecs.Uncompressed {
				return false, nil
			}
			pages, err := f.pages(g, c, b)
			if err != nil {
				return false, b.Fault(err)
			}
			plain, err := pages.check()
			if err != nil || !plain {
				return false, b.Fault(err)
			}
		}
	}
	return true, nil
}
