package remote

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/models/openai"
	"github.com/millrace/millrace/models/outbound"
)

// Options say how an endpoint is used; they change nothing about its answers. A zero field takes its default.
type Options struct {
	Concurrency int           // requests under way at once; default 16
	Timeout     time.Duration // of one attempt, until its last byte; default 10 minutes
	Attempts    int           // for one request; default 6
	MinBackoff  time.Duration // before the second attempt, doubled for each further one; default 500 ms
	MaxBackoff  time.Duration // longest wait between attempts, also where the server asks for more; default 30 s
	BreakAfter  int           // failed attempts in a row, over all requests, that open the circuit; default 12
	Cooldown    time.Duration // how long an open circuit holds requests back before one may try; default 15 s
	MaxCooldown int           // cooldowns in a row after which every request fails; default 4
	MaxBody     int64         // bytes of an answer; default 64 MiB
	CacheDir    string        // where answers are kept so that none is asked for twice; default $MILLRACE_REMOTE_CACHE, none when empty
}

func (o Options) withDefaults() Options {
	set := func(field *int, value int) {
		if *field <= 0 {
			*field = value
		}
	}
	wait := func(field *time.Duration, value time.Duration) {
		if *field <= 0 {
			*field = value
		}
	}
	set(&o.Concurrency, 16)
	set(&o.Attempts, 6)
	set(&o.BreakAfter, 12)
	set(&o.MaxCooldown, 4)
	wait(&o.Timeout, 10*time.Minute)
	wait(&o.MinBackoff, 500*time.Millisecond)
	wait(&o.MaxBackoff, 30*time.Second)
	wait(&o.Cooldown, 15*time.Second)
	if o.MaxBody <= 0 {
		o.MaxBody = 64 << 20
	}
	if o.CacheDir == "" {
		o.CacheDir = os.Getenv("MILLRACE_REMOTE_CACHE")
	}
	return o
}

// keyVariables hold the key of an endpoint, the first that is set. A key is read when a request is sent and kept nowhere.
var keyVariables = []string{"MILLRACE_API_KEY", "OPENAI_API_KEY"}

// key is the key of an endpoint, "" where there is none; keys are all that are set.
func key() string {
	for _, k := range keys() {
		return k
	}
	return ""
}

func keys() (out []string) {
	for _, name := range keyVariables {
		if k := os.Getenv(name); k != "" {
			out = append(out, k)
		}
	}
	return out
}

// client sends requests to one endpoint.
type client struct {
	base  string // such as http://localhost:8000/v1
	bare  bool   // without a path: the first question finds out whether the endpoint is at /v1
	opts  Options
	http  *http.Client
	slots chan struct{}
	breaker
}

func newClient(base string, o Options) *client {
	o = o.withDefaults()
	return &client{
		base: base, opts: o,
		http:    outbound.Client(o.Concurrency),
		slots:   make(chan struct{}, o.Concurrency),
		breaker: breaker{threshold: o.BreakAfter, cooldown: o.Cooldown, limit: o.MaxCooldown},
	}
}

// do sends a request until it is answered in a way that accept takes, or attempts run out. A body of nil is a GET.
func (c *client) do(ctx context.Context, path string, body any, accept func([]byte) *Error) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("remote: %w", err)
		}
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for attempt := 1; ; attempt++ {
		probe, err := c.enter(ctx)
		if err != nil {
			if e, ok := err.(*Error); ok {
				e.URL, e.Attempts = c.base+path, attempt-1
			}
			return err
		}
		e := c.attempt(ctx, path, text, accept)
		if ctx.Err() != nil {
			c.cancelled(probe)
			return ctx.Err()
		}
		c.leave(probe, e)
		if e == nil {
			return nil
		}
		e.URL, e.Attempts = c.base+path, attempt
		if !e.retry || attempt >= c.opts.Attempts {
			return e
		}
		if err := sleep(ctx, c.backoff(attempt, e.retryAfter)); err != nil {
			return err
		}
	}
}

// backoff is how long to wait after a failed attempt: doubled every time with half of it at random, so that clients that
// failed together do not come back together; at least what the server asked for; at most MaxBackoff.
func (c *client) backoff(attempt int, retryAfter time.Duration) time.Duration {
	wait := c.opts.MinBackoff << min(attempt-1, 20)
	wait = min(wait, c.opts.MaxBackoff)
	wait = wait/2 + time.Duration(rand.Int64N(int64(wait/2)+1))
	return min(max(wait, retryAfter), c.opts.MaxBackoff)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// attempt sends a request once.
func (c *client) attempt(ctx context.Context, path string, body []byte, accept func([]byte) *Error) *Error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return &Error{Kind: KindUnreachable, Problem: outbound.Plain(err)}
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if k := key(); k != "" {
		req.Header.Set("Authorization", "Bearer "+k)
	}
	resp, err := c.http.Do(req)
	if refused := (*outbound.ForbiddenError)(nil); errors.As(err, &refused) {
		return &Error{Kind: KindUnreachable, Problem: refused.Error()} // whenever it is tried
	}
	if err != nil {
		return c.broken(ctx, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, c.opts.MaxBody+1))
	if err != nil {
		e := c.broken(ctx, err)
		e.Status = resp.StatusCode
		return e
	}
	if resp.StatusCode != http.StatusOK {
		return refused(resp, text)
	}
	if int64(len(text)) > c.opts.MaxBody {
		return &Error{Kind: KindMalformed, Status: resp.StatusCode, Problem: fmt.Sprintf("the answer is longer than %d bytes", c.opts.MaxBody)}
	}
	if e := accept(text); e != nil {
		e.Status = resp.StatusCode
		return e
	}
	return nil
}

