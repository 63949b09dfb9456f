package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// block is the number of elements a loop takes at a time, and the number of partial sums of a reduction.
const block = 32

// loop goes over n elements, a block at a time: body is called for each register u of a block, first without and then, for
// the elements left over, with a mask. Pointers advance by themselves. Left-over elements run every register of a block, so
// both levels do the same to each partial sum. It destroys n.
func (l *level) loop(n reg.GPVirtual, pointers []reg.GPVirtual, body func(u int, m *mask)) {
	units := block / l.w
	CMPQ(n, U8(block))
	JLT(LabelRef("rest"))
	Label("loop")
	for u := range units {
		body(u, nil)
	}
	for _, p := range pointers {
		ADDQ(U32(4*block), p)
	}
	SUBQ(U8(block), n)
	CMPQ(n, U8(block))
	JGE(LabelRef("loop"))
	Label("rest")
	TESTQ(n, n)
	JE(LabelRef("done"))
	zero, width := GP64(), GP64()
	XORQ(zero, zero)
	MOVQ(U32(uint32(l.w)), width)
	for u := range units {
		left := GP64()
		MOVQ(n, left)
		if u > 0 {
			SUBQ(U8(uint8(u*l.w)), left)
		}
		CMPQ(left, zero)
		CMOVQLT(zero, left)
		CMPQ(left, width)
		CMOVQGT(width, left)
		body(u, &l.lanes(left, 1)[0])
	}
	Label("done")
}

// at is element u·w of a block.
func (l *level) at(p reg.GPVirtual, u int) Mem { return Mem{Base: p, Disp: u * l.bytes()} }

// get loads register u of the block at p.
func (l *level) get(p reg.GPVirtual, u int, m *mask) reg.VecVirtual {
	v := l.vec()
	if m != nil {
		l.loadMasked(l.at(p, u), *m, v)
	} else {
		VMOVUPS(l.at(p, u), v)
	}
	return v
}

// put stores register u of the block at p.
func (l *level) put(v reg.VecVirtual, p reg.GPVirtual, u int, m *mask) {
	if m != nil {
		l.storeMasked(v, *m, l.at(p, u))
	} else {
		VMOVUPS(v, l.at(p, u))
	}
}

// keep zeroes the lanes outside the mask.
func (l *level) keep(v reg.VecVirtual, m *mask) {
	switch {
	case m == nil:
	case l.wide():
		VMOVAPS_Z(v, m.k, v)
	default:
		VANDPS(m.v, v, v)
	}
}

// slices loads the base of each named slice, and the length of the first.
func slices(names ...string) (n reg.GPVirtual, pointers []reg.GPVirtual) {
	for i, name := range names {
		if i == 0 {
			n = Load(Param(name).Len(), GP64()).(reg.GPVirtual)
		}
		pointers = append(pointers, Load(Param(name).Base(), GP64()).(reg.GPVirtual))
	}
	return n, pointers
}

// scalar broadcasts a float32 argument.
func (l *level) scalar(name string) reg.VecVirtual {
	v := l.vec()
	a, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(a.Addr, v)
	return v
}

var constants = map[uint32]Mem{}

// constant is a table of 8 copies of the bits: AVX2 takes all of it as an operand, AVX-512 broadcasts the first, since a
// table of 64 bytes might straddle cache lines.
func constant(name string, bits uint32) Mem {
	m, ok := constants[bits]
	if !ok {
		m = GLOBL(name, RODATA|NOPTR)
		for i := range 8 {
			DATA(4*i, U32(bits))
		}
		constants[bits] = m
	}
	return m
}

func number(name string, v float32) Mem { return constant(name, math.Float32bits(v)) }

// sums returns one zeroed register per register of a block.
func (l *level) sums() []reg.VecVirtual {
	s := l.vecs(block / l.w)
	for _, v := range s {
		l.zero(v)
	}
	return s
}

// fold combines the partial results of a block by halving and leaves the result in the lowest lane of what it returns.
func (l *level) fold(s []reg.VecVirtual, op func(src2, src1, dst Op)) reg.VecVirtual {
	for n := len(s); n > 1; n /= 2 {
		for i := range n / 2 {
			op(s[i+n/2], s[i], s[i])
		}
	}
	v, t := s[0], l.vec()
	if l.wide() {
		VEXTRACTF32X8(U8(1), v, t.AsY())
		op(t.AsY(), v.AsY(), v.AsY())
	}
	VEXTRACTF128(U8(1), v.AsY(), t.AsX())
	op(t.AsX(), v.AsX(), v.AsX())
	VMOVHLPS(v.AsX(), v.AsX(), t.AsX())
	op(t.AsX(), v.AsX(), v.AsX())
	VMOVSHDUP(v.AsX(), t.AsX())
	op(t.AsX(), v.AsX(), v.AsX())
	return v
}

