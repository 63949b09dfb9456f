package schemas

import (
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// canonical returns the same rows in the one form they are written in: offsets from 0, buffers as long as the rows need,
// no bits set beyond the last row, zeros where a number is null and nothing where a text or a list is, no validity where nothing is
// null. Values are not copied, unless such a null has some: Arrow allows it, and Parquet's values would shift by them.
// Arrow's writer leaves the neighbours' bits of a slice in place, so equal rows would not give equal bytes.
func canonical(d arrow.ArrayData) arrow.ArrayData {
	n, lo, bufs := d.Len(), d.Offset(), d.Buffers()
	nulls := 0
	var mask *memory.Buffer
	if d.NullN() != 0 && bufs[0] != nil {
		mask = bits(bufs[0], lo, n)
		nulls = n - bitutil.CountSetBits(mask.Bytes(), 0, n)
		if nulls == 0 {
			mask = nil
		}
	}
	switch t := d.DataType().(type) {
	case *arrow.StringType, *arrow.BinaryType:
		if d, ok := emptied(d, mask); ok {
			return canonical(d)
		}
		offs, first, last := rebased(d)
		return array.NewData(t, n, []*memory.Buffer{mask, buffer(offs), part(bufs[2], first, last)}, nil, nulls, 0)
	case *arrow.ListType:
		if d, ok := emptied(d, mask); ok {
			return canonical(d)
		}
		offs, first, last := rebased(d)
		child := canonical(array.NewSliceData(d.Children()[0], int64(first), int64(last)))
		return array.NewData(t, n, []*memory.Buffer{mask, buffer(offs)}, []arrow.ArrayData{child}, nulls, 0)
	case *arrow.BooleanType:
		return array.NewData(t, n, []*memory.Buffer{mask, bits(bufs[1], lo, n)}, nil, nulls, 0)
	case arrow.FixedWidthDataType:
		w := t.BitWidth() / 8
		values := part(bufs[1], lo*w, (lo+n)*w)
		if nulls > 0 {
			raw := slices.Clone(values.Bytes())
			for i := range n {
				if !bitutil.BitIsSet(mask.Bytes(), i) {
					clear(raw[i*w : (i+1)*w])
				}
			}
			values = memory.NewBufferBytes(raw)
		}
		return array.NewData(t, n, []*memory.Buffer{mask, values}, nil, nulls, 0)
	}
	return d
}

// emptied is a column of texts or lists of which no null has values; false where none has.
func emptied(d arrow.ArrayData, mask *memory.Buffer) (arrow.ArrayData, bool) {
	if mask == nil {
		return d, false
	}
	offs := arrow.Int32Traits.CastFromBytes(d.Buffers()[1].Bytes())[d.Offset() : d.Offset()+d.Len()+1]
	var kept []span
	starts, full := make([]int32, 1, len(offs)), false
	for i := range d.Len() {
		n := offs[i+1] - offs[i]
		if !bitutil.BitIsSet(mask.Bytes(), i) {
			full = full || n > 0
			n = 0
		}
		if n > 0 {
			kept = append(kept, span{int(offs[i]), int(offs[i+1])})
		}
		starts = append(starts, starts[i]+n)
	}
	if !full {
		return d, false
	}
	out := []*memory.Buffer{mask, buffer(starts)}
	if _, ok := d.DataType().(*arrow.ListType); ok {
		child, err := gather(d.Children()[0], kept)
		if err != nil {
			return d, false // of a type that records do not use
		}
		return array.NewData(d.DataType(), d.Len(), out, []arrow.ArrayData{child}, array.UnknownNullCount, 0), true
	}
	out = append(out, memory.NewBufferBytes(copied(d.Buffers()[2], kept)))
	return array.NewData(d.DataType(), d.Len(), out, nil, array.UnknownNullCount, 0), true
}

func bits(b *memory.Buffer, lo, n int) *memory.Buffer {
	out := make([]byte, (n+7)/8)
	if n > 0 {
		bitutil.CopyBitmap(b.Bytes(), lo, n, out, 0)
	}
	return memory.NewBufferBytes(out)
}

func part(b *memory.Buffer, lo, hi int) *memory.Buffer {
	if lo == hi {
		return memory.NewBufferBytes(nil)
	}
	return memory.NewBufferBytes(b.Bytes()[lo:hi:hi])
}

// rebased returns the offsets of the rows from 0, and the part of the values they cover.
func rebased(d arrow.ArrayData) (offs []int32, first, last int) {
	if d.Len() == 0 {
		return []int32{0}, 0, 0
	}
	offs = arrow.Int32Traits.CastFromBytes(d.Buffers()[1].Bytes())[d.Offset() : d.Offset()+d.Len()+1]
	first, last = int(offs[0]), int(offs[d.Len()])
	if first != 0 {
		offs = slices.Clone(offs)
		for i := range offs {
			offs[i] -= int32(first)
		}
	}
	return offs, first, last
}
