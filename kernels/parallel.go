package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
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

// items calls f(0), …, f(n-1), each once, from up to the given number of goroutines; which one gets which is left to chance.
// A panic in f reaches the caller. The caller works too and waits for nobody who has not begun, so it is never held up by a
// goroutine that the scheduler keeps waiting.
func items(n, workers int, f func(i int)) {
	workers = min(workers, n)
	if workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	j := &job{n: int64(n), f: f, helpers: int64(workers) - 1, done: make(chan struct{})}
	idle := int64(0)
	if offer.CompareAndSwap(nil, j) {
		idle = lingering.Load()
	}
	for range j.helpers - idle {
		go help(j)
	}
	j.work()
	j.finish()
	offer.CompareAndSwap(j, nil)
	if r := j.failure.Load(); r != nil {
		panic(*r)
	}
}

// deal calls f(0), …, f(n-1), each once, from up to the given number of goroutines. Each takes a range of its own in order, so that f can
// fetch what is next on the same processor, the second argument, or -1 where there is none; then it helps out at the other ends.
func deal(n, workers int, f func(i, next int)) {
	workers = max(1, min(workers, n))
	shares := make([]dealt, workers)
	for w := range shares {
		shares[w].rest.Store(uint64(w*n/workers)<<32 | uint64((w+1)*n/workers))
	}
	items(workers, workers, func(w int) {
		for {
			i, next := shares[w].first()
			if i < 0 {
				break
			}
			f(i, next)
		}
		for v := range shares {
			for {
				i := shares[(w+v)%workers].last()
				if i < 0 {
					break
				}
				f(i, -1)
			}
		}
	})
}

// dealt is a range [lo,hi) of items that are left, lo in the upper half; on a cache line of its own.
type dealt struct {
	rest atomic.Uint64
	_    [56]byte
}

// first takes the first item, and returns it and the one after; -1 means none.
func (s *dealt) first() (i, next int) {
	for {
		rest := s.rest.Load()
		lo, hi := int(rest>>32), int(rest&(1<<32-1))
		if lo == hi {
			return -1, -1
		}
		if s.rest.CompareAndSwap(rest, rest+1<<32) {
			if lo+1 == hi {
				return lo, -1
			}
			return lo, lo + 1
		}
	}
}

// last takes the last item, -1 means none.
func (s *dealt) last() int {
	for {
		rest := s.rest.Load()
		lo, hi := int(rest>>32), int(rest&(1<<32-1))
		if lo == hi {
			return -1
		}
		if s.rest.CompareAndSwap(rest, rest-1) {
			return hi - 1
		}
	}
}

// offer is the job that idle helpers may join, and lingering the number of those who look at it.
var (
	offer     atomic.Pointer[job]
	lingering atomic.Int64
)

// linger is how long a helper without work looks for more before it ends: kernels follow one another within microseconds, and
// starting a goroutine on another processor takes as long.
const linger = 50 * time.Microsecond

// help joins a job, and then whatever is offered, until nothing has been for a while.
func help(j *job) {
	for {
		if j != nil && j.join() {
			j.work()
			j.leave()
		}
		lingering.Add(1)
		start := time.Now()
		for spins := 1; ; spins++ {
			if j = offer.Load(); j != nil && j.open() {
				lingering.Add(-1)
				break
			}
			if spins%64 == 0 {
				if time.Since(start) > linger {
					lingering.Add(-1)
					return
				}
				runtime.Gosched()
			}
		}
	}
}

// job is one call of items.
type job struct {
	n       int64
	f       func(i int)
	helpers int64 // how many may join
	joined  atomic.Int64
	next    atomic.Int64
	state   atomic.Int64 // helpers at work; plus closed when the caller lets nobody in any more
	failure atomic.Pointer[any]
	done    chan struct{} // closed by the last helper to leave a closed job
}

const closed = 1 << 32

// open reports whether joining may succeed.
func (j *job) open() bool {
	return j.joined.Load() < j.helpers && j.state.Load() < closed && j.next.Load() < j.n
}

// join enters the caller among the helpers at work, unless the job has enough or is closed.
func (j *job) join() bool {
	if !j.open() || j.joined.Add(1) > j.helpers {
		return false
	}
	for {
		s := j.state.Load()
		if s >= closed {
			return false
		}
		if j.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

func (j *job) leave() {
	if j.state.Add(-1) == closed {
		close(j.done)
	}
}

// work takes items until there are none left.
func (j *job) work() {
	defer func() {
		if r := recover(); r != nil {
			j.failure.CompareAndSwap(nil, &r)
			j.next.Store(j.n)
		}
	}()
	for {
		i := j.next.Add(1) - 1
		if i >= j.n {
			return
		}
		j.f(int(i))
	}
}

// finish closes the job and waits for the helpers at work.
func (j *job) finish() {
	if j.state.Add(closed) == closed {
		return
	}
	for start := time.Now(); time.Since(start) < linger; {
		if j.state.Load() == closed {
			return
		}
	}
	<-j.done
}

// buffers holds scratch memory between calls.
var buffers sync.Pool

// borrow returns scratch of n elements with arbitrary contents, and the function that gives it back.
func borrow(n int) ([]float32, func()) {
	p, _ := buffers.Get().(*[]float32)
	if p == nil || cap(*p) < n {
		s := Make[float32](n)
		p = &s
	}
	return (*p)[:n], func() { buffers.Put(p) }
}
