package kernels

import "github.com/millrace/millrace/kernels/internal/asm"

const badMatrix = "kernels: lengths do not match the shape of the product"

// MatMulNT computes c[m,n] = a[m,k]·b[n,k]ᵀ + beta·c, the forward pass of a linear layer with weight b [out,in].
func MatMulNT(c, a, b []float32, m, n, k int, beta float32) {
	checkMatMul(c, a, b, m, n, k)
	gemm(c, n, matrix{a, k, 1}, matrix{b, 1, k}, m, n, k, 1, beta)
}

// MatMulNN computes c[m,n] = a[m,k]·b[k,n] + beta·c, the gradient of a linear layer with respect to its input.
func MatMulNN(c, a, b []float32, m, n, k int, beta float32) {
	checkMatMul(c, a, b, m, n, k)
	gemm(c, n, matrix{a, k, 1}, matrix{b, n, 1}, m, n, k, 1, beta)
}

// MatMulTN computes c[m,n] = a[k,m]ᵀ·b[k,n] + beta·c, the gradient of a linear layer with respect to its weight.
func MatMulTN(c, a, b []float32, m, n, k int, beta float32) {
	checkMatMul(c, a, b, m, n, k)
	gemm(c, n, matrix{a, 1, m}, matrix{b, n, 1}, m, n, k, 1, beta)
}

func checkMatMul(c, a, b []float32, m, n, k int) {
	if m < 0 || n < 0 || k < 0 || len(c) != m*n || len(a) != m*k || len(b) != k*n {
		panic(badMatrix)
	}
}

// matrix is a view: element (i,j) is data[i·rs + j·cs].
type matrix struct {
	data   []float32
	rs, cs int
}

// at returns the data from element (i,j) on.
func (a matrix) at(i, j int) []float32 { return a.data[i*a.rs+j*a.cs:] }

// Blocks of the product at most: kc·nr of B, a panel, passes by from the second-level cache for each tile; mc·kc of A and kc·nc of B
// stay there.
const (
	blockK = 576
	blockA = 128 * 576
	blockB = 512 * 384
	// serialWork is the number of multiply-adds up to which a second thread costs more than it brings.
	serialWork = 1 << 18
)

// gemm computes c[i·ldc + j] = alpha·Σ_p a(i,p)·b(p,j) + beta·c[i·ldc + j]. Each element starts from beta·c (0 where beta is
// 0) and adds (alpha·a)·b over p in order; blocks and threads split rows, columns and p without changing that.
func gemm(c []float32, ldc int, a, b matrix, m, n, k int, alpha, beta float32) {
	if prepare(c, ldc, m, n, beta, k == 0 || alpha == 0) {
		return
	}
	if alpha != 1 {
		scaled, release := borrow(m * k)
		defer release()
		for i := range m {
			for p := range k {
				scaled[i*k+p] = alpha * a.data[i*a.rs+p*a.cs]
			}
		}
		a = matrix{scaled, k, 1}
	}
	newProduct(numbers, c, ldc, a, b, n, k, beta != 0).run(m)
}

// prepare makes c what a product adds to, and reports whether that is all.
func prepare(c []float32, ldc, m, n int, beta float32, nothing bool) (done bool) {
	if m == 0 || n == 0 {
		return true
	}
	if beta != 0 && beta != 1 || nothing {
		for i := range m {
			row := c[i*ldc : i*ldc+n]
			if beta == 0 {
				clear(row)
			} else if beta != 1 {
				asm.Scale(beta, row)
			}
		}
	}
	return nothing
}

// run computes m rows on all threads.
func (g *product) run(m int) {
	n, workers := g.n, Threads()
	if m*n*g.k <= serialWork {
		workers = 1
	}
	if workers == 1 {
		g.block(0, m, 0, n)
		return
	}
	// Where columns are split each thread copies all of A, where rows are split each packs all of B. Packing costs more.
	if n >= m || 4*n >= m && n >= 4*g.nr*workers {
		parts, width := split(n, g.nr, 512, workers)
		items(parts, workers, func(i int) { g.block(0, m, i*width, min((i+1)*width, n)) })
		return
	}
	parts, height := split(m, g.mr, 2016, workers)
	items(parts, workers, func(i int) { g.block(i*height, min((i+1)*height, m), 0, n) })
}

// split cuts n into parts of one width, a multiple of unit and about size at most, a multiple of workers where that is possible.
func split(n, unit, size, workers int) (parts, width int) {
	parts = workers * ((n + size*workers - 1) / (size * workers))
	width = upTo((n+parts-1)/parts, unit)
	return (n + width - 1) / width, width
}

// even returns the size of equal parts, none above most, that n is cut into, rounded up to a multiple of unit.
func even(n, most, unit int) int {
	parts := (n + most - 1) / most
	return upTo((n+parts-1)/parts, unit)
}

// upTo is the least multiple of unit that is not below n.
func upTo(n, unit int) int { return (n + unit - 1) / unit * unit }

