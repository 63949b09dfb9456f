package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/millrace/millrace/models"
)

// queue runs requests that come one by one through a model that takes many: while it is busy they gather. Their results do not
// depend on it. What a request makes panic ends the requests that ran with it, not the server.
type queue[Q, A any] struct {
	run    func(ctx context.Context, next func() []*job[Q, A]) error // until next gives none
	most   int                                                       // requests that wait or are under way
	report func(format string, args ...any)
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	waiting []*job[Q, A]
	under   []*job[Q, A] // way
	busy    bool
}

type job[Q, A any] struct {
	request Q
	client  string
	ctx     context.Context
	answer  A
	err     error
	done    chan struct{}
}

// errEnding is told those whom the end of the server leaves without an answer.
var errEnding = &fault{status: http.StatusServiceUnavailable, problem: "the server is ending"}

func newQueue[Q, A any](most int, report func(string, ...any), run func(context.Context, func() []*job[Q, A]) error) *queue[Q, A] {
	q := &queue[Q, A]{run: run, most: most, report: report}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	return q
}

func (q *queue[Q, A]) close() { q.cancel() }

// do waits for the answer to one request. As with everything else a client can have half of what the others have left.
func (q *queue[Q, A]) do(ctx context.Context, client string, request Q) (A, error) {
	var none A
	j := &job[Q, A]{request: request, client: client, ctx: ctx, done: make(chan struct{})}
	q.mu.Lock()
	own, all := 0, len(q.waiting)+len(q.under)
	for _, other := range slices.Concat(q.waiting, q.under) {
		if other.client == client {
			own++
		}
	}
	if own > 0 && 2*(own+1) > q.most-(all-own) {
		q.mu.Unlock()
		return none, &fault{status: http.StatusTooManyRequests, problem: fmt.Sprintf(
			"%d of your requests wait or are under way; come back when some are answered", own)}
	}
	q.waiting = append(q.waiting, j)
	if !q.busy {
		q.busy = true
		go q.work()
	}
	q.mu.Unlock()
	select {
	case <-j.done:
		return j.answer, j.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-q.ctx.Done():
		return none, errEnding
	}
}

func (q *queue[Q, A]) work() {
	for {
		err := q.guarded()
		q.mu.Lock()
		left := q.under
		q.under = nil
		rest := len(q.waiting) > 0
		q.busy = rest
		q.mu.Unlock()
		if err == nil {
			err = errors.New("the model gave another number of results than requests")
		}
		for _, j := range left {
			j.err = err
			close(j.done)
		}
		if !rest {
			return
		}
	}
}

// guarded runs until nothing waits, or until the first error or panic.
func (q *queue[Q, A]) guarded() (err error) {
	defer func() {
		if r := recover(); r != nil {
			q.report("a request made the model panic: %v\n%s", r, debug.Stack())
			err = fmt.Errorf("the model failed on this request, or on one beside it: %v", r)
		}
	}()
	return q.run(q.ctx, q.next)
}

// next takes all requests that wait, those left out whose clients are gone.
func (q *queue[Q, A]) next() []*job[Q, A] { return q.take(func(*job[Q, A]) bool { return true }) }

// take takes the waiting requests as long as more allows, of each client one after the other.
func (q *queue[Q, A]) take(more func(*job[Q, A]) bool) []*job[Q, A] {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(j *job[Q, A]) bool { return j.ctx.Err() != nil })
	turn, turns := map[string]int{}, map[*job[Q, A]]int{}
	for _, j := range q.waiting {
		turns[j] = turn[j.client]
		turn[j.client]++
	}
	slices.SortStableFunc(q.waiting, func(a, b *job[Q, A]) int { return turns[a] - turns[b] })
	n := 0
	for n < len(q.waiting) && more(q.waiting[n]) {
		n++
	}
	out := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	q.under = append(q.under, out...)
	return out
}

// answered ends a request with its answer.
func (q *queue[Q, A]) answered(j *job[Q, A], answer A) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.under, j); i >= 0 {
		q.under = slices.Delete(q.under, i, i+1)
		j.answer = answer
		close(j.done)
	}
}

// inRounds makes a queue of a function that takes many requests at once: while a round is under way the next gathers. A round
// costs no more than its first request, or so much, so that nobody waits long for others.
func inRounds[Q, A any](most int, report func(string, ...any), cost func(Q) int, round int,
	run func(context.Context, []Q) ([]A, error)) *queue[Q, A] {
	var q *queue[Q, A]
	q = newQueue(most, report, func(ctx context.Context, _ func() []*job[Q, A]) error {
		for {
			total := 0
			jobs := q.take(func(j *job[Q, A]) bool {
				c := cost(j.request)
				if total > 0 && total+c > round {
					return false
				}
				total += max(c, 1)
				return true
			})
			if len(jobs) == 0 {
				return nil
			}
			requests := make([]Q, len(jobs))
			for i, j := range jobs {
				requests[i] = j.request
			}
			answers, err := run(ctx, requests)
			if err != nil {
				return err
			}
			for i := range min(len(answers), len(jobs)) {
				q.answered(jobs[i], answers[i])
			}
			if len(answers) != len(jobs) {
				return nil
			}
		}
	})
	return q
}

// Rounds of generators that take no requests while others are under way, and of scorers, in tokens.
const (
	generateRound = 1 << 16
	scoreRound    = 4096
)

type (
	generateQueue = queue[models.GenerateRequest, models.GenerateResult]
	scoreQueue    = queue[models.ScoreRequest, models.ScoreResult]
)

func newGenerateQueue(m models.Generator, most int, report func(string, ...any)) *generateQueue {
	if h, ok := m.(*models.Handle); ok {
		m = h.Model
	}
	c, ok := m.(models.Continuous)
	if !ok {
		return inRounds(most, report, func(r models.GenerateRequest) int { return len(r.Prompt) + r.Samples*r.Sampling.MaxNewTokens },
			generateRound, m.Generate)
	}
	var q *generateQueue
	q = newQueue(most, report, func(ctx context.Context, next func() []*job[models.GenerateRequest, models.GenerateResult]) error {
		return c.GenerateAsTheyCome(ctx, func() []models.Asked {
			jobs := next()
			out := make([]models.Asked, len(jobs))
			for i, j := range jobs {
				out[i] = models.Asked{GenerateRequest: j.request, Client: j.client,
					Answer: func(r models.GenerateResult) { q.answered(j, r) }}
			}
			return out
		})
	})
	return q
}

func newScoreQueue(m models.Scorer, most int, report func(string, ...any)) *scoreQueue {
	return inRounds(most, report, func(r models.ScoreRequest) int { return len(r.Prompt) + len(r.Response) }, scoreRound, m.Score)
}
