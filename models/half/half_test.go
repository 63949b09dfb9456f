package half

import (
	"math"
	"math/rand/v2"
	"testing"
)

// value is the number a pattern of expBits exponent bits and fracBits fraction bits stands for, by the definition.
func value(h uint16, expBits, fracBits int) float64 {
	bias := 1<<(expBits-1) - 1
	exp := int(h>>fracBits) & (1<<expBits - 1)
	frac := float64(h&(1<<fracBits-1)) / float64(int(1)<<fracBits)
	sign := 1.0
	if h>>15 == 1 {
		sign = -1
	}
	switch {
	case exp == 1<<expBits-1 && frac != 0:
		return math.NaN()
	case exp == 1<<expBits-1:
		return math.Inf(int(sign))
	case exp == 0:
		return sign * math.Ldexp(frac, 1-bias)
	}
	return sign * math.Ldexp(1+frac, exp-bias)
}

func TestWideningIsExactAndRoundTrips(t *testing.T) {
	formats := []struct {
		name     string
		exp, fr  int
		from     func(uint16) float32
		to       func(float32) uint16
		infinite uint16
	}{
		{"float16", 5, 10, FromFloat16, ToFloat16, 0x7c00},
		{"bfloat16", 8, 7, FromBFloat16, ToBFloat16, 0x7f80},
	}
	for _, f := range formats {
		for h := 0; h < 1<<16; h++ {
			want, got := value(uint16(h), f.exp, f.fr), f.from(uint16(h))
			if math.IsNaN(want) {
				if got == got {
					t.Fatalf("%s %#04x: %v, want NaN", f.name, h, got)
				}
				if back := f.from(f.to(got)); back == back {
					t.Fatalf("%s %#04x: NaN narrowed to %v", f.name, h, back)
				}
				continue
			}
			if math.Float64bits(float64(got)) != math.Float64bits(want) {
				t.Fatalf("%s %#04x: %v, want %v", f.name, h, got, want)
			}
			if back := f.to(got); back != uint16(h) {
				t.Fatalf("%s %#04x: narrowed to %#04x", f.name, h, back)
			}
		}
		// Rounding: no other pattern is nearer; a tie goes to the even one.
		rng := rand.New(rand.NewPCG(1, 2))
		for range 200000 {
			x := math.Float32frombits(rng.Uint32())
			if x != x || math.IsInf(float64(x), 0) {
				continue
			}
			h := f.to(x)
			if h&0x7fff == f.infinite {
				largest := float64(f.from(f.infinite - 1))
				step := largest - float64(f.from(f.infinite-2))
				if math.Abs(float64(x)) < largest+step/2 {
					t.Fatalf("%s: %v became infinite", f.name, x)
				}
				continue
			}
			d := math.Abs(float64(f.from(h)) - float64(x))
			for _, n := range []uint16{h - 1, h + 1} {
				if n&0x7fff >= f.infinite || n&0x8000 != h&0x8000 {
					continue
				}
				o := math.Abs(float64(f.from(n)) - float64(x))
				if o < d || o == d && h&1 == 1 {
					t.Fatalf("%s: %v rounded to %v, %v is better", f.name, x, f.from(h), f.from(n))
				}
			}
		}
	}
}

func TestIsBFloat16(t *testing.T) {
	for h := 0; h < 1<<16; h++ {
		x := FromBFloat16(uint16(h))
		if got := IsBFloat16([]float32{1, x}); got != (x == x) {
			t.Fatalf("%#04x: %t", h, got)
		}
		if IsBFloat16([]float32{math.Float32frombits(math.Float32bits(x) | 0x100), 1}) {
			t.Fatalf("%#04x and a bit more is no bfloat16 number", h)
		}
	}
	if !IsBFloat16(nil) {
		t.Error("no value that is none")
	}
}
