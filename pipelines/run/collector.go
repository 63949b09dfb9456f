package run

import (
	"os"
	"runtime/debug"
	"runtime/metrics"

	"github.com/millrace/millrace/pipelines/chain"
)

// collector keeps the garbage of a large heap small: Go's collector lets a heap grow to twice what is in use, which for models is
// gigabytes that nobody reads, and a peak that depends on when it last ran. Collecting costs next to nothing there: weights hold no
// pointers. $GOGC, where it is set, is left to rule.
type collector struct {
	live    []metrics.Sample
	percent int // 0: not ours to set
	before  int
}

func newCollector() *collector {
	c := &collector{live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	if os.Getenv("GOGC") == "" {
		c.percent, c.before = 100, 100
	}
	return c
}

// look sets how much may be allocated beside what the last collection left.
func (c *collector) look() {
	if c.percent == 0 {
		return
	}
	metrics.Read(c.live)
	live := int64(c.live[0].Value.Uint64())
	if live == 0 {
		return
	}
	percent := int(100 * chain.Headroom(live) / live)
	if percent == c.percent {
		return
	}
	c.percent = percent
	debug.SetGCPercent(percent)
}

func (c *collector) end() {
	if c.percent != 0 {
		debug.SetGCPercent(c.before)
	}
}
