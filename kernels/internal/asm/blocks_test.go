package asm

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

// once is s + x·y rounded once to 24 bits, zero where that is denormal; denormal operands are zero.
func once(s, x, y float32) float32 {
	for _, v := range []*float32{&s, &x, &y} {
		if math.Float32bits(*v)&exponentBits == 0 {
			*v = float32(math.Copysign(0, float64(*v)))
		}
	}
	product := float64(x) * float64(y)
	if math.IsInf(product, 0) || product != product || math.IsInf(float64(s), 0) || s != s {
		return float32(float64(s) + product)
	}
	sum := new(big.Float).SetPrec(1000).SetFloat64(product)
	sum.Add(sum, big.NewFloat(float64(s)))
	if sum.Sign() == 0 {
		return float32(float64(s) + product) // the sign of zero
	}
	sum.SetPrec(24)
	if sum.MantExp(nil) < -125 {
		return float32(math.Copysign(0, float64(sum.Sign())))
	}
	r, _ := sum.Float32()
	return r
}

// inBlocks is the sum of a tile unit, written as its makers describe it.
func inBlocks(c float32, a, b []float32) float32 {
	for len(a) > 0 {
		n := min(32, len(a))
		var e, o float32
		for p := 0; p < n; p += 2 {
			e = once(e, a[p], b[p])
		}
		for p := 1; p < n; p += 2 {
			o = once(o, a[p], b[p])
		}
		c = once(c, 1, once(o, 1, e))
		a, b = a[n:], b[n:]
	}
	return c
}

// same reports equal bits; one NaN is as good as another.
func same(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) || x != x && y != y }

// small draws bfloat16 numbers about as large as the smallest normal one or as its root, so that sums are denormal or nearly so, and c of
// any kind.
func small(r *rand.Rand, n int, operand bool) []float32 {
	x := make([]float32, n)
	for i := range x {
		exponent := []uint32{0, 1, 2, 8, 40, 60, 63, 64, 66, 127}[r.IntN(10)]
		x[i] = math.Float32frombits(r.Uint32()&0x807fffff | exponent<<23)
	}
	if operand {
		roundGeneric(x)
	}
	return x
}

// TestBlocks: every height and width, both directions of a, from zero and from c, in numbers and in pairs: at every level the sums of a
// tile unit, of ordinary and of awkward numbers; nothing but the tile is written.
func TestBlocks(t *testing.T) {
	forEachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(13, 14))
		mr, nr := BlocksSize()
		for rows := 1; rows <= mr; rows++ {
			for cols := 1; cols <= nr; cols++ {
				k, brs, ldc := 1+r.IntN(70), nr+r.IntN(5), cols+r.IntN(9)
				numbers := []func(n int, operand bool) []float32{
					func(n int, operand bool) []float32 { return small(r, n, operand) },
					func(n int, operand bool) []float32 { x := awkward(r, n); roundGeneric(x); return x },
					func(n int, operand bool) []float32 {
						x := make([]float32, n)
						for i := range x {
							x[i] = float32(r.NormFloat64())
						}
						if operand {
							roundGeneric(x)
						}
						return x
					},
				}[r.IntN(3)]
				a, b, c := numbers((rows+5)*(k+20), true), numbers(k*brs+nr, true), numbers(rows*ldc, false)
				ars, acs := 1, rows+r.IntN(5)
				if r.IntN(2) == 0 {
					ars, acs = k+r.IntN(20), 1
				}
				load := r.IntN(2) == 0
				pairs := make([]float32, (k+1)/2*brs+nr)
				want := slices.Clone(c)
				for j := range cols {
					column := make([]float32, k)
					for p := range k {
						column[p] = b[p*brs+j]
						if p%2 == 1 {
							pairs[p/2*brs+j] = Pair(column[p-1], column[p])
						} else {
							pairs[p/2*brs+j] = Pair(column[p], 1) // which is not to be seen
						}
					}
					for i := range rows {
						row := make([]float32, k)
						for p := range k {
							row[p] = a[i*ars+p*acs]
						}
						start := float32(0)
						if load {
							start = c[i*ldc+j]
						}
						want[i*ldc+j] = inBlocks(start, row, column)
					}
				}
				what := fmt.Sprintf("%d×%d over %d", rows, cols, k)
				check := func(kind string, f func(c []float32)) {
					t.Helper()
					got, guard := guarded([][]float32{c}, rows+cols)
					f(got[0])
					guard(t)
					for i := range want {
						if !same(got[0][i], want[i]) {
							t.Fatalf("%s, %s: element %d is %x, want %x", kind, what, i, got[0][i], want[i])
						}
					}
				}
				check("numbers", func(c []float32) { TileBlocks(rows, cols, k, a, ars, acs, b, brs, c, ldc, load) })
				if acs == 1 {
					check("pairs", func(c []float32) { TileBlocksPairs(rows, cols, k, a, ars, acs, pairs, brs, c, ldc, load) })
				}
			}
		}
	})
}

// TestPlusProduct: sums are rounded once, and what is denormal is told as processors tell it: after rounding to 24 bits.
func TestPlusProduct(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	for range 200_000 {
		s, xy := flushed(float64(small(r, 1, false)[0])), small(r, 2, true)
		if got, want := plusProduct(s, xy[0], xy[1], true), once(s, xy[0], xy[1]); !same(got, want) {
			t.Fatalf("%x + %x·%x is %x, want %x", s, xy[0], xy[1], got, want)
		}
	}
	for _, c := range []struct{ s, x, y, want float32 }{
		{0x1p-126, -0x1p-75, 0x1p-75, 0},        // 24 bits below 2^-126
		{0x1p-126, -0x1p-75, 0x1p-76, 0x1p-126}, // halfway: the even one
		{-0x1p-126, 0x1p-75, 0x1p-75, 0},        // of its sign
		{0x1p-127, 0x1p-60, 0x1p-66, 0x1p-126},  // a denormal number is zero
		{0x1p-126, -0x1p-63, 0x1.02p-63, 0},     // as is a denormal sum
	} {
		want := once(c.s, c.x, c.y)
		if want != c.want {
			t.Errorf("%x + %x·%x is %x, want %x", c.s, c.x, c.y, want, c.want)
		}
		forEachLevel(t, func(t *testing.T) {
			var b, got [16]float32
			b[0], got[0] = c.y, c.s
			Tile(1, 1, 1, []float32{c.x}, 1, 1, b[:], 16, got[:], 16, true, true, Soon{})
			if !same(got[0], want) {
				t.Errorf("%x + %x·%x is %x, want %x", c.s, c.x, c.y, got[0], want)
			}
		})
	}
}
