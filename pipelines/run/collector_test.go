package run

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// A heap of gigabytes is not let grow to twice its size, a small one is, and what is set here ends with the iteration.
func TestCollectorKeepsGarbageSmall(t *testing.T) {
	t.Setenv("GOGC", "")
	for _, c := range []struct {
		bytes, most, least int
	}{{1 << 20, 100, 100}, {1 << 30, 30, 10}} {
		held := make([]byte, c.bytes)
		runtime.GC()
		g := newCollector()
		g.look()
		if g.percent > c.most || g.percent < c.least {
			t.Errorf("with %d bytes in use garbage may be %d%% of it, want %d to %d", c.bytes, g.percent, c.least, c.most)
		}
		g.end()
		if was := debug.SetGCPercent(100); was != 100 {
			t.Errorf("after the iteration it is %d%%", was)
		}
		runtime.KeepAlive(held)
	}
}
