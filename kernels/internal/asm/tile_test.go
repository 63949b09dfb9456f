package asm

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// integers draws small integers, of which every order of summing gives the same.
func integers(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.IntN(17) - 8)
	}
	return x
}

// TestTile: every height and width, both directions of a, from zero and from c, with and without memory to fetch, bfloat16 too; nothing
// but the tile is written.
func TestTile(t *testing.T) {
	forEachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		mr, nr := TileSize()
		for rows := 1; rows <= mr; rows++ {
			for cols := 1; cols <= nr; cols++ {
				k, lda, brs, ldc := 1+r.IntN(70), 0, nr+r.IntN(5), cols+r.IntN(9)
				rowwise, load := r.IntN(2) == 0, r.IntN(2) == 0
				a, b, c := integers(r, (rows+5)*(k+20)), integers(r, k*brs+nr), integers(r, rows*ldc)
				ars, acs := 1, rows+r.IntN(5)
				if rowwise {
					lda = k + r.IntN(20)
					ars, acs = lda, 1
				}
				prs := (nr+PairColumns-1)/PairColumns*PairColumns/2 + r.IntN(5)
				pairs := make([]uint32, k*prs+8)
				for p := range k {
					for j := range nr {
						SetPair(pairs[p*prs:], j, uint16(math.Float32bits(b[p*brs+j])>>16))
					}
				}
				want := slices.Clone(c)
				for i := range rows {
					for j := range cols {
						if !load {
							want[i*ldc+j] = 0
						}
						for p := range k {
							want[i*ldc+j] += a[i*ars+p*acs] * b[p*brs+j]
						}
					}
				}
				soon, soonPairs := Soon[float32]{}, Soon[uint32]{}
				if r.IntN(2) == 0 {
					soon = Soon[float32]{C: c, Data: b, Run: 1 + r.IntN(len(b)), LD: r.IntN(50), Runs: r.IntN(9)}
					soonPairs = Soon[uint32]{C: c, Data: pairs, Run: 1 + r.IntN(len(b)), LD: r.IntN(50), Runs: r.IntN(9)}
				}
				got, check := guarded([][]float32{c}, rows+cols)
				Tile(rows, cols, k, a, ars, acs, b, brs, got[0], ldc, load, soon)
				check(t)
				sameBits(t, "tile", got[0], want)
				if acs == 1 {
					got, check = guarded([][]float32{c}, rows+cols)
					TilePairs(rows, cols, k, a, ars, acs, pairs, prs, got[0], ldc, load, soonPairs)
					check(t)
					sameBits(t, "tile of bfloat16", got[0], want)
				}
			}
		}
	})
}

// TestPack: copies of every width hold what they should, and nothing is written beyond.
func TestPack(t *testing.T) {
	forEachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 8))
		_, nr := TileSize()
		width := max(nr, ColumnWidth())
		for n := 1; n <= width; n++ {
			for range 4 {
				k, ld := 1+r.IntN(150), 0
				check := func(what string, f func(dst, src []float32), at func(p, j int) int) {
					t.Helper()
					src := integers(r, (width+20)*(k+20))
					got, guard := guarded([][]float32{make([]float32, k*width)}, n+k)
					f(got[0], src)
					guard(t)
					for p := range k {
						for j := range n {
							if got[0][p*width+j] != src[at(p, j)] {
								t.Fatalf("%s of %d×%d: element (%d, %d) is %v, want %v", what, k, n, p, j, got[0][p*width+j], src[at(p, j)])
							}
						}
					}
				}
				ld = k + r.IntN(9)
				check("PackT", func(dst, src []float32) { PackT(dst, src[:(n-1)*ld+k], ld, n, k, width, r.IntN(2) == 0) }, func(p, j int) int { return j*ld + p })
				ld = n + r.IntN(9)
				check("PackColumns", func(dst, src []float32) { PackColumns(dst, width, src[:(k-1)*ld+n], ld, n, k) }, func(p, j int) int { return p*ld + j })
				if n == nr {
					check("PackN", func(dst, src []float32) { PackN(dst, src[:(k-1)*ld+n], ld, k, nr) }, func(p, j int) int { return p*ld + j })
				}
			}
		}
	})
}

// TestWiden: every number is where its column is, and nothing is written beyond.
func TestWiden(t *testing.T) {
	forEachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(9, 10))
		for k := range 20 {
			pairs, want := make([]uint32, 16*k), make([]float32, 32*k)
			for i := range want {
				upper := uint16(r.Uint32())
				SetPair(pairs[i/32*16:], i%32, upper)
				want[i] = math.Float32frombits(uint32(upper) << 16)
			}
			got, guard := guarded([][]float32{make([]float32, 32*k)}, k)
			Widen(got[0], pairs)
			guard(t)
			sameBits(t, "widened", got[0], want)
		}
	})
}
