package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// level is an instruction set with w single precision numbers to a register.
type level struct {
	name   string
	w      int
	mr     int // rows of the largest tile
	rounds map[float32]Mem
}

var (
	avx2   = &level{name: "AVX2", w: 8, mr: 6}
	avx512 = &level{name: "AVX512", w: 16, mr: 14}
)

func (l *level) wide() bool { return l.w == 16 }

// bytes is the size of a register.
func (l *level) bytes() int { return 4 * l.w }

// vec returns a fresh register.
func (l *level) vec() reg.VecVirtual {
	if l.wide() {
		return ZMM()
	}
	return YMM()
}

func (l *level) vecs(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = l.vec()
	}
	return v
}

// zero clears a register.
func (l *level) zero(v reg.VecVirtual) {
	if l.wide() {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}

// text begins the routine of that name for the level; signature begins after the name.
func (l *level) text(name, signature string) {
	TEXT(name+l.name, NOSPLIT, "func"+signature)
	Pragma("noescape")
}

// mask selects the first n lanes of a register; n is in a 64-bit register and in [0,w].
type mask struct {
	k reg.OpmaskVirtual
	v reg.VecVirtual
}

var maskTable = func() func() Mem {
	var table Mem
	made := false
	return func() Mem {
		if !made {
			made = true
			table = GLOBL("laneMask", RODATA|NOPTR)
			for i := range 32 {
				v := int32(-1)
				if i >= 16 {
					v = 0
				}
				DATA(4*i, I32(v))
			}
		}
		return table
	}
}()

// lanes makes masks of the first n lanes of one or two registers, destroying n.
func (l *level) lanes(n reg.GPVirtual, registers int) []mask {
	masks := make([]mask, registers)
	if l.wide() {
		ones := GP32()
		MOVL(I32(-1), ones)
		BZHIL(n.As32(), ones, ones)
		for j := range masks {
			if j > 0 {
				SHRL(U8(16), ones)
			}
			masks[j].k = K()
			KMOVW(ones, masks[j].k)
		}
		return masks
	}
	table := GP64()
	LEAQ(maskTable().Offset(64), table)
	SHLQ(U8(2), n)
	SUBQ(n, table)
	for j := range masks {
		masks[j].v = YMM()
		VMOVUPS(Mem{Base: table, Disp: j * l.bytes()}, masks[j].v)
	}
	return masks
}

// upperHalves returns a register with the upper halves of all lanes set.
func (l *level) upperHalves() reg.VecVirtual {
	v := l.vec()
	if l.wide() {
		VPTERNLOGD(U8(0xff), v, v, v)
	} else {
		VPCMPEQD(v, v, v)
	}
	VPSLLD(U8(16), v, v)
	return v
}

// and loads and masks a register.
func (l *level) and(from Mem, with, to reg.VecVirtual) {
	if l.wide() {
		VPANDD(from, with, to)
	} else {
		VPAND(from, with, to)
	}
}

// lowerHalves loads words and moves their lower halves up.
func (l *level) lowerHalves(from Mem, to reg.VecVirtual) {
	if l.wide() {
		VPSLLD(U8(16), from, to)
		return
	}
	VMOVUPS(from, to)
	VPSLLD(U8(16), to, to)
}

// loadMasked loads the lanes of the mask and zeroes the others; memory outside the mask is not touched.
func (l *level) loadMasked(from Mem, m mask, to reg.VecVirtual) {
	if l.wide() {
		VMOVUPS_Z(from, m.k, to)
	} else {
		VMASKMOVPS(from, m.v, to)
	}
}

// storeMasked stores the lanes of the mask.
func (l *level) storeMasked(from reg.VecVirtual, m mask, to Mem) {
	if l.wide() {
		VMOVUPS(from, m.k, to)
	} else {
		VMASKMOVPS(from, m.v, to)
	}
}

func label(format string, args ...any) string { return fmt.Sprintf(format, args...) }