type product struct {
	c      []float32
	ldc, n int
	a, b   matrix
	k      int  // words
	load   bool // start from c
	mr, nr int

	form form // of the operands; b is still in numbers, and
	rows int  // so many rows of them
}

// newProduct is the product of a, in words of the form, and b over k steps.
func newProduct(f form, c []float32, ldc int, a, b matrix, n, k int, load bool) *product {
	g := &product{c: c, ldc: ldc, n: n, a: a, b: b, k: f.words(k), load: load, form: f, rows: k}
	g.mr, g.nr = f.tileSize()
	return g
}

// block computes rows [i0,i1) and columns [j0,j1) of the product. Panels of B are packed when the first rows of A need them; tiles
// fetch meanwhile from memory what is packed or read after.
func (g *product) block(i0, i1, j0, j1 int) {
	if i1-i0 <= g.mr && g.b.cs == 1 && g.form == numbers {
		g.thin(i0, i1, j0, j1)
		return
	}
	kc := even(g.k, blockK, max(4, g.form.whole()))
	mc := even(i1-i0, blockA/kc, 1)
	nc := even(j1-j0, blockB/kc, g.nr)
	copyA := g.copies(j1 - j0)
	keep := nc // columns of packed B
	if mc >= i1-i0 {
		keep = g.nr // each panel is used once
	}
	buffer, release := borrow(kc*keep + copySize(mc, kc, g.mr))
	defer release()
	packA, packB := buffer[kc*keep:], buffer[:kc*keep]

	for jc := j0; jc < j1; jc += nc {
		jn := min(nc, j1-jc)
		for pc := 0; pc < g.k; pc += kc {
			pn := min(kc, g.k-pc)
			load := g.load || pc > 0
			for ic := i0; ic < i1; ic += mc {
				in := min(mc, i1-ic)
				a := rowsOf(matrix{g.a.at(ic, pc), g.a.rs, g.a.cs}, in, g.mr)
				if copyA {
					a.copy(packA, pn)
				}
				soonA := g.a.soon(ic+mc, min(mc, i1-ic-mc), pc, pn)
				if ic+mc >= i1 && pc+kc < g.k {
					soonA = g.a.soon(i0, min(mc, i1-i0), pc+kc, min(kc, g.k-pc-kc))
				}
				columns := (jn + g.nr - 1) / g.nr
				for q := range columns {
					j := jc + q*g.nr
					nr := min(g.nr, j1-j)
					panel := packB[q*g.nr%keep*pn:]
					var soonB asm.Soon
					if ic == i0 {
						g.pack(panel[:g.nr*pn], pc, pn, j, nr)
						if j+g.nr < j1 {
							p, steps := g.steps(pc, pn)
							soonB = g.b.soon(p, steps, j+g.nr, min(g.nr, j1-j-g.nr))
						}
					}
					g.column(&a, ic, panel, j, nr, pn, load, soonB, share(soonA, q, columns))
				}
			}
		}
	}
}

// soon is the memory of rows [i,i+m) and columns [j,j+n).
func (a matrix) soon(i, m, j, n int) asm.Soon {
	if m <= 0 || n <= 0 {
		return asm.Soon{}
	}
	if a.cs == 1 {
		return asm.Soon{Data: a.at(i, j), Run: n, LD: a.rs, Runs: m}
	}
	return asm.Soon{Data: a.at(i, j), Run: m, LD: a.cs, Runs: n}
}

// share is part t of n of the runs.
func share(s asm.Soon, t, n int) asm.Soon {
	lo, hi := t*s.Runs/n, (t+1)*s.Runs/n
	if hi > lo {
		s.Data, s.Runs = s.Data[lo*s.LD:], hi-lo
		return s
	}
	return asm.Soon{}
}

// copies reports whether A is to be copied, where n columns of C are computed. A is read row by row from several rows at once;
// it is copied where it is used often, or where rows a multiple of four kilobytes apart would fall on one another in the cache.
func (g *product) copies(n int) bool {
	switch {
	case g.a.cs == 1:
		return g.a.rs%1024 == 0 && g.a.rs > 0
	case g.a.rs == 1:
		return n > 8*g.nr
	}
	return true
}

// column computes the rows a, which are those from ic on, and nr columns from jc on, over pn steps: one panel of B. Its first tiles
// fetch soonB, the others soonA.
func (g *product) column(a *rows, ic int, panel []float32, jc, nr, pn int, load bool, soonB, soonA asm.Soon) {
	soon, first, tiles := soonB, 0, a.tiles
	switch {
	case soonB.Runs == 0:
		soon = soonA
	case soonA.Runs > 0:
		tiles = (tiles + 1) / 2
	}
	runs := (soon.Runs + tiles - 1) / tiles
	for t, ir, end := 0, 0, 0; t < a.tiles; t, ir = t+1, end {
		_, end = a.tile(t)
		if t == tiles {
			soon, first = soonA, t
			runs = (soon.Runs + a.tiles - t - 1) / (a.tiles - t)
		}
		var s asm.Soon
		if lo := (t - first) * runs; lo < soon.Runs {
			s = asm.Soon{Data: soon.Data[lo*soon.LD:], Run: soon.Run, LD: soon.LD, Runs: min(runs, soon.Runs-lo)}
		}
		if t+1 < a.tiles {
			s.C = g.c[(ic+end)*g.ldc+jc:]
		} else if jc+g.nr < g.n {
			s.C = g.c[ic*g.ldc+jc+g.nr:]
		}
		g.form.tile(end-ir, nr, pn, a.of(t, ir), a.rs, a.cs, panel, g.nr, g.c[(ic+ir)*g.ldc+jc:], g.ldc, load, s)
	}
}

