package asm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// routine is one entry of the table every test of this file runs: what is called, and the same in double precision.
type routine struct {
	name string
	args int // slices of equal length
	// run calls the routine on the slices, in place, and returns its scalar results.
	run func(a [][]float32) []float32
	// ref does the same in double precision; with each scalar it returns the sum of the magnitudes of its terms.
	ref func(a [][]float64) (scalars, magnitudes []float64)
}

func sum(n int, term func(i int) float64) (s, m float64) {
	for i := range n {
		v := term(i)
		s += v
		m += math.Abs(v)
	}
	return s, m
}

func each(n int, f func(i int)) {
	for i := range n {
		f(i)
	}
}

func sigmoid64(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func scalars(v ...float64) []float64 { return v }

var step = AdamWStep{GradScale: 0.5, Beta1: 0.875, OneMinusBeta1: 0.125, Beta2: 0.984375, OneMinusBeta2: 0.015625,
	Decay: 0.9990234375, StepSize: 0.0625, InvSqrtCorrection: 1.5, Eps: 0.0009765625}

var routines = []routine{
	{"Dot", 2, func(a [][]float32) []float32 { return []float32{Dot(a[0], a[1])} },
		func(a [][]float64) ([]float64, []float64) {
			s, m := sum(len(a[0]), func(i int) float64 { return a[0][i] * a[1][i] })
			return scalars(s), scalars(m)
		}},
	{"Dot3", 3, func(a [][]float32) []float32 { return []float32{Dot3(a[0], a[1], a[2])} },
		func(a [][]float64) ([]float64, []float64) {
			s, m := sum(len(a[0]), func(i int) float64 { return a[0][i] * a[1][i] * a[2][i] })
			return scalars(s), scalars(m)
		}},
	{"SumSquares", 1, func(a [][]float32) []float32 { return []float32{float32(SumSquares(a[0]))} },
		func(a [][]float64) ([]float64, []float64) {
			s, m := sum(len(a[0]), func(i int) float64 { return a[0][i] * a[0][i] })
			return scalars(s), scalars(m)
		}},
	{"Max", 1, func(a [][]float32) []float32 { return []float32{Max(a[0])} },
		func(a [][]float64) ([]float64, []float64) {
			m := math.Inf(-1)
			for _, v := range a[0] {
				m = max(m, v)
			}
			return scalars(m), scalars(0)
		}},
	{"Axpy", 2, func(a [][]float32) []float32 { Axpy(0.75, a[0], a[1]); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[1][i] += 0.75 * a[0][i] })
			return nil, nil
		}},
	{"Add", 2, func(a [][]float32) []float32 { Add(a[0], a[1]); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] += a[1][i] })
			return nil, nil
		}},
	{"Scale", 1, func(a [][]float32) []float32 { Scale(0.3125, a[0]); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] *= 0.3125 })
			return nil, nil
		}},
	{"SubTo", 2, func(a [][]float32) []float32 { SubTo(a[0], a[1], 0.3125); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] = a[1][i] - 0.3125 })
			return nil, nil
		}},
	{"Exp", 2, func(a [][]float32) []float32 { Exp(a[0], a[1]); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] = math.Exp(a[1][i]) })
			return nil, nil
		}},
	{"Log", 2, func(a [][]float32) []float32 { Exp(a[1], a[1]); Log(a[0], a[1]); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i], a[1][i] = a[1][i], math.Exp(a[1][i]) })
			return nil, nil
		}},
	{"Sigmoid", 2, func(a [][]float32) []float32 { Sigmoid(a[0], a[1]); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] = sigmoid64(a[1][i]) })
			return nil, nil
		}},
	{"Softplus", 2, func(a [][]float32) []float32 { Softplus(a[0], a[1]); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] = math.Log1p(math.Exp(a[1][i])) })
			return nil, nil
		}},
	{"ExpSum", 1, func(a [][]float32) []float32 { s, t := ExpSum(a[0], 2.5); return []float32{s, t} },
		func(a [][]float64) ([]float64, []float64) {
			s, ms := sum(len(a[0]), func(i int) float64 { return math.Exp(a[0][i] - 2.5) })
			t, mt := sum(len(a[0]), func(i int) float64 { return (a[0][i] - 2.5) * math.Exp(a[0][i]-2.5) })
			return scalars(s, t), scalars(ms, mt)
		}},
	{"SoftmaxExp", 1, func(a [][]float32) []float32 { return []float32{SoftmaxExp(a[0], 0.75, 2.5)} },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] = math.Exp(0.75*a[0][i] - 2.5) })
			s, m := sum(len(a[0]), func(i int) float64 { return a[0][i] })
			return scalars(s), scalars(m)
		}},
	{"SoftmaxGrad", 2, func(a [][]float32) []float32 { SoftmaxGrad(a[0], a[1], 0.25, 0.125); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] = a[1][i] * (a[0][i] - 0.25) * 0.125 })
			return nil, nil
		}},
	{"ExpScale", 1, func(a [][]float32) []float32 { ExpScale(a[0], 2.5, -0.75); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] = -0.75 * math.Exp(a[0][i]-2.5) })
			return nil, nil
		}},
	{"AddExpScale", 2, func(a [][]float32) []float32 { AddExpScale(a[0], a[1], 2.5, -0.75); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] += -0.75 * math.Exp(a[1][i]-2.5) })
			return nil, nil
		}},
	{"ExpDotDiff", 2, func(a [][]float32) []float32 { return []float32{ExpDotDiff(a[0], a[1], 2.5)} },
		func(a [][]float64) ([]float64, []float64) {
			s, m := sum(len(a[0]), func(i int) float64 { return math.Exp(a[1][i]-2.5) * (a[1][i] - a[0][i]) })
			return scalars(s), scalars(m)
		}},
	{"RMSScale", 3, func(a [][]float32) []float32 { RMSScale(a[0], a[1], a[2], 0.3125); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] = a[1][i] * 0.3125 * a[2][i] })
			return nil, nil
		}},
	{"RMSBackward", 4, func(a [][]float32) []float32 { RMSBackward(a[0], a[1], a[2], a[3], 0.3125, 0.75); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] += 0.3125*a[3][i]*a[1][i] - 0.75*a[2][i] })
			return nil, nil
		}},
	{"RMSWeightGrad", 3, func(a [][]float32) []float32 { RMSWeightGrad(a[0], a[1], a[2], 0.3125); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] += a[1][i] * a[2][i] * 0.3125 })
			return nil, nil
		}},
	{"Rotate", 4, func(a [][]float32) []float32 { Rotate(a[0], a[1], a[2], a[3]); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) {
				lo, hi := a[0][i], a[1][i]
				a[0][i] = lo*a[2][i] - hi*a[3][i]
				a[1][i] = hi*a[2][i] + lo*a[3][i]
			})
			return nil, nil
		}},
	{"SwiGLU", 3, func(a [][]float32) []float32 { SwiGLU(a[0], a[1], a[2]); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) { a[0][i] = a[1][i] * sigmoid64(a[1][i]) * a[2][i] })
			return nil, nil
		}},
	{"SwiGLUBackward", 5, func(a [][]float32) []float32 { SwiGLUBackward(a[0], a[1], a[2], a[2], a[3], a[4]); return nil },
		func(a [][]float64) ([]float64, []float64) {
			each(len(a[0]), func(i int) {
				d, g, u := a[2][i], a[3][i], a[4][i]
				s := sigmoid64(g)
				a[0][i] = d * u * s * (1 + g*(1-s))
				a[1][i] = d * g * s
				a[2][i] = g * s * u // in place of d
			})
			return nil, nil
		}},
	{"AdamW", 4, func(a [][]float32) []float32 {
		for i, v := range a[3] {
			a[3][i] = v * v
		}
		AdamW(a[0], a[1], a[2], a[3], &step)
		return nil
	},
		func(a [][]float64) ([]float64, []float64) {
			s := step
			each(len(a[0]), func(i int) {
				a[3][i] *= a[3][i]
				g := a[1][i] * float64(s.GradScale)
				a[2][i] = float64(s.Beta1)*a[2][i] + float64(s.OneMinusBeta1)*g
				a[3][i] = float64(s.Beta2)*a[3][i] + float64(s.OneMinusBeta2)*g*g
				a[0][i] = a[0][i]*float64(s.Decay) - float64(s.StepSize)*a[2][i]/(math.Sqrt(a[3][i])*float64(s.InvSqrtCorrection)+float64(s.Eps))
			})
			return nil, nil
		}},
}

