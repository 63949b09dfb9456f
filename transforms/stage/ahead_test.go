package stage

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

func TestAhead(t *testing.T) {
	var a ahead[int]
	var got []int
	emit := func(i int) { got = append(got, i) }
	var running, most atomic.Int64
	second := make(chan struct{})
	for i := range 10 {
		err := a.begin(func() (int, error) {
			most.Store(max(most.Load(), running.Add(1)))
			switch i {
			case 0: // is not done before the next has begun
				<-second
			case 1:
				close(second)
			}
			running.Add(-1)
			return i, nil
		}, emit)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := a.finish(emit); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) || most.Load() > maxAhead+1 {
		t.Errorf("handed over %v, at most %d at once", got, most.Load())
	}

	for what, work := range map[string]func() (int, error){
		"an error": func() (int, error) { return 0, errors.New("the disk is full") },
		"a panic":  func() (int, error) { panic("the disk is full") },
	} {
		got = nil
		err := a.begin(func() (int, error) { return 1, nil }, emit)
		err = errors.Join(err, a.begin(work, emit), a.begin(func() (int, error) { return 3, nil }, emit), a.finish(emit))
		if err == nil || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("%s: %v", what, err)
		}
		if !slices.Equal(got, []int{1}) {
			t.Errorf("%s: handed over %v", what, got)
		}
		if err := a.finish(emit); err != nil || len(got) != 1 {
			t.Errorf("%s is left for the next bundle: %v", what, got)
		}
	}
}
