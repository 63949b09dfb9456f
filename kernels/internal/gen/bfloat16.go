package main

import (
	"fmt"
	"log"
	"regexp"
	"strconv"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// roundings writes the conversions to bfloat16.
func roundings(l *level) {
	l.text("round", "(x []float32)")
	Doc("round" + l.name + " is Round.")
	n, p := slices("x")
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[0], u, m)
		l.put(l.round(v), p[0], u, m)
	})
	end()
	roundPairs(l)
	interleave(l)
}

// round returns the lanes of v rounded to bfloat16, the lower halves zero; it destroys v.
func (l *level) round(v reg.VecVirtual) reg.VecVirtual {
	t, q := l.vec(), l.vec()
	VPSRLD(U8(16), v, t)
	if l.wide() {
		VPANDD_BCST(constant("one32", 1), t, t)
		VPADDD_BCST(constant("half", 0x7fff), t, t)
		VPADDD(v, t, t)
		nan, zero := K(), K()
		VCMPPS(U8(3), v, v, nan) // not ordered
		VPORD_BCST(constant("quiet", 0x400000), v, nan, t)
		VPANDD_BCST(constant("upper", 0xffff0000), t, t)
		VPTESTNMD_BCST(constant("exponent", 0x7f800000), v, zero)
		VPANDD_BCST(constant("sign", 0x80000000), v, zero, t)
		return t
	}
	VPAND(constant("one32", 1), t, t)
	VPADDD(constant("half", 0x7fff), t, t)
	VPADDD(v, t, t)
	nan := l.vec()
	VCMPPS(U8(3), v, v, nan)
	VPOR(constant("quiet", 0x400000), v, q)
	VBLENDVPS(nan, q, t, t)
	VPAND(constant("upper", 0xffff0000), t, t)
	zero := l.vec()
	VPXOR(zero, zero, zero)
	VPAND(constant("exponent", 0x7f800000), v, q)
	VPCMPEQD(zero, q, q)
	VPAND(constant("sign", 0x80000000), v, v)
	VBLENDVPS(q, v, t, t)
	return t
}

// roundPairs rounds 16·blocks numbers to pairs of neighbours.
func roundPairs(l *level) {
	l.text("roundPairs", "(dst *float32, src *float32, blocks int)")
	Doc("roundPairs" + l.name + " is RoundPairs for a multiple of 16 numbers.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	blocks := Load(Param("blocks"), GP64())
	Label("loop")
	from := src.(reg.GPVirtual)
	if l.wide() {
		VPMOVQD(l.pairNeighbours(l.at(from, 0)), Mem{Base: dst})
	} else {
		low, high := l.pairNeighbours(l.at(from, 0)), l.pairNeighbours(l.at(from, 1))
		// Halves of a register are shuffled apart from each other: quarters 0, 2, 1, 3 of the words come out.
		VSHUFPS(U8(0x88), high, low, low)
		VPERMQ(U8(0xd8), low, low)
		VMOVUPS(low, Mem{Base: dst})
	}
	ADDQ(U32(64), src)
	ADDQ(U32(32), dst)
	DECQ(blocks)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// pairNeighbours loads numbers and makes pairs in the lower halves of lanes of 64 bits.
func (l *level) pairNeighbours(from Mem) reg.VecVirtual {
	v, t := l.vec(), l.vec()
	VMOVUPS(from, v)
	v = l.round(v)
	// The number of the lower half stays up, that of the upper half comes down beside it.
	VPSRLQ(U8(48), v, t)
	if l.wide() {
		VPORD(t, v, v)
	} else {
		VPOR(t, v, v)
	}
	return v
}

// interleave rounds rows of n numbers, one register at most, from src, ld bytes apart, and makes a row of pairs of each two.
func interleave(l *level) {
	l.text("interleave", "(dst *float32, stride int, src *float32, ld int, pairs int, n int)")
	Doc("interleave" + l.name + " is Interleave for an even number of rows; stride and ld are in bytes.")
	dst := Load(Param("dst"), GP64())
	stride := Load(Param("stride"), GP64())
	src := Load(Param("src"), GP64())
	ld := Load(Param("ld"), GP64())
	count := Load(Param("pairs"), GP64())
	m := l.lanes(Load(Param("n"), GP64()).(reg.GPVirtual), 1)[0]
	Label("loop")
	even, odd := l.vec(), l.vec()
	l.loadMasked(Mem{Base: src}, m, even)
	l.loadMasked(Mem{Base: src, Index: ld, Scale: 1}, m, odd)
	even, odd = l.round(even), l.round(odd)
	VPSRLD(U8(16), odd, odd)
	if l.wide() {
		VPORD(odd, even, even)
	} else {
		VPOR(odd, even, even)
	}
	VMOVUPS(even, Mem{Base: dst})
	LEAQ(Mem{Base: src, Index: ld, Scale: 2}, src)
	ADDQ(stride, dst)
	DECQ(count)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

var (
	routine     = regexp.MustCompile(`(?m)^TEXT ·\w*` + dotsName + `\w*\(SB\)(?s:.*?)^\tRET`)
	multiplyAdd = regexp.MustCompile(`(?m)^\tVFMADD231PS\s+Z(\d+), Z(\d+), Z(\d+)$`)
)

// encodeDots writes the multiply-adds of the tiles of pairs as what they stand for, VDPBF16PS, in bytes.
func encodeDots(text []byte) []byte {
	return routine.ReplaceAllFunc(text, func(text []byte) []byte {
		return multiplyAdd.ReplaceAllFunc(text, func(line []byte) []byte {
			found := multiplyAdd.FindSubmatch(line)
			number := func(i int) byte {
				n, err := strconv.Atoi(string(found[i]))
				if err != nil || n > 31 {
					log.Fatalf("no register: %s", line)
				}
				return byte(n)
			}
			x, y, z := number(1), number(2), number(3)
			bit := func(n byte, at uint) byte { return ^n >> at & 1 }
			// EVEX.512.F3.0F38.W0 52 /r with z in reg, y in vvvv and x in r/m.
			code := []byte{0x62,
				bit(z, 3)<<7 | bit(x, 4)<<6 | bit(x, 3)<<5 | bit(z, 4)<<4 | 2,
				(^y&15)<<3 | 4 | 2,
				2<<5 | bit(y, 4)<<3,
				0x52, 3<<6 | z&7<<3 | x&7}
			out := fmt.Sprintf("\t// VDPBF16PS Z%d, Z%d, Z%d\n\t", x, y, z)
			for i, b := range code {
				if i > 0 {
					out += "; "
				}
				out += fmt.Sprintf("BYTE $0x%02x", b)
			}
			return []byte(out)
		})
	})
}
