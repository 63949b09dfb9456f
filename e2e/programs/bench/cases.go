package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/millrace/millrace/kernels"
)

// benchCase is one row of the table; the peer knows it by the same name.
type benchCase struct {
	kind         string
	size         []int
	flops, bytes float64 // what it has to compute, and to move to and from memory where that does not fit the caches
	unit         string  // "bytes" where bytes a second are reported instead of operations
	precision    kernels.Precision
	build        func() func()
}

func (c benchCase) name() string {
	return c.kind + " " + strings.Trim(strings.ReplaceAll(fmt.Sprint(c.size), " ", "x"), "[]")
}

// random returns n normally distributed numbers; a million of them repeat.
func random(n int) []float32 {
	normal.Do(func() {
		r := rand.New(rand.NewPCG(1, 2))
		for i := range normals {
			normals[i] = float32(r.NormFloat64())
		}
	})
	x := make([]float32, n)
	for i := 0; i < n; i += len(normals) {
		copy(x[i:], normals[:])
	}
	return x
}

var (
	normal  sync.Once
	normals [1<<20 + 3]float32
)

func cases() []benchCase {
	var list []benchCase
	product := func(kind string, m, k, n int) {
		c := benchCase{kind: kind, size: []int{m, k, n}, flops: 2 * float64(m) * float64(k) * float64(n)}
		var form string
		form, c.precision = precisionOf(kind)
		width := 4.0
		if kind == "bf16" || form == "packed" && c.precision.Rounds() {
			width = 2
		}
		if n*k > 1<<24 { // the weight comes from memory
			c.bytes = width*float64(n)*float64(k) + 4*float64(m)*float64(n)
		}
		c.build = func() func() {
			a, b, y := random(m*k), random(n*k), make([]float32, m*n)
			switch form {
			case "NN":
				return func() { c.precision.MatMulNN(y, a, b, m, n, k, 0) }
			case "TN":
				return func() { c.precision.MatMulTN(y, a, b, m, n, k, 0) }
			case "packed":
				w := pack(b, n, k, c.precision, false)
				return func() { kernels.MatMulPacked(y, a, w, m, 0) }
			case "bf16":
				w := pack(b, n, k, kernels.Float32, true)
				return func() { kernels.MatMulPacked(y, a, w, m, 0) }
			}
			return func() { c.precision.MatMulNT(y, a, b, m, n, k, 0) }
		}
		list = append(list, c)
	}
	product("NT", 1024, 1024, 1024)
	product("NN", 1024, 1024, 1024)
	product("TN", 1024, 1024, 1024)
	product("NT", 512, 576, 49152)
	product("NT", 512, 576, 1536)
	product("NT", 2048, 576, 576)
	for _, rows := range []int{128, 512, 2048} {
		for _, out := range []int{64, 176, 26} {
			product("NT", rows, 64, out)
		}
	}
	product("NN", 2048, 176, 64)
	product("TN", 176, 2048, 64)
	product("NT", 128, 96, 384)
	for _, in := range []string{inBFloat16, inTiles} {
		product("NT"+in, 1024, 1024, 1024)
		product("NN"+in, 1024, 1024, 1024)
		product("TN"+in, 1024, 1024, 1024)
		product("NT"+in, 512, 576, 49152)
		product("NT"+in, 512, 576, 1536)
		product("NT"+in, 2048, 576, 576)
	}
	for _, kind := range []string{"NT", "packed", "bf16", "packed" + inBFloat16, "packed" + inTiles} {
		product(kind, 16, 576, 1536)
		product(kind, 64, 576, 1536)
		product(kind, 16, 576, 49152)
		product(kind, 1, 576, 49152)
	}

	list = append(list, head(1024, 576, 49152))

	rows := func(kind string, size []int, elements, moved float64, build func() func()) {
		list = append(list, benchCase{kind: kind, size: size, bytes: elements * moved, unit: "bytes", build: build})
	}
	for _, s := range [][2]int{{64, 49152}, {16, 151936}} {
		rows("log-softmax", s[:], float64(s[0]*s[1]), 8, func() func() {
			z, y := random(s[0]*s[1]), make([]float32, s[0]*s[1])
			return func() { kernels.LogSoftmaxRows(y, z, s[0], s[1]) }
		})
	}
	const topRows, vocabulary, k = 64, 49152, 5
	rows("top", []int{topRows, vocabulary, k}, topRows*vocabulary, 4, func() func() {
		z, ids, logp := random(topRows*vocabulary), make([]int32, topRows*k), make([]float32, topRows*k)
		return func() {
			kernels.Parallel(topRows, 1, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					kernels.TopK(z[i*vocabulary:(i+1)*vocabulary], 0, k, 0, ids[i*k:(i+1)*k], logp[i*k:(i+1)*k])
				}
			})
		}
	})
	rows("rmsnorm", []int{1024, 576}, 1024*576, 8, func() func() {
		x, w, y, inv := random(1024*576), random(576), make([]float32, 1024*576), make([]float32, 1024)
		return func() { kernels.RMSNorm(y, x, w, 1024, 576, 1e-5, inv) }
	})
	rows("rope", []int{1024, 9, 64}, 1024*9*64, 8, func() func() {
		x, pos, freq := random(1024*9*64), make([]int32, 1024), make([]float64, 32)
		for i := range pos {
			pos[i] = int32(i)
		}
		for i := range freq {
			freq[i] = math.Pow(10000, -2*float64(i)/64)
		}
		return func() { kernels.RoPE(x, pos, 9, 64, freq, false) }
	})
	rows("swiglu", []int{1024 * 1536}, 1024*1536, 12, func() func() {
		gate, up, y := random(1024*1536), random(1024*1536), make([]float32, 1024*1536)
		return func() { kernels.SwiGLU(y, gate, up) }
	})
	const parameters = 20_000_000
	rows("adamw", []int{parameters}, parameters, 28, func() func() {
		p, g, m, v := random(parameters), random(parameters), make([]float32, parameters), make([]float32, parameters)
		step := 0
		return func() {
			step++
			kernels.AdamW(p, g, m, v, kernels.AdamWConfig{Step: step, Rate: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01,
				GradScale: 1})
		}
	})

	for _, precision := range kernels.Precisions {
		list = append(list, attention(precision, 4, 9, 512, 64, false), attention(precision, 4, 9, 512, 64, true))
	}
	return list
}

