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

// TestTile: every height and width, both directions of a, from zero and from c, with and without memory to fetch, pairs of bfloat16 too;
// nothing but the tile is written.
func TestTile(t *testing.T) {
	forEachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		mr, nr := TileSize()
		for rows := 1; rows <= mr; rows++ {
			for cols := 1; cols <= nr; cols++ {
				k, lda, brs, ldc := 1+r.IntN(70), 0, nr+r.IntN(5), cols+r.IntN(9)
				rowwise, load, flush := r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0
				a, b, c := integers(r, (rows+5)*(k+20)), integers(r, k*brs+nr), integers(r, rows*ldc)
				ars, acs := 1, rows+r.IntN(5)
				if rowwise {
					lda = k + r.IntN(20)
					ars, acs = lda, 1
				}
				pairs := make([]float32, (k+1)/2*brs+nr)
				for p := range k {
					for j := range nr {
						pair := &pairs[p/2*brs+j]
						if p%2 == 0 {
							*pair = Pair(b[p*brs+j], 0)
						} else {
							*pair = Pair(upper(*pair), b[p*brs+j])
						}
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
				soon := Soon{}
				if r.IntN(2) == 0 {
					soon = Soon{C: c, Data: b, Run: 1 + r.IntN(len(b)), LD: r.IntN(50), Runs: r.IntN(9)}
				}
				got, check := guarded([][]float32{c}, rows+cols)
				Tile(rows, cols, k, a, ars, acs, b, brs, got[0], ldc, load, flush, soon)
				check(t)
				sameBits(t, "tile", got[0], want)
				if acs == 1 {
					got, check = guarded([][]float32{c}, rows+cols)
					TilePairs(rows, cols, k, a, ars, acs, pairs, brs, got[0], ldc, load, flush, soon)
					check(t)
					sameBits(t, "tile of pairs", got[0], want)
				}
				if HasDots() {
					words := (k + 1) / 2
					dots := make([]float32, len(a))
					for i := range rows {
						for p := range words {
							odd := float32(0)
							if 2*p+1 < k {
								odd = a[i*ars+(2*p+1)*acs]
							}
							dots[i*ars+p*acs] = Pair(a[i*ars+2*p*acs], odd)
						}
					}
					got, check = guarded([][]float32{c}, rows+cols)
					TileDots(rows, cols, words, dots, ars, acs, pairs, brs, got[0], ldc, load, flush, soon)
					check(t)
					sameBits(t, "tile of dots", got[0], want)
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
				check("PackT", func(dst, src []float32) { PackT(dst, src[:(n-1)*ld+k], ld, n, k, width, r.IntN(2) == 0) },
					func(p, j int) int { return j*ld + p })
				ld = n + r.IntN(9)
				check("PackColumns", func(dst, src []float32) { PackColumns(dst, width, src[:(k-1)*ld+n], ld, n, k) },
					func(p, j int) int { return p*ld + j })
				if n == nr {
					check("PackN", func(dst, src []float32) { PackN(dst, src[:(k-1)*ld+n], ld, k, nr) }, func(p, j int) int { return p*ld + j })
				}
			}
		}
	})
}

// awkward draws numbers of every kind: of the usual size, tiny, denormal, halfway between two bfloat16 numbers, infinite, not a number.
func awkward(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		switch r.IntN(8) {
		case 0:
			x[i] = hostile(r)
		case 1:
			x[i] = math.Float32frombits(r.Uint32()&0x80ffffff | 1) // about the smallest normal number
		case 2:
			x[i] = math.Float32frombits(r.Uint32()&0xffff0000 | 0x8000)
		default:
			x[i] = float32(r.NormFloat64())
		}
	}
	return x
}

