package kernels_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/kernels"
)

// TestPacked: a packed weight, in single precision or bfloat16, gives the bits of MatMulNT with the same values.
func TestPacked(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(51, 52))
		for range 40 {
			m, n, k := r.IntN(40), r.IntN(150), r.IntN(700)
			if r.IntN(8) == 0 {
				m, n, k = r.IntN(600), r.IntN(400), 256*(1+r.IntN(4))
			}
			a, w, c := randoms(r, m*k), randoms(r, n*k), randoms(r, m*n)
			for i := range w {
				w[i] = math.Float32frombits(math.Float32bits(w[i]) & 0xffff0000)
			}
			defer kernels.SetThreads(kernels.SetThreads(1 + r.IntN(4)))
			for _, beta := range []float32{0, 1, 0.5} {
				want := append([]float32(nil), c...)
				kernels.MatMulNT(want, a, w, m, n, k, beta)
				for name, p := range map[string]*kernels.Packed{"full": pack(w, n, k, kernels.Float32, false),
					"bf16": pack(w, n, k, kernels.Float32, true)} {
					got := append([]float32(nil), c...)
					kernels.MatMulPacked(got, a, p, m, beta)
					sameBits(t, name, got, want)
				}
			}
			// Several weights at once, of both kinds.
			n2 := r.IntN(150)
			w2 := randoms(r, n2*k)
			want, want2 := make([]float32, m*n), make([]float32, m*n2)
			kernels.MatMulNT(want, a, w, m, n, k, 0)
			kernels.MatMulNT(want2, a, w2, m, n2, k, 0)
			got, got2 := randoms(r, m*n), randoms(r, m*n2)
			kernels.MatMulPackedEach([][]float32{got2, got}, a, []*kernels.Packed{pack(w2, n2, k, kernels.Float32, false),
				pack(w, n, k, kernels.Float32, true)}, m)
			sameBits(t, "first of two", got2, want2)
			sameBits(t, "second of two", got, want)
		}
	})
}

func pack(w []float32, n, k int, precision kernels.Precision, half bool) *kernels.Packed {
	return kernels.Pack(kernels.Weight{W: w, N: n, K: k, Precision: precision, Half: half})[0]
}
