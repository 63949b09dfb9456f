package kernels_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/kernels"
)

// benchLevels runs f under every level, as sub-benchmarks named by level.
func benchLevels(b *testing.B, f func(b *testing.B)) {
	for _, level := range kernels.Levels() {
		b.Run("level="+level, func(b *testing.B) {
			defer kernels.Force(level)()
			f(b)
		})
	}
}

// rate reports work done per operation in units of 1e9 a second.
func rate(b *testing.B, perOp float64, unit string) {
	b.ReportMetric(perOp*float64(b.N)/b.Elapsed().Seconds()/1e9, unit)
}

var gemmShapes = [][3]int{ // m, k, n
	{1024, 1024, 1024}, {512, 576, 49152}, {512, 576, 1536}, {2048, 576, 576},
	{128, 64, 64}, {2048, 64, 64}, {128, 64, 176}, {2048, 64, 176}, {128, 64, 26}, {2048, 64, 26}, {128, 96, 384},
	{16, 576, 1536}, {16, 576, 49152}, {64, 576, 1536}, {1, 576, 1536}, {1, 576, 49152},
}

func BenchmarkMatMul(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, precision := range []kernels.Precision{kernels.Float32, kernels.BFloat16} {
		for form, product := range map[string]func(c, a, b []float32, m, n, k int, beta float32){
			"NT": precision.MatMulNT, "NN": precision.MatMulNN, "TN": precision.MatMulTN} {
			for _, s := range gemmShapes {
				m, k, n := s[0], s[1], s[2]
				b.Run(fmt.Sprintf("precision=%v/form=%s/m=%d/k=%d/n=%d", precision, form, m, k, n), func(b *testing.B) {
					x, w, c := randoms(r, m*k), randoms(r, n*k), make([]float32, m*n)
					benchLevels(b, func(b *testing.B) {
						for b.Loop() {
							product(c, x, w, m, n, k, 0)
						}
						rate(b, 2*float64(m)*float64(n)*float64(k), "GFLOPS")
					})
				})
			}
		}
	}
}

func BenchmarkLimits(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		var fma, bf16, read float64
		for b.Loop() {
			fma, bf16, read = max(fma, kernels.Float32.FMARate()), max(bf16, kernels.BFloat16.FMARate()), max(read, kernels.ReadRate(1<<29))
		}
		b.ReportMetric(fma/1e9, "GFLOPS")
		b.ReportMetric(bf16/1e9, "bf16-GFLOPS")
		b.ReportMetric(read/1e9, "GB/s")
	})
}

func BenchmarkLogSoftmax(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range [][2]int{{64, 49152}, {16, 151936}} {
		rows, n := s[0], s[1]
		b.Run(fmt.Sprintf("rows=%d/n=%d", rows, n), func(b *testing.B) {
			z, y := randoms(r, rows*n), make([]float32, rows*n)
			benchLevels(b, func(b *testing.B) {
				for b.Loop() {
					kernels.LogSoftmaxRows(y, z, rows, n)
				}
				rate(b, 8*float64(rows*n), "GB/s")
			})
		})
	}
}

func BenchmarkTopK(b *testing.B) {
	const rows, n, k = 64, 49152, 5
	z := randoms(rand.New(rand.NewPCG(1, 1)), rows*n)
	ids, logp := make([]int32, rows*k), make([]float32, rows*k)
	benchLevels(b, func(b *testing.B) {
		for b.Loop() {
			kernels.Parallel(rows, 1, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					kernels.TopK(z[i*n:(i+1)*n], 0, k, 0, ids[i*k:(i+1)*k], logp[i*k:(i+1)*k])
				}
			})
		}
		rate(b, 4*rows*n, "GB/s")
	})
}

// BenchmarkHead is the loss of a language model head, forward and backward, in chunks of rows.
func BenchmarkHead(b *testing.B) {
	const rows, d, v, chunk = 1024, 576, 49152, 128
	r := rand.New(rand.NewPCG(1, 1))
	h, w, z := randoms(r, rows*d), randoms(r, v*d), make([]float32, chunk*v)
	dh, dw := make([]float32, rows*d), make([]float32, v*d)
	kernels.Scale(0.05, w)
	benchLevels(b, func(b *testing.B) {
		for b.Loop() {
			clear(dw)
			for at := 0; at < rows; at += chunk {
				kernels.MatMulNT(z, h[at*d:(at+chunk)*d], w, chunk, v, d, 0)
				kernels.Parallel(chunk, 1, func(lo, hi int) {
					for i := lo; i < hi; i++ {
						id, logit := [1]int32{int32(i)}, [1]float32{}
						row := z[i*v : (i+1)*v]
						st := kernels.Stats(row, id[:], nil, logit[:])
						kernels.RowGrad(row, st.LogZ, 1.0/rows, 0, 0, nil, 0, 0, id[:], []float32{-1.0 / rows})
					}
				})
				kernels.MatMulNN(dh[at*d:(at+chunk)*d], z, w, chunk, d, v, 0)
				kernels.MatMulTN(dw, z, h[at*d:(at+chunk)*d], v, d, chunk, 1)
			}
		}
		rate(b, 6*rows*d*v, "GFLOPS")
	})
}