// rows are n rows of A in tiles of about one height, so that the last is not a sliver.
type rows struct {
	matrix
	n, tiles int
	panel    int // size of a tile where they were copied one after the other; 0 where rows lie rs apart
}

func rowsOf(a matrix, n, mr int) rows { return rows{matrix: a, n: n, tiles: (n + mr - 1) / mr} }

// tile returns where the rows of tile t begin and end.
func (a *rows) tile(t int) (lo, hi int) { return t * a.n / a.tiles, (t + 1) * a.n / a.tiles }

// of returns the data of tile t, whose first row is i.
func (a *rows) of(t, i int) []float32 {
	if a.panel > 0 {
		return a.data[t*a.panel:]
	}
	return a.at(i, 0)
}

// copySize is the room that n rows of k need for a copy.
func copySize(n, k, mr int) int { return max(n*(k+16), (n+mr-1)/mr*asm.ColumnWidth()*k) }

// copy moves the first k columns to dst. Where steps of k are apart each tile gets a panel of its own.
func (a *rows) copy(dst []float32, k int) {
	if a.rs != 1 || a.cs == 1 {
		a.matrix = copyRows(dst, a.matrix, a.n, k)
		return
	}
	w := asm.ColumnWidth()
	for t := range a.tiles {
		lo, hi := a.tile(t)
		asm.PackColumns(dst[t*k*w:], w, a.data[lo:], a.cs, hi-lo, k)
	}
	a.matrix, a.panel = matrix{dst, 1, w}, k*w
}

// copyRows copies the first m×k elements of a to dst, row by row.
func copyRows(dst []float32, a matrix, m, k int) matrix {
	ld := k + 16
	for i := range m {
		if a.cs == 1 {
			copy(dst[i*ld:i*ld+k], a.at(i, 0))
			continue
		}
		for p := range k {
			dst[i*ld+p] = a.data[i*a.rs+p*a.cs]
		}
	}
	return matrix{dst, ld, 1}
}

// thin is block for so few rows that nothing is read twice: B is taken where it lies.
func (g *product) thin(i0, i1, j0, j1 int) {
	a := matrix{g.a.at(i0, 0), g.a.rs, g.a.cs}
	w := asm.ColumnWidth()
	whole := (j1 - j0) / w * w
	for j := j0; j < j0+whole; j += g.nr {
		asm.Tile(i1-i0, min(g.nr, j0+whole-j), g.k, a.data, a.rs, a.cs, g.b.at(0, j), g.b.rs, g.c[i0*g.ldc+j:], g.ldc, g.load, false, asm.Soon{})
	}
	if j := j0 + whole; j < j1 {
		// A tile reads whole registers: the last columns are copied to where there is room.
		panel, release := borrow(g.k * g.nr)
		defer release()
		packPanel(panel, g.b, 0, g.k, j, j1-j, g.nr, false)
		last := rowsOf(a, i1-i0, g.mr)
		g.column(&last, i0, panel, j, j1-j, g.k, g.load, asm.Soon{}, asm.Soon{})
	}
}

// packPanel copies rows [pc,pc+pn) and columns [j,j+n) of b to a panel of nr columns; columns past the end are arbitrary. With ahead,
// the columns that follow are fetched into the cache on the way.
func packPanel(panel []float32, b matrix, pc, pn, j, n, nr int, ahead bool) {
	if b.rs == 1 && b.cs != 1 {
		asm.PackT(panel, b.at(pc, j), b.cs, n, pn, nr, ahead)
		return
	}
	switch {
	case b.cs == 1 && n == nr:
		asm.PackN(panel, b.at(pc, j), b.rs, pn, nr)
	case b.cs == 1:
		asm.PackColumns(panel, nr, b.at(pc, j), b.rs, n, pn)
	default:
		for p := range pn {
			for l := range n {
				panel[p*nr+l] = b.data[(pc+p)*b.rs+(j+l)*b.cs]
			}
		}
	}
}

// packPanels is packPanel for columns [jc,jc+jn) in as many panels as they need, one after the other.
func packPanels(dst []float32, b matrix, pc, pn, jc, jn, nr int, ahead bool) {
	for j := 0; j < jn; j += nr {
		packPanel(dst[j*pn:(j+nr)*pn], b, pc, pn, jc+j, min(nr, jn-j), nr, ahead)
	}
}
