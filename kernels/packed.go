package kernels

import (
	"math"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// Packed is a weight [n,k] laid out for products with few rows, as in decoding: panels of 32 outputs, read from memory once and
// in order, in single precision or in bfloat16. Products have the bits of MatMulNT with the same values.
type Packed struct {
	n, k   int
	full   []float32 // either this
	halves []uint16  // or this: the upper halves of single precision numbers
}

const panelWidth = 32

// Pack lays out the weight w [n,k].
func Pack(w []float32, n, k int) *Packed {
	if n < 0 || k < 0 || len(w) != n*k {
		panic(badMatrix)
	}
	p := &Packed{n: n, k: k, full: make([]float32, panelsOf(n)*panelWidth*k)}
	pack(p.full, w, n, k)
	return p
}

// PackBF16 lays out the weight w [n,k] of bfloat16 bits: half the memory, and half the time where reading it is the limit.
func PackBF16(w []uint16, n, k int) *Packed {
	if n < 0 || k < 0 || len(w) != n*k {
		panic(badMatrix)
	}
	p := &Packed{n: n, k: k, halves: make([]uint16, panelsOf(n)*panelWidth*k)}
	pack(p.halves, w, n, k)
	return p
}

func panelsOf(n int) int { return (n + panelWidth - 1) / panelWidth }

func pack[T any](dst, w []T, n, k int) {
	Parallel(panelsOf(n), max(1, vectorGrain/max(1, panelWidth*k)), func(lo, hi int) {
		for j := lo * panelWidth; j < min(hi*panelWidth, n); j++ {
			panel := dst[j/panelWidth*panelWidth*k:]
			for p, v := range w[j*k : (j+1)*k] {
				panel[p*panelWidth+j%panelWidth] = v
			}
		}
	})
}

// Shape returns the outputs n and inputs k of the weight.
func (p *Packed) Shape() (n, k int) { return p.n, p.k }

// MatMulPacked computes c[m,n] = a[m,k]·wᵀ + beta·c with a packed weight.
func MatMulPacked(c, a []float32, w *Packed, m int, beta float32) {
	n, k := w.n, w.k
	if m < 0 || len(c) != m*n || len(a) != m*k {
		panic(badMatrix)
	}
	if m == 0 || n == 0 {
		return
	}
	if beta != 0 && beta != 1 {
		Scale(beta, c)
	}
	if k == 0 {
		if beta == 0 {
			clear(c)
		}
		return
	}
	workers := Threads()
	if m*n*k <= serialWork {
		workers = 1
	}
	count := panelsOf(n)
	parts := min(4*workers, count)
	items(parts, workers, func(i int) {
		lo, hi := i*count/parts, (i+1)*count/parts
		switch {
		case w.full != nil:
			multiplyPanels(c, a, w.full, asm.Tile, 0, lo, hi, m, n, k, beta != 0)
		case m < widenRows:
			multiplyPanels(c, a, w.halves, asm.TileBF16, 0, lo, hi, m, n, k, beta != 0)
		default:
			multiplyWidened(c, a, w.halves, lo, hi, m, n, k, beta != 0)
		}
	})
}

// widenRows is the number of rows from which widening a panel once costs less than widening it in every tile.
const widenRows = 384

// multiplyWidened is multiplyPanels of panels in bfloat16, widened some at a time.
func multiplyWidened(c, a []float32, w []uint16, lo, hi, m, n, k int, load bool) {
	group := groupOf(k)
	full, release := borrow(group * panelWidth * k)
	defer release()
	for q := lo; q < hi; q += group {
		end := min(q+group, hi)
		from := w[q*panelWidth*k : end*panelWidth*k]
		to := full[:len(from)]
		for i, h := range from {
			to[i] = math.Float32frombits(uint32(h) << 16)
		}
		multiplyPanels(c, a, to, asm.Tile, q, q, end, m, n, k, load)
	}
}

// groupOf is the number of panels that stay in the second-level cache together.
func groupOf(k int) int { return max(1, blockB/(panelWidth*k)) }

// multiplyPanels computes the columns of panels lo to hi, where w begins with panel first: for some panels at a time, that stay in the second-level cache, blocks of
// rows of a. Tiles fetch what is read next: with few rows from a little ahead, with more, and so more work for each panel, from the
// panel that follows.
func multiplyPanels[B float32 | uint16](c, a []float32, w []B,
	tile func(mr, nr, k int, a []float32, ars, acs int, b []B, brs int, c []float32, ldc int, load bool, soon asm.Soon[B]),
	first, lo, hi, m, n, k int, load bool) {
	const ahead = 32 * panelWidth
	g := product{a: matrix{a, k, 1}}
	g.mr, g.nr = asm.TileSize()
	mc := even(m, max(g.mr, blockA/k), g.mr)
	group := groupOf(k)
	copyA := g.copies((hi - lo) * panelWidth)
	var room []float32
	if copyA {
		var release func()
		room, release = borrow(mc * (k + 16))
		defer release()
	}
	for q0 := lo; q0 < hi; q0 += group {
		for i0 := 0; i0 < m; i0 += mc {
			rows := min(mc, m-i0)
			block := matrix{g.a.at(i0, 0), k, 1}
			if copyA {
				block = copyRows(room, block, rows, k)
			}
			tiles := (rows + g.mr - 1) / g.mr
			for q := q0; q < min(q0+group, hi); q++ {
				panel := w[(q-first)*panelWidth*k:]
				j, cols := q*panelWidth, min(panelWidth, n-q*panelWidth)
				// A tile may be narrower than the panel.
				for l := 0; l < cols; l += g.nr {
					for t := range tiles {
						i, end := t*rows/tiles, (t+1)*rows/tiles
						soon := asm.Soon[B]{Run: panelWidth * k, Runs: 1}
						switch {
						case l > 0 || t > 1:
						case tiles == 1:
							soon.Data = panel[min(ahead, len(panel)):]
						default:
							soon.Run /= 2
							soon.Data = panel[min(panelWidth*k+t*soon.Run, len(panel)):]
						}
						tile(end-i, min(g.nr, cols-l), k, block.at(i, 0), block.rs, 1, panel[l:], panelWidth, c[(i0+i)*n+j+l:], n, load, soon)
					}
				}
			}
		}
	}
}
