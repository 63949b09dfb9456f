package series

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

func values(r *rand.Rand, n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = r.NormFloat64() * math.Pow(10, float64(r.IntN(40)-20))
	}
	return x
}

func TestRunningAndDiscounted(t *testing.T) {
	x := []float64{1, 2, 4}
	got := make([]float64, 3)
	Running(got, x)
	if got[0] != 1 || got[1] != 3 || got[2] != 7 {
		t.Errorf("Running = %v", got)
	}
	Discounted(got, x, 0.5)
	if got[0] != 3 || got[1] != 4 || got[2] != 4 {
		t.Errorf("Discounted = %v", got)
	}
	Discounted(x, x, 0)
	if x[0] != 1 || x[1] != 2 || x[2] != 4 {
		t.Errorf("Discounted at rate 0 in place = %v", x)
	}
}

func TestSigmoid(t *testing.T) {
	for _, x := range []float64{-1000, -30, -1, 0, 1, 30, 1000} {
		got := Sigmoid(x)
		if !AllFinite(got) || got < 0 || got > 1 || math.Abs(got+Sigmoid(-x)-1) > 1e-15 {
			t.Errorf("Sigmoid(%v) = %v", x, got)
		}
	}
}

func TestSumIsExactInAnyOrderAndGrouping(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		x := values(r, r.IntN(60))
		exact := new(big.Rat)
		for _, v := range x {
			exact.Add(exact, new(big.Rat).SetFloat64(v))
		}
		want, _ := exact.Float64()
		r.Shuffle(len(x), func(i, j int) { x[i], x[j] = x[j], x[i] })
		cut := r.IntN(len(x) + 1)
		var a, b Sum
		for _, v := range x[:cut] {
			a.Add(v)
		}
		for _, v := range x[cut:] {
			b.Add(v)
		}
		raw, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		var travelled Sum
		if err := json.Unmarshal(raw, &travelled); err != nil {
			t.Fatal(err)
		}
		a.Merge(travelled)
		if a.Value() != want {
			t.Fatalf("sum of %v = %v, want %v", x, a.Value(), want)
		}
	}
}

func TestMomentsAgreeWithRationalArithmetic(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		x := values(r, 2+r.IntN(30))
		sum, square := new(big.Rat), new(big.Rat)
		for _, v := range x {
			q := new(big.Rat).SetFloat64(v)
			sum.Add(sum, q)
			square.Add(square, new(big.Rat).Mul(q, q))
		}
		n := big.NewRat(int64(len(x)), 1)
		square.Sub(square, new(big.Rat).Quo(new(big.Rat).Mul(sum, sum), n))
		want, _ := new(big.Rat).Quo(square, n).Float64()
		m := MomentsOf(x)
		if got := m.Var(); math.Abs(got-want) > 1e-15*want {
			t.Fatalf("variance = %v, want %v", got, want)
		}
		bessel := want * float64(len(x)) / float64(len(x)-1)
		if got := m.SampleVar(); math.Abs(got-bessel) > 1e-14*bessel {
			t.Fatalf("sample variance = %v, want %v", got, bessel)
		}
		r.Shuffle(len(x), func(i, j int) { x[i], x[j] = x[j], x[i] })
		if again := MomentsOf(x); again.Mean() != m.Mean() || again.Var() != m.Var() {
			t.Fatal("moments depend on the order")
		}
	}
}

func TestEqualValuesHaveNoSpread(t *testing.T) {
	m := MomentsOf([]float64{0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1})
	if m.Std() != 0 || m.SampleStd() != 0 {
		t.Errorf("std of equal values = %v, %v", m.Std(), m.SampleStd())
	}
	if (Moments{}).Mean() != 0 || (Moments{}).Var() != 0 || MomentsOf([]float64{3}).SampleVar() != 0 {
		t.Error("moments of nothing, or the sample variance of one value, are not 0")
	}
}

func TestResidualEqualsMomentsOfTheDifference(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		m := r.NormFloat64()
		var left, right Residual
		var want Moments
		for i := range 2 + r.IntN(20) {
			x, y := r.NormFloat64()*100, float64(r.IntN(30))
			want.Add(x - m*y)
			if i%2 == 0 {
				left.Add(x, y)
			} else {
				right.Add(x, y)
			}
		}
		left.Merge(right)
		mean, variance := left.At(m)
		if math.Abs(mean-want.Mean()) > 1e-12*100 || math.Abs(variance-want.SampleVar()) > 1e-12*want.SampleVar() {
			t.Fatalf("residual: mean %v, variance %v; want %v, %v", mean, variance, want.Mean(), want.SampleVar())
		}
	}
	if mean, variance := (Residual{}).At(3); mean != 0 || variance != 0 {
		t.Error("moments of nothing are not 0")
	}
}

func BenchmarkMoments(b *testing.B) {
	x := make([]float64, 4096)
	r := rand.New(rand.NewPCG(7, 8))
	for i := range x {
		x[i] = r.NormFloat64()
	}
	b.SetBytes(int64(len(x)))
	for b.Loop() {
		m := MomentsOf(x)
		_ = m.Std()
	}
}
