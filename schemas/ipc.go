package schemas

import (
	bin "encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// WriteTo writes the record as an Arrow IPC stream of one record batch, uncompressed. Equal records give equal bytes,
// whatever larger records they were cut from.
func (r Record) WriteTo(w io.Writer) (int64, error) {
	rec := r.Canonical().rec
	if rec == nil {
		rec = array.NewRecord(arrow.NewSchema(nil, nil), nil, 0)
	}
	count := &counter{w: w}
	iw := ipc.NewWriter(count, ipc.WithSchema(rec.Schema()))
	if err := iw.Write(rec); err != nil {
		return count.n, fmt.Errorf("write Arrow stream: %w", err)
	}
	if err := iw.Close(); err != nil {
		return count.n, fmt.Errorf("write Arrow stream: %w", err)
	}
	return count.n, nil
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
	defer func() {
		// Arrow's decoder panics on flatbuffers whose offsets lead nowhere.
		if p := recover(); p != nil {
			err = fmt.Errorf("corrupt Arrow stream: %v", p)
		}
	}()
	msgs := &messages{data: data}
	in, err := ipc.NewReaderFromMessageReader(msgs, ipc.WithAllocator(&budget{left: 4*len(data) + 1<<16}))
	if err != nil {
		return fmt.Errorf("corrupt Arrow stream: %w", err)
	}
	if in.Schema() == nil {
		return fmt.Errorf("corrupt Arrow stream: %w", in.Err())
	}
	rec, err := in.Read()
	if err == io.EOF {
		return errors.New("corrupt Arrow stream: no record batch after the schema")
	}
	if err != nil {
		return fmt.Errorf("corrupt Arrow stream: %w", err)
	}
	rec.Retain() // the reader releases it at the next Read
	if _, err := in.Read(); err != io.EOF {
		return errors.New("corrupt Arrow stream: more than one record batch, or bytes after it")
	}
	if len(msgs.data) > 0 || !msgs.ended {
		return errors.New("corrupt Arrow stream: it does not end where it says")
	}
	out, err := FromArrow(rec)
	if err != nil {
		return fmt.Errorf("corrupt Arrow stream: %w", err)
	}
	*r = out
	return nil
}

// messages cuts an Arrow stream in memory into messages without copying, checking each length before it is believed.
type messages struct {
	data  []byte
	ended bool
}

func (m *messages) Retain()  {}
func (m *messages) Release() {}

func (m *messages) Message() (*ipc.Message, error) {
	if m.ended {
		return nil, io.EOF
	}
	if len(m.data) < 8 {
		return nil, errors.New("truncated")
	}
	if bin.LittleEndian.Uint32(m.data) != 0xFFFFFFFF {
		return nil, errors.New("not an Arrow stream")
	}
	n := bin.LittleEndian.Uint32(m.data[4:])
	m.data = m.data[8:]
	if n == 0 {
		m.ended = true
		return nil, io.EOF
	}
	if uint64(n) > uint64(len(m.data)) {
		return nil, fmt.Errorf("truncated: message of %d bytes, %d are left", n, len(m.data))
	}
	meta := memory.NewBufferBytes(m.data[:n:n])
	m.data = m.data[n:]
	if err := checkSchema(meta.Bytes()); err != nil {
		return nil, err
	}
	size := ipc.NewMessage(meta, memory.NewBufferBytes(nil)).BodyLen()
	if size < 0 || size > int64(len(m.data)) {
		return nil, fmt.Errorf("truncated: message body of %d bytes, %d are left", size, len(m.data))
	}
	body := memory.NewBufferBytes(m.data[:size:size])
	m.data = m.data[size:]
	return ipc.NewMessage(meta, body), nil
}

// budget is Go's allocator with an upper limit on all it hands out: a corrupt length must not take the machine's memory.
type budget struct {
	memory.GoAllocator
	left int
}

func (b *budget) Allocate(n int) []byte {
	b.take(n)
	return b.GoAllocator.Allocate(n)
}

func (b *budget) Reallocate(n int, old []byte) []byte {
	b.take(n - len(old))
	return b.GoAllocator.Reallocate(n, old)
}

func (b *budget) take(n int) {
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
