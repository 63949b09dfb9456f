package schemas

import (
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// span are rows from lo up to hi.
type span struct{ lo, hi int }

// gather copies rows of an array, span after span. Each kind of column is copied as a whole; to cut a record into its rows and put these
// together again takes longer by the number of columns.
func gather(d arrow.ArrayData, spans []span) (arrow.ArrayData, error) {
	n := 0
	for _, s := range spans {
		n += s.hi - s.lo
	}
	buffers := make([]*memory.Buffer, len(d.Buffers()))
	nulls := 0
	if valid := d.Buffers()[0]; valid != nil && d.NullN() != 0 {
		bits := make([]byte, bitutil.BytesForBits(int64(n)))
		copyBits(bits, valid.Bytes(), d.Offset(), spans)
		if nulls = n - bitutil.CountSetBits(bits, 0, n); nulls > 0 {
			buffers[0] = memory.NewBufferBytes(bits)
		}
	}
	var children []arrow.ArrayData
	switch t := d.DataType().(type) {
	case *arrow.BooleanType:
		bits := make([]byte, bitutil.BytesForBits(int64(n)))
		if b := d.Buffers()[1]; b != nil {
			copyBits(bits, b.Bytes(), d.Offset(), spans)
		}
		buffers[1] = memory.NewBufferBytes(bits)
	case *arrow.StringType, *arrow.BinaryType:
		inner, starts := ranges(d, spans, n)
		buffers[1], buffers[2] = buffer(starts), memory.NewBufferBytes(copied(d.Buffers()[2], inner))
	case *arrow.ListType:
		inner, starts := ranges(d, spans, n)
		buffers[1] = buffer(starts)
		child, err := gather(d.Children()[0], inner)
		if err != nil {
			return nil, err
		}
		children = []arrow.ArrayData{child}
	case arrow.FixedWidthDataType:
		width := t.BitWidth() / 8
		values := make([]byte, 0, n*width)
		if b := d.Buffers()[1]; b != nil {
			for _, s := range spans {
				values = append(values, b.Bytes()[(d.Offset()+s.lo)*width:(d.Offset()+s.hi)*width]...)
			}
		}
		buffers[1] = memory.NewBufferBytes(values)
	default:
		return nil, fmt.Errorf("type %v is not used in records", t)
	}
	return array.NewData(d.DataType(), n, buffers, children, nulls, 0), nil
}

// copied are the bytes of the spans, side by side.
func copied(b *memory.Buffer, spans []span) []byte {
	size := 0
	for _, s := range spans {
		size += s.hi - s.lo
	}
	out := make([]byte, 0, size)
	for _, s := range spans {
		out = append(out, b.Bytes()[s.lo:s.hi]...)
	}
	return out
}

// ranges are the values of the spans of a column of texts or lists, and the offsets of the rows among them.
func ranges(d arrow.ArrayData, spans []span, n int) (inner []span, starts []int32) {
	starts = make([]int32, 1, n+1)
	if d.Buffers()[1] == nil || d.Buffers()[1].Len() == 0 {
		return nil, append(starts, make([]int32, n)...)
	}
	offsets := arrow.Int32Traits.CastFromBytes(d.Buffers()[1].Bytes())[d.Offset():]
	at := int32(0)
	for _, s := range spans {
		base := offsets[s.lo]
		for i := s.lo; i < s.hi; i++ {
			starts = append(starts, at+offsets[i+1]-base)
		}
		if at = starts[len(starts)-1]; offsets[s.hi] > base {
			inner = append(inner, span{int(base), int(offsets[s.hi])})
		}
	}
	return inner, starts
}

func copyBits(into, from []byte, offset int, spans []span) {
	at := 0
	for _, s := range spans {
		bitutil.CopyBitmap(from, offset+s.lo, s.hi-s.lo, into, at)
		at += s.hi - s.lo
	}
}
