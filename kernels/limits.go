package kernels

import (
	"time"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// Limits are what the machine can do at most at the present level and thread count: what benchmarks are held against.
type Limits struct {
	FMA  float64 // multiply-adds from registers, in floating-point operations a second
	Read float64 // reading memory too large for the caches, in bytes a second
}

// Measure finds the limits, the best of a few short runs; it takes some tenths of a second.
func Measure() Limits {
	var l Limits
	n := Threads()
	best := func(work func() float64) (rate float64) {
		for range 5 {
			start := time.Now()
			done := work()
			rate = max(rate, done/time.Since(start).Seconds())
		}
		return rate
	}
	l.FMA = best(func() float64 {
		done := make([]float64, n)
		items(n, n, func(i int) { done[i] = asm.FMA(2_000_000) })
		var sum float64
		for _, d := range done {
			sum += d
		}
		return sum
	})
	x := make([]float32, 1<<26)
	clear(x)
	l.Read = best(func() float64 {
		const part = 1 << 18
		items(len(x)/part, n, func(i int) { asm.Read(x[i*part : (i+1)*part]) })
		return float64(4 * len(x))
	})
	return l
}
