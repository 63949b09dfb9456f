package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"
)

var threads atomic.Int64 // 0: GOMAXPROCS

// SetThreads sets how many goroutines a kernel may use, and returns the previous number; n < 1 means one per processor.
// Results do not depend on it.
func SetThreads(n int) (old int) {
	old = Threads()
	threads.Store(int64(max(n, 0)))
	return old
}

// Threads returns how many goroutines a kernel may use.
func Threads() int {
	if n := threads.Load(); n > 0 {
		return int(n)
	}
	return runtime.GOMAXPROCS(0)
}

// Parallel calls f on consecutive ranges that cover [0,n), several at once, and returns when all are done. Ranges hold at
// least grain elements where n allows. f must write disjoint outputs for disjoint ranges, and must not let an output depend
// on where a range begins.
func Parallel(n, grain int, f func(lo, hi int)) {
	if n <= 0 {
		return
	}
	grain = max(grain, 1)
	workers := min(Threads(), n/grain)
	if workers <= 1 {
		f(0, n)
		return
	}
	// A few ranges per worker level out cores of unequal speed.
	chunks := min(n/grain, 4*workers)
	items(chunks, workers, func(i int) { f(i*n/chunks, (i+1)*n/chunks) })
}

// items calls f(0), …, f(n-1), each once, from the given number of goroutines; which one gets which is left to chance.
// A panic in f reaches the caller.
func items(n, workers int, f func(i int)) {
	workers = min(workers, n)
	if workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var (
		next    atomic.Int64
		wg      sync.WaitGroup
		failure atomic.Pointer[any]
	)
	work := func() {
		defer wg.Done()
		defer func() {
			if r := recover(); r != nil {
				failure.CompareAndSwap(nil, &r)
				next.Store(int64(n))
			}
		}()
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			f(i)
		}
	}
	wg.Add(workers)
	for range workers - 1 {
		go work()
	}
	work()
	wg.Wait()
	if r := failure.Load(); r != nil {
		panic(*r)
	}
}

// buffers holds scratch memory between calls.
var buffers sync.Pool

// borrow returns scratch of n elements with arbitrary contents, and the function that gives it back.
func borrow(n int) ([]float32, func()) {
	p, _ := buffers.Get().(*[]float32)
	if p == nil || cap(*p) < n {
		s := make([]float32, n)
		p = &s
	}
	return (*p)[:n], func() { buffers.Put(p) }
}