func add(a, b, c Op) { VADDPS(a, b, c) }

// max keeps the earlier operand where the later is NaN.
func max(later, earlier, dst Op) { VMAXPS(earlier, later, dst) }

func (l *level) returns(v reg.VecVirtual, index int) {
	Store(v.AsX(), ReturnIndex(index))
}

func end() {
	VZEROUPPER()
	RET()
}

// exp replaces x by e^x, correct to one unit in the last place, denormal results and infinities included; NaN stays.
// n = round(x/ln 2), r = x - n·ln 2 in two steps, a polynomial of degree 6 fitted for the least relative error on
// |r| ≤ ln 2/2, and 2^n in one rounding.
func (l *level) exp(x reg.VecVirtual) {
	n, p := l.vec(), l.vec()
	// The bound is the first operand: where x is NaN the second is taken.
	bound := l.vec()
	VBROADCASTSS(number("expMax", 89), bound)
	VMINPS(x, bound, x)
	VBROADCASTSS(number("expMin", -104), bound)
	VMAXPS(x, bound, x)
	// Adding and taking away 1.5·2^23 rounds to an integer, which is also left in the low bits of t.
	t := bound
	VBROADCASTSS(number("roundUp", 3<<22), t)
	VMOVAPS(t, n)
	l.multiplyAdd(number("log2e", math.Log2E), x, t)
	VSUBPS(n, t, n)
	const high = 0.693359375
	l.multiplyAdd(number("minusLn2High", -high), n, x)
	l.multiplyAdd(number("minusLn2Low", float32(high-math.Ln2)), n, x)
	VBROADCASTSS(number("exp6", 0.0013814594130963087), p)
	l.horner(number("exp5", 0.0083687175065279), x, p)
	l.horner(number("exp4", 0.04166838899254799), x, p)
	l.horner(number("exp3", 0.1666652113199234), x, p)
	l.horner(number("exp2", 0.4999999403953552), x, p)
	l.horner(number("one", 1), x, p)
	l.horner(number("one", 1), x, p)
	if l.wide() {
		VSCALEFPS(n, p, x)
		return
	}
	// Two factors, as 2^n alone may be out of range; the first product is exact.
	k := n
	VPSLLD(U8(9), t, t)
	VPSRAD(U8(10), t, k)
	VPSRAD(U8(9), t, t)
	VPSUBD(k, t, t)
	for _, f := range []reg.VecVirtual{k, t} {
		VPADDD(constant("expBias", 127), f, f)
		VPSLLD(U8(23), f, f)
	}
	VMULPS(k, p, x)
	VMULPS(t, x, x)
}

// multiplyAdd adds c·x to v for a constant c.
func (l *level) multiplyAdd(c Mem, x, v reg.VecVirtual) {
	if l.wide() {
		VFMADD231PS_BCST(c, x, v)
	} else {
		VFMADD231PS(c, x, v)
	}
}

// horner replaces p by p·x + c for a constant c.
func (l *level) horner(c Mem, x, p reg.VecVirtual) {
	if l.wide() {
		VFMADD213PS_BCST(c, x, p)
	} else {
		VFMADD213PS(c, x, p)
	}
}

// sigmoid replaces x by 1/(1+e^-x).
func (l *level) sigmoid(x reg.VecVirtual) {
	if l.wide() {
		VXORPS_BCST(constant("signBit", 1<<31), x, x)
	} else {
		VXORPS(constant("signBit", 1<<31), x, x)
	}
	l.exp(x)
	one := l.vec()
	VBROADCASTSS(number("one", 1), one)
	VADDPS(one, x, x)
	VDIVPS(x, one, x)
}

