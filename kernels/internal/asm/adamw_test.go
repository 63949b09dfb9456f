package asm

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAdamWBF16: at every level and length, moments in bfloat16 move the weights as the same moments in single precision do, bit for
// bit, and are left at one of their two neighbours, the same at every level. Nothing beyond the slices is written.
func TestAdamWBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(19, 23))
	for n := 0; n <= 200; n++ {
		seed := r.Uint32()
		in := make([][]float32, 2)
		for i := range in {
			in[i] = make([]float32, n)
			for j := range in[i] {
				in[i][j] = float32(r.NormFloat64())
			}
		}
		halves := make([]uint16, 2*(n+64))
		for i := range halves {
			halves[i] = uint16(0xabcd)
		}
		m, v := halves[32:32+n], halves[n+96:n+96+n]
		wide := [2][]float32{make([]float32, n), make([]float32, n)}
		for i := range n {
			m[i], v[i] = roundRandomly(float32(r.NormFloat64()), 0), roundRandomly(float32(r.ExpFloat64()), 0)
			if r.IntN(20) == 0 {
				m[i], v[i] = 0x7f7f, 0x7f7f // the largest finite number: it cannot be rounded up
			}
			wide[0][i], wide[1][i] = fromBF16(m[i]), fromBF16(v[i])
		}
		big := step
		big.Beta1, big.Beta2 = 0.9999999, 0.9999999
		for _, s := range []AdamWStep{step, big} {
			want, _ := guarded(in, n)
			wantM, wantV := slices.Clone(wide[0]), slices.Clone(wide[1])
			adamwGeneric(want[0], want[1], wantM, wantV, &s)
			forEachLevel(t, func(t *testing.T) {
				got, check := guarded(in, n)
				room := slices.Clone(halves)
				gotM, gotV := room[32:32+n], room[n+96:n+96+n]
				AdamWBF16(got[0], got[1], gotM, gotV, &s, seed)
				check(t)
				sameBits(t, "weights", got[0], want[0])
				for i, h := range room {
					if (i < 32 || i >= 32+n) && (i < n+96 || i >= n+96+n) && h != 0xabcd {
						t.Fatalf("length %d: moment %d was overwritten", n, i)
					}
				}
				for i := range n {
					bits := scramble32(seed + uint32(i))
					if m, v := roundRandomly(wantM[i], bits&0xffff), roundRandomly(wantV[i], bits>>16); gotM[i] != m || gotV[i] != v {
						t.Fatalf("length %d: moments %d are %x and %x, want %x and %x", n, i, gotM[i], gotV[i], m, v)
					}
				}
			})
		}
	}
}

// TestRoundRandomly: numbers are rounded up in proportion to what is cut off, never past the largest, and those that fit stay.
func TestRoundRandomly(t *testing.T) {
	const n = 1 << 16
	for _, x := range []float32{1, -1.0039, 3.1415927, 1e-40, -2e-20, math.MaxFloat32} {
		sum := 0.0
		for i := range uint32(n) {
			y := fromBF16(roundRandomly(x, scramble32(12345+i)&0xffff))
			if math.IsInf(float64(y), 0) || math.Abs(float64(y-x)) >= math.Abs(float64(x))/128+1e-40 {
				t.Fatalf("%v is rounded to %v", x, y)
			}
			sum += float64(y) / n
		}
		unit := max(math.Abs(float64(x))/128, 0x1p-133)
		if x != math.MaxFloat32 && math.Abs(sum-float64(x)) > 0.01*unit {
			t.Errorf("%v is %v on average", x, sum)
		}
	}
}
