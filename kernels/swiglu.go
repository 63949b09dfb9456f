package kernels

import "github.com/millrace/millrace/kernels/internal/asm"

// SwiGLU writes y = gate·sigmoid(gate)·up. Shazeer, GLU Variants Improve Transformer, 2020 (arXiv 2002.05202).
func SwiGLU(y, gate, up []float32) {
	if len(y) != len(gate) || len(up) != len(gate) {
		panic(badLength)
	}
	Parallel(len(y), vectorGrain/4, func(lo, hi int) { asm.SwiGLU(y[lo:hi], gate[lo:hi], up[lo:hi]) })
}

// SwiGLUBackward overwrites dgate and dup with the gradients of SwiGLU, and y with what it computed, for the gradient of a weight that
// comes after. dgate may be gate, dup may be up, and y may be dy.
func SwiGLUBackward(dgate, dup, y, dy, gate, up []float32) {
	n := len(gate)
	if len(dgate) != n || len(dup) != n || len(y) != n || len(dy) != n || len(up) != n {
		panic(badLength)
	}
	Parallel(n, vectorGrain/4, func(lo, hi int) {
		asm.SwiGLUBackward(dgate[lo:hi], dup[lo:hi], y[lo:hi], dy[lo:hi], gate[lo:hi], up[lo:hi])
	})
}
