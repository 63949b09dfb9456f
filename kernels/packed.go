package kernels

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// Packed is a weight [n,k] laid out for products with few rows, as in decoding: panels of 32 outputs, read from memory once and
// in order, in single precision or in bfloat16. Products have the bits of MatMulNT with the same values, in the same precision.
type Packed struct {
	n, k      int
	precision Precision
	paired    bool
	words     []float32 // panels [k, 32] of numbers, or [⌈k/2⌉, 32] of pairs of bfloat16, see asm.Pair
}

const panelWidth = 32

// Weight is a weight [n,k] to be packed, and how.
type Weight struct {
	W         []float32
	N, K      int
	Precision Precision // of the products
	// Half keeps the weight in bfloat16: half the memory, and half the time where reading it is the limit. In precision Float32 the
	// upper halves of its numbers count, so it should hold bfloat16 numbers; in the others they are rounded, and half is all that is kept.
	Half bool
}

// Pack lays out weights, all in one piece of memory.
func Pack(weights ...Weight) []*Packed {
	packed := make([]*Packed, len(weights))
	firsts := make([]int, len(weights)+1) // panels before those of a weight
	size := 0
	for i, w := range weights {
		if w.N < 0 || w.K < 0 || len(w.W) != w.N*w.K {
			panic(badMatrix)
		}
		packed[i] = &Packed{n: w.N, k: w.K, precision: w.Precision, paired: w.Half || w.Precision.Rounds()}
		firsts[i+1] = firsts[i] + panelsOf(w.N)
		size += panelsOf(w.N) * packed[i].panelSize()
	}
	all := Make[float32](size)
	at := 0
	for _, p := range packed {
		end := at + panelsOf(p.n)*p.panelSize()
		p.words = all[at:end:end]
		at = end
	}
	Parallel(firsts[len(weights)], 1, func(lo, hi int) {
		for q := lo; q < hi; q++ {
			i, _ := slices.BinarySearchFunc(firsts[1:], q, func(first, q int) int { return cmp.Compare(first, q+1) })
			packed[i].pack(q-firsts[i], weights[i])
		}
	})
	settle(all)
	return packed
}

// pack fills panel q.
func (p *Packed) pack(q int, w Weight) {
	lo, hi, k := q*panelWidth, min((q+1)*panelWidth, p.n), p.k
	panel := p.panel(q)
	g := product{b: matrix{w.W, 1, k}, nr: panelWidth, rows: k, form: p.precision.form()}
	if !p.paired || g.form.pairs() {
		g.pack(panel, 0, g.form.words(k), lo, hi-lo)
		return
	}
	row, release := borrow(k)
	defer release()
	for j := lo; j < hi; j++ {
		copy(row, w.W[j*k:])
		if p.precision.Rounds() {
			asm.Round(row)
		}
		for i := range pairsOf(k) {
			var odd float32
			if 2*i+1 < k {
				odd = row[2*i+1]
			}
			panel[i*panelWidth+j-lo] = asm.Pair(row[2*i], odd)
		}
	}
}

// panelSize is the size of a panel in words.
func (p *Packed) panelSize() int {
	if p.paired {
		return panelWidth * pairsOf(p.k)
	}
	return panelWidth * p.k
}

// panel is where panel q lies.
func (p *Packed) panel(q int) fetch { return p.words[q*p.panelSize() : (q+1)*p.panelSize()] }

// pairsOf is the number of pairs that k steps take.
func pairsOf(k int) int { return (k + 1) / 2 }

func panelsOf(n int) int { return (n + panelWidth - 1) / panelWidth }

// Shape returns the outputs n and inputs k of the weight.
func (p *Packed) Shape() (n, k int) { return p.n, p.k }

// MatMulPacked computes c[m,n] = a[m,k]·wᵀ + beta·c with a packed weight.
func MatMulPacked(c, a []float32, w *Packed, m int, beta float32) {
	if len(c) == m*w.n && beta != 0 && beta != 1 {
		Scale(beta, c)
	}
	multiplyPacked([]packedProduct{{c: c, w: w}}, a, m, beta != 0)
}

// MatMulPackedEach computes c[i][m,n_i] = a[m,k]·w[i]ᵀ with weights that take the same inputs, as those of queries, keys and values do,
// at once: threads need not wait for one another in between.
func MatMulPackedEach(c [][]float32, a []float32, w []*Packed, m int) {
	if len(c) != len(w) {
		panic(badMatrix)
	}
	products := make([]packedProduct, len(w))
	for i := range w {
		products[i] = packedProduct{c: c[i], w: w[i]}
	}
	multiplyPacked(products, a, m, false)
}

// packedProduct is one of the products of the same rows; its panels follow those of the one before.
type packedProduct struct {
	c     []float32
	w     *Packed
	first int
}

// packedBlock is how many numbers of A stay in the second-level cache while panels pass by.
const packedBlock = 256 * 576