// guard stands around every slice; a routine that writes outside its slice changes it.
const guard, guardWidth = -12345.5, 40

// guarded returns copies of the inputs, each between guards and begun at another alignment, and a check of the guards.
func guarded(in [][]float32, shift int) (a [][]float32, check func(t *testing.T)) {
	var whole [][]float32
	for i, x := range in {
		w := make([]float32, len(x)+2*guardWidth)
		for j := range w {
			w[j] = guard
		}
		at := guardWidth - (shift+5*i)%17
		whole = append(whole, w)
		a = append(a, w[at:at+len(x)])
		copy(a[i], x)
	}
	return a, func(t *testing.T) {
		t.Helper()
		for i, w := range whole {
			at := guardWidth - (shift+5*i)%17
			for j, v := range w {
				if v != guard && (j < at || j >= at+len(in[i])) {
					t.Fatalf("argument %d of length %d: element %d was overwritten", i, len(in[i]), j-at)
				}
			}
		}
	}
}

func forEachLevel(t *testing.T, f func(t *testing.T)) {
	for _, name := range Levels() {
		t.Run(name, func(t *testing.T) {
			old := Level()
			Force(name)
			defer Force(old)
			f(t)
		})
	}
}

// TestRoutines runs every routine for every length from 0 to 1000, at changing alignments between guards, against double
// precision. Elementwise results may be off by 1e-6·(1+|result|), sums by (n/32 + 16) units in the last place of the sum of
// magnitudes.
func TestRoutines(t *testing.T) {
	lengths := 1000
	if testing.Short() {
		lengths = 200
	}
	for _, rt := range routines {
		t.Run(rt.name, func(t *testing.T) {
			forEachLevel(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(7, 11))
				for n := 0; n <= lengths; n++ {
					in := make([][]float32, rt.args)
					ref := make([][]float64, rt.args)
					for i := range in {
						in[i], ref[i] = make([]float32, n), make([]float64, n)
						for j := range n {
							in[i][j] = float32(r.NormFloat64())
							ref[i][j] = float64(in[i][j])
						}
					}
					got, check := guarded(in, n)
					gs := rt.run(got)
					check(t)
					ws, mags := rt.ref(ref)
					for i, w := range ws {
						tol := (float64(n)/32 + 16) * 0x1p-24 * mags[i]
						if !(math.Abs(float64(gs[i])-w) <= tol) && float64(gs[i]) != w {
							t.Fatalf("length %d: result %d is %v, want %v ± %v", n, i, gs[i], w, tol)
						}
					}
					for i := range got {
						for j, v := range got[i] {
							if w := ref[i][j]; !(math.Abs(float64(v)-w) <= 1e-6*(1+math.Abs(w))) {
								t.Fatalf("length %d: argument %d element %d is %v, want %v", n, i, j, v, w)
							}
						}
					}
				}
			})
		})
	}
}

