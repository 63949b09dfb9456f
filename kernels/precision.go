package kernels

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// Precision says in what the matrix products of a model are computed: its linear layers, attention and head, forward and backward.
// Everything between products, and every sum, is in single precision.
type Precision uint8

const (
	// Float32 multiplies single precision numbers.
	Float32 Precision = iota
	// BFloat16 rounds both operands of a product to bfloat16 (to nearest, ties to even; denormal numbers become zero) and adds the
	// products of these in single precision, in the order of Float32; sums that become denormal are zero. A product of two
	// bfloat16 numbers is exact in single precision, so every level gives the same bits, generic too.
	BFloat16
	// BFloat16Tiles rounds as BFloat16 does and adds in the order of a tile unit (TDPBF16PS): of each 32 steps of the sum, counted from
	// its first, the products of even steps one after the other from zero, those of odd steps likewise, then both sums to one another,
	// and that to what there is. Fused multiply-adds give the same bits where there is no such unit.
	BFloat16Tiles
)

// Precisions are all there are.
var Precisions = []Precision{Float32, BFloat16, BFloat16Tiles}

var precisionNames = [...]string{"float32", "bfloat16", "bfloat16-tiles"}

// Rounds reports whether operands are rounded to bfloat16, so that half the memory holds them.
func (p Precision) Rounds() bool { return p != Float32 }

func (p Precision) String() string { return precisionNames[p] }

// MarshalText writes the name.
func (p Precision) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Fastest is the precision whose products take the least time at the present level, Float32 where none is faster than that.
func Fastest() Precision {
	switch {
	case asm.HasUnits():
		return BFloat16Tiles
	case asm.HasDots():
		return BFloat16
	}
	return Float32
}

// fast is the name that stands for Fastest where a precision is chosen. It is never written.
const fast = "fast"

// UnmarshalText reads a name; the empty one is Float32, and fast is what Fastest says here.
func (p *Precision) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = Float32
		return nil
	}
	if string(text) == fast {
		*p = Fastest()
		return nil
	}
	for i, name := range precisionNames {
		if name == string(text) {
			*p = Precision(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not one of %s, %s", text, strings.Join(precisionNames[:], ", "), fast)
}

// MatMulNT is the function of that name in the precision.
func (p Precision) MatMulNT(c, a, b []float32, m, n, k int, beta float32) {
	checkMatMul(c, a, b, m, n, k)
	p.gemm(c, n, matrix{a, k, 1}, matrix{b, 1, k}, m, n, k, beta)
}

// MatMulNN is the function of that name in the precision.
func (p Precision) MatMulNN(c, a, b []float32, m, n, k int, beta float32) {
	checkMatMul(c, a, b, m, n, k)
	p.gemm(c, n, matrix{a, k, 1}, matrix{b, n, 1}, m, n, k, beta)
}

// MatMulTN is the function of that name in the precision.
func (p Precision) MatMulTN(c, a, b []float32, m, n, k int, beta float32) {
	checkMatMul(c, a, b, m, n, k)
	p.gemm(c, n, matrix{a, 1, m}, matrix{b, n, 1}, m, n, k, beta)
}

// roundedWords is how much of A is rounded at a time: 4 MiB.
var roundedWords = 1 << 20

func (p Precision) gemm(c []float32, ldc int, a, b matrix, m, n, k int, beta float32) {
	if p == Float32 {
		gemm(c, ldc, a, b, m, n, k, 1, beta)
		return
	}
	if prepare(c, ldc, m, n, beta, k == 0) {
		return
	}
	f := p.form()
	// A is rounded once for all threads and blocks, in slices along its longer side.
	rows, steps := m, k
	if words := f.words(k); words > m {
		steps = min(k, upTo(max(1, roundedWords/m), f.whole())*f.steps())
	} else {
		rows = min(m, max(1, roundedWords/words))
	}
	room, release := borrow(f.room(rows, steps))
	defer release()
	for p0 := 0; p0 < k; p0 += steps {
		pn := min(steps, k-p0)
		bp := matrix{b.at(p0, 0), b.rs, b.cs}
		for i0 := 0; i0 < m; i0 += rows {
			in := min(rows, m-i0)
			words := f.round(room, matrix{a.at(i0, p0), a.rs, a.cs}, in, pn, Parallel)
			newProduct(f, c[i0*ldc:], ldc, words, bp, n, pn, beta != 0 || p0 > 0).run(in)
		}
	}
}
