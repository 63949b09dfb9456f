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
// registers of columns. Strides are in bytes; tail is the number of columns in the last register; load starts from c; flush makes
// denormal sums zero.
//
// A tile fetches meanwhile what is needed next: the rows of c from soonC on, as many as its own, into the first-level cache; and into
// the second-level cache runs of memory from soon on, ld bytes apart, each as long as run turns of the main loop need.
func tiles(l *level) {
	for rows := 1; rows <= l.mr; rows++ {
		for vectors := 1; vectors <= 2; vectors++ {
			tile(l, rows, vectors, numbers, rowsOfA)
			tile(l, rows, vectors, numbers, columnsOfA)
			tile(l, rows, vectors, pairs, rowsOfA)
			if l.wide() {
				tile(l, rows, vectors, dots, rowsOfA)
				tile(l, rows, vectors, dots, columnsOfA)
			}
		}
	}
}

// element is what the operands of a tile hold.
type element struct{ name, doc string }

// A pair is two numbers in bfloat16 in the bits of one: that of an even step of k in the upper half, that of the step after in the lower.
var (
	numbers = element{"", ""}
	pairs   = element{"Pairs", " in pairs of bfloat16"}
	// dots multiplies pairs with pairs: k counts them.
	dots = element{dotsName, " in pairs of bfloat16, as a is,"}
)

// dotsName marks the routines whose VFMADD231PS stand for VDPBF16PS, which the assembler does not know: see encodeDots.
const dotsName = "Dots"

// linesPerTurn is how many cache lines of 64 bytes a turn of the main loop fetches: what it reads of b in a low tile, where that may be
// all there is to do, and half of it in a high one. Package asm has the same.
func linesPerTurn(rows, mr, width int, e element) int {
	lines := unroll * width / 64
	if e == pairs {
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

// tile writes one tile.
func tile(l *level, rows, vectors int, e element, form formOfA) {
	name := fmt.Sprintf("tile%dx%d%s%s", rows, vectors, form.name, e.name)
	l.text(name, "(k int, a *float32, lda int, b *float32, brs int, c *float32, ldc int, tail int, load, flush bool, "+
		"soonC *float32, soon *float32, ld, run, runs int)")
	Doc(fmt.Sprintf("%s%s is Tile%s for %d rows and %d registers of columns of b%s; %s.", name, l.name, e.name, rows, vectors, e.doc,
		form.doc))

	// Denormal sums become zero: dots make them zero by themselves.
	var restore func()
	flushes := func() reg.Register { return Load(Param("flush"), GP8()) }
	if e != dots {
		flush := flushes()
		TESTB(flush, flush)
		JEQ(LabelRef("controlled"))
		restore = flushDenormals()
		Label("controlled")
	}

	b := Load(Param("b"), GP64())
	brs := Load(Param("brs"), GP64())
	a := form.operand(rows)

	acc := make([][]reg.VecVirtual, rows)
	for i := range acc {
		acc[i] = l.vecs(vectors)
	}

	// The rows of c, and what is done to them: f gets the registers of a row and their places, and the mask of the last.
	eachC := func(f func(v []reg.VecVirtual, at []Mem, last mask)) {
		last := l.lanes(Load(Param("tail"), GP64()).(reg.GPVirtual), 1)[0]
		c := Load(Param("c"), GP64())
		ldc := Load(Param("ldc"), GP64())
		at := make([]Mem, vectors)
		for j := range at {
			at[j] = Mem{Base: c, Disp: j * l.bytes()}
		}
		for i := range acc {
			f(acc[i], at, last)
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
	eachC(func(v []reg.VecVirtual, at []Mem, last mask) {
		for j := range v[:vectors-1] {
			VMOVUPS(at[j], v[j])
		}
		l.loadMasked(at[vectors-1], last, v[vectors-1])
	})
	Label("begin")
	var upper reg.VecVirtual
	if e == pairs {
		upper = l.upperHalves()
	}

	// step multiplies element u of the rows of a with the row of b at bAt: of pairs the upper halves, or the lower.
	step := func(u int, bAt Mem, lower bool) {
		bv := l.vecs(vectors)
		for j, v := range bv {
			at := bAt
			at.Disp = j * l.bytes()
			switch {
			case e != pairs:
				VMOVUPS(at, v)
			case lower:
				l.lowerHalves(at, v)
			default:
				l.and(at, upper, v)
			}
		}
		for i := range acc {
			if vectors == 1 && l.wide() && e != dots {
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
	perRow := 1 // steps in a row of b
	if e == pairs {
		perRow = 2
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
	lines := linesPerTurn(rows, l.mr, vectors*l.bytes(), e)
	for u := range unroll {
		row, lower := u/perRow, u%perRow == 1
		if row%2 == 0 {
			step(u, Mem{Base: b}, lower)
		} else {
			step(u, Mem{Base: b, Index: brs, Scale: 1}, lower)
			if (u+1)%perRow == 0 {
				LEAQ(Mem{Base: b, Index: brs, Scale: 2}, b)
			}
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
	for half := range perRow {
		step(0, Mem{Base: b}, half == 1)
		a.advance(1)
		if half == perRow-1 {
			ADDQ(brs, b)
		}
		DECQ(remainder)
		if half == perRow-1 {
			JNE(LabelRef("single"))
		} else {
			JE(LabelRef("store"))
		}
	}

	Label("store")
	eachC(func(v []reg.VecVirtual, at []Mem, last mask) {
		for j := range v[:vectors-1] {
			VMOVUPS(v[j], at[j])
		}
		l.storeMasked(v[vectors-1], last, at[vectors-1])
	})
	VZEROUPPER()
	if e != dots {
		flush := flushes()
		TESTB(flush, flush)
		JEQ(LabelRef("restored"))
		restore()
		Label("restored")
	}
	RET()
}

// operandA is how a tile addresses a: the element of row i, u steps after the present ones.
type operandA struct {
	at      func(i, u int) Mem
	stepped func(u int)     // comes after step u of the main loop
	advance func(steps int) // goes on by one step or two
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
		advance: advance,
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
		advance: func(steps int) {
			if steps == 2 {
				LEAQ(Mem{Base: a, Index: lda, Scale: 2}, a)
				return
			}
			ADDQ(lda, a)
		},
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

// widen writes rows of 32 pairs as twice as many rows of numbers.
func widen(l *level) {
	l.text("widen", "(dst *float32, src *float32, rows int)")
	Doc("widen" + l.name + " is Widen for a number of rows of pairs.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	left := Load(Param("rows"), GP64())
	upper := l.upperHalves()
	Label("loop")
	for j := range 32 / l.w {
		at := Mem{Base: src, Disp: j * l.bytes()}
		v := l.vecs(2)
		l.and(at, upper, v[0])
		l.lowerHalves(at, v[1])
		VMOVUPS(v[0], Mem{Base: dst, Disp: j * l.bytes()})
		VMOVUPS(v[1], Mem{Base: dst, Disp: 128 + j*l.bytes()})
	}
	ADDQ(U32(128), src)
	ADDQ(U32(256), dst)
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
