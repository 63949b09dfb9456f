package remote

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/models/outbound"
)

// Kind says in what way a request failed.
type Kind string

const (
	// The request's own fault: it fails again whenever it is sent.
	KindRejected    Kind = "rejected"    // 400, 413, 422: the server will not serve this prompt
	KindUnsupported Kind = "unsupported" // the server cannot do what is asked for

	// The answer's fault, after all attempts.
	KindMalformed Kind = "malformed" // no JSON, or not an answer to what was asked; the latter without further attempts
	KindServer    Kind = "server"    // 408, 429, 5xx
	KindTimeout   Kind = "timeout"   // no complete answer in time
	KindBroken    Kind = "broken"    // the connection broke before the answer was complete

	// The endpoint's fault: every request would fail.
	KindAuth         Kind = "auth"          // 401, 403
	KindNotFound     Kind = "not_found"     // 404: no such path or model
	KindUnreachable  Kind = "unreachable"   // no connection
	KindUnavailable  Kind = "unavailable"   // the circuit breaker gave up waiting
	KindModelChanged Kind = "model_changed" // another model answers than before
	KindQuota        Kind = "quota"         // 402, or a quota that is used up: waiting does not help
)

// Error is a request that failed. What it says holds no key, and nothing that acts on a terminal, whatever the server sent.
type Error struct {
	Kind     Kind
	URL      string
	Status   int // of the last answer, 0 when there was none
	Attempts int
	Problem  string

	retry      bool
	retryAfter time.Duration // what the server asked for, 0 when it did not
}

func (e *Error) Error() string {
	s := fmt.Sprintf("remote: %s: %s: %s", e.URL, e.Kind, e.Problem)
	if e.Status != 0 {
		s += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	if e.Attempts > 1 {
		s += fmt.Sprintf(" after %d attempts", e.Attempts)
	}
	return outbound.Visible(outbound.Masked(s, keys()...))
}

// everyRequest reports whether the failure is the endpoint's, not the request's.
func (e *Error) everyRequest() bool {
	switch e.Kind {
	case KindAuth, KindNotFound, KindUnreachable, KindUnavailable, KindModelChanged, KindQuota:
		return true
	}
	return false
}
