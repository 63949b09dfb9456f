package kernels

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// Blas is gonum's single precision BLAS with the routines that matter here replaced by this package's; all others are gonum's.
type Blas struct{ gonum.Implementation }

var _ blas.Float32 = Blas{}

// Use makes gonum's blas32, and everything built on it, run on this package.
func Use() { blas32.Use(Blas{}) }

// Sgemm computes C = alpha·op(A)·op(B) + beta·C.
func (Blas) Sgemm(tA, tB blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32,
	ldc int) {
	rowsA, colsA := m, k
	if transposed(tA) {
		rowsA, colsA = k, m
	}
	rowsB, colsB := k, n
	if transposed(tB) {
		rowsB, colsB = n, k
	}
	switch {
	case m < 0:
		panic("blas: m < 0")
	case n < 0:
		panic("blas: n < 0")
	case k < 0:
		panic("blas: k < 0")
	case lda < max(1, colsA):
		panic("blas: bad leading dimension of A")
	case ldb < max(1, colsB):
		panic("blas: bad leading dimension of B")
	case ldc < max(1, n):
		panic("blas: bad leading dimension of C")
	}
	if m == 0 || n == 0 || (alpha == 0 || k == 0) && beta == 1 {
		return
	}
	switch {
	case len(a) < lda*(rowsA-1)+colsA:
		panic("blas: insufficient length of a")
	case len(b) < ldb*(rowsB-1)+colsB:
		panic("blas: insufficient length of b")
	case len(c) < ldc*(m-1)+n:
		panic("blas: insufficient length of c")
	}
	va, vb := matrix{a, lda, 1}, matrix{b, ldb, 1}
	if transposed(tA) {
		va.rs, va.cs = 1, lda
	}
	if transposed(tB) {
		vb.rs, vb.cs = 1, ldb
	}
	gemm(c, ldc, va, vb, m, n, k, alpha, beta)
}

func transposed(t blas.Transpose) bool {
	switch t {
	case blas.NoTrans:
		return false
	case blas.Trans, blas.ConjTrans:
		return true
	}
	panic("blas: illegal transpose")
}

// Sgemv computes y = alpha·op(A)·x + beta·y for unit increments; others are left to gonum.
func (b Blas) Sgemv(tA blas.Transpose, m, n int, alpha float32, a []float32, lda int, x []float32, incX int, beta float32, y []float32,
	incY int) {
	lenX, lenY := n, m
	t := transposed(tA)
	if t {
		lenX, lenY = m, n
	}
	if incX != 1 || incY != 1 || m <= 0 || n <= 0 || lda < n || len(a) < lda*(m-1)+n || len(x) < lenX || len(y) < lenY {
		b.Implementation.Sgemv(tA, m, n, alpha, a, lda, x, incX, beta, y, incY)
		return
	}
	// y as a row: yᵀ = xᵀ·op(A)ᵀ.
	opT := matrix{a, 1, lda}
	if t {
		opT = matrix{a, lda, 1}
	}
	gemm(y, lenY, matrix{x, lenX, 1}, opT, 1, lenY, lenX, alpha, beta)
}

// Sdot computes xᵀ·y.
func (b Blas) Sdot(n int, x []float32, incX int, y []float32, incY int) float32 {
	if incX != 1 || incY != 1 || n <= 0 || len(x) < n || len(y) < n {
		return b.Implementation.Sdot(n, x, incX, y, incY)
	}
	return asm.Dot(x[:n], y[:n])
}

// Saxpy computes y += alpha·x.
func (b Blas) Saxpy(n int, alpha float32, x []float32, incX int, y []float32, incY int) {
	if incX != 1 || incY != 1 || n <= 0 || alpha == 0 || len(x) < n || len(y) < n {
		b.Implementation.Saxpy(n, alpha, x, incX, y, incY)
		return
	}
	asm.Axpy(alpha, x[:n], y[:n])
}

// Sscal computes x *= alpha.
func (b Blas) Sscal(n int, alpha float32, x []float32, incX int) {
	if incX != 1 || n <= 0 || alpha == 0 || len(x) < n {
		b.Implementation.Sscal(n, alpha, x, incX)
		return
	}
	asm.Scale(alpha, x[:n])
}
