package stage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
)

// Store is a directory of batches written as Arrow IPC files, under a run's iteration (local, gs:// or s3://). What
// crosses a Beam shuffle are descriptors of a hundred bytes, never rows: a shuffle costs the embedded runner ten times
// its bytes in memory, and Flink stops for ever behind a few hundred large records.
type Store struct {
	Dir            string
	MaxRecordBytes int // upper limit of a stored batch; 0: the default
}

// Stored describes a batch in a Store.
type Stored struct {
	ID     string // id of the first row; descriptors sorted by it are in the order of their rows
	File   string // name within the store: the SHA-256 of its content and ".arrow"
	Rows   int64
	Groups int64 // prompt groups
	Tokens int64 // response tokens, 0 where rows have none
	Bytes  int64
}

// buffers hold what is being written.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Put writes a batch, its prompt groups in the order of their ids, one record batch each. It is named by its content, so
// writing it twice changes nothing.
func (s Store) Put(ctx context.Context, b Batch) (Stored, error) {
	if b.NumRows() == 0 {
		return Stored{}, errors.New("store: a batch without rows")
	}
	groups := SortedGroups(b)
	buf := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buf)
	buf.Reset()
	buf.Grow(b.Size() + b.Size()/8)
	w := schemas.NewStreamWriter(buf)
	// A message holds as many groups as are small together: a reader has one of each file in memory.
	most := max(1, messageBytes*b.NumRows()/max(1, b.Size()))
	for k := 0; k < len(groups); {
		lo := k
		for k++; k < len(groups) && groups[k].Lo == groups[k-1].Hi && groups[k].Hi-groups[lo].Lo <= most; k++ {
		}
		if err := w.Write(b.Slice(groups[lo].Lo, groups[k-1].Hi)); err != nil {
			return Stored{}, err
		}
	}
	if err := w.Close(); err != nil {
		return Stored{}, err
	}
	sum := sha256.Sum256(buf.Bytes())
	d := Stored{ID: RowKey(b, groups[0].Lo), File: hex.EncodeToString(sum[:]) + ".arrow",
		Rows: int64(b.NumRows()), Groups: int64(len(groups)), Bytes: int64(buf.Len())}
	if tokens, err := schemas.ResponseTokens.Find(b); err == nil {
		for i := range tokens.Len() {
			d.Tokens += int64(len(tokens.Row(i)))
		}
	}
	if s.holds(ctx, d) {
		return d, nil
	}
	return d, files.Write(ctx, s.path(d), buf.Bytes(), false)
}

// Get reads a batch back and checks that it is what was written.
func (s Store) Get(ctx context.Context, d Stored) (Batch, error) {
	raw, err := s.read(ctx, d)
	if err != nil {
		return Batch{}, err
	}
	in := schemas.NewBytesReader(raw)
	var parts []Batch
	for {
		b, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Batch{}, fmt.Errorf("%s: %w", s.path(d), err)
		}
		parts = append(parts, b)
	}
	out, err := schemas.Append(parts...)
	if err == nil && int64(out.NumRows()) != d.Rows {
		err = fmt.Errorf("it has %d rows, not the %d it was written with", out.NumRows(), d.Rows)
	}
	if err != nil {
		return Batch{}, fmt.Errorf("%s: %w", s.path(d), err)
	}
	return out, nil
}

// Open reads a batch prompt group by prompt group, for merging many in bounded memory. The content is checked when its
// end is reached.
func (s Store) Open(ctx context.Context, d Stored) (*StoredReader, error) {
	f, err := files.Open(ctx, s.path(d))
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	return &StoredReader{file: f, path: s.path(d), want: d.File, sum: h.Sum,
		in: schemas.NewStreamReader(io.TeeReader(io.LimitReader(f, d.Bytes), h), d.Bytes)}, nil
}

// messageBytes is about what a message of a stored batch holds, unless one group is larger.
const messageBytes = 256 << 10

// StoredReader reads a stored batch group by group.
type StoredReader struct {
	held   Batch
	groups []schemas.Group // of held, those to come
	file   io.ReadCloser
	path   string
	want   string
	sum    func([]byte) []byte
	in     *schemas.StreamReader
}

// Next returns the next prompt group, io.EOF after the last.
func (r *StoredReader) Next() (Batch, error) {
	if len(r.groups) > 0 {
		g := r.groups[0]
		r.groups = r.groups[1:]
		return r.held.Slice(g.Lo, g.Hi), nil
	}
	b, err := r.in.Next()
	if err == io.EOF && hex.EncodeToString(r.sum(nil))+".arrow" != r.want {
		err = errChanged
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", r.path, err)
	}
	if err != nil {
		return b, err
	}
	r.held, r.groups = b, SortedGroups(b)
	if len(r.groups) == 0 {
		return b, nil
	}
	return r.Next()
}

// Close closes the file.
func (r *StoredReader) Close() error { return r.file.Close() }

var errChanged = errors.New("the file is not what was written: its content has another SHA-256 than its name")

