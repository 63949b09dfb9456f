package kernels_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/gonum"
	"gonum.org/v1/gonum/blas/testblas"

	"github.com/millrace/millrace/kernels"
)

// widened runs gonum's conformance tests, which are written in double precision, on a single precision implementation: arguments
// are rounded on the way in, results widened on the way out.
type widened struct {
	blas.Float64
	to kernels.Blas
}

func narrow(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

func widen(dst []float64, x []float32) {
	for i, v := range x {
		if float32(dst[i]) != v { // what was not written keeps its value, NaN included
			dst[i] = float64(v)
		}
	}
}

func (w widened) Dgemm(tA, tB blas.Transpose, m, n, k int, alpha float64, a []float64, lda int, b []float64, ldb int, beta float64,
	c []float64, ldc int) {
	c32 := narrow(c)
	w.to.Sgemm(tA, tB, m, n, k, float32(alpha), narrow(a), lda, narrow(b), ldb, float32(beta), c32, ldc)
	widen(c, c32)
}

func (w widened) Dgemv(tA blas.Transpose, m, n int, alpha float64, a []float64, lda int, x []float64, incX int, beta float64, y []float64,
	incY int) {
	y32 := narrow(y)
	w.to.Sgemv(tA, m, n, float32(alpha), narrow(a), lda, narrow(x), incX, float32(beta), y32, incY)
	widen(y, y32)
}

func (w widened) Daxpy(n int, alpha float64, x []float64, incX int, y []float64, incY int) {
	y32 := narrow(y)
	w.to.Saxpy(n, float32(alpha), narrow(x), incX, y32, incY)
	widen(y, y32)
}

func (w widened) Dscal(n int, alpha float64, x []float64, incX int) {
	x32 := narrow(x)
	w.to.Sscal(n, float32(alpha), x32, incX)
	widen(x, x32)
}

func (w widened) Ddot(n int, x []float64, incX int, y []float64, incY int) float64 {
	return float64(w.to.Sdot(n, narrow(x), incX, narrow(y), incY))
}

// TestBlasConformance runs the parts of gonum's test kit whose numbers are exact in single precision.
func TestBlasConformance(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		w := widened{Float64: gonum.Implementation{}}
		testblas.DaxpyTest(t, w)
		testblas.DdotTest(t, w)
		testblas.DscalTest(t, w)
	})
}

// reference is gonum's definition of the product, in double precision, for checking magnitudes too.
func reference(tA, tB blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32,
	ldc int) (want, magnitude []float64) {
	want, magnitude = make([]float64, m*n), make([]float64, m*n)
	at := func(x []float32, ld int, t bool, i, j int) float64 {
		if t {
			i, j = j, i
		}
		return float64(x[i*ld+j])
	}
	for i := range m {
		for j := range n {
			var s, mag float64
			if beta != 0 {
				s = float64(beta) * float64(c[i*ldc+j])
				mag = math.Abs(s)
			}
			if alpha != 0 {
				for p := range k {
					v := float64(alpha) * at(a, lda, tA != blas.NoTrans, i, p) * at(b, ldb, tB != blas.NoTrans, p, j)
					s += v
					mag += math.Abs(v)
				}
			}
			want[i*n+j], magnitude[i*n+j] = s, mag
		}
	}
	return want, magnitude
}

const guard = -1234.5

