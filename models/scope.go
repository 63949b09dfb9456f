package models

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Scope is a context with an end: handles that are acquired under it, and under scopes inside it, are released when end is called,
// and none can be acquired after. Whoever runs a pipeline gives its stages such a context, as Beam's workers never tear a stage down
// (2.77, core/runtime/harness: an execution plan is brought up and then kept, or dropped when a bundle fails), so that a model
// which a stage acquired in Setup would stay open for as long as the process lives.
func Scope(ctx context.Context) (scoped context.Context, end func()) {
	outer, s := scopeOf(ctx), &scope{held: map[holder]struct{}{}}
	if !outer.add(s) {
		s.Release()
	}
	return context.WithValue(ctx, scopeKey{}, s), func() {
		outer.remove(s)
		s.Release()
	}
}

type scopeKey struct{}

// errEnded says that a stage has outlived its pipeline.
var errEnded = errors.New("what asks for it has ended")

// holder is a handle, or a scope inside another.
type holder interface{ Release() error }

// scope is what has been acquired and not been released. A nil one holds nothing.
type scope struct {
	mu    sync.Mutex
	ended bool
	held  map[holder]struct{}
}

func scopeOf(ctx context.Context) *scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

// Hold closes what a stage holds when the scope of the context ends, such as the processes of a verifier; outside of any it does nothing.
func Hold(ctx context.Context, c io.Closer) error {
	if scopeOf(ctx).add(&closing{c}) {
		return nil
	}
	return errors.Join(errEnded, c.Close())
}

type closing struct{ io.Closer }

func (c *closing) Release() error { return c.Close() }

// add reports whether the scope will release h, or need not.
func (s *scope) add(h holder) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.held[h] = struct{}{}
	}
	return !s.ended
}

func (s *scope) remove(h holder) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, h)
}

// Release ends the scope.
func (s *scope) Release() error {
	s.mu.Lock()
	held := s.held
	s.ended, s.held = true, nil
	s.mu.Unlock()
	var errs []error
	for h := range held {
		errs = append(errs, h.Release())
	}
	return errors.Join(errs...)
}
