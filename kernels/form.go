package kernels

import "github.com/millrace/millrace/kernels/internal/asm"

// form is what a product multiplies, and how. Operands are words: numbers, or pairs of them.
type form uint8

const (
	numbers form = iota // as they are
	rounded             // numbers rounded to bfloat16, where nothing multiplies pairs
	dots                // pairs of bfloat16: a word of two steps
	blocks              // numbers rounded to bfloat16, with the sums of a tile unit
	units               // pairs of bfloat16 for a tile unit
)

// form returns what the level multiplies in the precision.
func (p Precision) form() form {
	switch {
	case p == Float32:
		return numbers
	case p == BFloat16Tiles && asm.HasUnits():
		return units
	case p == BFloat16Tiles:
		return blocks
	case asm.HasDots():
		return dots
	}
	return rounded
}

// pairs reports whether words are pairs.
func (f form) pairs() bool { return f == dots || f == units }

// steps is the number of steps in a word.
func (f form) steps() int {
	if f.pairs() {
		return 2
	}
	return 1
}

// words is the number of words that k steps take.
func (f form) words(k int) int { return (k + f.steps() - 1) / f.steps() }

// whole is the number of words that are added up before they come to c: a product is cut at multiples of it alone.
func (f form) whole() int {
	if f == blocks || f == units {
		return asm.BlockSteps / f.steps()
	}
	return 1
}

// tileSize is the largest tile: rows, and the width of a packed panel.
func (f form) tileSize() (mr, nr int) {
	switch f {
	case blocks:
		return asm.BlocksSize()
	case units:
		return asm.UnitSize, asm.UnitSize
	}
	return asm.TileSize()
}

func (f form) tile(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load bool, soon asm.Soon) {
	switch f {
	case dots:
		asm.TileDots(mr, nr, k, a, ars, acs, b, brs, c, ldc, load, true, soon)
	case blocks:
		asm.TileBlocks(mr, nr, k, a, ars, acs, b, brs, c, ldc, load)
	case units:
		asm.TileUnits(mr, nr, k, a, ars, b, brs, c, ldc, load)
	default:
		asm.Tile(mr, nr, k, a, ars, acs, b, brs, c, ldc, load, f == rounded, soon)
	}
}

// tilePaired is tile where b is in pairs, whatever a is in, and acs 1.
func (f form) tilePaired(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load bool, soon asm.Soon) {
	switch {
	case f.pairs():
		f.tile(mr, nr, k, a, ars, acs, b, brs, c, ldc, load, soon)
	case f == blocks:
		asm.TileBlocksPairs(mr, nr, k, a, ars, acs, b, brs, c, ldc, load)
	default:
		asm.TilePairs(mr, nr, k, a, ars, acs, b, brs, c, ldc, load, f == rounded, soon)
	}
}

// room is what round needs for m rows of k steps.
func (f form) room(m, k int) int { return max(m*f.stride(k), f.words(k)*m+16) }

// stride is the distance of rounded rows, which are not to fall on one another in the cache.
func (f form) stride(k int) int { return f.words(k)/16*16 + 16 + 16*(f.words(k)/16%2) }

// round writes the words of m rows of k steps of a to room, in a's direction, but for a tile unit in rows; share divides the work.
func (f form) round(room []float32, a matrix, m, k int, share func(n, grain int, f func(lo, hi int))) matrix {
	words, ld := f.words(k), f.stride(k)
	switch {
	case a.cs == 1:
		share(m, max(1, vectorGrain/k), func(lo, hi int) {
			for i := lo; i < hi; i++ {
				f.roundQuery(room[i*ld:i*ld+words], a.at(i, 0)[:k])
			}
		})
		return matrix{room, ld, 1}
	case f == units:
		share(m, max(1, vectorGrain/k), func(lo, hi int) {
			for i := lo; i < hi; i += turnedRows {
				turnRows(room[i*ld:], ld, matrix{a.at(i, 0), a.rs, a.cs}, min(turnedRows, hi-i), k)
			}
		})
		return matrix{room, ld, 1}
	}
	share(words, max(1, vectorGrain/m), func(lo, hi int) {
		for p := lo; p < hi; p++ {
			row := room[p*m : (p+1)*m]
			if !f.pairs() {
				f.roundRow(row, a.at(0, p)[:m])
				continue
			}
			pairColumn(row, a, 2*p, k)
		}
	})
	return matrix{room, 1, m}
}

