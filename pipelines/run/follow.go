package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/pipelines/telemetry/trackers"
)

// Trackers follow a run from goroutines of their own: they are woken by a commit and read the run's directory as anybody may. A run never
// waits for them but at its end, and there not for long.

// followWait bounds how long the end of a run waits for its trackers; one that was interrupted waits shorter.
const (
	followWait      = 10 * time.Second
	followWaitShort = 3 * time.Second
)

type followers []*follower

type follower struct {
	tracking
	note      func(format string, args ...any)
	wake      chan struct{} // holds one
	end       chan trackers.Status
	over      chan struct{}
	stop      context.CancelFunc
	committed atomic.Int64

	failing bool  // which has been said
	err     error // of the last delivery; read once over
}

// follow starts the trackers of a run, of whose iterations so many are committed.
func (all *iterations) follow(ctx context.Context, done int) (out followers) {
	if len(all.Telemetry.Trackers) == 0 {
		return nil
	}
	key, err := all.trackingKey(ctx, all.Telemetry.Trackers)
	if err != nil {
		slog.WarnContext(ctx, "trackers are not sent anything; the run goes on", "error", err)
		return nil
	}
	for _, c := range all.Telemetry.Trackers {
		f := &follower{tracking: tracking{dir: all.Dir, key: key, of: c}, note: all.show.Note, wake: make(chan struct{}, 1),
			end: make(chan trackers.Status, 1), over: make(chan struct{})}
		within, stop := context.WithCancel(context.WithoutCancel(ctx))
		f.stop = stop
		f.committed.Store(int64(done))
		go f.run(within)
		if done < all.Iterations {
			f.wake <- struct{}{} // the run begins at the tracker, which catches up
		}
		out = append(out, f)
	}
	return out
}

// commit tells that so many iterations are committed. It never waits.
func (fs followers) commit(done int) {
	for _, f := range fs {
		f.committed.Store(int64(done))
		select {
		case f.wake <- struct{}{}:
		default: // it has not looked since the last time, and will see this one too
		}
	}
}

// close tells how the run ended and waits for what is outstanding, but not for long.
func (fs followers) close(ctx context.Context, err error) {
	status, wait := trackers.Finished, followWait
	switch {
	case ctx.Err() != nil:
		status, wait = trackers.Killed, followWaitShort
	case err != nil:
		status = trackers.Failed
	}
	for _, f := range fs {
		f.end <- status
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	for _, f := range fs {
		select {
		case <-f.over:
		case <-late.C:
			late.Reset(0) // nor is waited for the others
		}
		f.stop()
		why := fmt.Errorf("it has not taken all within %v", wait)
		select {
		case <-f.over:
			if f.err == nil {
				continue
			}
			if !errors.Is(f.err, context.Canceled) {
				why = f.err
			}
		case <-time.After(time.Second): // a file system hangs, say
		}
		slog.WarnContext(ctx, "a tracker does not have all of the run; `millrace track RUN` sends the rest", "tracker", f.of.Kind,
			"error", why)
	}
}

func (f *follower) run(ctx context.Context) {
	defer close(f.over)
	for {
		select {
		case <-f.wake:
			f.look(ctx, trackers.Running)
		case status := <-f.end:
			f.sent = max(0, f.sent-1) // a run whose prompts came to their end has measured its last iteration again
			f.look(ctx, status)
			return
		}
	}
}

// look sends what has been committed since the last time. What cannot be sent is sent with the next.
func (f *follower) look(ctx context.Context, status trackers.Status) {
	first := f.told.Address == ""
	f.err = f.deliver(ctx, int(f.committed.Load()), func(trackers.Status) trackers.Status { return status })
	switch {
	case f.err != nil && !f.failing:
		f.failing = true
		slog.WarnContext(ctx, "a tracker was not reached, or refused what it was sent; the run goes on, and sends what is missing with a later "+
			"iteration", "tracker", f.of.Kind, "error", f.err)
	case f.err == nil && f.failing:
		f.failing = false
		f.note("tracker %s is reached again", f.of.Kind)
	}
	if first && f.told.Address != "" {
		f.note("tracker %s: %s", f.of.Kind, f.told.Address)
		if f.told.Note != "" {
			f.note("tracker %s: %s", f.of.Kind, f.told.Note)
		}
	}
}