func vectors(l *level) {
	l.text("dot", "(x, y []float32) float32")
	n, p := slices("x", "y")
	s := l.sums()
	l.loop(n, p, func(u int, m *mask) { VFMADD231PS(l.get(p[0], u, m), l.get(p[1], u, m), s[u]) })
	l.returns(l.fold(s, add), 0)
	end()

	l.text("dot3", "(x, y, z []float32) float32")
	n, p = slices("x", "y", "z")
	s = l.sums()
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[0], u, m)
		VMULPS(l.get(p[1], u, m), v, v)
		VFMADD231PS(l.get(p[2], u, m), v, s[u])
	})
	l.returns(l.fold(s, add), 0)
	end()

	l.sumSquares()

	l.text("max", "(x []float32) float32")
	n, p = slices("x")
	s = l.vecs(block / l.w)
	lowest := l.vec()
	VBROADCASTSS(number("negInf", float32(math.Inf(-1))), lowest)
	for _, v := range s {
		VMOVUPS(lowest, v)
	}
	l.loop(n, p, func(u int, m *mask) {
		v := l.vec()
		switch {
		case m == nil:
			VMAXPS(s[u], l.reg(l.at(p[0], u), v), s[u])
			return
		case l.wide():
			VMOVUPS(lowest, v)
			VMOVUPS(l.at(p[0], u), m.k, v)
		default:
			VMASKMOVPS(l.at(p[0], u), m.v, v)
			VBLENDVPS(m.v, v, lowest, v)
		}
		VMAXPS(s[u], v, s[u])
	})
	l.returns(l.fold(s, max), 0)
	end()

	l.text("axpy", "(alpha float32, x, y []float32)")
	n, p = slices("x", "y")
	a := l.scalar("alpha")
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[1], u, m)
		VFMADD231PS(l.get(p[0], u, m), a, v)
		l.put(v, p[1], u, m)
	})
	end()

	l.text("add", "(dst, x []float32)")
	n, p = slices("x", "dst")
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[1], u, m)
		VADDPS(l.get(p[0], u, m), v, v)
		l.put(v, p[1], u, m)
	})
	end()

	l.text("scale", "(alpha float32, x []float32)")
	n, p = slices("x")
	a = l.scalar("alpha")
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[0], u, m)
		VMULPS(a, v, v)
		l.put(v, p[0], u, m)
	})
	end()

	l.text("subTo", "(dst, x []float32, c float32)")
	n, p = slices("x", "dst")
	c := l.scalar("c")
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[0], u, m)
		VSUBPS(c, v, v)
		l.put(v, p[1], u, m)
	})
	end()

	for _, f := range []struct {
		name string
		f    func(reg.VecVirtual)
	}{{"exp", l.exp}, {"sigmoid", l.sigmoid}} {
		l.text(f.name, "(dst, x []float32)")
		n, p = slices("x", "dst")
		l.loop(n, p, func(u int, m *mask) {
			v := l.get(p[0], u, m)
			f.f(v)
			l.put(v, p[1], u, m)
		})
		end()
	}

	l.text("expSum", "(z []float32, shift float32) (s, t float32)")
	n, p = slices("z")
	shift := l.scalar("shift")
	s, t := l.sums(), l.sums()
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[0], u, m)
		VSUBPS(shift, v, v)
		bound := l.vec()
		VBROADCASTSS(number("expMin", -104), bound)
		VMAXPS(v, bound, v)
		e := l.vec()
		VMOVAPS(v, e)
		l.exp(e)
		l.keep(e, m)
		VADDPS(e, s[u], s[u])
		VFMADD231PS(v, e, t[u])
	})
	l.returns(l.fold(s, add), 0)
	l.returns(l.fold(t, add), 1)
	end()

	l.text("softmaxExp", "(z []float32, scale, shift float32) float32")
	n, p = slices("z")
	scale := l.scalar("scale")
	shift = l.scalar("shift")
	s = l.sums()
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[0], u, m)
		VFMSUB213PS(shift, scale, v)
		l.exp(v)
		l.put(v, p[0], u, m)
		l.keep(v, m)
		VADDPS(v, s[u], s[u])
	})
	l.returns(l.fold(s, add), 0)
	end()

	l.text("softmaxGrad", "(d, p []float32, delta, scale float32)")
	n, p = slices("p", "d")
	delta := l.scalar("delta")
	scale = l.scalar("scale")
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[1], u, m)
		VSUBPS(delta, v, v)
		VMULPS(l.get(p[0], u, m), v, v)
		VMULPS(scale, v, v)
		l.put(v, p[1], u, m)
	})
	end()

	l.text("expScale", "(z []float32, shift, a float32)")
	n, p = slices("z")
	shift = l.scalar("shift")
	a = l.scalar("a")
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[0], u, m)
		VSUBPS(shift, v, v)
		l.exp(v)
		VMULPS(a, v, v)
		l.put(v, p[0], u, m)
	})
	end()

	l.text("addExpScale", "(z, zt []float32, shift, b float32)")
	n, p = slices("zt", "z")
	shift = l.scalar("shift")
	b := l.scalar("b")
	l.loop(n, p, func(u int, m *mask) {
		e := l.get(p[0], u, m)
		VSUBPS(shift, e, e)
		l.exp(e)
		v := l.get(p[1], u, m)
		VFMADD231PS(b, e, v)
		l.put(v, p[1], u, m)
	})
	end()

	l.text("expDotDiff", "(z, zt []float32, shift float32) float32")
	n, p = slices("zt", "z")
	shift = l.scalar("shift")
	s = l.sums()
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[0], u, m)
		e := l.vec()
		VSUBPS(shift, v, e)
		l.exp(e)
		l.keep(e, m)
		VSUBPS(l.get(p[1], u, m), v, v)
		// Where the exponential is 0 the difference may be infinite: it does not count. (Not equal, also true for NaN.)
		zero := l.vec()
		l.zero(zero)
		if l.wide() {
			k := K()
			VCMPPS(U8(4), zero, e, k)
			VMOVAPS_Z(v, k, v)
		} else {
			VCMPPS(U8(4), zero, e, zero)
			VANDPS(zero, v, v)
		}
		VFMADD231PS(v, e, s[u])
	})
	l.returns(l.fold(s, add), 0)
	end()

	l.text("rmsScale", "(y, x, w []float32, inv float32)")
	n, p = slices("x", "w", "y")
	inv := l.scalar("inv")
	l.loop(n, p, func(u int, m *mask) {
		v := l.get(p[0], u, m)
		VMULPS(inv, v, v)
		VMULPS(l.get(p[1], u, m), v, v)
		l.put(v, p[2], u, m)
	})
	end()

	l.text("rmsBackward", "(dx, dy, x, w []float32, inv, c float32)")
	n, p = slices("x", "dy", "w", "dx")
	inv = l.scalar("inv")
	c = l.scalar("c")
	l.loop(n, p, func(u int, m *mask) {
		x := l.get(p[0], u, m)
		VMULPS(c, x, x)
		w := l.get(p[2], u, m)
		VMULPS(inv, w, w)
		VFMSUB231PS(l.get(p[1], u, m), w, x)
		VADDPS(l.get(p[3], u, m), x, x)
		l.put(x, p[3], u, m)
	})
	end()

	l.text("rmsWeightGrad", "(dw, dy, x []float32, inv float32)")
	n, p = slices("x", "dy", "dw")
	inv = l.scalar("inv")
	l.loop(n, p, func(u int, m *mask) {
		x := l.get(p[0], u, m)
		VMULPS(inv, x, x)
		v := l.get(p[2], u, m)
		VFMADD231PS(l.get(p[1], u, m), x, v)
		l.put(v, p[2], u, m)
	})
	end()

	l.text("rotate", "(lo, hi, cos, sin []float32)")
	n, p = slices("lo", "hi", "cos", "sin")
	l.loop(n, p, func(u int, m *mask) {
		lo, hi, cos, sin := l.get(p[0], u, m), l.get(p[1], u, m), l.get(p[2], u, m), l.get(p[3], u, m)
		a, b := l.vec(), l.vec()
		VMULPS(hi, sin, a)
		VMULPS(lo, sin, b)
		VFMSUB231PS(lo, cos, a)
		VFMADD231PS(hi, cos, b)
		l.put(a, p[0], u, m)
		l.put(b, p[1], u, m)
	})
	end()

	l.text("swiglu", "(y, gate, up []float32)")
	n, p = slices("gate", "up", "y")
	l.loop(n, p, func(u int, m *mask) {
		g, s := l.get(p[0], u, m), l.vec()
		VMOVAPS(g, s)
		l.sigmoid(s)
		VMULPS(s, g, g)
		VMULPS(l.get(p[1], u, m), g, g)
		l.put(g, p[2], u, m)
	})
	end()

	l.text("swigluBackward", "(dgate, dup, y, dy, gate, up []float32)")
	n, p = slices("gate", "up", "dy", "dgate", "dup", "y")
	l.loop(n, p, func(u int, m *mask) {
		g, s := l.get(p[0], u, m), l.vec()
		VMOVAPS(g, s)
		l.sigmoid(s)
		up, d := l.get(p[1], u, m), l.get(p[2], u, m)
		gs, t := l.vec(), l.vec()
		VMULPS(s, g, gs)
		VMULPS(gs, up, t)
		l.put(t, p[5], u, m)
		VMULPS(gs, d, gs)
		VBROADCASTSS(number("one", 1), t)
		VSUBPS(s, t, t)
		l.horner(number("one", 1), g, t)
		VMULPS(s, t, t)
		VMULPS(up, d, d)
		VMULPS(t, d, d)
		l.put(d, p[3], u, m)
		l.put(gs, p[4], u, m)
	})
	end()

	l.adamw()
}

