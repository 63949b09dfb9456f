package kernels_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/kernels"
)

func randoms(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %x, want %x", what, i, got[i], want[i])
		}
	}
}

// TestMatMulBits: a row of a product does not depend on the other rows, the columns beside it or the threads, and
// accumulating over two halves of k is the same as one product.
func TestMatMulBits(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for range 60 {
			m, n, k := 1+r.IntN(90), 1+r.IntN(200), 1+r.IntN(600)
			a, b := randoms(r, m*k), randoms(r, n*k)
			c := make([]float32, m*n)
			kernels.MatMulNT(c, a, b, m, n, k, 0)
			for _, th := range []int{1, 2, 3, 8} {
				old := kernels.SetThreads(th)
				i0 := r.IntN(m)
				i1 := i0 + 1 + r.IntN(m-i0)
				j0 := r.IntN(n)
				j1 := j0 + 1 + r.IntN(n-j0)
				part := make([]float32, (i1-i0)*(j1-j0))
				kernels.MatMulNT(part, a[i0*k:i1*k], b[j0*k:j1*k], i1-i0, j1-j0, k, 0)
				for i := i0; i < i1; i++ {
					sameBits(t, "rows and columns", part[(i-i0)*(j1-j0):(i-i0+1)*(j1-j0)], c[i*n+j0:i*n+j1])
				}
				kernels.SetThreads(old)
			}
			// the same product, the other forms
			bt, at := transpose(b, n, k), transpose(a, m, k)
			c2 := make([]float32, m*n)
			kernels.MatMulNN(c2, a, bt, m, n, k, 0)
			sameBits(t, "NN", c2, c)
			k1 := r.IntN(k + 1)
			kernels.MatMulTN(c2, at[:k1*m], bt[:k1*n], m, n, k1, 0)
			kernels.MatMulTN(c2, at[k1*m:], bt[k1*n:], m, n, k-k1, 1)
			sameBits(t, "TN in two parts", c2, c)
		}
	})
}

func transpose(a []float32, m, n int) []float32 {
	t := make([]float32, m*n)
	for i := range m {
		for j := range n {
			t[j*m+i] = a[i*n+j]
		}
	}
	return t
}

// TestAttentionBits: each row of a varlen batch has the bits of decoding, whatever else is in the batch.
func TestAttentionBits(t *testing.T) {
	eachUnit(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for round := range 36 {
			p := kernels.Precisions[round%3]
			kv, group, d := 1+r.IntN(3), 1+r.IntN(3), 1+r.IntN(70)
			heads := kv * group
			starts := []int{0}
			for range 1 + r.IntN(4) {
				starts = append(starts, starts[len(starts)-1]+r.IntN(150))
			}
			T := starts[len(starts)-1]
			q, k, v := randoms(r, T*heads*d), randoms(r, T*kv*d), randoms(r, T*kv*d)
			y, lse := make([]float32, len(q)), make([]float32, T*heads)
			p.Attention(y, q, k, v, starts, heads, kv, d, lse)
			var caches []kernels.Cache
			var last []int // rows, one for each cache
			for s := range len(starts) - 1 {
				lo, hi := starts[s], starts[s+1]
				// The cache, filled in parts of every kind; what is not filled is not read.
				for range min(5, hi-lo) {
					n := r.IntN(hi - lo)
					keys, values := p.CacheSize(n+1, kv, d)
					c := kernels.Cache{Keys: make([]float32, keys), Values: make([]float32, values), N: n}
					for _, x := range [][]float32{c.Keys, c.Values} {
						for i := range x {
							x[i] = float32(math.NaN())
						}
					}
					for at := 0; at < n; {
						rows := min(1+r.IntN(40), n-at)
						p.CacheRows(c, k[(lo+at)*kv*d:(lo+at+rows)*kv*d], v[(lo+at)*kv*d:(lo+at+rows)*kv*d], at, rows, kv, d)
						at += rows
					}
					caches, last = append(caches, c), append(last, lo+n)
				}
				alone, lse1 := make([]float32, (hi-lo)*heads*d), make([]float32, (hi-lo)*heads)
				p.Attention(alone, q[lo*heads*d:hi*heads*d], k[lo*kv*d:hi*kv*d], v[lo*kv*d:hi*kv*d], []int{0, hi - lo}, heads, kv, d, lse1)
				sameBits(t, "alone", alone, y[lo*heads*d:hi*heads*d])
				sameBits(t, "lse alone", lse1, lse[lo*heads:hi*heads])
			}
			rowsOf := func(x []float32, width int) (rows []float32) {
				for _, i := range last {
					rows = append(rows, x[i*width:(i+1)*width]...)
				}
				return rows
			}
			decoded := make([]float32, len(last)*heads*d)
			old := kernels.SetThreads(1 + r.IntN(8))
			p.AttentionDecode(decoded, rowsOf(q, heads*d), rowsOf(k, kv*d), rowsOf(v, kv*d), caches, heads, kv, d)
			kernels.SetThreads(old)
			sameBits(t, "decode", decoded, rowsOf(y, heads*d))
		}
	})
}

