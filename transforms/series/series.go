// Package series holds the few pieces of float64 arithmetic over tokens that several stages share: running and
// discounted sums along a response, and sums and moments that are exact, so that a result never depends on the order in
// which responses, records or workers contributed to it.
package series

import "math"

// Running writes dst[t] = x[0] + ... + x[t]. dst may be x.
func Running(dst, x []float64) {
	sum := 0.0
	for t, v := range x {
		sum += v
		dst[t] = sum
	}
}

// Discounted writes dst[t] = Σ_{i>=t} rate^(i-t) x[i], the sum of what is still to come. dst may be x.
func Discounted(dst, x []float64, rate float64) {
	sum := 0.0
	for t := len(x) - 1; t >= 0; t-- {
		sum = x[t] + rate*sum
		dst[t] = sum
	}
}

// Sigmoid is 1/(1+e^-x) without overflow.
func Sigmoid(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + math.Exp(-x))
	}
	e := math.Exp(x)
	return e / (1 + e)
}

// AllFinite reports whether no value is NaN or infinite.
func AllFinite(x ...float64) bool {
	for _, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}