func pack(w []float32, n, k int, precision kernels.Precision, half bool) *kernels.Packed {
	return kernels.Pack(kernels.Weight{W: w, N: n, K: k, Precision: precision, Half: half})[0]
}

// head is the loss of a language model head, forward and backward, in chunks of rows: 24 MiB of logits at a time.
func head(rows, d, v int) benchCase {
	const chunk = 128
	return benchCase{kind: "head", size: []int{rows, d, v}, flops: 6 * float64(rows) * float64(d) * float64(v), build: func() func() {
		h, w, z := random(rows*d), random(v*d), make([]float32, chunk*v)
		dh, dw := make([]float32, rows*d), make([]float32, v*d)
		kernels.Scale(0.05, w)
		scale := 1 / float32(rows)
		return func() {
			clear(dw)
			for at := 0; at < rows; at += chunk {
				n := min(chunk, rows-at)
				hc, z := h[at*d:(at+n)*d], z[:n*v]
				kernels.MatMulNT(z, hc, w, n, v, d, 0)
				kernels.Parallel(n, 1, func(lo, hi int) {
					ids, logits, grads := make([]int32, 1), make([]float32, 1), []float32{-scale}
					for i := lo; i < hi; i++ {
						ids[0] = int32((at + i) * 37 % v)
						row := z[i*v : (i+1)*v]
						st := kernels.Stats(row, ids, nil, logits)
						kernels.RowGrad(row, st.LogZ, scale, 0, 0, nil, 0, 0, ids, grads)
					}
				})
				kernels.MatMulNN(dh[at*d:(at+n)*d], z, w, n, d, v, 0)
				kernels.MatMulTN(dw, z, hc, v, d, n, 1)
			}
		}
	}}
}

// attention is causal attention; the backward pass counts two and a half times the forward.
func attention(precision kernels.Precision, batch, heads, n, d int, train bool) benchCase {
	flops := 2 * float64(batch*heads*d) * float64(n) * float64(n)
	c := benchCase{kind: "attention", size: []int{batch, heads, n, d}, flops: flops, precision: precision}
	if train {
		c.kind, c.flops = "attention-train", 3.5*flops
	}
	c.kind += suffixes[precision]
	c.build = func() func() {
		size := batch * n * heads * d
		q, k, v, dy, y, lse := random(size), random(size), random(size), random(size), make([]float32, size), make([]float32, batch*n*heads)
		dq, dk, dv := make([]float32, size), make([]float32, size), make([]float32, size)
		starts := make([]int, batch+1)
		for i := range starts {
			starts[i] = i * n
		}
		return func() {
			precision.Attention(y, q, k, v, starts, heads, heads, d, lse)
			if train {
				clear(dq)
				clear(dk)
				clear(dv)
				precision.AttentionBackward(dq, dk, dv, dy, y, q, k, v, starts, heads, heads, d, lse)
			}
		}
	}
	return c
}