// sameBits holds two results against each other; any NaN equals any other.
func sameBits(t *testing.T, what string, a, b []float32) {
	t.Helper()
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) && !(a[i] != a[i] && b[i] != b[i]) {
			t.Fatalf("%s: element %d is %x and %x", what, i, a[i], b[i])
		}
	}
}

// hostile draws numbers of every kind: ordinary, huge, tiny, denormal, zero of both signs, infinite, NaN.
func hostile(r *rand.Rand) float32 {
	switch r.IntN(12) {
	case 0:
		return math.Float32frombits(r.Uint32())
	case 1:
		return float32(math.Inf(1 - 2*r.IntN(2)))
	case 2:
		return float32(math.NaN())
	case 3:
		return float32(math.Copysign(0, float64(r.IntN(2))-0.5))
	case 4:
		return math.Float32frombits(r.Uint32() & 0x807fffff)
	case 5:
		return float32(r.NormFloat64() * 60)
	}
	return float32(r.NormFloat64())
}

// TestVectorLevelsAgree: AVX2 and AVX-512 give the same bits, for ordinary and for hostile numbers.
func TestVectorLevelsAgree(t *testing.T) {
	levels := Levels()
	if len(levels) < 3 {
		t.Skip("this machine does not have both vector levels")
	}
	defer Force(Level())
	r := rand.New(rand.NewPCG(13, 17))
	draws := []func() float32{
		func() float32 { return float32(r.NormFloat64()) },
		func() float32 { return float32(r.NormFloat64() * 60) },
		func() float32 { return hostile(r) },
	}
	for _, rt := range routines {
		for n := 0; n <= 300; n++ {
			for kind, draw := range draws {
				in := make([][]float32, rt.args)
				for i := range in {
					in[i] = make([]float32, n)
					for j := range in[i] {
						in[i][j] = draw()
					}
				}
				Force("avx2")
				a, _ := guarded(in, n)
				as := rt.run(a)
				Force("avx512")
				b, _ := guarded(in, n+3)
				bs := rt.run(b)
				what := fmt.Sprintf("%s of length %d, kind %d", rt.name, n, kind)
				sameBits(t, what, as, bs)
				for i := range a {
					sameBits(t, what, a[i], b[i])
				}
			}
		}
	}
}

