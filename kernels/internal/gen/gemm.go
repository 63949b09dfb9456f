package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tiles writes the inner loops of the matrix product: tile<rows>x<vectors>, one for each height up to mr and for one or two
// registers of columns. Strides are in bytes; tail is the number of columns in the last register; load starts from c. Each
// step of k fetches one cache line into the second-level cache, from next on, step bytes apart.
func tiles(l *level) {
	for vectors := 1; vectors <= 2; vectors++ {
		for rows := 1; rows <= l.mr; rows++ {
			tile(l, rows, vectors, "float32")
			tile(l, rows, vectors, "uint16")
		}
	}
}

// tile writes one tile; elements of b are single precision or, as uint16, bfloat16.
func tile(l *level, rows, vectors int, element string) {
	name := fmt.Sprintf("tile%dx%d", rows, vectors)
	half := element == "uint16"
	if half {
		name += "BF16"
	}
	l.text(name,
		"(k int, a *float32, ars, acs int, b *"+element+", brs int, c *float32, ldc int, tail int, load bool, next *"+element+", step int)")
	Doc(fmt.Sprintf("%s%s is Tile for %d rows and %d registers of columns of b in %s.", name, l.name, rows, vectors, element))

	k := Load(Param("k"), GP64())
	b := Load(Param("b"), GP64())
	brs := Load(Param("brs"), GP64())

	next := Load(Param("next"), GP64())
	step := Load(Param("step"), GP64())

	// b is addressed from its end, so that stepping and counting are one addition; integer additions compete with the
	// multiply-adds for ports.
	left := GP64()
	MOVQ(brs, left)
	IMULQ(k, left)
	ADDQ(left, b)
	NEGQ(left)

	row, advance := rowsOfA(rows)

	acc := make([][]reg.VecVirtual, rows)
	for i := range acc {
		acc[i] = l.vecs(vectors)
	}

	// The rows of c, and what is done to them: f gets a register and its place, with a mask on the last one.
	eachC := func(f func(v reg.VecVirtual, at Mem, m *mask)) {
		tail := Load(Param("tail"), GP64()).(reg.GPVirtual)
		m := l.lanes(tail)
		c := Load(Param("c"), GP64())
		ldc := Load(Param("ldc"), GP64())
		for i := range acc {
			for j, v := range acc[i] {
				at := Mem{Base: c, Disp: j * l.bytes()}
				if j == vectors-1 {
					f(v, at, &m)
				} else {
					f(v, at, nil)
				}
			}
			if i < rows-1 {
				ADDQ(ldc, c)
			}
		}
	}

	load := Load(Param("load"), GP8())
	TESTB(load, load)
	JNE(LabelRef("fromC"))
	for i := range acc {
		for _, v := range acc[i] {
			l.zero(v)
		}
	}
	JMP(LabelRef("loop"))
	Label("fromC")
	eachC(func(v reg.VecVirtual, at Mem, m *mask) {
		if m != nil {
			l.loadMasked(at, *m, v)
		} else {
			VMOVUPS(at, v)
		}
	})

	Label("loop")
	bv := l.vecs(vectors)
	for j, v := range bv {
		if half {
			VPMOVZXWD(Mem{Base: b, Index: left, Scale: 1, Disp: j * l.bytes() / 2}, v)
			VPSLLD(U8(16), v, v)
		} else {
			VMOVUPS(Mem{Base: b, Index: left, Scale: 1, Disp: j * l.bytes()}, v)
		}
	}
	for i := range acc {
		if vectors == 1 && l.wide() {
			VFMADD231PS_BCST(row(i), bv[0], acc[i][0])
			continue
		}
		x := l.vec()
		VBROADCASTSS(row(i), x)
		for j := range bv {
			VFMADD231PS(x, bv[j], acc[i][j])
		}
	}
	PREFETCHT1(Mem{Base: next})
	ADDQ(step, next)
	advance()
	ADDQ(brs, left)
	JNE(LabelRef("loop"))

	eachC(func(v reg.VecVirtual, at Mem, m *mask) {
		if m != nil {
			l.storeMasked(v, *m, at)
		} else {
			VMOVUPS(v, at)
		}
	})
	VZEROUPPER()
	RET()
}

// rowsOfA returns where the present element of each row of a is, and what steps to the next.
func rowsOfA(rows int) (row func(i int) Mem, advance func()) {
	ars := Load(Param("ars"), GP64())
	acs := Load(Param("acs"), GP64())
	bases := []reg.Register{Load(Param("a"), GP64())}
	if rows <= 6 {
		// A register for each row, and one offset that steps.
		for range rows - 1 {
			base := GP64()
			LEAQ(Mem{Base: bases[len(bases)-1], Index: ars, Scale: 1}, base)
			bases = append(bases, base)
		}
		offset := GP64()
		XORQ(offset, offset)
		return func(i int) Mem { return Mem{Base: bases[i], Index: offset, Scale: 1} }, func() { ADDQ(acs, offset) }
	}
	// A register for every five rows, which steps; the rows between are 1, 2, 3 and 4 strides on.
	for i := 5; i < rows; i += 5 {
		base := GP64()
		LEAQ(Mem{Base: bases[len(bases)-1], Index: ars, Scale: 4}, base)
		ADDQ(ars, base)
		bases = append(bases, base)
	}
	ars3 := GP64()
	LEAQ(Mem{Base: ars, Index: ars, Scale: 2}, ars3)
	row = func(i int) Mem {
		base := bases[i/5]
		switch i % 5 {
		case 1, 2, 4:
			return Mem{Base: base, Index: ars, Scale: uint8(i % 5)}
		case 3:
			return Mem{Base: base, Index: ars3, Scale: 1}
		}
		return Mem{Base: base}
	}
	return row, func() {
		for _, base := range bases {
			ADDQ(acs, base)
		}
	}
}

