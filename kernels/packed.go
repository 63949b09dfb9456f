package kernels

import "github.com/millrace/millrace/kernels/internal/asm"

// Packed is a weight [n,k] laid out for products with few rows, as in decoding: panels of 32 outputs, read from memory once and
// in order, in single precision or in bfloat16. Products have the bits of MatMulNT with the same values.
type Packed struct {
	n, k   int
	full   []float32 // either this
	halves []uint16  // or this: the upper halves of single precision numbers
}

const (
	panelWidth = 32
	// panelDepth is how much of a bfloat16 panel is widened at a time: it stays in the first-level cache.
	panelDepth = 256
)

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
	g := product{c: c, ldc: n, a: matrix{a, k, 1}, k: k, load: beta != 0}
	g.mr, g.nr = asm.TileSize()
	workers := Threads()
	if m*n*k <= serialWork {
		workers = 1
	}
	parts := min(4*workers, panelsOf(n))
	items(parts, workers, func(i int) {
		for q := i * panelsOf(n) / parts; q < (i+1)*panelsOf(n)/parts; q++ {
			g.panel(w, q, m)
		}
	})
}

// panel computes the columns of one panel of w.
func (g *product) panel(w *Packed, q, m int) {
	j, at := q*panelWidth, q*panelWidth*g.k
	if w.full != nil {
		g.panelColumns(g.a, w.full[at:at+panelWidth*g.k], j, min(panelWidth, w.n-j), m, g.k, g.load)
		return
	}
	wide, release := borrow(panelWidth * panelDepth)
	defer release()
	for p := 0; p < g.k; p += panelDepth {
		depth := min(panelDepth, g.k-p)
		from := at + p*panelWidth
		asm.Unpack(wide, w.halves[from:from+depth*panelWidth])
		g.panelColumns(matrix{g.a.data[p:], g.k, 1}, wide, j, min(panelWidth, w.n-j), m, depth, g.load || p > 0)
	}
}

// panelColumns computes n columns from j on over depth steps; a tile may be narrower than the panel.
func (g *product) panelColumns(a matrix, panel []float32, j, n, m, depth int, load bool) {
	tiles := (m + g.mr - 1) / g.mr
	for l := 0; l < n; l += g.nr {
		for t := range tiles {
			lo, hi := t*m/tiles, (t+1)*m/tiles
			asm.Tile(hi-lo, min(g.nr, n-l), depth, a.at(lo, 0), a.rs, 1, panel[l:], panelWidth, g.c[lo*g.ldc+j+l:], g.ldc, load, nil)
		}
	}
}
