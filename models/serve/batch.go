package serve

import (
	"context"
	"errors"
	"sync"
)

// batcher runs requests that come one by one through a function that takes many: while it is busy requests gather, and all
// of them go together next. Their results do not depend on it.
type batcher[Q, A any] struct {
	run    func(context.Context, []Q) ([]A, error)
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	waiting []*job[Q, A]
	busy    bool
}

type job[Q, A any] struct {
	request Q
	ctx     context.Context
	answer  A
	err     error
	done    chan struct{}
}

func newBatcher[Q, A any](run func(context.Context, []Q) ([]A, error)) *batcher[Q, A] {
	b := &batcher[Q, A]{run: run}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

func (b *batcher[Q, A]) close() { b.cancel() }

// do waits for the answer to one request.
func (b *batcher[Q, A]) do(ctx context.Context, request Q) (A, error) {
	j := &job[Q, A]{request: request, ctx: ctx, done: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, j)
	if !b.busy {
		b.busy = true
		go b.work()
	}
	b.mu.Unlock()
	select {
	case <-j.done:
		return j.answer, j.err
	case <-ctx.Done():
		var none A
		return none, ctx.Err()
	}
}

func (b *batcher[Q, A]) work() {
	for {
		b.mu.Lock()
		jobs := b.waiting
		b.waiting = nil
		if len(jobs) == 0 {
			b.busy = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		live := jobs[:0:0]
		for _, j := range jobs {
			if j.ctx.Err() == nil { // a client that is gone wants nothing
				live = append(live, j)
			}
		}
		if len(live) == 0 {
			continue
		}
		requests := make([]Q, len(live))
		for i, j := range live {
			requests[i] = j.request
		}
		answers, err := b.run(b.ctx, requests)
		if err == nil && len(answers) != len(live) {
			err = errors.New("the model gave another number of results than requests")
		}
		for i, j := range live {
			if j.err = err; err == nil {
				j.answer = answers[i]
			}
			close(j.done)
		}
	}
}
