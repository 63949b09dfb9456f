package kernels_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/kernels"
)

// attention64 is the definition in double precision for one sequence of n rows, forward and backward.
func attention64(q, k, v, dy []float32, n, heads, kv, d int) (y, lse, dq, dk, dv []float64) {
	y, lse = make([]float64, n*heads*d), make([]float64, n*heads)
	dq, dk, dv = make([]float64, n*heads*d), make([]float64, n*kv*d), make([]float64, n*kv*d)
	scale := 1 / math.Sqrt(float64(d))
	for h := range heads {
		g := h / (heads / kv)
		for i := range n {
			at := (i*heads + h) * d
			p, dp := make([]float64, i+1), make([]float64, i+1)
			m := math.Inf(-1)
			for j := range p {
				for c := range d {
					p[j] += scale * float64(q[at+c]) * float64(k[(j*kv+g)*d+c])
				}
				m = max(m, p[j])
			}
			var s, delta float64
			for j := range p {
				p[j] = math.Exp(p[j] - m)
				s += p[j]
			}
			lse[i*heads+h] = m + math.Log(s)
			for j := range p {
				p[j] /= s
				for c := range d {
					y[at+c] += p[j] * float64(v[(j*kv+g)*d+c])
					dp[j] += float64(dy[at+c]) * float64(v[(j*kv+g)*d+c])
					dv[(j*kv+g)*d+c] += p[j] * float64(dy[at+c])
				}
				delta += p[j] * dp[j]
			}
			for j := range p {
				ds := p[j] * (dp[j] - delta) * scale
				for c := range d {
					dq[at+c] += ds * float64(k[(j*kv+g)*d+c])
					dk[(j*kv+g)*d+c] += ds * float64(q[at+c])
				}
			}
		}
	}
	return y, lse, dq, dk, dv
}

// TestAttention holds forward and backward against double precision, off by at most 2e-5·(1+|x|), in bfloat16 by
// 0.1·(1+|x|), over blocks of queries, groups of heads and uneven sequences; the gradients are added to what is there.
func TestAttention(t *testing.T) {
	eachUnit(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(41, 42))
		for round := range kernels.Rounds(24) {
			p, off := kernels.Precisions[round%3], 2e-5
			if p.Rounds() {
				off = 0.1
			}
			kv, group, d := 1+r.IntN(2), 1+r.IntN(3), 1+r.IntN(70)
			heads := kv * group
			starts := []int{0}
			for range 1 + r.IntN(3) {
				starts = append(starts, starts[len(starts)-1]+r.IntN(200))
			}
			T := starts[len(starts)-1]
			q, k, v, dy := randoms(r, T*heads*d), randoms(r, T*kv*d), randoms(r, T*kv*d), randoms(r, T*heads*d)
			y, lse := make([]float32, T*heads*d), make([]float32, T*heads)
			p.Attention(y, q, k, v, starts, heads, kv, d, lse)
			ones := func(n int) []float32 {
				x := make([]float32, n)
				for i := range x {
					x[i] = 1
				}
				return x
			}
			dq, dk, dv := ones(len(q)), ones(len(k)), ones(len(v))
			p.AttentionBackward(dq, dk, dv, dy, y, q, k, v, starts, heads, kv, d, lse)
			for s := range len(starts) - 1 {
				lo, hi := starts[s], starts[s+1]
				a, b, c, e := lo*heads*d, hi*heads*d, lo*kv*d, hi*kv*d
				wy, wl, wq, wk, wv := attention64(q[a:b], k[c:e], v[c:e], dy[a:b], hi-lo, heads, kv, d)
				for _, x := range []struct {
					name string
					got  []float32
					want []float64
					base float64
				}{{"y", y[a:b], wy, 0}, {"lse", lse[lo*heads : hi*heads], wl, 0}, {"dq", dq[a:b], wq, 1}, {"dk", dk[c:e], wk, 1}, {"dv", dv[c:e], wv,
					1}} {
					for i, g := range x.got {
						near(t, x.name, g, x.want[i]+x.base, off)
					}
				}
			}
		}
	})
}