// ulps is the distance of got from want in units in the last place of want, counted in steps of the smallest number near 0.
func ulps(got float32, want float64) float64 {
	w := float32(want)
	switch {
	case math.IsNaN(want):
		if got != got {
			return 0
		}
		return math.Inf(1)
	case math.IsInf(float64(w), 0) || math.IsInf(float64(got), 0):
		if got == w {
			return 0
		}
		w = float32(math.Copysign(math.MaxFloat32, float64(w)))
	}
	_, e := math.Frexp(float64(w))
	unit := math.Ldexp(1, max(e-24, -149))
	return math.Abs(float64(got)-want) / unit
}

// TestULP states the error of the transcendental functions over their whole range: floats of every exponent and both signs.
func TestULP(t *testing.T) {
	stride := uint64(509)
	if testing.Short() {
		stride = 8191
	}
	forEachLevel(t, func(t *testing.T) {
		for _, f := range []struct {
			name  string
			f     func(dst, x []float32)
			ref   func(float64) float64
			bound float64
		}{
			{"exp", Exp, math.Exp, 1},
			{"log", Log, math.Log, 1},
			{"sigmoid", Sigmoid, sigmoid64, 2.5},
			{"softplus", Softplus, func(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }, 1},
		} {
			worst, at := 0.0, float32(0)
			x, y := make([]float32, 0, 4096), make([]float32, 4096)
			flush := func() {
				f.f(y[:len(x)], x)
				for i, v := range x {
					w := f.ref(float64(v))
					if f.name == "sigmoid" && w < 0x1p-126 {
						continue // e^-x has overflowed by then: the result is 0
					}
					if u := ulps(y[i], w); u > worst {
						worst, at = u, v
					}
				}
				x = x[:0]
			}
			for b := uint64(0); b < 1<<32; b += stride {
				x = append(x, math.Float32frombits(uint32(b)))
				if len(x) == cap(x) {
					flush()
				}
			}
			flush()
			t.Logf("%s: %.3f units in the last place, at %v", f.name, worst, at)
			if worst > f.bound {
				t.Errorf("%s is off by %.3f units in the last place at %v, more than %v", f.name, worst, at, f.bound)
			}
		}
	})
}
