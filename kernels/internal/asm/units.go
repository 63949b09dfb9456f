package asm

// UnitSize is how many rows and columns of c a call of TileUnits computes at most: four tiles of a tile unit.
const UnitSize = 32

// unitWords is how many pairs of steps a tile unit adds up before they come to c.
const unitWords = BlockSteps / 2

// unit adds to rows × columns of c, at most UnitSize each, the product of a, rows of words lda apart, and b, words of columns, ldb apart.
// Words are pairs of bfloat16 numbers. It is all that a tile unit does here; nil where there is none.
var unit func(rows, columns, words int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int)

// HasUnits reports whether the level has TileUnits.
func HasUnits() bool { return unit != nil }

// TileUnits is TileBlocks with a and b in pairs of bfloat16, words of them, and acs 1.
func TileUnits(mr, nr, words int, a []float32, ars int, b []float32, brs int, c []float32, ldc int, load bool) {
	if !load {
		clearTile(c, ldc, mr, nr)
	}
	unit(mr, nr, words, a, ars, b, brs, c, ldc)
}

// EmulateUnits makes TileUnits run on the emulation of a tile unit, at any level, until restore is called. It is for tests.
func EmulateUnits() (restore func()) {
	old := unit
	unit = emulatedUnit
	return func() { unit = old }
}

// emulatedUnit is what a tile unit does, as its makers describe it.
func emulatedUnit(rows, columns, words int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	for i := range rows {
		for j := range columns {
			for w := 0; w < words; w += unitWords {
				var sums blockSums
				for q := w; q < min(w+unitWords, words); q++ {
					x, y := a[i*lda+q], b[q*ldb+j]
					sums.add(0, upper(x), upper(y))
					sums.add(1, lower(x), lower(y))
				}
				sums.addTo(&c[i*ldc+j])
			}
		}
	}
}
