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

// Measure finds the limits: the best of many runs of a millisecond or so, as other work on the machine comes in between.
func Measure() Limits {
	var l Limits
	n := Threads()
	best := func(runs int, work func(run int) float64) (rate float64) {
		for run := range runs {
			start := time.Now()
			done := work(run)
			rate = max(rate, done/time.Since(start).Seconds())
		}
		return rate
	}
	l.FMA = best(50, func(int) float64 {
		done := make([]float64, n)
		items(n, n, func(i int) { done[i] = asm.FMA(100_000) })
		var sum float64
		for _, d := range done {
			sum += d
		}
		return sum
	})
	// Each run reads another part, so that none finds its own in a cache.
	const parts, size, chunk = 16, 1 << 22, 1 << 16
	x := make([]float32, parts*size)
	clear(x)
	l.Read = best(2*parts, func(run int) float64 {
		part := x[run%parts*size:][:size]
		items(size/chunk, n, func(i int) { asm.Read(part[i*chunk : (i+1)*chunk]) })
		return 4 * size
	})
	return l
}