// pairColumn makes pairs of the steps p and p+1 of as many rows of a, which is turned, as row holds; where there is no step p+1, beside it
// is -0, as a product's first operand has.
func pairColumn(row []float32, a matrix, p, k int) {
	steps := min(2, k-p)
	interleaveRow(row, a.at(0, p), a.cs, steps)
	if steps == 1 {
		for i, x := range row {
			row[i] = asm.Pair(x, asm.NegativeZero)
		}
	}
}

// turnedRows is how many rows turnRows takes at most.
const turnedRows = 64

// turnRows writes the pairs of n rows of k steps of a, which is turned, to rows of dst.
func turnRows(dst []float32, ld int, a matrix, n, k int) {
	var columns, rows [turnedRows * pairDepth]float32
	words := pairsOf(k)
	for done := 0; done < words; done += pairDepth {
		depth := min(pairDepth, words-done)
		for p := range depth {
			pairColumn(columns[p*turnedRows:][:n], a, 2*(done+p), k)
		}
		asm.PackT(rows[:], columns[:], turnedRows, depth, n, pairDepth, false)
		for i := range n {
			copy(dst[i*ld+done:], rows[i*pairDepth:][:depth])
		}
	}
}

// here calls f for all of n at once.
func here(n, _ int, f func(lo, hi int)) { f(0, n) }

// roundRow writes the words of the numbers of src; dst may be src. Beside a last number without a neighbour is zero.
func (f form) roundRow(dst, src []float32) {
	switch {
	case f.pairs():
		asm.RoundPairs(dst, src)
	case f != numbers:
		copy(dst, src)
		asm.Round(dst[:len(src)])
	}
}

// roundQuery is roundRow with -0 beside a last number without a neighbour, as a product's first operand has: it changes no sum.
func (f form) roundQuery(dst, src []float32) {
	f.roundRow(dst, src)
	if last := len(src) / 2; f.pairs() && len(src)%2 == 1 {
		dst[last] = asm.Pair(dst[last], asm.NegativeZero)
	}
}

// interleaveRow makes a row of pairs of one or two rows of numbers, ld apart.
func interleaveRow(row, src []float32, ld, steps int) {
	whole := len(row) / 16 * 16
	if whole > 0 {
		asm.Interleave(row, len(row), src, ld, whole, steps)
	}
	if whole < len(row) {
		var last [16]float32 // whole registers are written
		asm.Interleave(last[:], 16, src[whole:], ld, len(row)-whole, steps)
		copy(row[whole:], last[:])
	}
}

// steps returns the rows of b that make the words [pc,pc+pn), and how many they are.
func (g *product) steps(pc, pn int) (p, steps int) {
	p = pc * g.form.steps()
	return p, min(pn*g.form.steps(), g.rows-p)
}

// pack makes a panel of the words [pc,pc+pn) of columns [j,j+n) of b.
func (g *product) pack(panel []float32, pc, pn, j, n int) {
	if !g.form.pairs() {
		packPanel(panel, g.b, pc, pn, j, n, g.nr, false)
		if g.form != numbers {
			asm.Round(panel)
		}
		return
	}
	p, steps := g.steps(pc, pn)
	if g.b.cs == 1 {
		asm.Interleave(panel, g.nr, g.b.at(p, j), g.b.rs, n, steps)
		return
	}
	var rows [32 * pairDepth]float32
	for done := 0; done < pn; done += pairDepth {
		depth := min(pairDepth, pn-done)
		for l := range n {
			asm.RoundPairs(rows[l*pairDepth:], g.b.at(p+2*done, j+l)[:min(2*depth, steps-2*done)])
		}
		asm.PackT(panel[done*g.nr:], rows[:], pairDepth, n, depth, g.nr, false)
	}
}

// pairDepth is how many words of a row are rounded before they are transposed.
const pairDepth = 64
