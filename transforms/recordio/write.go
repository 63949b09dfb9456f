package recordio

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"

	"github.com/millrace/millrace/schemas/setting"
)

// Formats of files.
const (
	Parquet = "parquet"
	Arrow   = "arrow" // an Arrow IPC stream
)

// Output says where and how batches are written.
type Output struct {
	Dir    string // local, gs:// or s3://
	Name   string // files are Name-00000-of-00001.parquet and so on
	Format string // "": parquet
	Shards int    // files; 0: one. Rows are divided by the hash of their prompt's id
	// RowGroupRows and RowGroupBytes close a row group (of Parquet) or record batch (of Arrow) at the first prompt group
	// that reaches either. 0: 4096 rows, 32 MiB.
	RowGroupRows  int
	RowGroupBytes int
}

// Validate names the first field that is wrong.
func (o Output) Validate() error {
	switch {
	case o.Dir == "":
		return setting.Errorf("dir", "missing; want a directory")
	case o.Name == "" || strings.ContainsAny(o.Name, "/*?["):
		return setting.Errorf("name", "%q is not the beginning of a file name", o.Name)
	case o.Format != "" && o.Format != Parquet && o.Format != Arrow:
		return setting.Errorf("format", "%q is not %s or %s", o.Format, Parquet, Arrow)
	case o.Shards < 0 || o.Shards > 99999:
		return setting.Errorf("shards", "%d is not in 0..99999", o.Shards)
	case o.RowGroupRows < 0 || o.RowGroupBytes < 0:
		return fmt.Errorf("row_group_rows, row_group_bytes: negative")
	}
	return nil
}

func (o Output) withDefaults() Output {
	if o.Format == "" {
		o.Format = Parquet
	}
	o.Shards = max(1, o.Shards)
	if o.RowGroupRows == 0 {
		o.RowGroupRows = 4096
	}
	if o.RowGroupBytes == 0 {
		o.RowGroupBytes = 32 << 20
	}
	return o
}

// Path is the file of a shard.
func (o Output) Path(shard int) string {
	o = o.withDefaults()
	return files.Join(o.Dir, fmt.Sprintf("%s-%05d-of-%05d.%s", o.Name, shard, o.Shards, o.Format))
}

// Files lists what was written, in the order of the shards; a shard without rows has no file.
func (o Output) Files(ctx context.Context) ([]string, error) {
	o = o.withDefaults()
	return files.List(ctx, files.Join(o.Dir, fmt.Sprintf("%s-*-of-%05d.%s", o.Name, o.Shards, o.Format)))
}

// File describes a written file.
type File struct {
	Path   string
	Shard  int
	Rows   int64
	Bytes  int64
	Digest string // SHA-256 in hexadecimal
}

func init() {
	beam.RegisterType(reflect.TypeFor[File]())
	beam.RegisterDoFn(&shardFn{})
	beam.RegisterDoFn(&writeFn{})
	register.Emitter1[File]()
}

// Write writes rows to files and returns a PCollection<File>, one for each shard that has rows. Rows travel
// through the store, which must have a directory. All batches must hold the same columns.
func Write(s beam.Scope, out Output, store stage.Store, in stage.Rows) beam.PCollection {
	if err := setting.Check(out); err != nil {
		panic("recordio.Write: " + err.Error())
	}
	if store.Dir == "" {
		panic("recordio.Write: the store has no directory")
	}
	s = s.Scope("write " + out.Name)
	out = out.withDefaults()
	sharded := beam.ParDo(s, &shardFn{Shards: out.Shards, Store: store}, in.PCollection)
	written := beam.ParDo(s, &writeFn{Output: out, Store: store}, beam.GroupByKey(s, sharded))
	stage.End(s, written)
	return written
}

// shardFn divides the prompt groups of a batch over the shards.
type shardFn struct {
	Shards  int
	Store   stage.Store
	parcels stage.Parcels[stage.Stored]
}

func (f *shardFn) ProcessElement(ctx context.Context, b stage.Batch, _ func(int, string)) error {
	if b.NumRows() == 0 {
		return nil
	}
	rows := make([][]int, f.Shards)
	key := stage.RowKeys(b)
	for _, g := range stage.SortedGroups(b) {
		k := shardOf(key(g.Lo), f.Shards)
		for i := g.Lo; i < g.Hi; i++ {
			rows[k] = append(rows[k], i)
		}
	}
	for k, take := range rows {
		if len(take) == 0 {
			continue
		}
		part, err := b.Take(take)
		if err != nil {
			return err
		}
		d, err := f.Store.Put(ctx, part)
		if err != nil {
			return err
		}
		if err := f.parcels.Add(k, d); err != nil {
			return err
		}
	}
	return nil
}

