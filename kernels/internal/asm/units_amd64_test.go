//go:build !noasm

package asm

import (
	"math"
	"testing"
)

// TestUnitsAgree: a tile unit that adds as is defined is taken, one that does anything else is not.
func TestUnitsAgree(t *testing.T) {
	type unitOf = func(rows, columns, words int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int)
	// each adds to every element of c what add makes of it and of the pairs of a block.
	each := func(add func(c float32, x, y []float32) float32) unitOf {
		return func(rows, columns, words int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
			for i := range rows {
				for j := range columns {
					for w := 0; w < words; w += unitWords {
						var x, y []float32
						for q := w; q < min(w+unitWords, words); q++ {
							x = append(x, upper(a[i*lda+q]), lower(a[i*lda+q]))
							y = append(y, upper(b[q*ldb+j]), lower(b[q*ldb+j]))
						}
						c[i*ldc+j] = add(c[i*ldc+j], x, y)
					}
				}
			}
		}
	}
	sums := func(x, y []float32, flush bool) (s blockSums) {
		for p := range x {
			if flush {
				s.add(p, x[p], y[p])
			} else {
				s[p%2] = float32(float64(s[p%2]) + float64(x[p])*float64(y[p]))
			}
		}
		return s
	}
	for what, c := range map[string]struct {
		unit unitOf
		want bool
	}{
		"the emulation": {emulatedUnit, true},
		"as described":  {each(func(c float32, x, y []float32) float32 { return inBlocks(c, x, y) }), true},
		"one after the other": {each(func(c float32, x, y []float32) float32 {
			for p := range x {
				c = plusProduct(c, x[p], y[p], true)
			}
			return c
		}), false},
		"even and odd from c": {each(func(c float32, x, y []float32) float32 {
			s := sums(x, y, true)
			return flushed(float64(flushed(float64(c)+float64(s[0]))) + float64(s[1]))
		}), false},
		"denormal sums": {each(func(c float32, x, y []float32) float32 {
			s := sums(x, y, false)
			return flushed(float64(flushed(float64(c))) + float64(flushed(float64(s[0]+s[1]))))
		}), false},
		"denormal c": {each(func(c float32, x, y []float32) float32 {
			s := sums(x, y, true)
			return flushed(float64(c) + float64(flushed(float64(s[0]+s[1]))))
		}), false},
		"no infinity": {each(func(c float32, x, y []float32) float32 {
			c = inBlocks(c, x, y)
			if math.IsInf(float64(c), 0) {
				return float32(math.Copysign(math.MaxFloat32, float64(c)))
			}
			return c
		}), false},
		"too wide": {func(rows, columns, words int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
			emulatedUnit(rows, min(UnitSize, columns+1), words, a, lda, b, ldb, c, ldc)
		}, false},
	} {
		if got := unitsAgree(c.unit); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// TestTileShape: shapes are ones that a product takes: tiles of 16 rows of 64 bytes at most, each as large as what it is multiplied with.
func TestTileShape(t *testing.T) {
	for rows := 1; rows <= UnitSize; rows++ {
		for columns := 1; columns <= UnitSize; columns++ {
			for words := 1; words <= unitWords; words++ {
				shape := tileShape(rows, columns, words)
				size := func(tile int) [2]int { return [2]int{int(shape[48+tile]), int(shape[16+2*tile])} }
				if shape[0] != 1 {
					t.Fatalf("palette %d", shape[0])
				}
				for i := range 2 {
					for j := range 2 {
						r, n := min(16, rows-16*i), min(16, columns-16*j)
						if r <= 0 || n <= 0 {
							continue
						}
						c, a, b := size(2*i+j), size(4+i), size(6+j)
						if c != [2]int{r, 4 * n} || a != [2]int{r, 4 * words} || b != [2]int{words, 4 * n} {
							t.Fatalf("%d×%d over %d words: tiles of c %v, of a %v, of b %v", rows, columns, words, c, a, b)
						}
					}
				}
			}
		}
	}
}

// TestUnit: where there is a tile unit, it gives the bits of the emulation; elsewhere nothing of it is run.
func TestUnit(t *testing.T) {
	if bestLevel != levelAMX {
		t.Skip("this processor has no tile unit")
	}
	if !unitsAgree(tileUnit) {
		t.Error("other bits")
	}
}

// TestFaster: what takes half the time for as many steps is told from what takes twice.
func TestFaster(t *testing.T) {
	if level == levelGeneric {
		t.Skip("no vectors")
	}
	twice := func(n int) { fmaAVX2(2 * n) }
	if faster(func(n int) { fmaAVX2(4 * n) }, fmaAVX2) || !faster(fmaAVX2, twice) {
		t.Error("the slower one is taken for the faster")
	}
}
