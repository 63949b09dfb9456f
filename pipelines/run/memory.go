package run

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
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

// watchMemory follows the resident memory of this process, until end is called, which returns the most that was seen.
func watchMemory(ctx context.Context) (end func() int64) {
	ctx, stop := context.WithCancel(ctx)
	peak := resident()
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				peak = max(peak, resident())
			}
		}
	})
	return func() int64 {
		stop()
		done.Wait()
		return peak
	}
}
