package kernels

import "github.com/millrace/millrace/kernels/internal/asm"

const badLength = "kernels: lengths of the vectors differ"

// vectorGrain is the length from which an elementwise kernel is worth a second thread.
const vectorGrain = 1 << 15

// Zero clears x.
func Zero(x []float32) { Parallel(len(x), vectorGrain, func(lo, hi int) { clear(x[lo:hi]) }) }

// Dot returns Σ x[i]·y[i].
func Dot(x, y []float32) float32 {
	if len(x) != len(y) {
		panic(badLength)
	}
	return asm.Dot(x, y)
}

// Axpy adds alpha·x to y.
func Axpy(alpha float32, x, y []float32) {
	if len(x) != len(y) {
		panic(badLength)
	}
	Parallel(len(x), vectorGrain, func(lo, hi int) { asm.Axpy(alpha, x[lo:hi], y[lo:hi]) })
}

// Add adds x to dst.
func Add(dst, x []float32) {
	if len(x) != len(dst) {
		panic(badLength)
	}
	Parallel(len(x), vectorGrain, func(lo, hi int) { asm.Add(dst[lo:hi], x[lo:hi]) })
}

// Scale multiplies x by alpha.
func Scale(alpha float32, x []float32) {
	Parallel(len(x), vectorGrain, func(lo, hi int) { asm.Scale(alpha, x[lo:hi]) })
}

// sumBlock is the length of the blocks whose sums SumSquares adds in order.
const sumBlock = 1 << 14

// SumSquares returns Σ x[i]² in double precision: blocks of a fixed length, added in order.
func SumSquares(x []float32) float64 {
	blocks := (len(x) + sumBlock - 1) / sumBlock
	if blocks <= 1 {
		return asm.SumSquares(x)
	}
	sums := make([]float64, blocks)
	Parallel(blocks, 4, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			sums[i] = asm.SumSquares(x[i*sumBlock : min((i+1)*sumBlock, len(x))])
		}
	})
	var s float64
	for _, v := range sums {
		s += v
	}
	return s
}

// Exp writes e^x[i].
func Exp(dst, x []float32) { elementwise(dst, x, asm.Exp) }

// Log writes the natural logarithm of x[i].
func Log(dst, x []float32) { elementwise(dst, x, asm.Log) }

// Sigmoid writes 1/(1+e^-x[i]).
func Sigmoid(dst, x []float32) { elementwise(dst, x, asm.Sigmoid) }

// Softplus writes log(1+e^x[i]).
func Softplus(dst, x []float32) { elementwise(dst, x, asm.Softplus) }

func elementwise(dst, x []float32, f func(dst, x []float32)) {
	if len(x) != len(dst) {
		panic(badLength)
	}
	Parallel(len(x), vectorGrain/8, func(lo, hi int) { f(dst[lo:hi], x[lo:hi]) })
}

// Exp32 is Exp of one number, with the same bits.
func Exp32(x float32) float32 {
	v := [1]float32{x}
	asm.Exp(v[:], v[:])
	return v[0]
}

// Log32 is Log of one number, with the same bits.
func Log32(x float32) float32 {
	v := [1]float32{x}
	asm.Log(v[:], v[:])
	return v[0]
}

// Sigmoid32 is Sigmoid of one number, with the same bits.
func Sigmoid32(x float32) float32 {
	v := [1]float32{x}
	asm.Sigmoid(v[:], v[:])
	return v[0]
}

// Softplus32 is Softplus of one number, with the same bits.
func Softplus32(x float32) float32 {
	v := [1]float32{x}
	asm.Softplus(v[:], v[:])
	return v[0]
}