// TestAttentionSuffix: rows at the end of sequences have the bits they have among all rows, and their gradients those of all rows where
// the others have none, on any number of threads; those of keys and values up to rounding where they are added in blocks.
func TestAttentionSuffix(t *testing.T) {
	eachUnit(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(43, 44))
		for round := range kernels.Rounds(36) {
			p := kernels.Precisions[round%3]
			kv, group, d := 1+r.IntN(2), 1+r.IntN(3), 1+r.IntN(70)
			heads := kv * group
			ld := heads * d
			starts, queries := []int{0}, []int{0}
			var rows []int // of the queries among all
			for range 1 + r.IntN(4) {
				n := r.IntN(200)
				own := n
				if n > 0 && r.IntN(4) > 0 {
					own = r.IntN(n + 1)
				}
				end := starts[len(starts)-1] + n
				for i := end - own; i < end; i++ {
					rows = append(rows, i)
				}
				starts, queries = append(starts, end), append(queries, len(rows))
			}
			T := starts[len(starts)-1]
			pick := func(x []float32, width int) []float32 {
				var out []float32
				for _, i := range rows {
					out = append(out, x[i*width:(i+1)*width]...)
				}
				return out
			}
			q, k, v, dy := randoms(r, T*ld), randoms(r, T*kv*d), randoms(r, T*kv*d), make([]float32, T*ld)
			for _, i := range rows {
				copy(dy[i*ld:(i+1)*ld], randoms(r, ld))
			}
			y, lse := make([]float32, T*ld), make([]float32, T*heads)
			p.Attention(y, q, k, v, starts, heads, kv, d, lse)
			dq, dk, dv := make([]float32, len(q)), make([]float32, len(k)), make([]float32, len(v))
			p.AttentionBackward(dq, dk, dv, dy, y, q, k, v, starts, heads, kv, d, lse)

			old := kernels.SetThreads(1 + r.IntN(4))
			q, dy = pick(q, ld), pick(dy, ld)
			y2, lse2 := make([]float32, len(q)), make([]float32, len(rows)*heads)
			p.AttentionSuffix(y2, q, k, v, queries, starts, heads, kv, d, lse2)
			dq2, dk2, dv2 := make([]float32, len(q)), make([]float32, len(k)), make([]float32, len(v))
			p.AttentionSuffixBackward(dq2, dk2, dv2, dy, y2, q, k, v, queries, starts, heads, kv, d, lse2)
			kernels.SetThreads(old)
			for _, x := range []struct {
				name      string
				got, want []float32
			}{{"y", y2, pick(y, ld)}, {"lse", lse2, pick(lse, heads)}, {"dq", dq2, pick(dq, ld)}, {"dk", dk2, dk}, {"dv", dv2, dv}} {
				if p == kernels.BFloat16Tiles && (x.name == "dk" || x.name == "dv") {
					for i, want := range x.want { // whose blocks begin with the queries
						near(t, x.name, x.got[i], float64(want), 1e-5)
					}
				} else if !slices.Equal(x.got, x.want) { // but for the sign of zero
					t.Fatalf("%s: other numbers for the last rows alone: starts %v, queries %v", x.name, starts, queries)
				}
			}
		}
	})
}

func TestAttentionArguments(t *testing.T) {
	x := make([]float32, 128)
	for name, f := range map[string]func(){
		"heads":  func() { kernels.Float32.Attention(x[:6], x[:6], x[:4], x[:4], []int{0, 1}, 3, 2, 2, nil) },
		"starts": func() { kernels.Float32.Attention(x[:4], x[:4], x[:4], x[:4], []int{0, 2, 1}, 2, 2, 2, nil) },
		"offset": func() {
			kernels.Float32.AttentionSuffix(x[:4], x[:4], x[:4], x[:4], []int{0, 1}, []int{0, 1, 1}, 2, 2, 2, nil)
		},
		"suffix": func() {
			kernels.Float32.AttentionSuffix(x[:8], x[:8], x[:4], x[:4], []int{0, 2}, []int{0, 1}, 2, 2, 2, nil)
		},
		"length": func() { kernels.Float32.Attention(x[:4], x[:4], x[:4], x[:3], []int{0, 1}, 2, 2, 2, nil) },
		"keys of a cache": func() {
			kernels.Float32.AttentionDecode(x[:4], x[:4], x[:4], x[:4], []kernels.Cache{{Keys: x[:127], Values: x[:8], N: 1}}, 2, 2, 2)
		},
		"values of a cache": func() {
			kernels.Float32.AttentionDecode(x[:4], x[:4], x[:4], x[:4], []kernels.Cache{{Keys: x[:128], Values: x[:7], N: 1}}, 2, 2, 2)
		},
		"keys": func() {
			kernels.Float32.CacheRows(kernels.Cache{Keys: x[:63], Values: x[:4]}, x[:4], x[:4], 0, 2, 1, 2)
		},
		"values in pairs": func() {
			kernels.BFloat16.CacheRows(kernels.Cache{Keys: x[:32], Values: x[:3]}, x[:6], x[:6], 0, 3, 1, 2)
		},
		"queries": func() { kernels.Float32.AttentionDecode(x[:4], x[:4], x[:4], x[:4], nil, 2, 2, 2) },
	} {
		func() {
			defer func() {
				if _, ok := recover().(string); !ok {
					t.Errorf("%s: no panic with a constant message", name)
				}
			}()
			f()
		}()
	}
	kernels.Float32.Attention(nil, nil, nil, nil, []int{0, 0}, 2, 1, 4, nil)
}
