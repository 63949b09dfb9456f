package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// limits writes the loops that measure what the machine can do at most.
func limits(l *level) {
	l.multiplyAdds("fma")
	if l.wide() {
		l.multiplyAdds("fma" + dotsName)
	}

	l.text("read", "(x *float32, lines int)")
	Doc("read" + l.name + " loads lines cache lines of 64 bytes, four at a time; lines is a multiple of 4.")
	p := Load(Param("x"), GP64())
	lines := Load(Param("lines"), GP64())
	v := l.vec()
	Label("lines")
	for i := 0; i < 256; i += l.bytes() {
		VMOVUPS(Mem{Base: p, Disp: i}, v)
	}
	ADDQ(U32(256), p)
	SUBQ(U8(4), lines)
	JNE(LabelRef("lines"))
	VZEROUPPER()
	RET()
}

// multiplyAdds writes a loop of them.
func (l *level) multiplyAdds(name string) {
	l.text(name, "(n int)")
	Doc(name + l.name + " does 16 independent multiply-adds of a register, n times over.")
	n := Load(Param("n"), GP64())
	count := 14
	if l.wide() {
		count = 16
	}
	acc := l.vecs(count)
	x := l.vec()
	l.zero(x)
	for _, v := range acc {
		l.zero(v)
	}
	Label("loop")
	for i := range 16 {
		VFMADD231PS(x, x, acc[i%count])
	}
	DECQ(n)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
