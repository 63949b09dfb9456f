package kernels_test

import (
	"testing"

	"github.com/millrace/millrace/kernels"
)

func TestForce(t *testing.T) {
	before := kernels.Level()
	for _, level := range kernels.Levels() {
		restore := kernels.Force(level)
		if got := kernels.Level(); got != level {
			t.Errorf("forced %s, %s runs", level, got)
		}
		restore()
		if got := kernels.Level(); got != before {
			t.Errorf("restored %s, want %s", got, before)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a level that does not exist was accepted")
		}
	}()
	kernels.Force("avx1024")
}

func TestThreads(t *testing.T) {
	old := kernels.SetThreads(3)
	if got := kernels.Threads(); got != 3 {
		t.Errorf("%d threads, want 3", got)
	}
	kernels.SetThreads(0)
	if kernels.Threads() < 1 {
		t.Error("no threads by default")
	}
	kernels.SetThreads(old)
}

// TestParallel: every index once, for any number of threads; a panic reaches the caller.
func TestParallel(t *testing.T) {
	for _, threads := range []int{1, 2, 5, 8} {
		defer kernels.SetThreads(kernels.SetThreads(threads))
		for _, n := range []int{0, 1, 2, 7, 64, 1000} {
			for _, grain := range []int{0, 1, 3, 100} {
				seen := make([]int, n)
				kernels.Parallel(n, grain, func(lo, hi int) {
					if hi-lo < min(n, grain) {
						t.Errorf("a range of %d, under the grain %d", hi-lo, grain)
					}
					for i := lo; i < hi; i++ {
						seen[i]++
					}
				})
				for i, s := range seen {
					if s != 1 {
						t.Fatalf("%d threads, %d elements, grain %d: element %d done %d times", threads, n, grain, i, s)
					}
				}
			}
		}
		func() {
			defer func() {
				if recover() != "stop" {
					t.Error("the panic was lost")
				}
			}()
			kernels.Parallel(100, 1, func(lo, hi int) { panic("stop") })
		}()
	}
}

// TestParallelNested: kernels called from many goroutines, and from within one another, all finish.
func TestParallelNested(t *testing.T) {
	defer kernels.SetThreads(kernels.SetThreads(4))
	const callers, n = 16, 64
	sums := make([]int, callers)
	done := make(chan int)
	for c := range callers {
		go func() {
			for range 200 {
				part := make([]int, n)
				kernels.Parallel(n, 1, func(lo, hi int) {
					for i := lo; i < hi; i++ {
						kernels.Parallel(2, 1, func(lo, hi int) {
							if lo == 0 {
								part[i] = i
							}
						})
					}
				})
				for _, v := range part {
					sums[c] += v
				}
			}
			done <- c
		}()
	}
	for range callers {
		<-done
	}
	for c, s := range sums {
		if s != 200*n*(n-1)/2 {
			t.Errorf("caller %d summed %d", c, s)
		}
	}
}