// TestRounding: numbers become the nearest in bfloat16 whatever they are, in pairs of both directions too, and the levels agree.
func TestRounding(t *testing.T) {
	for _, c := range []struct{ in, want uint32 }{
		{0x3f800000, 0x3f800000}, {0x3f808000, 0x3f800000}, {0x3f818000, 0x3f820000}, {0x3f808001, 0x3f810000}, {0xbf80ffff, 0xbf810000},
		{0x7f7fffff, 0x7f800000}, {0x7f800000, 0x7f800000}, {0xff800000, 0xff800000}, {0x7f800001, 0x7fc00000}, {0xffffffff, 0xffff0000},
		{0x007fffff, 0}, {0x80000001, 0x80000000}, {0x00800000, 0x00800000}, {0, 0}, {0x80000000, 0x80000000},
	} {
		if got := math.Float32bits(Rounded(math.Float32frombits(c.in))); got != c.want {
			t.Errorf("%08x becomes %08x, want %08x", c.in, got, c.want)
		}
	}
	forEachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(9, 10))
		for n := range 200 {
			x := awkward(r, n)
			want := slices.Clone(x)
			roundGeneric(want)
			got, guard := guarded([][]float32{x}, n)
			Round(got[0])
			guard(t)
			sameBits(t, "rounded", got[0], want)
			want = make([]float32, (n+1)/2)
			roundPairsGeneric(want, x)
			got, guard = guarded([][]float32{make([]float32, (n+1)/2)}, n)
			RoundPairs(got[0], x)
			guard(t)
			sameBits(t, "pairs", got[0], want)

			k, ld := 1+r.IntN(9), n+r.IntN(9)
			x = awkward(r, k*ld)
			width := (n+15)/16*16 + 16*r.IntN(2)
			want = make([]float32, (k+1)/2*width)
			interleaveGeneric(want, width, x, ld, n, k)
			got, guard = guarded([][]float32{make([]float32, len(want))}, n)
			Interleave(got[0], width, x, ld, n, k)
			guard(t)
			sameBits(t, "interleaved", got[0], want)
		}
	})
}

// TestFlush: dots, and tiles that are to flush denormal sums, agree on numbers of every kind at every level.
func TestFlush(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 300 {
		k := 1 + r.IntN(20)
		a, b, c := awkward(r, 4*k), awkward(r, k*32), awkward(r, 4*32)
		roundGeneric(a)
		roundGeneric(b)
		for _, x := range [][]float32{a, b, c} {
			scale := float32(math.Ldexp(1, -r.IntN(70))) // so that sums are denormal now and then
			for i := range x {
				if x[i] *= scale; x[i] != x[i] {
					x[i] = 1
				}
			}
			roundGeneric(x)
		}
		pairs := make([]float32, (k+1)/2*32)
		interleaveGeneric(pairs, 32, b, 32, 32, k)
		want := slices.Clone(c)
		tileGeneric(4, 32, k, a, k, 1, b, 32, want, 32, true, true)
		if slices.ContainsFunc(want, func(x float32) bool { return x != x }) {
			continue // which NaN it is may differ
		}
		forEachLevel(t, func(t *testing.T) {
			got := slices.Clone(c)
			_, nr := TileSize()
			for j := 0; j < 32; j += nr {
				Tile(4, nr, k, a, k, 1, b[j:], 32, got[j:], 32, true, true, Soon{})
			}
			sameBits(t, "tile", got, want)
			got = slices.Clone(c)
			for j := 0; j < 32; j += nr {
				TilePairs(4, nr, k, a, k, 1, pairs[j:], 32, got[j:], 32, true, true, Soon{})
			}
			sameBits(t, "tile of pairs", got, want)
			if HasDots() {
				words := (k + 1) / 2
				dots := make([]float32, 4*words)
				for i := range 4 {
					roundPairsGeneric(dots[i*words:], a[i*k:(i+1)*k])
					if last := &dots[(i+1)*words-1]; k%2 == 1 {
						*last = Pair(*last, NegativeZero)
					}
				}
				got = slices.Clone(c)
				TileDots(4, 32, words, dots, words, 1, pairs, 32, got, 32, true, true, Soon{})
				sameBits(t, "tile of dots", got, want)
			}
		})
	}
}

// TestWiden: every number is where its row and column are, and nothing is written beyond.
func TestWiden(t *testing.T) {
	forEachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(9, 10))
		for rows := range 20 {
			numbers := integers(r, 2*rows*32)
			pairs := make([]float32, rows*32)
			interleaveGeneric(pairs, 32, numbers, 32, 32, 2*rows)
			got, guard := guarded([][]float32{make([]float32, len(numbers))}, rows)
			Widen(got[0], pairs)
			guard(t)
			sameBits(t, "widened", got[0], numbers)
		}
	})
}
