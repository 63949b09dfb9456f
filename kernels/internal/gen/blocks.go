package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// blockSteps is how many steps of k a tile unit adds up before they come to c.
const blockSteps = 32

// blockTiles writes the tiles whose sums are those of a tile unit: blocks<rows>x<vectors>, one for each height up to half of mr, since even
// and odd steps have sums of their own.
func blockTiles(l *level) {
	for rows := 1; rows <= l.mr/2; rows++ {
		for vectors := 1; vectors <= 2; vectors++ {
			blockTile(l, rows, vectors, numbers, rowsOfA)
			blockTile(l, rows, vectors, numbers, columnsOfA)
			blockTile(l, rows, vectors, pairs, rowsOfA)
		}
	}
}

// blockTile writes one of them.
func blockTile(l *level, rows, vectors int, e element, form formOfA) {
	name := fmt.Sprintf("blocks%dx%d%s%s", rows, vectors, form.name, e.name)
	l.text(name, "(k int, a *float32, lda int, b *float32, brs int, c *float32, ldc int, tail int)")
	Doc(fmt.Sprintf("%s%s is TileBlocks%s from c for %d rows and %d registers of columns of b%s; %s.", name, l.name, e.name, rows, vectors,
		e.doc, form.doc))
	restore := flushDenormals()

	b := Load(Param("b"), GP64())
	brs := Load(Param("brs"), GP64())
	a := form.operand(rows)
	var sums [2][][]reg.VecVirtual // of even and of odd steps
	for odd := range sums {
		sums[odd] = make([][]reg.VecVirtual, rows)
		for i := range sums[odd] {
			sums[odd][i] = l.vecs(vectors)
		}
	}
	var upper reg.VecVirtual
	if e == pairs {
		upper = l.upperHalves()
	}
	step := func(odd int) {
		bv := l.vecs(vectors)
		for j, v := range bv {
			at := Mem{Base: b, Disp: j * l.bytes()}
			switch {
			case e == pairs && odd == 1:
				l.lowerHalves(at, v)
			case e == pairs:
				l.and(at, upper, v)
			case odd == 1:
				at.Index, at.Scale = brs, 1
				fallthrough
			default:
				VMOVUPS(at, v)
			}
		}
		for i, sum := range sums[odd] {
			x := l.vec()
			VBROADCASTSS(a.at(i, odd), x)
			for j := range bv {
				VFMADD231PS(x, bv[j], sum[j])
			}
		}
	}

	left := Load(Param("k"), GP64())
	Label("block")
	for _, half := range sums {
		for _, sum := range half {
			for _, v := range sum {
				l.zero(v)
			}
		}
	}
	steps, count := GP64(), GP64()
	MOVQ(U32(blockSteps), steps)
	CMPQ(left, steps)
	CMOVQLT(left, steps)
	SUBQ(steps, left)
	MOVQ(steps, count)
	SHRQ(U8(1), count)
	JE(LabelRef("last"))
	Label("loop")
	step(0)
	step(1)
	a.advance(2)
	if e == pairs {
		ADDQ(brs, b)
	} else {
		LEAQ(Mem{Base: b, Index: brs, Scale: 2}, b)
	}
	DECQ(count)
	JNE(LabelRef("loop"))
	Label("last")
	ANDQ(U32(1), steps)
	JE(LabelRef("add"))
	step(0)

	Label("add")
	// Stores with a mask take long on some processors, so whole registers do without.
	add := func(last *mask) {
		c := Load(Param("c"), GP64())
		ldc := Load(Param("ldc"), GP64())
		for i := range rows {
			for j := range vectors {
				at := Mem{Base: c, Disp: j * l.bytes()}
				even, odd := sums[0][i][j], sums[1][i][j]
				VADDPS(odd, even, even)
				if last == nil || j < vectors-1 {
					VADDPS(at, even, even)
					VMOVUPS(even, at)
					continue
				}
				l.loadMasked(at, *last, odd)
				VADDPS(even, odd, odd)
				l.storeMasked(odd, *last, at)
			}
			if i < rows-1 {
				ADDQ(ldc, c)
			}
		}
	}
	tail := Load(Param("tail"), GP64())
	CMPQ(tail, U8(l.w))
	JNE(LabelRef("masked"))
	add(nil)
	TESTQ(left, left)
	JNE(LabelRef("block"))
	JMP(LabelRef("done"))
	Label("masked")
	add(&l.lanes(tail.(reg.GPVirtual), 1)[0])
	TESTQ(left, left)
	JNE(LabelRef("block"))
	Label("done")
	VZEROUPPER()
	restore()
	RET()
}

// flushDenormals makes denormal numbers and results zero from here on, until the function that it returns is called.
func flushDenormals() (restore func()) {
	control := AllocLocal(8)
	STMXCSR(control)
	word := GP32()
	MOVL(control, word)
	ORL(U32(0x8040), word)
	MOVL(word, control.Offset(4))
	LDMXCSR(control.Offset(4))
	return func() { LDMXCSR(control) }
}