// checkSgemm runs one product with guards in the padding of every matrix, and holds it against the reference: an element may be off
// by k+2 units in the last place of the sum of magnitudes.
func checkSgemm(t *testing.T, r *rand.Rand, tA, tB blas.Transpose, m, n, k, padA, padB, padC int, alpha, beta float32,
	draw func() float32) {
	t.Helper()
	build := func(rows, cols, pad int) (x []float32, ld int) {
		ld = max(1, cols+pad)
		x = make([]float32, max(0, rows*ld-pad)+32)
		for i := range x {
			x[i] = guard
		}
		off := r.IntN(16)
		x = x[off : off+max(0, rows*ld-pad)]
		for i := range rows {
			for j := range cols {
				x[i*ld+j] = draw()
			}
		}
		return x, ld
	}
	ra, ca, rb, cb := m, k, k, n
	if tA != blas.NoTrans {
		ra, ca = k, m
	}
	if tB != blas.NoTrans {
		rb, cb = n, k
	}
	a, lda := build(ra, ca, padA)
	b, ldb := build(rb, cb, padB)
	c, ldc := build(m, n, padC)
	before := append([]float32(nil), c[:cap(c)]...)
	want, mag := reference(tA, tB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
	kernels.Blas{}.Sgemm(tA, tB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
	what := fmt.Sprintf("%c%c m=%d n=%d k=%d alpha=%v beta=%v pads %d %d %d", tA, tB, m, n, k, alpha, beta, padA, padB, padC)
	for i, v := range c[:cap(c)] {
		row, col := i/ldc, i%ldc
		if i >= len(c) || col >= n || row >= m {
			if v != before[i] {
				t.Fatalf("%s: wrote outside c at %d", what, i)
			}
			continue
		}
		w, tol := want[row*n+col], float64(k+2)*0x1p-24*mag[row*n+col]
		switch d := math.Abs(float64(v) - w); {
		case math.IsNaN(w) && v != v, d <= tol, float64(v) == w:
		default:
			t.Fatalf("%s: c[%d,%d] = %v, want %v ± %v", what, row, col, v, w, tol)
		}
	}
}

var transposes = []blas.Transpose{blas.NoTrans, blas.Trans}

// TestSgemm: all forms, random shapes around the sizes of tiles and blocks, strides, alpha and beta; against double precision.
func TestSgemm(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		normal := func() float32 { return float32(r.NormFloat64()) }
		coefficients := []float32{1, 0, -1, 0.3}
		size := func() int {
			switch r.IntN(4) {
			case 0:
				return r.IntN(4)
			case 1:
				return r.IntN(40)
			}
			return r.IntN(140)
		}
		for range kernels.Rounds(150) {
			for _, tA := range transposes {
				for _, tB := range transposes {
					m, n, k := size(), size(), size()
					switch r.IntN(12) {
					case 0:
						k += 380
					case 1:
						n += 500
					case 2:
						m += 90
					}
					checkSgemm(t, r, tA, tB, m, n, k, r.IntN(3), r.IntN(3), r.IntN(3), coefficients[r.IntN(4)], coefficients[r.IntN(4)], normal)
				}
			}
		}
	})
}

// TestSgemmSpecial: NaN and infinities go where IEEE arithmetic takes them; beta 0 overwrites even NaN; alpha 0 reads nothing.
func TestSgemmSpecial(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(8, 9))
		special := func() float32 {
			switch r.IntN(200) {
			case 0:
				return float32(math.NaN())
			case 1:
				return float32(math.Inf(1))
			case 2:
				return float32(math.Inf(-1))
			}
			return float32(r.NormFloat64())
		}
		for range 40 {
			for _, tA := range transposes {
				for _, tB := range transposes {
					for _, alpha := range []float32{1, 0, 0.5} {
						for _, beta := range []float32{1, 0, 0.5} {
							checkSgemm(t, r, tA, tB, r.IntN(20), r.IntN(40), r.IntN(20), 0, 1, 2, alpha, beta, special)
						}
					}
				}
			}
		}
	})
}

