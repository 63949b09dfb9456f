package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The instructions of tile units are written in bytes, as the assembler does not know them. They use the registers of the processor by
// their numbers, which avo's do not tell, so these are.
var (
	rax = register{reg.RAX, 0}
	rcx = register{reg.RCX, 1}
	rdx = register{reg.RDX, 2}
	rbx = register{reg.RBX, 3}
	rsi = register{reg.RSI, 6}
	rdi = register{reg.RDI, 7}
	r8  = register{reg.R8, 8}
	r9  = register{reg.R9, 9}
	r10 = register{reg.R10, 10}
)

type register struct {
	reg.GPPhysical
	number byte
}

// units writes the products in tile units: unit<rows>x<columns> has tiles of up to 16 rows of c, and as many of 16 columns. Strides are in
// bytes. Each turn adds a block of up to 16 pairs of steps, as config says, to c; no tile outlives the call.
func units() {
	for rows := 1; rows <= 2; rows++ {
		for columns := 1; columns <= 2; columns++ {
			unitTiles(rows, columns)
		}
	}
	fmaUnits()
}

func unitTiles(rows, columns int) {
	name := fmt.Sprintf("unit%dx%d", rows, columns)
	TEXT(name, NOSPLIT, "func(config *uint8, turns int, a *float32, lda int, b *float32, ldb int, c *float32, ldc int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds to %d×%d tiles of c.", name, rows, columns))
	Load(Param("config"), rax.GPPhysical)
	code("LDTILECFG (AX)", 0xc4, 0xe2, 0x78, 0x49, rax.number)

	a, b, c := []register{rdx, rbx}[:rows], r8, []register{rdi, r10}[:rows]
	lda, ldb, ldc := rcx, r9, rsi
	for _, p := range []struct {
		name string
		to   register
	}{{"a", a[0]}, {"lda", lda}, {"b", b}, {"ldb", ldb}, {"c", c[0]}, {"ldc", ldc}} {
		Load(Param(p.name), p.to.GPPhysical)
	}
	// The second tile of rows begins 16 strides on.
	for _, x := range []struct {
		rows   []register
		stride register
	}{{a, lda}, {c, ldc}} {
		if rows == 2 {
			MOVQ(x.stride.GPPhysical, x.rows[1].GPPhysical)
			SHLQ(U8(4), x.rows[1].GPPhysical)
			ADDQ(x.rows[0].GPPhysical, x.rows[1].GPPhysical)
		}
	}
	// Tiles of c are 0 to 3, those of a 4 and 5, those of b 6 and 7.
	ofC := func(i, j int) byte { return byte(2*i + j) }
	for i := range rows {
		for j := range columns {
			moveTile("TILELOADD", ofC(i, j), c[i], ldc, 64*j)
		}
	}
	turns, step := reg.R11, reg.R12
	Load(Param("turns"), turns)
	MOVQ(ldb.GPPhysical, step)
	SHLQ(U8(4), step)

	Label("turn")
	for j := range columns {
		moveTile("TILELOADD", byte(6+j), b, ldb, 64*j)
	}
	for i := range rows {
		moveTile("TILELOADD", byte(4+i), a[i], lda, 0)
		for j := range columns {
			multiplyTiles(ofC(i, j), byte(4+i), byte(6+j))
		}
		ADDQ(U8(64), a[i].GPPhysical)
	}
	ADDQ(step, b.GPPhysical)
	DECQ(turns)
	JNE(LabelRef("turn"))

	for i := range rows {
		for j := range columns {
			moveTile("TILESTORED", ofC(i, j), c[i], ldc, 64*j)
		}
	}
	code("TILERELEASE", 0xc4, 0xe2, 0x78, 0x49, 0xc0)
	RET()
}

// fmaUnits writes what a tile unit is measured by: four products a turn, of tiles that stay where they are.
func fmaUnits() {
	TEXT("fmaUnits", NOSPLIT, "func(config *uint8, turns int)")
	Pragma("noescape")
	Doc("fmaUnits multiplies four times two tiles, turns times over.")
	Load(Param("config"), rax.GPPhysical)
	code("LDTILECFG (AX)", 0xc4, 0xe2, 0x78, 0x49, rax.number)
	Load(Param("turns"), reg.R11)
	Label("turn")
	for i := range byte(2) {
		for j := range byte(2) {
			multiplyTiles(2*i+j, 4+i, 6+j)
		}
	}
	DECQ(reg.R11)
	JNE(LabelRef("turn"))
	code("TILERELEASE", 0xc4, 0xe2, 0x78, 0x49, 0xc0)
	RET()
}

// moveTile loads a tile from rows of memory, or stores it there: VEX.128.F2.0F38.W0 4B /r, F3 to store, with base + stride + disp.
func moveTile(name string, tile byte, base, stride register, disp int) {
	prefix := byte(3) // F2
	if name == "TILESTORED" {
		prefix = 2 // F3
	}
	high := func(r register) byte { return 1 - r.number>>3 }
	code(fmt.Sprintf("%s %d(%s)(%s*1), T%d", name, disp, base.Asm(), stride.Asm(), tile), 0xc4,
		1<<7|high(stride)<<6|high(base)<<5|2, 15<<3|prefix, 0x4b,
		1<<6|tile<<3|4, stride.number&7<<3|base.number&7, byte(disp))
}

// multiplyTiles adds the product of a and b to c: VEX.128.F3.0F38.W0 5C /r with c in reg, a in r/m and b in vvvv.
func multiplyTiles(c, a, b byte) {
	code(fmt.Sprintf("TDPBF16PS T%d, T%d, T%d", b, a, c), 0xc4, 0xe2, (^b&15)<<3|2, 0x5c, 3<<6|c<<3|a)
}

// code writes an instruction in bytes.
func code(text string, bytes ...byte) {
	Comment(text)
	for _, b := range bytes {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(b)}})
	}
}
