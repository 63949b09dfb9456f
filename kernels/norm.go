package kernels

import (
	"math"

	"github.com/millrace/millrace/kernels/internal/asm"
)

const badRows = "kernels: lengths do not match rows × d"

// rowGrain is how many rows of length d are worth a second thread.
func rowGrain(d int) int { return max(1, vectorGrain/max(d, 1)) }

// RMSNorm writes y = x·inv·w for each row of x [rows,d], with inv = 1/√(mean(x²) + eps) kept in inv [rows] for the
// backward pass. Zhang and Sennrich, Root Mean Square Layer Normalization, 2019 (arXiv 1910.07467).
func RMSNorm(y, x, w []float32, rows, d int, eps float32, inv []float32) {
	if len(y) != rows*d || len(x) != rows*d || len(w) != d || len(inv) != rows {
		panic(badRows)
	}
	Parallel(rows, rowGrain(d), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			xr := x[r*d : (r+1)*d]
			mean := float64(asm.Dot(xr, xr)) / float64(d)
			inv[r] = float32(1 / math.Sqrt(mean+float64(eps)))
			asm.RMSScale(y[r*d:(r+1)*d], xr, w, inv[r])
		}
	})
}

// RMSNormBackward adds the gradients of RMSNorm to dx [rows,d] and dw [d]: with s = Σ_j dy_j·w_j·x_j of a row,
// dx += inv·w·dy - x·inv³·s/d and dw += Σ_rows dy·x·inv, rows in order.
func RMSNormBackward(dx, dw, dy, x, w, inv []float32, rows, d int) {
	if len(dx) != rows*d || len(dy) != rows*d || len(x) != rows*d || len(w) != d || len(dw) != d || len(inv) != rows {
		panic(badRows)
	}
	Parallel(rows, rowGrain(d), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			xr, dyr := x[r*d:(r+1)*d], dy[r*d:(r+1)*d]
			s := float64(asm.Dot3(dyr, w, xr))
			i := float64(inv[r])
			asm.RMSBackward(dx[r*d:(r+1)*d], dyr, xr, w, inv[r], float32(s*i*i*i/float64(d)))
		}
	})
	// Columns are split over threads, so each element of dw still sees its rows in order.
	Parallel(d, max(64, vectorGrain/max(rows, 1)), func(lo, hi int) {
		for r := range rows {
			asm.RMSWeightGrad(dw[lo:hi], dy[r*d+lo:r*d+hi], x[r*d+lo:r*d+hi], inv[r])
		}
	})
}
