package recordio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// maxMessage bounds one record batch of an Arrow file from elsewhere.
const maxMessage = 1 << 30

// readRows is how many rows are decoded at a time.
const readRows = 256

func init() {
	beam.RegisterDoFn(&readFn{})
	register.Emitter1[stage.Batch]()
}

// Read reads files written by Write (or by others, with the same columns): batches of whole prompt groups.
// Which files is decided when the pipeline is built, so that a missing one is seen there; they are read in parallel, each
// in bounded memory.
func Read(s beam.Scope, paths []string) stage.Rows {
	return stage.Rows{PCollection: beam.ParDo(s.Scope("read"), &readFn{}, beam.CreateList(s, append([]string{}, paths...)))}
}

type readFn struct{}

func (f *readFn) ProcessElement(ctx context.Context, path string, emit func(stage.Batch)) error {
	return ReadFile(ctx, path, func(b stage.Batch) error { emit(b); return nil })
}

// ReadFile reads a Parquet or Arrow file batch by batch. A batch holds whole prompt groups as far as they lie side by
// side in the file.
func ReadFile(ctx context.Context, path string, emit func(stage.Batch) error) error {
	g := &gather{emit: emit}
	var err error
	switch {
	case strings.HasSuffix(path, "."+Parquet):
		err = readParquet(ctx, path, g.add)
	case strings.HasSuffix(path, "."+Arrow):
		err = readArrow(ctx, path, g.add)
	default:
		err = fmt.Errorf("want a name ending in .%s or .%s", Parquet, Arrow)
	}
	if err == nil {
		err = g.flush()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// ReadMerged reads the files of one Write prompt group by prompt group, in the order that one file would have.
func ReadMerged(ctx context.Context, paths []string, emit func(stage.Batch) error) error {
	if len(paths) == 1 {
		return ReadFile(ctx, paths[0], emit)
	}
	opens := make([]func() (source, error), len(paths))
	for i, path := range paths {
		opens[i] = func() (source, error) { return openFile(ctx, path), nil }
	}
	return mergeOpen(ctx, opens, func(_ schemas.Meta, group stage.Batch) error { return emit(group) })
}

// fileReader gives the prompt groups of a file.
type fileReader struct {
	next func() (stage.Batch, error, bool)
	stop func()
}

func openFile(ctx context.Context, path string) *fileReader {
	var r fileReader
	r.next, r.stop = iter.Pull2(func(yield func(stage.Batch, error) bool) {
		err := ReadFile(ctx, path, func(b stage.Batch) error {
			groups, err := b.Groups()
			if err != nil {
				return err
			}
			for _, g := range groups {
				if !yield(b.Slice(g.Lo, g.Hi), nil) {
					return errStopped
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(stage.Batch{}, err)
		}
	})
	return &r
}

var errStopped = errors.New("the reader was closed")

// Next returns the next prompt group, io.EOF after the last.
func (r *fileReader) Next() (stage.Batch, error) {
	b, err, ok := r.next()
	if !ok {
		return stage.Batch{}, io.EOF
	}
	return b, err
}

// Close ends the reading.
func (r *fileReader) Close() error {
	r.stop()
	return nil
}

// gather holds back the last prompt group of what was read, which may go on.
type gather struct {
	emit func(stage.Batch) error
	held stage.Batch
}

func (g *gather) add(b stage.Batch) error {
	joined, err := schemas.Append(g.held, b)
	if err != nil {
		return err
	}
	if !joined.Has(schemas.PromptID) {
		g.held = stage.Batch{}
		return g.pass(joined)
	}
	groups, err := joined.Groups()
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		return nil
	}
	cut := groups[len(groups)-1].Lo
	g.held = joined.Slice(cut, joined.NumRows())
	return g.pass(joined.Slice(0, cut))
}

func (g *gather) pass(b stage.Batch) error {
	if b.NumRows() == 0 {
		return nil
	}
	return g.emit(b)
}

func (g *gather) flush() error { return g.pass(g.held) }

func readArrow(ctx context.Context, path string, emit func(stage.Batch) error) error {
	f, err := files.Open(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := schemas.NewStreamReader(f, maxMessage)
	for {
		b, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = emit(b)
		}
		if err != nil {
			return err
		}
	}
}

func readParquet(ctx context.Context, path string, emit func(stage.Batch) error) error {
	return files.ReadParquet(ctx, path, func(f *files.ParquetFile) error {
		fr, ours, err := ownReader(f)
		if err != nil {
			return err
		}
		if !ours {
			return readForeign(f, emit)
		}
		return readGroups(ctx, fr, emit)
	})
}

// ownReader gives Arrow's reader of a file whose bytes and columns are such as Write leaves them. Arrow decodes structs in goroutines of
// its own, where a panic on a corrupt file could not be caught, and its large types are not those of records.
func ownReader(f *files.ParquetFile) (*pqarrow.FileReader, bool, error) {
	if simple, err := f.Simple(); err != nil || !simple {
		return nil, false, err
	}
	fr, err := pqarrow.NewFileReader(f.Reader, pqarrow.ArrowReadProperties{BatchSize: readRows}, f.Alloc)
	if err != nil {
		return nil, false, nil // a schema that it cannot make sense of
	}
	schema, err := fr.Schema()
	if err != nil {
		return nil, false, nil
	}
	for _, of := range schema.Fields() {
		c, known := schemas.ByName(of.Name)
		if !plain(of.Type) || known && !schemas.SameType(c.Type, of.Type) {
			return nil, false, nil
		}
	}
	return fr, true, nil
}

// readGroups goes through one row group after the other: its columns are what is in memory.
func readGroups(ctx context.Context, fr *pqarrow.FileReader, emit func(stage.Batch) error) error {
	schema, err := fr.Schema()
	if err != nil {
		return err
	}
	md := schema.Metadata()
	for g := range fr.ParquetReader().NumRowGroups() {
		rows, err := fr.GetRecordReader(ctx, nil, []int{g})
		if err != nil {
			return err
		}
		for rows.Next() {
			rec := rows.Record() // knows the fields, not the metadata of the file
			b, err := schemas.FromArrow(array.NewRecord(arrow.NewSchema(rec.Schema().Fields(), &md), rec.Columns(), rec.NumRows()))
			if err == nil {
				err = emit(b)
			}
			if err != nil {
				rows.Release()
				return err
			}
		}
		err = rows.Err()
		rows.Release()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

func plain(t arrow.DataType) bool {
	switch t := t.(type) {
	case *arrow.ListType:
		return plain(t.Elem())
	case arrow.NestedType, *arrow.LargeStringType, *arrow.LargeBinaryType, arrow.ExtensionType:
		return false
	}
	return true
}