// reg loads from into v and returns v.
func (l *level) reg(from Mem, v reg.VecVirtual) reg.VecVirtual {
	VMOVUPS(from, v)
	return v
}

// sumSquares adds the squares of whole blocks to 32 sums in double precision.
func (l *level) sumSquares() {
	l.text("sumSquares", "(x []float32, sums *[32]float64)")
	Doc("sumSquares" + l.name + " does the whole blocks of SumSquares and writes the partial sums.")
	n, p := slices("x")
	out := Load(Param("sums"), GP64()).(reg.GPVirtual)
	units := 2 * block / l.w
	s := l.vecs(units)
	for _, v := range s {
		l.zero(v)
	}
	SHRQ(U8(5), n)
	JE(LabelRef("done"))
	Label("loop")
	for u := range units {
		v := l.vec()
		VCVTPS2PD(Mem{Base: p[0], Disp: u * l.bytes() / 2}, v)
		VFMADD231PD(v, v, s[u])
	}
	ADDQ(U32(4*block), p[0])
	DECQ(n)
	JNE(LabelRef("loop"))
	Label("done")
	for u, v := range s {
		VMOVUPD(v, Mem{Base: out, Disp: u * l.bytes()})
	}
	end()
}

// adamw rounds every operation by itself, as the portable loop does.
func (l *level) adamw() {
	l.text("adamw", "(p, g, m, v []float32, s *float32)")
	n, p := slices("p", "g", "m", "v")
	Doc("adamw" + l.name + " is AdamW; s points at the fields of an AdamWStep.")
	field := l.adamwFields()
	l.loop(n, p, func(u int, mk *mask) {
		g, m, v, w := l.get(p[1], u, mk), l.get(p[2], u, mk), l.get(p[3], u, mk), l.get(p[0], u, mk)
		l.adamwMoments(field, g, m, v)
		l.put(m, p[2], u, mk)
		l.put(v, p[3], u, mk)
		l.adamwWeight(field, m, v, w)
		l.put(w, p[0], u, mk)
	})
	end()

	l.text("adamwBF16", "(p, g []float32, m, v []uint16, s *float32, seed uint32)")
	n, p = slices("p", "g", "m", "v")
	Doc("adamwBF16" + l.name + " is AdamWBF16 for whole blocks; s points at the fields of an AdamWStep.")
	field = l.adamwFields()
	counter, width := l.vec(), l.vec()
	seed := XMM()
	VMOVD(Load(Param("seed"), GP32()), seed)
	VPBROADCASTD(seed, counter)
	VPADDD(laneNumbers(), counter, counter)
	VPBROADCASTD(constant(label("width%d", l.w), uint32(l.w)), width)
	SHRQ(U8(5), n)
	JE(LabelRef("done"))
	Label("loop")
	for u := range block / l.w {
		half := func(q reg.GPVirtual) Mem { return Mem{Base: q, Disp: u * l.bytes() / 2} }
		g, w, m, v := l.get(p[1], u, nil), l.get(p[0], u, nil), l.vec(), l.vec()
		l.widen(half(p[2]), m)
		l.widen(half(p[3]), v)
		l.adamwMoments(field, g, m, v)
		bits, cut, t := l.vec(), l.vec(), l.vec()
		l.scramble(counter, bits)
		VPADDD(width, counter, counter)
		VPSLLD(U8(16), bits, cut)
		VPSRLD(U8(16), cut, cut)
		l.narrow(m, cut, t, half(p[2]))
		VPSRLD(U8(16), bits, cut)
		l.narrow(v, cut, t, half(p[3]))
		l.adamwWeight(field, m, v, w)
		l.put(w, p[0], u, nil)
	}
	for i, q := range p {
		size := 4
		if i >= 2 {
			size = 2
		}
		ADDQ(U32(uint32(size*block)), q)
	}
	DECQ(n)
	JNE(LabelRef("loop"))
	Label("done")
	end()
}

