package schemas

import (
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
		size := 0
		for _, s := range inner {
			size += s.hi - s.lo
		}
		values := make([]byte, 0, size)
		for _, s := range inner {
			values = append(values, d.Buffers()[2].Bytes()[s.lo:s.hi]...)
		}
		buffers[1], buffers[2] = memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(starts)), memory.NewBufferBytes(values)
	case *arrow.ListType:
		inner, starts := ranges(d, spans, n)
		buffers[1] = memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(starts))
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
	default: // of other programs' files, such as columns that are null throughout
		return cutAndJoined(d, spans)
	}
	return array.NewData(d.DataType(), n, buffers, children, nulls, 0), nil
}

// cutAndJoined is gather for whatever type Arrow knows.
func cutAndJoined(d arrow.ArrayData, spans []span) (arrow.ArrayData, error) {
	whole := array.MakeFromData(d)
	parts := make([]arrow.Array, len(spans))
	for k, s := range spans {
		parts[k] = array.NewSlice(whole, int64(s.lo), int64(s.hi))
	}
	if len(parts) == 0 {
		parts = append(parts, array.NewSlice(whole, 0, 0))
	}
	out, err := array.Concatenate(parts, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	return out.Data(), nil
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
