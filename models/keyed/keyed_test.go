package keyed

import (
	"math"
	"testing"
)

// The first outputs of splitmix64 seeded with 0, as published with the algorithm.
func TestMix(t *testing.T) {
	if got := mix(0); got != 16294208416658607535 {
		t.Errorf("first output %d", got)
	}
	if got := Key(0).Word(1); got != 7960286522194355700 {
		t.Errorf("second output %d", got)
	}
}

// Uniform and normal numbers have their moments, along every word of the key, and neighbours are uncorrelated.
func TestMoments(t *testing.T) {
	const n = 200_000
	for name, key := range map[string]func(i uint64) Key{
		"seed":     New,
		"word":     func(i uint64) Key { return New(7).With(i) },
		"id":       func(i uint64) Key { return New(7).WithBytes([16]byte{byte(i), byte(i >> 8), byte(i >> 16)}).With(3) },
		"position": func(i uint64) Key { return New(7).With(i >> 3).With(i & 7) },
	} {
		var u1, u2, lag, n1, n2, last float64
		for i := range uint64(n) {
			u := key(i).Uniform() - 0.5
			if u < -0.5 || u >= 0.5 {
				t.Fatalf("%s: uniform %v", name, u+0.5)
			}
			z := key(i).Normal()
			u1, u2, lag, last = u1+u, u2+u*u, lag+u*last, u
			n1, n2 = n1+z, n2+z*z
		}
		for what, got := range map[string]float64{"mean": u1 / n / math.Sqrt(1.0/12), "variance": 12*u2/n - 1, "lag": 12 * lag / n,
			"normal mean": n1 / n, "normal variance": n2/n - 1} {
			if math.Abs(got) > 5*math.Sqrt(2.0/n) { // five standard errors, the variance of a normal having the largest
				t.Errorf("%s: %s is off by %v", name, what, got)
			}
		}
	}
}
