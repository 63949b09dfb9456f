package kernels

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// gauss draws numbers of the usual size.
func gauss(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func inBFloat16(x []float32) []float32 {
	y := append([]float32(nil), x...)
	asm.Round(y)
	return y
}

func flipped(a []float32, m, n int) []float32 {
	t := make([]float32, m*n)
	for i := range m {
		for j := range n {
			t[j*m+i] = a[i*n+j]
		}
	}
	return t
}

// TestBFloat16: at every level products in bfloat16 are those of rounded numbers in single precision, fused, bit for bit: in all three
// directions, in slices and blocks of every size, with any number of threads, from c or from zero, packed or not, in one part or two.
func TestBFloat16(t *testing.T) {
	defer func(old int) { roundedWords = old }(roundedWords)
	r := rand.New(rand.NewPCG(61, 62))
	levels := Levels()
	for round := range Rounds(60) {
		m, n, k := 1+r.IntN(90), 1+r.IntN(150), 1+r.IntN(500)
		if round%10 == 0 {
			m, n, k = 1+r.IntN(500), 1+r.IntN(700), 1+r.IntN(1500)
		}
		roundedWords = 1 << 20
		if round%3 == 0 {
			roundedWords = 1 + r.IntN(m*k)
		}
		a, b, c := gauss(r, m*k), gauss(r, n*k), gauss(r, m*n)
		at, bt := flipped(a, m, k), flipped(b, n, k)
		beta := []float32{0, 1, 0.5}[r.IntN(3)]
		want := append([]float32(nil), c...)
		if len(levels) > 1 { // rounds products of numbers in bfloat16 once, as generic does not
			restore := Force("avx2")
			MatMulNT(want, inBFloat16(a), inBFloat16(b), m, n, k, beta)
			restore()
		} else {
			BFloat16.MatMulNT(want, a, b, m, n, k, beta)
		}
		for _, level := range levels {
			restore := Force(level)
			old := SetThreads(1 + r.IntN(4))
			k1 := r.IntN(k + 1)
			for name, f := range map[string]func(c []float32){
				"NT":     func(c []float32) { BFloat16.MatMulNT(c, a, b, m, n, k, beta) },
				"NN":     func(c []float32) { BFloat16.MatMulNN(c, a, bt, m, n, k, beta) },
				"TN":     func(c []float32) { BFloat16.MatMulTN(c, at, bt, m, n, k, beta) },
				"packed": func(c []float32) { MatMulPacked(c, a, Pack(Weight{W: b, N: n, K: k, Precision: BFloat16})[0], m, beta) },
				"parts": func(c []float32) {
					BFloat16.MatMulTN(c, at[:k1*m], bt[:k1*n], m, n, k1, beta)
					BFloat16.MatMulTN(c, at[k1*m:], bt[k1*n:], m, n, k-k1, 1)
				},
			} {
				got := append([]float32(nil), c...)
				f(got)
				for i := range got {
					if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
						t.Fatalf("%s at %s, %d×%d×%d, beta %v, %d words: element %d is %x, want %x", name, level, m, k, n, beta, roundedWords, i, got[i],
							want[i])
					}
				}
			}
			SetThreads(old)
			restore()
		}
	}
}

func TestPrecisionText(t *testing.T) {
	for _, p := range Precisions {
		text, err := p.MarshalText()
		var back Precision = 9
		if err != nil || back.UnmarshalText(text) != nil || back != p {
			t.Errorf("%v is written %q, and read as %v", p, text, back)
		}
	}
	p := BFloat16Tiles
	onUnits(t, func(level string) {
		want := Float32
		switch {
		case asm.HasUnits():
			want = BFloat16Tiles
		case level == "avx512bf16":
			want = BFloat16
		}
		if err := p.UnmarshalText([]byte("fast")); err != nil || p != want || p != Fastest() {
			t.Errorf("at %s fast is %v, %v, want %v", level, p, err, want)
		}
	})
	if err := p.UnmarshalText(nil); err != nil || p != Float32 {
		t.Errorf("no text gives %v, %v", p, err)
	}
	if err := p.UnmarshalText([]byte("fp8")); err == nil || err.Error() != `"fp8" is not one of float32, bfloat16, bfloat16-tiles, fast` {
		t.Errorf("fp8 gives %v", err)
	}
}