// adamwFields returns what broadcasts field i of the AdamWStep that s points at.
func (l *level) adamwFields() func(i int) reg.VecVirtual {
	step := Load(Param("s"), GP64())
	return func(i int) reg.VecVirtual {
		v := l.vec()
		VBROADCASTSS(Mem{Base: step, Disp: 4 * i}, v)
		return v
	}
}

// adamwMoments moves m and v along the gradient g, which it destroys.
func (l *level) adamwMoments(field func(int) reg.VecVirtual, g, m, v reg.VecVirtual) {
	VMULPS(field(0), g, g)
	t := l.vec()
	VMULPS(field(2), g, t)
	VMULPS(field(1), m, m)
	VADDPS(t, m, m)
	VMULPS(field(4), g, t)
	VMULPS(t, g, t)
	VMULPS(field(3), v, v)
	VADDPS(t, v, v)
}

// adamwWeight moves w along the moments, which it destroys.
func (l *level) adamwWeight(field func(int) reg.VecVirtual, m, v, w reg.VecVirtual) {
	VSQRTPS(v, v)
	VMULPS(field(7), v, v)
	VADDPS(field(8), v, v)
	VMULPS(field(6), m, m)
	VDIVPS(v, m, m)
	VMULPS(field(5), w, w)
	VSUBPS(m, w, w)
}