// FinishBundle tells the shards where their rows are.
func (f *shardFn) FinishBundle(ctx context.Context, emit func(int, string)) error {
	return f.parcels.Send(ctx, f.Store, emit)
}

func shardOf(key string, shards int) int {
	h := fnv.New64a()
	io.WriteString(h, key)
	return int(h.Sum64() % uint64(shards))
}

type writeFn struct {
	Output Output
	Store  stage.Store
}

func (f *writeFn) ProcessElement(ctx context.Context, shard int, next func(*string) bool, emit func(File)) error {
	in, err := stage.Unpack[stage.Stored](ctx, f.Store, next)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Output.Path(shard), err)
	}
	file, err := writeShard(ctx, f.Output, f.Store, shard, in)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Output.Path(shard), err)
	}
	emit(file)
	return nil
}

func writeShard(ctx context.Context, out Output, store stage.Store, shard int, in []stage.Stored) (File, error) {
	out = out.withDefaults()
	slices.SortFunc(in, func(a, b stage.Stored) int { return strings.Compare(a.File, b.File) })
	// A bundle that ran twice stored the same batch twice.
	in = slices.CompactFunc(in, func(a, b stage.Stored) bool { return a.File == b.File })
	f, err := files.Create(ctx, out.Path(shard))
	if err != nil {
		return File{}, err
	}
	defer f.Abort()
	sum := &hashing{w: f, h: sha256.New()}
	w := writer{out: out, to: sum}
	if err := w.all(ctx, store, in); err != nil {
		return File{}, err
	}
	if err := w.close(); err != nil {
		return File{}, err
	}
	if err := f.Commit(true); err != nil {
		return File{}, err
	}
	return File{Path: out.Path(shard), Shard: shard, Rows: w.rows, Bytes: sum.n, Digest: hex.EncodeToString(sum.h.Sum(nil))}, nil
}

// writer gathers prompt groups into row groups.
type writer struct {
	out     Output
	to      io.Writer
	parquet *parquetWriter
	arrow   *schemas.StreamWriter
	first   stage.Batch
	pending []stage.Batch
	n, size int
	rows    int64
}

func (w *writer) add(_ schemas.Meta, g stage.Batch) error {
	if w.first.Arrow() == nil {
		w.first = g.Slice(0, 0)
	}
	w.pending = append(w.pending, g)
	w.n += g.NumRows()
	w.size += g.Size()
	if w.n < w.out.RowGroupRows && w.size < w.out.RowGroupBytes {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() (err error) {
	if w.n == 0 {
		return nil
	}
	// The first record gives the order of the columns.
	b, err := schemas.Append(append([]stage.Batch{w.first}, w.pending...)...)
	if err != nil {
		return err
	}
	w.pending, w.n, w.size = nil, 0, 0
	return w.write(b)
}

// write encodes a row group.
func (w *writer) write(b stage.Batch) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("encode: %v", p)
		}
	}()
	b = b.Canonical()
	w.rows += int64(b.NumRows())
	if w.out.Format == Arrow {
		if w.arrow == nil {
			w.arrow = schemas.NewStreamWriter(w.to)
		}
		return w.arrow.Write(b)
	}
	if w.parquet == nil {
		props := parquet.NewWriterProperties(
			parquet.WithAllocator(memory.DefaultAllocator),
			parquet.WithCreatedBy("millrace"),
			parquet.WithCompression(compress.Codecs.Snappy),
			parquet.WithDictionaryDefault(false),
			parquet.WithStats(false),
			// Before a version 1 page Arrow 15 leaves room for a length, and for the room's sake copies the levels at every run
			// of theirs: quadratic in a page, most of the time of a column of lists of lists.
			parquet.WithDataPageVersion(parquet.DataPageV2),
			parquet.WithMaxRowGroupLength(1<<40)) // row groups are cut here, not there
		if w.parquet, err = newParquetWriter(b.Arrow().Schema(), w.to, props); err != nil {
			return err
		}
	}
	return w.parquet.Write(b.Arrow())
}

func (w *writer) close() error {
	if err := w.flush(); err != nil {
		return err
	}
	switch {
	case w.parquet != nil:
		return w.parquet.Close()
	case w.arrow != nil:
		return w.arrow.Close()
	}
	return fmt.Errorf("no rows")
}

type hashing struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (s *hashing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.h.Write(p[:n])
	s.n += int64(n)
	return n, err
}
