package schemas

import (
	"bytes"
	bin "encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// WriteTo writes the record as an Arrow IPC stream of one record batch, uncompressed. Equal records give equal bytes,
// whatever larger records they were cut from.
func (r Record) WriteTo(w io.Writer) (int64, error) {
	count := &counter{w: w}
	sw := NewStreamWriter(count)
	if err := sw.Write(r); err != nil {
		return count.n, err
	}
	return count.n, sw.Close()
}

// MarshalBinary returns the record as an Arrow IPC stream.
func (r Record) MarshalBinary() ([]byte, error) {
	out := make(growing, 0, r.Size()+1024*(len(r.Columns())+1))
	_, err := r.WriteTo(&out)
	return out, err
}

// UnmarshalBinary reads an Arrow IPC stream of one record batch. The bytes may come from anywhere: whatever is wrong with
// them is an error, and no more memory is taken than a small multiple of their length.
func (r *Record) UnmarshalBinary(data []byte) (err error) {
	*r, err = Unmarshal(slices.Clone(data))
	return err
}

// Unmarshal is UnmarshalBinary without copying: the bytes belong to the record from then on.
func Unmarshal(data []byte) (Record, error) {
	in := NewBytesReader(data)
	rec, err := in.Next()
	if err == io.EOF {
		return Record{}, errors.New("corrupt Arrow stream: no record batch after the schema")
	}
	if err != nil {
		return Record{}, err
	}
	if _, err := in.Next(); err != io.EOF || len(in.msgs.data) > 0 {
		return Record{}, errors.New("corrupt Arrow stream: it does not end after one record batch")
	}
	return rec, nil
}

// StreamWriter writes records of one schema as an Arrow IPC stream of as many record batches.
type StreamWriter struct {
	w  io.Writer
	iw *ipc.Writer
}

// NewStreamWriter writes to w. Nothing is buffered.
func NewStreamWriter(w io.Writer) *StreamWriter { return &StreamWriter{w: w} }

// Write adds a record batch. All records must have the schema of the first, metadata included.
func (s *StreamWriter) Write(r Record) error {
	rec := r.Canonical().rec
	if rec == nil {
		rec = array.NewRecord(arrow.NewSchema(nil, nil), nil, 0)
	}
	if s.iw == nil {
		s.iw = ipc.NewWriter(s.w, ipc.WithSchema(rec.Schema()))
	}
	if err := s.iw.Write(rec); err != nil {
		return fmt.Errorf("write Arrow stream: %w", err)
	}
	return nil
}

// Close ends the stream; it does not close the writer below.
func (s *StreamWriter) Close() error {
	if s.iw == nil {
		s.iw = ipc.NewWriter(s.w, ipc.WithSchema(arrow.NewSchema(nil, nil)))
	}
	if err := s.iw.Close(); err != nil {
		return fmt.Errorf("write Arrow stream: %w", err)
	}
	return nil
}

// StreamReader reads an Arrow IPC stream record batch by record batch.
type StreamReader struct {
	msgs messages
	in   *ipc.Reader
	mem  *budget
	err  error
}

// NewStreamReader reads from r and refuses messages of more than limit bytes. It takes memory for a message only as its
// bytes arrive, so a corrupt length costs nothing.
func NewStreamReader(r io.Reader, limit int64) *StreamReader {
	return &StreamReader{msgs: messages{r: r, limit: limit}, mem: &budget{}}
}

// NewBytesReader reads a stream that is in memory. Its records share the bytes, which must not change from then on.
func NewBytesReader(data []byte) *StreamReader {
	return &StreamReader{msgs: messages{data: data}, mem: &budget{}}
}

// Next returns the next record, io.EOF after the last, or what is wrong with the stream.
func (s *StreamReader) Next() (out Record, err error) {
	if s.err != nil {
		return Record{}, s.err
	}
	defer func() {
		// Arrow's decoder panics on flatbuffers whose offsets lead nowhere.
		if p := recover(); p != nil {
			err = fmt.Errorf("corrupt Arrow stream: %v", p)
		} else if err != nil && err != io.EOF {
			err = fmt.Errorf("corrupt Arrow stream: %w", err)
		}
		s.err = err
	}()
	s.msgs.mem = s.mem
	if s.in == nil {
		if s.in, err = ipc.NewReaderFromMessageReader(&s.msgs, ipc.WithAllocator(s.mem)); err != nil {
			return Record{}, err
		}
		if s.in.Schema() == nil {
			return Record{}, s.in.Err()
		}
	}
	rec, err := s.in.Read()
	if err != nil {
		return Record{}, err
	}
	rec.Retain() // the reader releases it at the next Read
	return FromArrow(rec)
}

// messages cuts an Arrow stream into messages, checking each length before it is believed.
type messages struct {
	r     io.Reader // nil: the stream is data
	data  []byte
	limit int64 // of a message; what is in memory is its own limit
	mem   *budget
	ended bool
}

func (m *messages) Retain()  {}
func (m *messages) Release() {}

func (m *messages) Message() (*ipc.Message, error) {
	if m.ended {
		return nil, io.EOF
	}
	head, err := m.take(8) // a stream that ends without its end marker is cut short, also between messages
	if err != nil {
		return nil, err
	}
	if bin.LittleEndian.Uint32(head) != 0xFFFFFFFF {
		return nil, errors.New("not an Arrow stream")
	}
	n := bin.LittleEndian.Uint32(head[4:])
	if n == 0 {
		m.ended = true
		return nil, io.EOF
	}
	meta, err := m.take(int64(n))
	if err != nil {
		return nil, err
	}
	if err := checkSchema(meta); err != nil {
		return nil, err
	}
	size := ipc.NewMessage(memory.NewBufferBytes(meta), memory.NewBufferBytes(nil)).BodyLen()
	body, err := m.take(size)
	if err != nil {
		return nil, err
	}
	m.mem.left = 4*len(body) + 1<<16
	return ipc.NewMessage(memory.NewBufferBytes(meta), memory.NewBufferBytes(body)), nil
}

// take returns the next n bytes of what is in memory, or reads them, growing as they arrive.
func (m *messages) take(n int64) ([]byte, error) {
	if n < 0 || m.r != nil && n > m.limit {
		return nil, fmt.Errorf("message of %d bytes, allowed are %d", n, m.limit)
	}
	if m.r == nil {
		if n > int64(len(m.data)) {
			return nil, fmt.Errorf("truncated: message of %d bytes, %d are left: %w", n, len(m.data), io.ErrUnexpectedEOF)
		}
		out := m.data[:n:n]
		m.data = m.data[n:]
		if uintptr(unsafe.Pointer(unsafe.SliceData(out)))%8 != 0 {
			out = slices.Clone(out) // numbers must lie where the machine wants them
		}
		return out, nil
	}
	var buf bytes.Buffer
	buf.Grow(int(min(n, 1<<20)) + bytes.MinRead)
	if got, err := io.CopyN(&buf, m.r, n); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // Arrow's reader takes io.EOF, also where it is wrapped, for the end of the stream
		}
		return nil, fmt.Errorf("truncated: message of %d bytes ends after %d: %w", n, got, err)
	}
	return buf.Bytes(), nil
}

