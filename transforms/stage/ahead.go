package stage

import (
	"fmt"
	"runtime/debug"
)

// ahead does work in goroutines of its own and hands over what comes of it in the order in which it was begun, so that files
// are read and written beside what the other stages of a bundle do. The zero value is empty.
type ahead[T any] struct{ begun []chan done[T] }

type done[T any] struct {
	value T
	err   error
}

// maxAhead is how much may be begun besides what is handed over: each holds a record.
const maxAhead = 1

// begin starts work, and hands over what is due before it.
func (a *ahead[T]) begin(work func() (T, error), emit func(T)) error {
	c := make(chan done[T], 1)
	go func() {
		var d done[T]
		defer func() {
			if p := recover(); p != nil {
				d.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			c <- d
		}()
		d.value, d.err = work()
	}()
	a.begun = append(a.begun, c)
	return a.handOver(maxAhead, emit)
}

// finish hands over all that is left; it belongs into FinishBundle.
func (a *ahead[T]) finish(emit func(T)) error { return a.handOver(0, emit) }

func (a *ahead[T]) handOver(keep int, emit func(T)) error {
	for len(a.begun) > keep {
		d := <-a.begun[0]
		a.begun = a.begun[1:]
		if d.err != nil {
			a.begun = nil // the bundle fails, and is run again from its start
			return d.err
		}
		emit(d.value)
	}
	return nil
}
