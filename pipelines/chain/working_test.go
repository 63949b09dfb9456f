package chain

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/transforms/stage"
)

// locked is a buffer for two goroutines.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The stage whose counters move most is shown, by its rows, or by its steps where it counts them; it gives way to the next.
func TestWorking(t *testing.T) {
	var out locked
	show := progress.Plain(&out, "run", time.Millisecond)
	show.Bar("iterations", 1)
	w := working{show: show}
	shows := func(want string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !strings.Contains(out.String(), want); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%q is not in\n%s", want, out.String())
			}
		}
	}
	w.take(nil)
	w.take([]stage.Counts{{Stage: "label", In: 4, Millis: 2}, {Stage: "rollout", In: 3, Millis: 900}})
	shows("rollout, rows 3")
	w.take([]stage.Counts{{Stage: "label", In: 8, Millis: 3}, {Stage: "rollout", In: 7, Millis: 1900}})
	shows("rollout, rows 7")
	same := []stage.Counts{{Stage: "label", In: 8, Millis: 3}, {Stage: "rollout", In: 7, Millis: 1900}, {Stage: "update",
		Other: map[string]int64{"steps": 2}}}
	w.take(same)
	shows("update, steps 2")
	w.take(same)
	w.end()
	show.Done()
	if n := strings.Count(out.String(), "rollout, rows 7"); n != 1 {
		t.Errorf("what does not move is shown %d times:\n%s", n, out.String())
	}
}
