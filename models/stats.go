package models

import (
	"context"
	"sync"
	"time"
)

// SamplingStats are sums over calls of Generate. They say how fast a generator was and are no part of what it returns.
type SamplingStats struct {
	PromptTokens int           // run; a group's prompt counts once. 0 where the generator cannot tell
	Responses    int           // finished
	Tokens       int           // sampled
	Time         time.Duration // spent in Generate, waiting for one's turn not counted
	// from the beginning of Generate to a response's first token, summed over responses; 0 where the generator cannot tell
	FirstToken time.Duration
}

// Since is what came after an earlier reading of the same sums.
func (s SamplingStats) Since(before SamplingStats) SamplingStats {
	return SamplingStats{s.PromptTokens - before.PromptTokens, s.Responses - before.Responses, s.Tokens - before.Tokens,
		s.Time - before.Time, s.FirstToken - before.FirstToken}
}

// SamplingCount gathers the stats of the calls that are given its context. It is safe for concurrent use.
type SamplingCount struct {
	mu  sync.Mutex
	sum SamplingStats
}

// Sum returns the sums so far.
func (c *SamplingCount) Sum() SamplingStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sum
}

type samplingCountKey struct{}

// WithSamplingCount returns a context whose calls of Generate are counted.
func WithSamplingCount(ctx context.Context) (context.Context, *SamplingCount) {
	c := &SamplingCount{}
	return context.WithValue(ctx, samplingCountKey{}, c), c
}

// CountSampling is how a Generator reports what a call did.
func CountSampling(ctx context.Context, s SamplingStats) {
	c, ok := ctx.Value(samplingCountKey{}).(*SamplingCount)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum.PromptTokens += s.PromptTokens
	c.sum.Responses += s.Responses
	c.sum.Tokens += s.Tokens
	c.sum.Time += s.Time
	c.sum.FirstToken += s.FirstToken
}