// laneNumbers is a table of 0 to 15.
var laneNumbers = func() func() Mem {
	var table Mem
	made := false
	return func() Mem {
		if !made {
			made = true
			table = GLOBL("laneNumbers", RODATA|NOPTR)
			for i := range 16 {
				DATA(4*i, U32(uint32(i)))
			}
		}
		return table
	}
}()

// widen loads a register of bfloat16 numbers.
func (l *level) widen(from Mem, v reg.VecVirtual) {
	VPMOVZXWD(from, v)
	VPSLLD(U8(16), v, v)
}

// scramble writes scramble32 of x to h.
func (l *level) scramble(x, h reg.VecVirtual) {
	t := l.vec()
	fold := func(shift uint8) {
		VPSRLD(U8(shift), h, t)
		l.xor(t, h)
	}
	VMOVUPS(x, h)
	fold(16)
	l.times("scramble1", 0x7feb352d, h)
	fold(15)
	l.times("scramble2", 0x846ca68b, h)
	fold(16)
}

func (l *level) xor(t, h reg.VecVirtual) {
	if l.wide() {
		VPXORD(t, h, h)
	} else {
		VPXOR(t, h, h)
	}
}

// times multiplies by a constant, modulo 2³².
func (l *level) times(name string, c uint32, h reg.VecVirtual) {
	if l.wide() {
		VPMULLD_BCST(constant(name, c), h, h)
	} else {
		VPMULLD(constant(name, c), h, h)
	}
}

// narrow stores x in bfloat16 as roundRandomly does with the 16 bits in each lane of cut; it destroys cut and t.
func (l *level) narrow(x, cut, t reg.VecVirtual, to Mem) {
	if l.wide() {
		VPANDD_BCST(constant("exponent", 0x7f800000), x, t)
		last := K()
		VPCMPD_BCST(U8(4), constant("lastExponent", 0x7f000000), t, last) // not equal
		VMOVDQA32(x, t)
		VPADDD(cut, x, last, t)
		VPSRLD(U8(16), t, t)
		VPMOVDW(t, to)
		return
	}
	VPAND(constant("exponent", 0x7f800000), x, t)
	VPCMPEQD(constant("lastExponent", 0x7f000000), t, t)
	VPANDN(cut, t, cut)
	VPADDD(cut, x, t)
	VPSRLD(U8(16), t, t)
	VEXTRACTI128(U8(1), t, cut.AsX())
	VPACKUSDW(cut.AsX(), t.AsX(), t.AsX())
	VMOVUPS(t.AsX(), to)
}