// budget is Go's allocator with an upper limit on all it hands out: a corrupt length must not take the machine's memory.
type budget struct {
	memory.GoAllocator
	left int
}

func (b *budget) Allocate(n int) []byte {
	b.spend(n)
	return b.GoAllocator.Allocate(n)
}

func (b *budget) Reallocate(n int, old []byte) []byte {
	b.spend(n - len(old))
	return b.GoAllocator.Reallocate(n, old)
}

func (b *budget) spend(n int) {
	if n > b.left {
		panic("more memory asked for than the stream is long")
	}
	b.left -= max(0, n)
}

// validate checks what Arrow's decoder does not: that buffers are as long as the array says and that offsets rise and
// stay inside what they point into. Views rely on it.
func validate(d arrow.ArrayData) error {
	n, bufs := d.Offset()+d.Len(), d.Buffers()
	size := func(i int) int {
		if i >= len(bufs) || bufs[i] == nil {
			return 0
		}
		return bufs[i].Len()
	}
	if d.Len() < 0 || d.Offset() < 0 || n < 0 {
		return fmt.Errorf("%d rows", d.Len())
	}
	if d.NullN() > d.Len() {
		return fmt.Errorf("%d nulls in %d rows", d.NullN(), d.Len())
	}
	if size(0) > 0 || d.NullN() > 0 {
		if size(0) < (n+7)/8 {
			return fmt.Errorf("validity of %d bytes for %d rows", size(0), n)
		}
	}
	offsets := func(limit int) error {
		if n == 0 {
			return nil
		}
		if size(1) < 4*(n+1) {
			return fmt.Errorf("%d bytes of offsets for %d rows", size(1), n)
		}
		offs := arrow.Int32Traits.CastFromBytes(bufs[1].Bytes())[:n+1]
		last := int32(0)
		for i, o := range offs {
			if o < last {
				return fmt.Errorf("offset %d is %d, below %d", i, o, last)
			}
			last = o
		}
		if int(last) > limit {
			return fmt.Errorf("offsets reach %d of %d", last, limit)
		}
		return nil
	}
	switch t := d.DataType().(type) {
	case *arrow.StringType, *arrow.BinaryType:
		return offsets(size(2))
	case *arrow.ListType:
		if len(d.Children()) != 1 {
			return fmt.Errorf("list of %d children", len(d.Children()))
		}
		child := d.Children()[0]
		if err := offsets(child.Len()); err != nil {
			return err
		}
		return validate(child)
	case arrow.FixedWidthDataType:
		switch t.ID() {
		case arrow.DICTIONARY, arrow.EXTENSION, arrow.FIXED_SIZE_LIST:
			return fmt.Errorf("type %v is not used in records", t)
		}
		if bits := t.BitWidth(); bits < 0 || size(1) < (n*bits+7)/8 {
			return fmt.Errorf("%d bytes for %d values of %d bits", size(1), n, bits)
		}
		return nil
	}
	return fmt.Errorf("type %v is not used in records", d.DataType())
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

type growing []byte

func (g *growing) Write(p []byte) (int, error) {
	*g = append(*g, p...)
	return len(p), nil
}