func multiplyPacked(products []packedProduct, a []float32, m int, load bool) {
	if len(products) == 0 {
		return
	}
	k, panels, columns := products[0].w.k, 0, 0
	for i := range products {
		p := &products[i]
		if m < 0 || p.w.k != k || p.w.precision != products[0].w.precision || len(p.c) != m*p.w.n || len(a) != m*k {
			panic(badMatrix)
		}
		p.first = panels
		panels += panelsOf(p.w.n)
		columns += p.w.n
		if k == 0 && !load {
			clear(p.c)
		}
	}
	if m == 0 || panels == 0 || k == 0 {
		return
	}
	workers := Threads()
	if m*columns*k <= serialWork {
		workers = 1
	}
	x := packedWork{products: products, load: load, m: m, k: k, a: matrix{a, k, 1}, form: products[0].w.precision.form()}
	x.mr, x.nr = x.form.tileSize()
	x.mc = even(m, max(x.mr, packedBlock/x.form.words(k)), x.mr)
	if x.form != numbers {
		room, release := borrow(x.form.room(m, k))
		defer release()
		x.a = x.form.round(room, x.a, m, k, Parallel)
	}
	// With few rows a panel is read once, and fetched while the one before it is computed. With many, some stay in the second-level
	// cache, widened if that is needed, while blocks of rows pass by.
	if x.mc >= m {
		if g := (&product{a: x.a}); g.copies(columns) {
			room, release := borrow(m * (k + 16))
			defer release()
			x.a = copyRows(room, x.a, m, k)
		}
		deal(panels, workers, x.panel)
		return
	}
	group := groupOf(k) * workers
	parts := min(panels, workers*max(2, (panels+group-1)/group))
	deal(parts, workers, func(i, _ int) { x.panels(i*panels/parts, (i+1)*panels/parts) })
}

// groupOf is the number of panels that stay in the second-level cache together.
func groupOf(k int) int { return max(1, blockB/(panelWidth*k)) }

// packedWork is a product of rows a with panels of weights.
type packedWork struct {
	products []packedProduct
	load     bool
	m, k     int
	a        matrix
	form     form // of a
	mc       int  // rows at a time
	mr, nr   int
}

// find returns the product that panel q is of, and its number there.
func (x *packedWork) find(q int) (p *packedProduct, at int) {
	for i := len(x.products) - 1; ; i-- {
		if p = &x.products[i]; q >= p.first {
			return p, q - p.first
		}
	}
}

// panel computes the columns of panel q, and fetches panel next unless that is -1.
func (x *packedWork) panel(q, next int) {
	p, at := x.find(q)
	var soon fetch
	if next >= 0 {
		p, at := x.find(next)
		soon = p.w.panel(at)
	}
	x.tiles(p, at, 0, x.m, x.a, p.w.panel(at), p.w.paired, soon, nil)
}

// panels computes the columns of panels lo to hi, blocks of rows at a time. Each block fetches the next.
func (x *packedWork) panels(lo, hi int) {
	k := x.k
	g := product{a: x.a}
	copyA := g.copies((hi - lo) * panelWidth)
	size := panelWidth * 2 * pairsOf(k)
	full, release := borrow((hi-lo)*size + x.mc*(k+16))
	defer release()
	full, room := full[:(hi-lo)*size], full[(hi-lo)*size:]
	for i0 := 0; i0 < x.m; i0 += x.mc {
		rows := min(x.mc, x.m-i0)
		block := matrix{x.a.at(i0, 0), x.a.rs, 1}
		if copyA {
			block = copyRows(room, block, rows, k)
		}
		var soonRows fetch
		if next := i0 + rows; next < x.m {
			soonRows = x.a.at(next, 0)
			soonRows = soonRows[:min(len(soonRows), min(x.mc, x.m-next)*x.a.rs)]
		}
		part := (len(soonRows) + hi - lo - 1) / (hi - lo)
		for q := lo; q < hi; q++ {
			p, at := x.find(q)
			panel, paired := p.w.panel(at), p.w.paired
			var soon fetch
			if i0 == 0 && q+1 < hi {
				p, at := x.find(q + 1)
				soon = p.w.panel(at)
			}
			if paired && !x.form.pairs() {
				wide := full[(q-lo)*size : (q-lo+1)*size]
				if i0 == 0 {
					asm.Widen(wide, panel)
				}
				panel, paired = wide, false
			}
			x.tiles(p, at, i0, rows, block, panel, paired, soon, soonRows.cut(part))
		}
	}
}

// tiles computes rows from i0 on of the columns of panel at, in pairs or not; it fetches soon and then after meanwhile.
func (x *packedWork) tiles(p *packedProduct, at, i0, rows int, a matrix, panel []float32, paired bool, soon, after fetch) {
	n, k, tile := p.w.n, x.form.words(x.k), x.form.tile
	if paired {
		tile = x.form.tilePaired
	}
	j := at * panelWidth
	cols := min(panelWidth, n-j)
	c := p.c[i0*n+j:]
	tiles := (rows + x.mr - 1) / x.mr
	all := tiles * ((cols + x.nr - 1) / x.nr)
	share := (len(soon) + len(after) + all - 1) / all
	for l := 0; l < cols; l += x.nr {
		for t := range tiles {
			i, end := t*rows/tiles, (t+1)*rows/tiles
			if len(soon) == 0 {
				soon, after = after, nil
			}
			tile(end-i, min(x.nr, cols-l), k, a.at(i, 0), a.rs, 1, panel[l:], panelWidth, c[i*n+l:], n, x.load, soon.take(share))
		}
	}
}
