package kernels

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestDeal: every item once, for any number of threads; what is announced as next is the next item of the same range.
func TestDeal(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 8} {
		for _, n := range []int{0, 1, 2, 7, 64, 1000} {
			seen := make([]atomic.Int64, n)
			deal(n, workers, func(i, next int) {
				seen[i].Add(1)
				if next != -1 && (next != i+1 || next >= n) {
					t.Errorf("%d threads, %d items: %d is announced after %d", workers, n, next, i)
				}
			})
			for i := range seen {
				if s := seen[i].Load(); s != 1 {
					t.Fatalf("%d threads, %d items: item %d done %d times", workers, n, i, s)
				}
			}
		}
	}
	next := 0
	deal(5, 1, func(i, announced int) {
		if i != next {
			t.Errorf("item %d came, %d was due", i, next)
		}
		if next = announced; i == 4 && next != -1 {
			t.Error("something follows the last")
		}
	})
}

// TestDealt: of items taken from both ends at once none is lost and none comes twice.
func TestDealt(t *testing.T) {
	const n = 1 << 20
	seen := make([]atomic.Int64, n)
	for round := range 10 {
		var d dealt
		d.rest.Store(n)
		var ready, done sync.WaitGroup
		ready.Add(2)
		takers := []func() int{func() int { i, _ := d.first(); return i }, d.last}
		for _, take := range takers {
			done.Go(func() {
				ready.Done()
				ready.Wait() // for one another
				for i := take(); i >= 0; i = take() {
					seen[i].Add(1)
				}
			})
		}
		done.Wait()
		for i := range seen {
			if s := seen[i].Load(); s != int64(round+1) {
				t.Fatalf("item %d came %d times in %d rounds", i, s, round+1)
			}
		}
	}
}