// TestLevelsAgree: whole kernels give the same bits at every vector level, and with any number of threads.
func TestLevelsAgree(t *testing.T) {
	if len(kernels.Levels()) < 3 {
		t.Skip("this machine does not have both vector levels")
	}
	r := rand.New(rand.NewPCG(31, 32))
	for round := range 25 {
		m, n, k := 1+r.IntN(150), 1+r.IntN(300), 1+r.IntN(900)
		a, b, c0 := randoms(r, m*k), randoms(r, n*k), randoms(r, m*n)
		kv, group, d := 1+r.IntN(3), 1+r.IntN(3), 2*(1+r.IntN(40))
		heads := kv * group
		starts := []int{0, r.IntN(100), 100 + r.IntN(100)}
		T := starts[2]
		q, key, v, dy := randoms(r, T*heads*d), randoms(r, T*kv*d), randoms(r, T*kv*d), randoms(r, T*heads*d)
		z, zt := logits(r, 1+r.IntN(6000)), logits(r, 6000)
		zt = zt[:len(z)]
		run := func() (out [][]float32) {
			add := func(x ...[]float32) { out = append(out, x...) }
			for _, f := range []func(c, a, b []float32, m, n, k int, beta float32){kernels.MatMulNT, kernels.MatMulNN, kernels.MatMulTN} {
				for _, beta := range []float32{0, 1, 0.5} {
					c := append([]float32(nil), c0...)
					f(c, a, b, m, n, k, beta)
					add(c)
				}
			}
			for _, p := range kernels.Precisions {
				y, lse := make([]float32, len(q)), make([]float32, T*heads)
				p.Attention(y, q, key, v, starts, heads, kv, d, lse)
				dq, dk, dv := make([]float32, len(q)), make([]float32, len(key)), make([]float32, len(v))
				p.AttentionBackward(dq, dk, dv, dy, y, q, key, v, starts, heads, kv, d, lse)
				add(y, lse, dq, dk, dv)
			}
			top, ids := make([]float32, 5), make([]int32, 5)
			st := kernels.Stats(z, nil, []int32{0}, nil)
			kernels.TopK(z, st.LogZ, 5, 0, ids, top)
			g := append([]float32(nil), z...)
			kernels.RowGrad(g, st.LogZ, 0.5, 0, 0, zt, st.LogZ, 0.25, nil, nil)
			spread := append([]float32(nil), z...)
			kernels.RowGrad(spread, st.LogZ, 0.5, 0.3, st.Entropy, nil, 0, 0, nil, nil)
			add(spread)
			add([]float32{st.LogZ, st.Entropy, st.RestLogP, kernels.TargetKL(z, zt, st.LogZ, st.LogZ)}, top, g)
			x, inv := append([]float32(nil), q...), make([]float32, T*heads)
			w, dw, dx := q[:d], make([]float32, d), make([]float32, len(q))
			kernels.RMSNorm(x, q, w, T*heads, d, 1e-6, inv)
			kernels.RMSNormBackward(dx, dw, dy, q, w, inv, T*heads, d)
			pos, freq := make([]int32, T), make([]float64, d/2)
			for i := range pos {
				pos[i] = int32(3 * i)
			}
			for i := range freq {
				freq[i] = 1 / float64(i+1)
			}
			kernels.RoPE(x, pos, heads, d, freq, false)
			add(x, inv, dw, dx, []float32{float32(kernels.SumSquares(q)), kernels.Dot(q, dy)})
			return out
		}
		restore := kernels.Force("avx2")
		want := run()
		restore()
		for _, threads := range []int{1, 2, 3, 4, 5, 6, 7, 8} {
			levels := kernels.Levels()[2:]
			restore := kernels.Force(levels[threads%len(levels)])
			old := kernels.SetThreads(threads)
			got := run()
			kernels.SetThreads(old)
			restore()
			for i := range want {
				for j := range want[i] {
					if x, y := got[i][j], want[i][j]; math.Float32bits(x) != math.Float32bits(y) && !(x != x && y != y) {
						t.Fatalf("round %d, %d threads: output %d element %d is %x, want %x", round, threads, i, j, x, y)
					}
				}
			}
		}
	}
}
