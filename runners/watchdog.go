package runners

import (
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"time"
)

// StalledError says that a pipeline was cancelled because nothing moved.
type StalledError struct {
	Runner string
	Idle   time.Duration
	Stages []string // where the work was, most likely first; empty when the runner could not say
	Unread error    // why progress could not be read, when it could not
}

func (e *StalledError) Error() string {
	where := "the runner does not say in which stage"
	if len(e.Stages) > 0 {
		where = "the work is in " + strings.Join(e.Stages, ", ")
	}
	text := fmt.Sprintf("%s: no row and no counter moved for %v; %s; the job was cancelled, what it stored is kept and the same command "+
		"goes on from there (runner.no_progress_minutes sets the limit)",
		e.Runner, e.Idle.Round(time.Second), where)
	if e.Unread != nil {
		text += fmt.Sprintf("; progress could not be read: %v", e.Unread)
	}
	return text
}

// reading is what a runner says about a job at one moment.
type reading struct {
	moved  fingerprint // changes when the work moves
	stages []string    // where the work is
	err    error       // progress could not be read
}

// fingerprint sums up counters.
type fingerprint uint64

func fingerprintOf(counters ...string) fingerprint {
	h := fnv.New64a()
	for _, c := range counters {
		io.WriteString(h, c)
		h.Write([]byte{0})
	}
	return fingerprint(h.Sum64())
}

// watchdog remembers when the work last moved.
type watchdog struct {
	runner string
	limit  time.Duration
	since  time.Time
	moved  fingerprint
	seen   bool
}

// see takes a reading and returns a *StalledError when nothing has moved for the limit.
func (w *watchdog) see(now time.Time, r reading) error {
	if w.since.IsZero() {
		w.since = now
	}
	if r.err == nil && (!w.seen || r.moved != w.moved) {
		w.moved, w.since, w.seen = r.moved, now, true
	}
	idle := now.Sub(w.since)
	if w.limit <= 0 || idle < w.limit {
		return nil
	}
	return &StalledError{Runner: w.runner, Idle: idle, Stages: r.stages, Unread: r.err}
}

// pollEvery is how often progress is read: often enough for the limit, seldom enough to cost nothing.
func pollEvery(limit time.Duration) time.Duration {
	if limit <= 0 {
		return time.Minute
	}
	return min(max(limit/20, 50*time.Millisecond), 10*time.Second)
}
