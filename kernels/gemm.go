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

// Blocks of the product at most: a panel of B, kc·nr, stays in the first-level cache while mc rows of A pass by; mc·kc of A
// and kc·nc of B stay in the second. Where k is small, m and n may be larger in proportion.
const (
	blockK = 384
	blockM = 84
	blockN = 512
	// skinnyM and skinnyK bound the rows and the depth of products that take B panel by panel.
	skinnyM = 128
	skinnyK = 2048
	// cacheLine is the number of elements in one.
	cacheLine = 16
	// serialWork is the number of multiply-adds up to which a second thread costs more than it brings.
	serialWork = 1 << 18
)

// gemm computes c[i·ldc + j] = alpha·Σ_p a(i,p)·b(p,j) + beta·c[i·ldc + j]. Each element starts from beta·c (0 where beta is
// 0) and adds (alpha·a)·b over p in order; blocks and threads split rows, columns and p without changing that.
func gemm(c []float32, ldc int, a, b matrix, m, n, k int, alpha, beta float32) {
	if m == 0 || n == 0 {
		return
	}
	if beta != 0 && beta != 1 || k == 0 || alpha == 0 {
		for i := range m {
			row := c[i*ldc : i*ldc+n]
			if beta == 0 {
				clear(row)
			} else if beta != 1 {
				asm.Scale(beta, row)
			}
		}
		if k == 0 || alpha == 0 {
			return
		}
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
	g := product{c: c, ldc: ldc, a: a, b: b, k: k, load: beta != 0}
	g.mr, g.nr = asm.TileSize()

	workers := Threads()
	if m*n*k <= serialWork {
		workers = 1
	}
	if workers == 1 {
		g.block(0, m, 0, n)
		return
	}
	// Where columns are split each thread copies all of A, where rows are split each packs all of B. Packing costs more.
	if n >= m || 4*n >= m && n >= 4*g.nr*workers {
		parts, width := split(n, g.nr, blockN, workers)
		items(parts, workers, func(i int) { g.block(0, m, i*width, min((i+1)*width, n)) })
		return
	}
	parts, height := split(m, g.mr, 6*blockM, workers)
	items(parts, workers, func(i int) { g.block(i*height, min((i+1)*height, m), 0, n) })
}

// split cuts n into parts of one width, a multiple of unit and about size at most, a multiple of workers where that is possible.
func split(n, unit, size, workers int) (parts, width int) {
	parts = workers * ((n + size*workers - 1) / (size * workers))
	width = (n + parts - 1) / parts
	width = (width + unit - 1) / unit * unit
	return (n + width - 1) / width, width
}

// even returns the size of equal parts, none above most, that n is cut into, rounded up to a multiple of unit.
func even(n, most, unit int) int {
	parts := (n + most - 1) / most
	return ((n+parts-1)/parts + unit - 1) / unit * unit
}

type product struct {
	c      []float32
	ldc    int
	a, b   matrix
	k      int
	load   bool // start from c
	mr, nr int
}

// block computes rows [i0,i1) and columns [j0,j1) of the product.
func (g *product) block(i0, i1, j0, j1 int) {
	if i1-i0 <= skinnyM && g.k <= skinnyK && g.b.rs == 1 && g.b.cs == g.k {
		g.skinny(i0, i1, j0, j1)
		return
	}
	if i1-i0 <= g.mr && g.b.cs == 1 {
		g.thin(i0, i1, j0, j1)
		return
	}
	kc := even(g.k, blockK, 4)
	mc := even(i1-i0, blockM*blockK/kc, g.mr)
	nc := even(j1-j0, blockN*blockK/kc, g.nr)
	copyA := g.copies(j1 - j0)
	packB, release := borrow(kc*nc + mc*(kc+16))
	defer release()
	packA := packB[kc*nc:]
	packB = packB[:kc*nc]

	for jc := j0; jc < j1; jc += nc {
		jn := min(nc, j1-jc)
		for pc := 0; pc < g.k; pc += kc {
			pn := min(kc, g.k-pc)
			packPanels(packB, g.b, pc, pn, jc, jn, g.nr, true)
			for ic := i0; ic < i1; ic += mc {
				in := min(mc, i1-ic)
				a := matrix{g.a.at(ic, pc), g.a.rs, g.a.cs}
				if copyA {
					a = copyBlock(packA, a, in, pn)
				}
				for jr := 0; jr < jn; jr += g.nr {
					g.column(a, ic, in, packB[jr*pn:], jc+jr, min(g.nr, jn-jr), pn, g.load || pc > 0, nil)
				}
			}
		}
	}
}

// copies reports whether A is to be copied, where n columns of C are computed. A is read row by row from several rows at once;
// it is copied where it is used often, or where rows a multiple of a kilobyte apart would fall on one another in the cache.
func (g *product) copies(n int) bool {
	switch {
	case g.a.cs == 1:
		return n > 8*g.nr || g.a.rs%256 == 0 && g.a.rs > 0
	case g.a.rs == 1:
		return n > 8*g.nr
	}
	return true
}

// column computes in rows from ic on and nr columns from jc on, over pn steps: one panel of B against a block of A. Memory
// from next on is fetched into the cache meanwhile.
func (g *product) column(a matrix, ic, in int, panel []float32, jc, nr, pn int, load bool, next []float32) {
	// Tiles of about one height, so that the last is not a sliver.
	tiles := (in + g.mr - 1) / g.mr
	for t := range tiles {
		ir, end := t*in/tiles, (t+1)*in/tiles
		asm.Tile(end-ir, nr, pn, a.at(ir, 0), a.rs, a.cs, panel, g.nr, g.c[(ic+ir)*g.ldc+jc:], g.ldc, load, next, cacheLine)
		if len(next) > cacheLine*pn {
			next = next[cacheLine*pn:]
		} else {
			next = nil
		}
	}
}

// skinny is block for few rows and a B that is transposed and dense: A is small, and reading B once is most of the work. Each
// panel is packed, used at once, and the next fetched from memory meanwhile.
func (g *product) skinny(i0, i1, j0, j1 int) {
	rows, k := i1-i0, g.k
	buffer, release := borrow(k*g.nr + rows*(k+16))
	defer release()
	panel, a := buffer[:k*g.nr], matrix{g.a.at(i0, 0), g.a.rs, g.a.cs}
	if g.copies(j1 - j0) {
		a = copyBlock(buffer[k*g.nr:], a, rows, k)
	}
	for j := j0; j < j1; j += g.nr {
		packPanels(panel, g.b, 0, k, j, min(g.nr, j1-j), g.nr, rows <= g.mr)
		var next []float32
		if j+g.nr < j1 {
			next = g.b.data[(j+g.nr)*k : min(j+2*g.nr, j1)*k]
		}
		g.column(a, i0, rows, panel, j, min(g.nr, j1-j), k, g.load, next)
	}
}

// thin is block for so few rows that nothing is read twice: B is taken where it lies.
func (g *product) thin(i0, i1, j0, j1 int) {
	a := matrix{g.a.at(i0, 0), g.a.rs, g.a.cs}
	whole := (j1 - j0) / g.nr * g.nr
	for j := j0; j < j0+whole; j += g.nr {
		asm.Tile(i1-i0, g.nr, g.k, a.data, a.rs, a.cs, g.b.at(0, j), g.b.rs, g.c[i0*g.ldc+j:], g.ldc, g.load, nil, 0)
	}
	if j := j0 + whole; j < j1 {
		// A tile reads whole panels: the last columns are copied to where there is room.
		panel, release := borrow(g.k * g.nr)
		defer release()
		packPanels(panel, g.b, 0, g.k, j, j1-j, g.nr, false)
		g.column(a, i0, i1-i0, panel, j, j1-j, g.k, g.load, nil)
	}
}

// packPanels copies rows [pc,pc+pn) and columns [jc,jc+jn) of b to panels of nr columns each: panel, row, column; columns
// past the end are arbitrary. With ahead, the columns that follow are fetched into the cache on the way.
func packPanels(dst []float32, b matrix, pc, pn, jc, jn, nr int, ahead bool) {
	for j := 0; j < jn; j += nr {
		w := min(nr, jn-j)
		panel := dst[j*pn : (j+nr)*pn]
		if b.rs == 1 && b.cs != 1 {
			asm.PackT(panel, b.at(pc, jc+j), b.cs, w, pn, nr, ahead)
			continue
		}
		if b.cs == 1 && w == nr {
			asm.PackN(panel, b.at(pc, jc+j), b.rs, pn, nr)
			continue
		}
		for p := range pn {
			to := panel[p*nr : (p+1)*nr]
			if b.cs == 1 {
				copy(to[:w], b.at(pc+p, jc+j))
			} else {
				for l := range w {
					to[l] = b.data[(pc+p)*b.rs+(jc+j+l)*b.cs]
				}
			}
			clear(to[w:])
		}
	}
}

// copyBlock copies the first m×k elements of a to dst, keeping the direction that is contiguous.
func copyBlock(dst []float32, a matrix, m, k int) matrix {
	if a.rs == 1 {
		for p := range k {
			copy(dst[p*m:(p+1)*m], a.at(0, p))
		}
		return matrix{dst, 1, m}
	}
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
