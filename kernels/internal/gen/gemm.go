package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// unroll is how many steps of k the main loop of a tile takes at a time.
const unroll = 4

// tiles writes the inner loops of the matrix product: tile<rows>x<vectors>, one for each height up to mr and for one or two
// registers of columns. Strides are in bytes; tail is the number of columns in the last register; load starts from c.
//
// A tile fetches meanwhile what is needed next: the rows of c from soonC on, as many as its own, into the first-level cache; and into
// the second-level cache runs of memory from soon on, ld bytes apart, each as long as run turns of the main loop need.
func tiles(l *level) {
	for rows := 1; rows <= l.mr; rows++ {
		for vectors := 1; vectors <= 2; vectors++ {
			tile(l, rows, vectors, "float32", rowsOfA)
			tile(l, rows, vectors, "float32", columnsOfA)
		}
		tile(l, rows, 2, "uint32", rowsOfA)
	}
}

// linesPerTurn is how many cache lines of 64 bytes a turn of the main loop fetches: what it reads of b in a low tile, where that may be
// all there is to do, and half of it in a high one. Package asm has the same.
func linesPerTurn(rows, mr, width int, half bool) int {
	lines := unroll * width / 64
	if half {
		lines /= 2
	}
	if 2*rows > mr {
		lines /= 2
	}
	if lines == 0 {
		return 1
	}
	return lines
}