// packs writes the copies that turn rows of b into panels.
func packs(l *level) {
	packT(l)
	packN(l)
}

// packT transposes w rows of src, ld bytes apart, 4·quads elements of each, to columns of dst, whose rows are stride bytes
// apart; the rows some way ahead of src, at ahead bytes from it, are fetched into the cache.
func packT(l *level) {
	l.text("packT", "(dst *float32, stride int, src *float32, ld int, quads int, ahead int)")
	Doc("packT" + l.name + " is PackT for one register of rows and a multiple of four columns.")
	dst := Load(Param("dst"), GP64())
	stride := Load(Param("stride"), GP64())
	src := Load(Param("src"), GP64())
	ld := Load(Param("ld"), GP64())
	quads := Load(Param("quads"), GP64())
	ahead := Load(Param("ahead"), GP64())
	ld3, stride3 := GP64(), GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	groups := []reg.Register{src}
	for g := 1; g < l.w/4; g++ {
		next := GP64()
		LEAQ(Mem{Base: groups[g-1], Index: ld, Scale: 4}, next)
		groups = append(groups, next)
	}
	fetch := GP64()
	row := func(g, i int) Mem {
		m := Mem{Base: groups[g]}
		switch i {
		case 1, 2:
			m.Index, m.Scale = ld, uint8(i)
		case 3:
			m.Index, m.Scale = ld3, 1
		}
		return m
	}

	Label("loop")
	// Lane g of register i holds row 4g+i, so that transposing 4×4 within lanes gives whole columns.
	v := l.vecs(4)
	for i, r := range v {
		if l.wide() {
			VMOVUPS(row(0, i), r.(reg.VecVirtual).AsX())
			VINSERTF32X4(U8(1), row(1, i), r, r)
			VINSERTF32X4(U8(2), row(2, i), r, r)
			VINSERTF32X4(U8(3), row(3, i), r, r)
		} else {
			VMOVUPS(row(0, i), r.AsX())
			VINSERTF128(U8(1), row(1, i), r, r)
		}
	}
	// One fetch a cache line: every fourth time round.
	TESTQ(U32(3), quads)
	JNE(LabelRef("fetched"))
	for g := range groups {
		LEAQ(Mem{Base: groups[g], Index: ahead, Scale: 1}, fetch)
		PREFETCHT1(Mem{Base: fetch})
		PREFETCHT1(Mem{Base: fetch, Index: ld, Scale: 1})
		PREFETCHT1(Mem{Base: fetch, Index: ld, Scale: 2})
		PREFETCHT1(Mem{Base: fetch, Index: ld3, Scale: 1})
	}
	Label("fetched")
	t := l.vecs(4)
	VUNPCKLPS(v[1], v[0], t[0])
	VUNPCKHPS(v[1], v[0], t[1])
	VUNPCKLPS(v[3], v[2], t[2])
	VUNPCKHPS(v[3], v[2], t[3])
	o := l.vecs(4)
	VUNPCKLPD(t[2], t[0], o[0])
	VUNPCKHPD(t[2], t[0], o[1])
	VUNPCKLPD(t[3], t[1], o[2])
	VUNPCKHPD(t[3], t[1], o[3])
	VMOVUPS(o[0], Mem{Base: dst})
	VMOVUPS(o[1], Mem{Base: dst, Index: stride, Scale: 1})
	VMOVUPS(o[2], Mem{Base: dst, Index: stride, Scale: 2})
	VMOVUPS(o[3], Mem{Base: dst, Index: stride3, Scale: 1})
	LEAQ(Mem{Base: dst, Index: stride, Scale: 4}, dst)
	for _, g := range groups {
		ADDQ(U8(16), g)
	}
	DECQ(quads)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// packN copies k rows of two registers from src, ld bytes apart, to dst.
func packN(l *level) {
	l.text("packN", "(dst *float32, src *float32, ld int, k int)")
	Doc("packN" + l.name + " is PackN for two registers of columns.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	ld := Load(Param("ld"), GP64())
	k := Load(Param("k"), GP64())
	Label("loop")
	v := l.vecs(2)
	for j := range v {
		VMOVUPS(Mem{Base: src, Disp: j * l.bytes()}, v[j])
	}
	for j := range v {
		VMOVUPS(v[j], Mem{Base: dst, Disp: j * l.bytes()})
	}
	ADDQ(ld, src)
	ADDQ(U32(2*l.bytes()), dst)
	DECQ(k)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