func (s Store) path(d Stored) string { return files.Join(s.Dir, d.File) }

// maxReserved is what is reserved for the content of a file before any of it has come.
const maxReserved = 256 << 20

func (s Store) read(ctx context.Context, d Stored) ([]byte, error) {
	f, err := files.Open(ctx, s.path(d))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var raw []byte
	if d.Bytes <= maxReserved { // which a description may lie about
		raw = make([]byte, 0, d.Bytes+bytes.MinRead)
	}
	buf := bytes.NewBuffer(raw)
	if _, err := buf.ReadFrom(io.LimitReader(f, d.Bytes+1)); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.path(d), err)
	}
	raw = buf.Bytes()
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:])+".arrow" != d.File {
		return nil, fmt.Errorf("%s: %w", s.path(d), errChanged)
	}
	return raw, nil
}

func (s Store) holds(ctx context.Context, d Stored) bool {
	info, err := files.Stat(ctx, s.path(d))
	if err != nil {
		return false
	}
	if info.SHA256 != "" { // by the store, which spares a download
		return info.SHA256+".arrow" == d.File
	}
	_, err = s.read(ctx, d)
	return err == nil
}

// RowKey orders rows: by the prompt they belong to, or their own id, or for dead letters by stage and row. Equal keys are
// rows of one group.
func RowKey(b Batch, i int) string {
	return RowKeys(b)(i)
}

// RowKeys is RowKey for many rows of a batch.
func RowKeys(b Batch) func(i int) string {
	if ids, err := schemas.PromptID.Find(b); err == nil {
		return func(i int) string { return ids[i].String() }
	}
	if ids := b.RowIDs(); ids != nil {
		return func(i int) string { return ids[i].String() }
	}
	if names, err := schemas.DeadStage.Find(b); err == nil {
		rows, ids := schemas.DeadRow.Of(b), schemas.DeadRowID.Of(b)
		return func(i int) string {
			sum := sha256.Sum256(rows.At(i))
			return strings.Join([]string{names.At(i), ids.At(i), hex.EncodeToString(sum[:])}, "\x00")
		}
	}
	return func(int) string { return "" }
}

// SortedGroups returns the prompt groups of a batch in the order of their keys; rows by themselves when it has no groups.
func SortedGroups(b Batch) []schemas.Group {
	groups := groupsOrRows(b)
	keys, key := make(map[int]string, len(groups)), RowKeys(b)
	for _, g := range groups {
		keys[g.Lo] = key(g.Lo)
	}
	slices.SortStableFunc(groups, func(x, y schemas.Group) int { return strings.Compare(keys[x.Lo], keys[y.Lo]) })
	return groups
}

// memo is what a stage made of a batch, kept so that the same work is not done twice. It is written last: files without
// one are not used.
type memo struct {
	Out, Dead          []Stored
	In, Kept, Filtered int
	Reasons            map[schemas.Reason]int
}

// once returns what run made of the batch in an earlier attempt, or runs it and keeps what it made. The name is the
// digest of all the result depends on.
func (s Store) once(ctx context.Context, name string, run func() (Result, error)) (m memo, replayed bool, err error) {
	path := files.Join(s.Dir, name+".json")
	if m, ok := s.recall(ctx, path); ok {
		return m, true, nil
	}
	res, err := run()
	if err != nil {
		return memo{}, false, err
	}
	m = memo{In: res.In, Kept: res.Kept, Filtered: res.Filtered, Reasons: res.Reasons}
	for _, part := range []struct {
		from []Batch
		to   *[]Stored
	}{{res.Out, &m.Out}, {res.Dead, &m.Dead}} {
		for _, b := range part.from {
			d, err := s.Put(ctx, b)
			if err != nil {
				return memo{}, false, err
			}
			*part.to = append(*part.to, d)
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return memo{}, false, err
	}
	return m, false, files.Write(ctx, path, raw, false)
}

const maxMemoBytes = 16 << 20

// recall reads a memo whose files are all there and unchanged; anything less counts as never done.
func (s Store) recall(ctx context.Context, path string) (memo, bool) {
	raw, err := files.Read(ctx, path, maxMemoBytes)
	if err != nil {
		return memo{}, false
	}
	var m memo
	if json.Unmarshal(raw, &m) != nil {
		return memo{}, false
	}
	for _, d := range slices.Concat(m.Out, m.Dead) {
		if !s.holds(ctx, d) {
			return memo{}, false
		}
	}
	return m, true
}

// taskName names a stage's work on a batch by all it depends on: the stage, its settings, what wrote its columns (the
// digests of its models), its side input, the limit of a record and the rows.
func taskName(c schemas.Contract, cfg any, lineage string, side any, limit int, b Batch) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "millrace.exchange.1\n%s\n%s\n%s\n%s\n%d\n", c.Name, Digest(cfg), lineage, Digest(side), orDefault(limit))
	if _, err := b.WriteTo(h); err != nil {
		return "", err
	}
	return c.Name + "-" + hex.EncodeToString(h.Sum(nil)), nil
}
