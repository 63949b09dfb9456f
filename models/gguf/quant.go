package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/millrace/millrace/models/half"
)

// Type is how the elements of a tensor are stored, numbered as in the file.
type Type uint32

// The types that are read. The quantised ones hold blocks of 32 (the K types: 256) elements with common scales.
const (
	F32  Type = 0
	F16  Type = 1
	Q4_0 Type = 2
	Q4_1 Type = 3
	Q5_0 Type = 6
	Q5_1 Type = 7
	Q8_0 Type = 8
	Q4_K Type = 12
	Q5_K Type = 13
	Q6_K Type = 14
	BF16 Type = 30
)

var typeNames = map[Type]string{F32: "F32", F16: "F16", Q4_0: "Q4_0", Q4_1: "Q4_1", Q5_0: "Q5_0", Q5_1: "Q5_1", Q8_0: "Q8_0",
	Q4_K: "Q4_K", Q5_K: "Q5_K", Q6_K: "Q6_K", BF16: "BF16"}

func (t Type) String() string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return fmt.Sprintf("tensor type %d", uint32(t))
}

// layout is how a type is stored: elements and bytes of a block, and what turns one block into float32. Sums of products
// are rounded after the product on every platform: the conversions keep compilers from fusing them.
type layout struct {
	block, bytes int
	decode       func(dst []float32, b []byte)
}

var layouts = map[Type]layout{
	F32:  {1, 4, func(dst []float32, b []byte) { dst[0] = math.Float32frombits(binary.LittleEndian.Uint32(b)) }},
	F16:  {1, 2, func(dst []float32, b []byte) { dst[0] = f16(b) }},
	BF16: {1, 2, func(dst []float32, b []byte) { dst[0] = half.FromBFloat16(binary.LittleEndian.Uint16(b)) }},
	Q4_0: {32, 18, func(dst []float32, b []byte) {
		d := f16(b)
		for i, q := range b[2:18] {
			dst[i] = d * float32(int(q&15)-8)
			dst[i+16] = d * float32(int(q>>4)-8)
		}
	}},
	Q4_1: {32, 20, func(dst []float32, b []byte) {
		d, m := f16(b), f16(b[2:])
		for i, q := range b[4:20] {
			dst[i] = float32(d*float32(q&15)) + m
			dst[i+16] = float32(d*float32(q>>4)) + m
		}
	}},
	Q5_0: {32, 22, func(dst []float32, b []byte) {
		d, high := f16(b), binary.LittleEndian.Uint32(b[2:])
		for i, q := range b[6:22] {
			dst[i] = d * float32(int(q&15)+int(high>>i&1)*16-16)
			dst[i+16] = d * float32(int(q>>4)+int(high>>(i+16)&1)*16-16)
		}
	}},
	Q5_1: {32, 24, func(dst []float32, b []byte) {
		d, m, high := f16(b), f16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		for i, q := range b[8:24] {
			dst[i] = float32(d*float32(int(q&15)+int(high>>i&1)*16)) + m
			dst[i+16] = float32(d*float32(int(q>>4)+int(high>>(i+16)&1)*16)) + m
		}
	}},
	Q8_0: {32, 34, func(dst []float32, b []byte) {
		d := f16(b)
		for i, q := range b[2:34] {
			dst[i] = d * float32(int8(q))
		}
	}},
	Q4_K: {256, 144, func(dst []float32, b []byte) {
		decodeK(dst, b, func(group, i int) int { return int(b[16+group/2*32+i]>>(group%2*4)) & 15 })
	}},
	Q5_K: {256, 176, func(dst []float32, b []byte) {
		decodeK(dst, b, func(group, i int) int {
			return int(b[48+group/2*32+i]>>(group%2*4))&15 + int(b[16+i]>>group&1)*16
		})
	}},
	Q6_K: {256, 210, func(dst []float32, b []byte) {
		low, high, scales, d := b[:128], b[128:192], b[192:208], f16(b[208:])
		for i := range dst[:256] {
			part, at := i/128, i%128 // two halves of four groups of 32
			group, j := at/32, at%32
			q := int(low[part*64+group%2*32+j]>>(group/2*4))&15 | int(high[part*32+j]>>(group*2)&3)<<4
			dst[i] = float32(d*float32(int8(scales[i/16]))) * float32(q-32)
		}
	}},
}

func f16(b []byte) float32 { return half.FromFloat16(binary.LittleEndian.Uint16(b)) }

// decodeK decodes eight groups of 32 with 6-bit scales and minima of their own.
func decodeK(dst []float32, b []byte, q func(group, i int) int) {
	d, dMin := f16(b), f16(b[2:])
	s := b[4:16]
	for group := range 8 {
		scale, minimum := s[group%4]&63, s[group%4+4]&63
		if group >= 4 {
			scale = s[group+4]&15 | s[group-4]>>6<<4
			minimum = s[group+4]>>4 | s[group]>>6<<4
		}
		a, m := d*float32(scale), dMin*float32(minimum)
		for i := range 32 {
			dst[group*32+i] = float32(a*float32(q(group, i))) - m
		}
	}
}

// float32s decodes whole blocks.
func (t Tensor) float32s(dst []float32, data []byte) {
	l := layouts[t.Type]
	for i, at := 0, 0; at < len(data); i, at = i+l.block, at+l.bytes {
		l.decode(dst[i:i+l.block], data[at:at+l.bytes])
	}
}