func BenchmarkRMSNorm(b *testing.B) {
	const rows, d = 1024, 576
	r := rand.New(rand.NewPCG(1, 1))
	x, w, y, inv := randoms(r, rows*d), randoms(r, d), make([]float32, rows*d), make([]float32, rows)
	benchLevels(b, func(b *testing.B) {
		for b.Loop() {
			kernels.RMSNorm(y, x, w, rows, d, 1e-5, inv)
		}
		rate(b, 8*rows*d, "GB/s")
	})
}

func BenchmarkRoPE(b *testing.B) {
	const rows, heads, d = 1024, 9, 64
	x := randoms(rand.New(rand.NewPCG(1, 1)), rows*heads*d)
	pos, invFreq := make([]int32, rows), make([]float64, d/2)
	for i := range pos {
		pos[i] = int32(i)
	}
	for i := range invFreq {
		invFreq[i] = 1 / float64(i+1)
	}
	benchLevels(b, func(b *testing.B) {
		for b.Loop() {
			kernels.RoPE(x, pos, heads, d, invFreq, false)
		}
		rate(b, 8*rows*heads*d, "GB/s")
	})
}

func BenchmarkSwiGLU(b *testing.B) {
	const n = 1024 * 1536
	r := rand.New(rand.NewPCG(1, 1))
	gate, up, y := randoms(r, n), randoms(r, n), make([]float32, n)
	benchLevels(b, func(b *testing.B) {
		for b.Loop() {
			kernels.SwiGLU(y, gate, up)
		}
		rate(b, 12*n, "GB/s")
	})
}

func BenchmarkAdamW(b *testing.B) {
	const n = 20_000_000
	p, g, m, v := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range p {
		p[i], g[i], v[i] = float32(i%97)/97, float32(i%89)/89, 1
	}
	benchLevels(b, func(b *testing.B) {
		for b.Loop() {
			kernels.AdamW(p, g, m, v, kernels.AdamWConfig{Step: 10, Rate: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01,
				GradScale: 1})
		}
		rate(b, 28*n, "GB/s")
	})
}

func BenchmarkAttention(b *testing.B) {
	const batch, heads, n, d = 4, 9, 512, 64
	r := rand.New(rand.NewPCG(1, 1))
	size := batch * n * heads * d
	q, k, v, y, dy := randoms(r, size), randoms(r, size), randoms(r, size), make([]float32, size), randoms(r, size)
	dq, dk, dv, lse := make([]float32, size), make([]float32, size), make([]float32, size), make([]float32, batch*n*heads)
	starts := []int{0, n, 2 * n, 3 * n, 4 * n}
	const flops = 4 * batch * heads * n * n * d / 2
	benchLevels(b, func(b *testing.B) {
		b.Run("forward", func(b *testing.B) {
			for b.Loop() {
				kernels.Float32.Attention(y, q, k, v, starts, heads, heads, d, lse)
			}
			rate(b, flops, "GFLOPS")
		})
		b.Run("backward", func(b *testing.B) {
			for b.Loop() {
				kernels.Float32.AttentionBackward(dq, dk, dv, dy, y, q, k, v, starts, heads, heads, d, lse)
			}
			rate(b, 2.5*flops, "GFLOPS")
		})
		b.Run("decode", func(b *testing.B) {
			keys, values := kernels.Float32.CacheSize(n, heads, d)
			cache := []kernels.Cache{{Keys: make([]float32, keys), Values: make([]float32, values), N: n - 1}}
			kernels.Float32.CacheRows(cache[0], k[:n*heads*d], v[:n*heads*d], 0, n, heads, d)
			for b.Loop() {
				kernels.Float32.AttentionDecode(y[:heads*d], q[:heads*d], k[:heads*d], v[:heads*d], cache, heads, heads, d)
			}
			rate(b, 8*n*heads*d, "GB/s")
		})
	})
}

func BenchmarkPacked(b *testing.B) {
	const n, k = 49152, 576
	r := rand.New(rand.NewPCG(1, 1))
	w := randoms(r, n*k)
	weights := map[string]*kernels.Packed{"float32": pack(w, n, k, kernels.Float32, false), "bf16": pack(w, n, k, kernels.Float32, true),
		"bf16-bf16": pack(w, n, k, kernels.BFloat16, true)}
	for _, m := range []int{1, 4, 16, 64} {
		a, c := randoms(r, m*k), make([]float32, m*n)
		for name, p := range weights {
			b.Run(fmt.Sprintf("weight=%s/m=%d", name, m), func(b *testing.B) {
				benchLevels(b, func(b *testing.B) {
					for b.Loop() {
						kernels.MatMulPacked(c, a, p, m, 0)
					}
					rate(b, 2*float64(m)*n*k, "GFLOPS")
				})
			})
		}
	}
}
