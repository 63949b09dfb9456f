package verify

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// idleLife is how long a worker waits for a row before it closes its carrier.
const idleLife = 30 * time.Second

// ask is a row on its way.
type ask struct {
	ctx   context.Context
	row   question
	alone bool // it was in company that failed: from now on it travels by itself
	tries int  // by itself
	done  chan told
}

type told struct {
	result Result
	err    error
}

// carrier takes rows to a verifier outside this process: a process of a pool, or a connection to a service. It answers
// every row by settle, or returns why the rest was not answered.
type carrier interface {
	carry(ctx context.Context, rows []*ask, settle func(*ask, told)) failure
	close()
}

// failure is why rows were not answered. A nil error means that all were.
type failure struct {
	err   error // what a row that travelled alone is told in the end
	again bool  // trying once more may help
	world bool  // no row would fare better
	ended bool  // the process was there no more
}

// dispatcher hands rows to workers, each with a carrier of its own, in batches of what is waiting. Rows of a batch that
// failed travel alone afterwards, so that a row that kills its verifier takes no other with it and verdicts do not
// depend on the company.
type dispatcher struct {
	open     func() carrier
	workers  int
	batch    int
	attempts int

	mu      sync.Mutex
	queue   []*ask
	running int
	closed  bool
	wake    chan struct{}
	ends    map[chan struct{}]bool // of the workers, each closed when its worker has ended
}

func newDispatcher(workers, batch, attempts int, open func() carrier) *dispatcher {
	return &dispatcher{open: open, workers: workers, batch: batch, attempts: attempts, wake: make(chan struct{}, workers),
		ends: map[chan struct{}]bool{}}
}

// do judges one row.
func (d *dispatcher) do(ctx context.Context, row question) (Result, error) {
	a := &ask{ctx: ctx, row: row, done: make(chan told, 1)}
	d.put(a)
	select {
	case t := <-a.done:
		return t.result, t.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

func (d *dispatcher) put(a *ask) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = append(d.queue, a)
	d.closed = false
	if d.running < d.workers {
		d.running++
		end := make(chan struct{})
		d.ends[end] = true
		go d.work(end)
		return
	}
	d.nudge()
}

func (d *dispatcher) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// closeWait bounds how long close waits. A worker without rows needs a second at most.
const closeWait = 5 * time.Second

// close lets the workers end, and waits for what they hold, such as processes and their folders, to be gone. Rows that come later
// start new ones.
func (d *dispatcher) close() {
	d.mu.Lock()
	d.closed = true
	for range d.running {
		d.nudge()
	}
	ends := slices.Collect(maps.Keys(d.ends))
	d.mu.Unlock()
	late := time.NewTimer(closeWait)
	defer late.Stop()
	for _, end := range ends {
		select {
		case <-end:
		case <-late.C:
			return
		}
	}
}

func (d *dispatcher) work(end chan struct{}) {
	c := d.open()
	defer func() {
		c.close()
		d.mu.Lock()
		delete(d.ends, end)
		d.mu.Unlock()
		close(end)
	}()
	for {
		rows := d.take()
		if rows == nil {
			return
		}
		d.deliver(c, rows)
	}
}

// take waits for rows; nil ends the worker.
func (d *dispatcher) take() []*ask {
	idle := time.NewTimer(idleLife)
	defer idle.Stop()
	over := false
	for {
		d.mu.Lock()
		var rows []*ask
		for len(d.queue) > 0 && len(rows) < d.batch && (len(rows) == 0 || !rows[0].alone && !d.queue[0].alone) {
			a := d.queue[0]
			d.queue = d.queue[1:]
			if a.ctx.Err() == nil {
				rows = append(rows, a)
			}
		}
		if len(rows) > 0 {
			if len(d.queue) > 0 {
				d.nudge()
			}
			d.mu.Unlock()
			return rows
		}
		if over || d.closed {
			d.running--
			d.mu.Unlock()
			return nil
		}
		d.mu.Unlock()
		select {
		case <-d.wake:
		case <-idle.C:
			over = true
		}
	}
}

// deliver carries rows and decides what becomes of those that were not answered.
func (d *dispatcher) deliver(c carrier, rows []*ask) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	waiting := len(rows)
	var mu sync.Mutex
	gone := func() {
		mu.Lock()
		defer mu.Unlock()
		if waiting--; waiting == 0 {
			cancel() // nobody waits for an answer any more
		}
	}
	for _, a := range rows {
		defer context.AfterFunc(a.ctx, gone)()
	}
	answered := map[*ask]bool{}
	f := c.carry(ctx, rows, func(a *ask, t told) {
		answered[a] = true
		a.done <- t
	})
	if f.err == nil {
		return
	}
	for _, a := range rows {
		if answered[a] {
			continue
		}
		if a.tries++; f.world || len(rows) == 1 && (!f.again || a.tries >= d.attempts) {
			a.done <- told{err: f.err}
			continue
		}
		if len(rows) > 1 {
			a.alone, a.tries = true, 0
		}
		d.put(a)
	}
}