// broken is a connection that could not be made or did not last.
func (c *client) broken(ctx context.Context, err error) *Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Error{Kind: KindTimeout, Problem: fmt.Sprintf("no complete answer within %v", c.opts.Timeout), retry: true}
	}
	// A connection that was made and broke may be the doing of this one request.
	kind := KindBroken
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		kind = KindUnreachable
	}
	return &Error{Kind: kind, Problem: outbound.Plain(err), retry: true}
}

// refused is an answer other than 200.
func refused(resp *http.Response, body []byte) *Error {
	problem, code := openai.Complaint(body)
	if problem == "" {
		if text := strings.TrimSpace(string(body)); text != "" && !strings.HasPrefix(text, "<") && !strings.HasPrefix(text, "{") {
			problem = text
		}
	}
	e := failure(resp.StatusCode, code, cmp.Or(problem, http.StatusText(resp.StatusCode)))
	if e.retry {
		e.retryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return e
}

// usedUp are the names that servers have for a quota, or a credit, that is used up.
var usedUp = []string{"insufficient_quota", "insufficient_credits", "billing_hard_limit_reached", "billing_not_active", "quota_exceeded",
	"payment_required"}

// failure classifies what a server says of a failed request: its status, its own name for the fault, and its sentence.
func failure(status int, code, problem string) *Error {
	e := &Error{Kind: KindServer, Status: status, Problem: outbound.Short(outbound.Masked(problem, keys()...), 300)}
	switch {
	case status == http.StatusPaymentRequired || slices.Contains(usedUp, code):
		e.Kind = KindQuota
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e.Kind = KindAuth
		e.Problem += "; keys are read from $" + strings.Join(keyVariables, " or $")
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status/100 == 3:
		e.Kind = KindNotFound
	case status == http.StatusRequestTimeout || status == http.StatusTooEarly || status == http.StatusTooManyRequests || status >= 500:
		e.retry = true
	case status/100 == 4:
		e.Kind = KindRejected
	default:
		e.Kind = KindMalformed
	}
	return e
}

// parseRetryAfter reads both forms of the header (RFC 9110, section 10.2.3): seconds, or a date.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// breaker keeps requests from an endpoint that fails: after threshold failed attempts in a row it is open, and lets one
// attempt through every cooldown until one succeeds. Requests wait for that; from the limit-th failed attempt of this kind
// on they fail at once instead.
type breaker struct {
	threshold, limit int
	cooldown         time.Duration

	mu        sync.Mutex
	failures  int    // in a row
	cooldowns int    // in a row
	last      string // what the last failure said
	probing   bool
	until     time.Time // while open: when the next attempt may go
}

// enter waits until an attempt may be made. probe marks the one that an open circuit lets through.
func (b *breaker) enter(ctx context.Context) (probe bool, err error) {
	for {
		b.mu.Lock()
		wait := time.Until(b.until)
		switch {
		case b.failures < b.threshold:
			b.mu.Unlock()
			return false, nil
		case wait <= 0 && !b.probing:
			b.probing = true
			b.mu.Unlock()
			return true, nil
		case b.cooldowns >= b.limit:
			problem := fmt.Sprintf("%d attempts in a row failed, and the endpoint did not come back within %v; the last: %s", b.failures,
				time.Duration(b.limit)*b.cooldown, b.last)
			b.mu.Unlock()
			return false, &Error{Kind: KindUnavailable, Problem: problem}
		}
		b.mu.Unlock()
		if err := sleep(ctx, max(wait, b.cooldown/16)); err != nil {
			return false, err
		}
	}
}

// leave reports how an attempt went. An answer that refuses the request shows that the endpoint works.
func (b *breaker) leave(probe bool, e *Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	if e == nil || !e.retry {
		b.failures, b.cooldowns = 0, 0
		return
	}
	b.failures++
	b.last = fmt.Sprintf("%s: %s", e.Kind, e.Problem)
	if probe {
		b.cooldowns++
	}
	if probe || b.failures == b.threshold {
		b.until = time.Now().Add(b.cooldown)
	}
}

// cancelled reports an attempt that the caller gave up, which says nothing about the endpoint.
func (b *breaker) cancelled(probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
}
