package run

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/pipelines/recipe"
)

// resident is the memory of this process that is in the machine's, in bytes; 0 where the system does not tell it as Linux does.
func resident() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// lookEvery is how often memory is looked at: what a model takes is there for longer, and a look costs some microseconds.
const lookEvery = 50 * time.Millisecond

// watchMemory follows the resident memory of this process, until end is called, which returns the most that was seen. The context ends
// with the error when memory goes above its limit, and what the garbage collector can give back does not help.
func watchMemory(ctx context.Context, full MemoryError) (watched context.Context, end func() int64) {
	watched, stop := context.WithCancelCause(ctx)
	limit := int64(full.Limit)
	before := int64(math.MaxInt64)
	if limit > 0 {
		if before = debug.SetMemoryLimit(-1); limit < before {
			debug.SetMemoryLimit(limit) // so that what is no longer used is not what goes above
		}
	}
	var peak int64
	collector := newCollector()
	look := func() {
		collector.look()
		now := resident()
		peak = max(peak, now)
		if limit == 0 || now <= limit || watched.Err() != nil {
			return
		}
		debug.FreeOSMemory()
		if now = resident(); now > limit {
			full.Resident = recipe.Bytes(now)
			stop(&full)
		}
	}
	look()
	var done sync.WaitGroup
	over := make(chan struct{})
	done.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				look()
			}
		}
	})
	return watched, func() int64 {
		close(over)
		done.Wait()
		stop(nil)
		collector.end()
		if limit > 0 {
			debug.SetMemoryLimit(before)
		}
		return peak
	}
}

// MemoryError says that a run took more memory than its recipe allows.
type MemoryError struct {
	Iteration       int
	Limit, Resident recipe.Bytes
	Planned         int64 // what the process is estimated to hold; 0: not known
}

func (e *MemoryError) Error() string {
	planned := ""
	if e.Planned > 0 {
		planned = fmt.Sprintf("; millrace plan estimates %v in all", recipe.Bytes(e.Planned))
	}
	return fmt.Sprintf("%v of this process are resident, limits.memory allows %v%s; the same command with more goes on with iteration %d",
		e.Resident, e.Limit, planned, e.Iteration)
}