// tile writes one tile; elements of b are single precision or, as uint32, pairs of bfloat16: the lower halves are 8 columns, the upper
// halves the 8 columns that follow. Of pairs tail is the number of columns in all registers.
func tile(l *level, rows, vectors int, element string, form formOfA) {
	name := fmt.Sprintf("tile%dx%d%s", rows, vectors, form.name)
	half := element == "uint32"
	if half {
		name += "Pairs"
	}
	l.text(name, "(k int, a *float32, lda int, b *"+element+", brs int, c *float32, ldc int, tail int, load bool, "+
		"soonC *float32, soon *"+element+", ld, run, runs int)")
	Doc(fmt.Sprintf("%s%s is Tile for %d rows and %d registers of columns of b in %s; %s.", name, l.name, rows, vectors, element, form.doc))

	b := Load(Param("b"), GP64())
	brs := Load(Param("brs"), GP64())
	a := form.operand(rows)

	acc := make([][]reg.VecVirtual, rows)
	for i := range acc {
		acc[i] = l.vecs(vectors)
	}

	// The rows of c, and what is done to them: f gets the registers of a row and their places, with a mask where one is needed.
	eachC := func(f func(v []reg.VecVirtual, at []Mem, m []*mask)) {
		masks := make([]*mask, vectors)
		tail := Load(Param("tail"), GP64()).(reg.GPVirtual)
		if half {
			for j, m := range l.lanes(tail, vectors) {
				masks[j] = &m
			}
		} else {
			masks[vectors-1] = &l.lanes(tail, 1)[0]
		}
		c := Load(Param("c"), GP64())
		ldc := Load(Param("ldc"), GP64())
		at := make([]Mem, vectors)
		for j := range at {
			at[j] = Mem{Base: c, Disp: j * l.bytes()}
		}
		for i := range acc {
			f(acc[i], at, masks)
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
	JMP(LabelRef("begin"))
	Label("fromC")
	eachC(func(v []reg.VecVirtual, at []Mem, masks []*mask) {
		to := v
		if half && l.wide() {
			to = l.vecs(2)
		}
		for j, m := range masks {
			if m != nil {
				l.loadMasked(at[j], *m, to[j])
			} else {
				VMOVUPS(at[j], to[j])
			}
		}
		if half && l.wide() {
			interleave(to, v)
		}
	})
	Label("begin")
	var upper reg.VecVirtual
	if half {
		upper = l.upperHalves()
	}

	// step does step u of the loop: the row of b at bAt.
	step := func(u int, bAt Mem) {
		bv := l.vecs(vectors)
		if half {
			l.halves(bAt, upper, bv)
		} else {
			for j, v := range bv {
				at := bAt
				at.Disp = j * l.bytes()
				VMOVUPS(at, v)
			}
		}
		for i := range acc {
			if vectors == 1 && l.wide() {
				VFMADD231PS_BCST(a.at(i, u), bv[0], acc[i][0])
				continue
			}
			x := l.vec()
			VBROADCASTSS(a.at(i, u), x)
			for j := range bv {
				VFMADD231PS(x, bv[j], acc[i][j])
			}
		}
	}

	// Turns of the main loop: count until the present run of memory is fetched, left after it.
	left := Load(Param("k"), GP64())
	SHRQ(U8(2), left)
	JE(LabelRef("rest"))
	soonC := Load(Param("soonC"), GP64())
	stepC := Load(Param("ldc"), GP64())
	rowsC := GP64()
	MOVQ(U32(uint32(rows)), rowsC)
	none := GP64()
	XORQ(none, none)
	soon := Load(Param("soon"), GP64())
	arg := func(name string) Mem {
		a, err := Param(name).Resolve()
		if err != nil {
			panic(err)
		}
		return a.Addr
	}

	Label("phase")
	count := Load(Param("run"), GP64())
	CMPQ(left, count)
	CMOVQLT(left, count)
	SUBQ(count, left)

	Label("loop")
	lines := linesPerTurn(rows, l.mr, vectors*l.bytes(), half)
	for u := range unroll {
		if u%2 == 0 {
			step(u, Mem{Base: b})
		} else {
			step(u, Mem{Base: b, Index: brs, Scale: 1})
			LEAQ(Mem{Base: b, Index: brs, Scale: 2}, b)
		}
		a.stepped(u)
		if u == 0 {
			for i := range lines {
				PREFETCHT1(Mem{Base: soon, Disp: 64 * i})
			}
			ADDQ(U32(uint32(64*lines)), soon)
		}
		if u == 2 {
			for at := 0; at < vectors*l.bytes(); at += 64 {
				PREFETCHT0(Mem{Base: soonC, Disp: at})
			}
			ADDQ(stepC, soonC)
			DECQ(rowsC)
			CMOVQEQ(none, stepC)
		}
	}
	DECQ(count)
	JNE(LabelRef("loop"))
	TESTQ(left, left)
	JE(LabelRef("rest"))
	DECQ(arg("runs"))
	JE(LabelRef("fetched"))
	// The next run.
	Load(Param("soon"), soon)
	ADDQ(arg("ld"), soon)
	MOVQ(soon, arg("soon"))
	JMP(LabelRef("phase"))
	Label("fetched")
	// From here on soon follows b, which is in the cache already.
	MOVQ(b, soon)
	MOVQ(left, arg("run"))
	JMP(LabelRef("phase"))

	Label("rest")
	remainder := Load(Param("k"), GP64())
	ANDQ(U32(unroll-1), remainder)
	JE(LabelRef("store"))
	Label("single")
	step(0, Mem{Base: b})
	ADDQ(brs, b)
	a.advance()
	DECQ(remainder)
	JNE(LabelRef("single"))

	Label("store")
	eachC(func(v []reg.VecVirtual, at []Mem, masks []*mask) {
		from := v
		if half && l.wide() {
			from = l.vecs(2)
			interleave(v, from)
		}
		for j, m := range masks {
			if m != nil {
				l.storeMasked(from[j], *m, at[j])
			} else {
				VMOVUPS(from[j], at[j])
			}
		}
	})
	VZEROUPPER()
	RET()
}

// interleave swaps the second and the third of four groups of 8 numbers in two registers: pairs of bfloat16 hold columns 0 to 7 and
// 16 to 23 in their lower halves. It is its own inverse.
func interleave(from, to []reg.VecVirtual) {
	VSHUFF32X4(U8(0x44), from[1], from[0], to[0])
	VSHUFF32X4(U8(0xee), from[1], from[0], to[1])
}

// operandA is how a tile addresses a: the element of row i, u steps after the present ones.
type operandA struct {
	at      func(i, u int) Mem
	stepped func(u int) // comes after step u of the main loop
	advance func()      // goes on by one step
}

// formOfA is a direction in which a is contiguous.
type formOfA struct {
	name, doc string
	operand   func(rows int) operandA
}

// rowsOfA: the steps of k are next to one another, rows of a lda bytes apart.
var rowsOfA = formOfA{"", "rows of a are lda bytes apart", func(rows int) operandA {
	// A register for every five rows; the rows between are 1, 2, 3 and 4 strides on.
	bases := []reg.Register{Load(Param("a"), GP64())}
	lda := Load(Param("lda"), GP64())
	for i := 5; i < rows; i += 5 {
		base := GP64()
		LEAQ(Mem{Base: bases[len(bases)-1], Index: lda, Scale: 4}, base)
		ADDQ(lda, base)
		bases = append(bases, base)
	}
	lda3 := GP64()
	LEAQ(Mem{Base: lda, Index: lda, Scale: 2}, lda3)
	advance := func(steps int) {
		for _, base := range bases {
			ADDQ(U8(uint8(4*steps)), base)
		}
	}
	return operandA{
		at: func(i, u int) Mem {
			m := Mem{Base: bases[i/5], Disp: 4 * u}
			switch i % 5 {
			case 1, 2, 4:
				m.Index, m.Scale = lda, uint8(i%5)
			case 3:
				m.Index, m.Scale = lda3, 1
			}
			return m
		},
		stepped: func(u int) {
			if u == unroll-1 {
				advance(unroll)
			}
		},
		advance: func() { advance(1) },
	}
}}

// columnsOfA: the rows of a are next to one another, steps of k lda bytes apart.
var columnsOfA = formOfA{"T", "steps of a are lda bytes apart", func(rows int) operandA {
	a := Load(Param("a"), GP64())
	lda := Load(Param("lda"), GP64())
	return operandA{
		at: func(i, u int) Mem {
			if u%2 == 0 {
				return Mem{Base: a, Disp: 4 * i}
			}
			return Mem{Base: a, Index: lda, Scale: 1, Disp: 4 * i}
		},
		stepped: func(u int) {
			if u%2 == 1 {
				LEAQ(Mem{Base: a, Index: lda, Scale: 2}, a)
			}
		},
		advance: func() { ADDQ(lda, a) },
	}
}}

// packs writes the copies that turn rows of b into panels.
func packs(l *level) {
	packT(l)
	packN(l)
	packColumns(l)
	widen(l)
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

// widen writes the numbers of whole registers of pairs of bfloat16 next to one another.
func widen(l *level) {
	l.text("widen", "(dst *float32, src *uint32, registers int)")
	Doc("widen" + l.name + " is Widen for a number of registers of pairs.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	left := Load(Param("registers"), GP64())
	upper := l.upperHalves()
	Label("loop")
	v := l.vecs(2)
	l.halves(Mem{Base: src}, upper, v)
	if l.wide() {
		natural := l.vecs(2)
		interleave(v, natural)
		v = natural
	}
	for j := range v {
		VMOVUPS(v[j], Mem{Base: dst, Disp: j * l.bytes()})
	}
	ADDQ(U32(l.bytes()), src)
	ADDQ(U32(2*l.bytes()), dst)
	DECQ(left)
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

// packColumns copies k rows of n columns, one register at most, from src, ld bytes apart, to dst, stride bytes apart, with zeros up to
// the register's width.
func packColumns(l *level) {
	l.text("packColumns", "(dst *float32, stride int, src *float32, ld int, k int, n int)")
	Doc("packColumns" + l.name + " is PackColumns.")
	dst := Load(Param("dst"), GP64())
	stride := Load(Param("stride"), GP64())
	src := Load(Param("src"), GP64())
	ld := Load(Param("ld"), GP64())
	k := Load(Param("k"), GP64())
	m := l.lanes(Load(Param("n"), GP64()).(reg.GPVirtual), 1)[0]
	Label("loop")
	v := l.vec()
	l.loadMasked(Mem{Base: src}, m, v)
	VMOVUPS(v, Mem{Base: dst})
	ADDQ(ld, src)
	ADDQ(stride, dst)
	DECQ(k)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
