package kernels

import "github.com/millrace/millrace/kernels/internal/asm"

// form is what a product multiplies. Operands are words: numbers, or pairs of them.
type form uint8

const (
	numbers form = iota // as they are
	rounded             // numbers rounded to bfloat16, where nothing multiplies pairs
	dots                // pairs of bfloat16: a word of two steps
)

// form returns what the level multiplies in the precision.
func (p Precision) form() form {
	switch {
	case p == Float32:
		return numbers
	case asm.HasDots():
		return dots
	}
	return rounded
}

// steps is the number of steps in a word.
func (f form) steps() int {
	if f == dots {
		return 2
	}
	return 1
}

// words is the number of words that k steps take.
func (f form) words(k int) int { return (k + f.steps() - 1) / f.steps() }

func (f form) tile(mr, nr, k int, a []float32, ars, acs int, b []float32, brs int, c []float32, ldc int, load bool, soon asm.Soon) {
	if f == dots {
		asm.TileDots(mr, nr, k, a, ars, acs, b, brs, c, ldc, load, true, soon)
		return
	}
	asm.Tile(mr, nr, k, a, ars, acs, b, brs, c, ldc, load, f == rounded, soon)
}

// room is what round needs for m rows of k steps.
func (f form) room(m, k int) int { return max(m*f.stride(k), f.words(k)*m+16) }

// stride is the distance of rounded rows, which are not to fall on one another in the cache.
func (f form) stride(k int) int { return f.words(k)/16*16 + 16 + 16*(f.words(k)/16%2) }

// round writes the words of m rows of k steps of a to room, in a's direction; share divides the work.
func (f form) round(room []float32, a matrix, m, k int, share func(n, grain int, f func(lo, hi int))) matrix {
	words := f.words(k)
	if a.cs == 1 {
		ld := f.stride(k)
		share(m, max(1, vectorGrain/k), func(lo, hi int) {
			for i := lo; i < hi; i++ {
				f.roundQuery(room[i*ld:i*ld+words], a.at(i, 0)[:k])
			}
		})
		return matrix{room, ld, 1}
	}
	share(words, max(1, vectorGrain/m), func(lo, hi int) {
		for p := lo; p < hi; p++ {
			row := room[p*m : (p+1)*m]
			if f == rounded {
				f.roundRow(row, a.at(0, p)[:m])
				continue
			}
			steps := min(2, k-2*p)
			interleaveRow(row, a.at(0, 2*p), a.cs, steps)
			if steps == 1 {
				for i, x := range row {
					row[i] = asm.Pair(x, asm.NegativeZero)
				}
			}
		}
	})
	return matrix{room, 1, m}
}

// here calls f for all of n at once.
func here(n, _ int, f func(lo, hi int)) { f(0, n) }

// roundRow writes the words of the numbers of src; dst may be src. Beside a last number without a neighbour is zero.
func (f form) roundRow(dst, src []float32) {
	switch f {
	case rounded:
		copy(dst, src)
		asm.Round(dst[:len(src)])
	case dots:
		asm.RoundPairs(dst, src)
	}
}

// roundQuery is roundRow with -0 beside a last number without a neighbour, as a product's first operand has: it changes no sum.
func (f form) roundQuery(dst, src []float32) {
	f.roundRow(dst, src)
	if last := len(src) / 2; f == dots && len(src)%2 == 1 {
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
	if g.form != dots {
		packPanel(panel, g.b, pc, pn, j, n, g.nr, false)
		if g.form == rounded {
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