// TestSgemmArguments: bad sizes, strides and lengths panic as gonum's do.
func TestSgemmArguments(t *testing.T) {
	x := make([]float32, 100)
	for name, f := range map[string]func(){
		"m":         func() { kernels.Blas{}.Sgemm(blas.NoTrans, blas.NoTrans, -1, 1, 1, 1, x, 1, x, 1, 0, x, 1) },
		"n":         func() { kernels.Blas{}.Sgemm(blas.NoTrans, blas.NoTrans, 1, -1, 1, 1, x, 1, x, 1, 0, x, 1) },
		"k":         func() { kernels.Blas{}.Sgemm(blas.NoTrans, blas.NoTrans, 1, 1, -1, 1, x, 1, x, 1, 0, x, 1) },
		"lda":       func() { kernels.Blas{}.Sgemm(blas.NoTrans, blas.NoTrans, 2, 2, 3, 1, x, 2, x, 2, 0, x, 2) },
		"ldb":       func() { kernels.Blas{}.Sgemm(blas.NoTrans, blas.NoTrans, 2, 3, 2, 1, x, 2, x, 2, 0, x, 3) },
		"ldc":       func() { kernels.Blas{}.Sgemm(blas.NoTrans, blas.NoTrans, 2, 3, 2, 1, x, 2, x, 3, 0, x, 2) },
		"short a":   func() { kernels.Blas{}.Sgemm(blas.NoTrans, blas.NoTrans, 2, 2, 2, 1, x[:3], 2, x, 2, 0, x, 2) },
		"short b":   func() { kernels.Blas{}.Sgemm(blas.NoTrans, blas.Trans, 2, 2, 2, 1, x, 2, x[:3], 2, 0, x, 2) },
		"short c":   func() { kernels.Blas{}.Sgemm(blas.NoTrans, blas.NoTrans, 2, 2, 2, 1, x, 2, x, 2, 0, x[:3], 2) },
		"transpose": func() { kernels.Blas{}.Sgemm('x', blas.NoTrans, 1, 1, 1, 1, x, 1, x, 1, 0, x, 1) },
		"MatMulNT":  func() { kernels.MatMulNT(x[:4], x[:4], x[:5], 2, 2, 2, 0) },
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
	kernels.Blas{}.Sgemm(blas.NoTrans, blas.NoTrans, 0, 0, 0, 1, nil, 1, nil, 1, 0, nil, 1)
	kernels.MatMulNT(nil, nil, x[:6], 0, 2, 3, 0)
}

// TestSgemvBits: a matrix-vector product has the bits of the matrix product of one column.
func TestSgemvBits(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(10, 11))
		for range 50 {
			m, n := 1+r.IntN(150), 1+r.IntN(150)
			lda := n + r.IntN(3)
			a, x, y := randoms(r, m*lda), randoms(r, n), randoms(r, m)
			want := append([]float32(nil), y...)
			kernels.Blas{}.Sgemm(blas.NoTrans, blas.NoTrans, m, 1, n, 1, a, lda, x, 1, 0.5, want, 1)
			kernels.Blas{}.Sgemv(blas.NoTrans, m, n, 1, a, lda, x, 1, 0.5, y, 1)
			sameBits(t, "Sgemv", y, want)
			xt, yt := randoms(r, m), randoms(r, n)
			want = append([]float32(nil), yt...)
			kernels.Blas{}.Sgemm(blas.Trans, blas.NoTrans, n, 1, m, 1, a, lda, xt, 1, 1, want, 1)
			kernels.Blas{}.Sgemv(blas.Trans, m, n, 1, a, lda, xt, 1, 1, yt, 1)
			sameBits(t, "Sgemv transposed", yt, want)
		}
	})
}

func TestUse(t *testing.T) {
	old := blas32.Implementation()
	defer blas32.Use(old)
	kernels.Use()
	if _, ok := blas32.Implementation().(kernels.Blas); !ok {
		t.Errorf("blas32 runs %T", blas32.Implementation())
	}
}

// FuzzSgemm looks for shapes and strides that go wrong.
func FuzzSgemm(f *testing.F) {
	f.Add(uint16(14), uint16(32), uint16(8), uint8(0), uint8(3), uint64(1))
	f.Add(uint16(1), uint16(33), uint16(385), uint8(1), uint8(7), uint64(2))
	f.Fuzz(func(t *testing.T, m, n, k uint16, pads, form uint8, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		levels := kernels.Levels()
		defer kernels.Force(levels[int(seed>>32)%len(levels)])()
		checkSgemm(t, r, transposes[form&1], transposes[form>>1&1], int(m%200), int(n%600), int(k%500),
			int(pads&3), int(pads>>2&3), int(pads>>4&3), []float32{1, 0, -1, 0.3}[form>>2&3], []float32{1, 0, -1, 0.3}[form>>4&3],
			func() float32 { return float32(r.NormFloat64()) })
	})
}
