//go:build !noasm

package asm

import (
	"math"

	"golang.org/x/sys/cpu"
)

// tileUnit is unit on the processor. What is left after whole blocks has a shape of tiles of its own.
func tileUnit(rows, columns, words int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	if turns := words / unitWords; turns > 0 {
		runUnit(rows, columns, unitWords, turns, a, lda, b, ldb, c, ldc)
	}
	if rest := words % unitWords; rest > 0 {
		done := words - rest
		runUnit(rows, columns, rest, 1, a[done:], lda, b[done*ldb:], ldb, c, ldc)
	}
}

// runUnit adds blocks of so many words, one a turn.
func runUnit(rows, columns, words, turns int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	shape := tileShape(rows, columns, words)
	switch {
	case rows <= 16 && columns <= 16:
		unit1x1(&shape[0], turns, &a[0], 4*lda, &b[0], 4*ldb, &c[0], 4*ldc)
	case rows <= 16:
		unit1x2(&shape[0], turns, &a[0], 4*lda, &b[0], 4*ldb, &c[0], 4*ldc)
	case columns <= 16:
		unit2x1(&shape[0], turns, &a[0], 4*lda, &b[0], 4*ldb, &c[0], 4*ldc)
	default:
		unit2x2(&shape[0], turns, &a[0], 4*lda, &b[0], 4*ldb, &c[0], 4*ldc)
	}
}

// tileShape is what LDTILECFG takes: palette 1; from byte 16 on the bytes in a row of each tile, in two bytes; from 48 on their rows.
func tileShape(rows, columns, words int) (shape [64]uint8) {
	shape[0] = 1
	set := func(tile, rows, words int) {
		if rows > 0 && words > 0 {
			shape[16+2*tile], shape[48+tile] = uint8(4*words), uint8(rows)
		}
	}
	for i := range 2 {
		r, n := min(16, rows-16*i), min(16, columns-16*i)
		set(2*i, r, min(16, columns))
		set(2*i+1, r, columns-16)
		set(4+i, r, words)
		set(6+i, words, n)
	}
	return shape
}

// hasUnits reports whether the processor has tile units, the system lets this process use them, and they add as is defined here.
func hasUnits() bool {
	return cpu.X86.HasAMXTile && cpu.X86.HasAMXBF16 && permitUnits() && unitsAgree(tileUnit)
}

// unitsAgree reports whether a tile unit gives the bits that are defined here, on tiles of all kinds of edges and numbers of all kinds.
func unitsAgree(unit func(rows, columns, words int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int)) bool {
	const most, ld = 40, 48
	state := uint32(1)
	random := func() uint32 {
		state = state*1664525 + 1013904223
		return state >> 8
	}
	number := func(kind uint32) float32 {
		exponent := 120 + random()&15 // of about one size, so that every rounding counts
		switch {
		case kind == 1:
			exponent = 40 + random()%48 // sums are denormal now and then
		case kind == 2 && random()&15 == 0:
			exponent = 255 - random()&1 // infinite, no number, or nearly
		}
		return math.Float32frombits(random()<<31 | exponent<<23 | random()&0x7fffff)
	}
	for round := range uint32(64) {
		var a [UnitSize * ld]float32
		var b [most * ld]float32
		var c [UnitSize * ld]float32
		for _, x := range [][]float32{a[:], b[:]} {
			for i := range x {
				x[i] = Pair(Rounded(number(round%4)), Rounded(number(round%4)))
			}
		}
		for i := range c {
			c[i] = number(round % 4)
			if random()&7 == 0 {
				c[i] = math.Float32frombits(math.Float32bits(c[i]) & 0x807fffff) // denormal
			}
		}
		want := c
		rows, columns, words := 1+int(random()%UnitSize), 1+int(random()%UnitSize), 1+int(random()%most)
		emulatedUnit(rows, columns, words, a[:], ld, b[:], ld, want[:], ld)
		unit(rows, columns, words, a[:], ld, b[:], ld, c[:], ld)
		for i := range c {
			if math.Float32bits(c[i]) != math.Float32bits(want[i]) && (c[i] == c[i] || want[i] == want[i]) {
				return false
			}
		}
	}
	return true
}
