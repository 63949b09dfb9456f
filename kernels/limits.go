package kernels

import (
	"time"

	"github.com/millrace/millrace/kernels/internal/asm"
)

// FMARate is how many floating-point operations a second multiply-adds from registers do in the precision, at the present level and
// thread count: the best of many short runs, as other work on the machine comes in between.
func (p Precision) FMARate() float64 {
	n := Threads()
	return bestRate(50, func() float64 {
		done := make([]float64, n)
		items(n, n, func(i int) {
			if p.form() == units {
				done[i] = asm.FMAUnits(10_000)
				return
			}
			done[i] = asm.FMA(100_000, p.form() == dots)
		})
		var sum float64
		for _, d := range done {
			sum += d
		}
		return sum
	})
}

// ReadRate is how many bytes a second are read at most when the same size bytes are read again and again: from memory where the caches
// do not hold them, else from the cache that does.
func ReadRate(size int) float64 {
	const chunk = 1 << 14
	x := make([]float32, max(1, size/4/chunk)*chunk)
	clear(x)
	n := Threads()
	return bestRate(8, func() float64 {
		items(len(x)/chunk, n, func(i int) { asm.Read(x[i*chunk : (i+1)*chunk]) })
		return float64(4 * len(x))
	})
}

// bestRate is the highest rate of several runs of work, which returns how much it did.
func bestRate(runs int, work func() float64) (rate float64) {
	for range runs {
		start := time.Now()
		done := work()
		rate = max(rate, done/time.Since(start).Seconds())
	}
	return rate
}
