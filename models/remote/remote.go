// Package remote uses an OpenAI-compatible endpoint (vLLM, llama.cpp, this program's own server, a hosted service) as
// Generator and, where the server gives the log-probs of a prompt, as Scorer.
//
// An endpoint is named by its URL, as in http://localhost:8000/v1?model=NAME. The query is read here and not sent: model,
// needed where the server offers several or lists none; tokenizer, a directory or file with the model's tokenizer, for servers that do
// not speak token ids; weights, a model on this machine with the weights that are served, for runs to compare log-probs with;
// chat=1 to send prompts as the one user message of a conversation, which the server puts into its own
// template. A URL without a path is that of a server, whose endpoint is at /v1. Keys come from the environment
// (MILLRACE_API_KEY, OPENAI_API_KEY) and are never kept, logged or sent elsewhere.
//
// Every request ends in a result or in an *Error that says why. Failures that pass are tried again with growing, partly
// random waits; an endpoint that fails all the time is left alone for a while (circuit breaker); answers are checked before
// they count, and kept by the content of the request, so that a replay does not sample again.
package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/openai"
	"github.com/millrace/millrace/models/tokenizer"
)

func init() {
	models.RegisterFormat(models.Format{
		Name:  "openai",
		Match: IsEndpoint,
		Open: func(ctx context.Context, ref models.Ref) (models.Model, error) {
			if ref.Precision != kernels.Float32 {
				return nil, fmt.Errorf("remote: an endpoint computes in the precision of its server; it cannot be asked for %s", ref.Precision)
			}
			m, err := Open(ctx, ref.Path, Options{})
			if err != nil {
				return nil, err
			}
			return m, nil
		},
		Digest: func(ctx context.Context, path string) (string, error) {
			e, err := parseURL(path)
			if err != nil {
				return "", err
			}
			return digest(ctx, e, Options{})
		},
	})
}

// IsEndpoint reports whether a path names an endpoint.
func IsEndpoint(path string) bool {
	return strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://")
}

// endpoint is what a URL names.
type endpoint struct {
	base      string // without query and trailing slash
	model     string
	tokenizer string
	weights   string
	chat      bool
	bare      bool // the URL has no path
}

func parseURL(path string) (endpoint, error) {
	u, err := url.Parse(path)
	if err != nil || u.Host == "" || !IsEndpoint(path) { // the path may hold a password, and is not told
		return endpoint{}, errors.New("remote: this is not the URL of an endpoint, such as http://localhost:8000/v1")
	}
	if u.User != nil {
		return endpoint{}, fmt.Errorf("remote: the URL of %s holds a user or password; keys are read from $%s", u.Host,
			strings.Join(keyVariables, " or $"))
	}
	e := endpoint{}
	for name, values := range u.Query() {
		if len(values) > 1 {
			return endpoint{}, fmt.Errorf("remote: the URL of %s has the parameter %q %d times", u.Host, name, len(values))
		}
		switch name {
		case "model":
			e.model = values[0]
		case "tokenizer":
			e.tokenizer = values[0]
		case "weights":
			e.weights = values[0]
		case "chat":
			if e.chat, err = strconv.ParseBool(values[0]); err != nil {
				return endpoint{}, fmt.Errorf("remote: the URL of %s says chat=%q; want chat=1 or chat=0", u.Host, values[0])
			}
		default:
			return endpoint{}, fmt.Errorf("remote: the URL of %s has a parameter %q; model, tokenizer, weights and chat are known", u.Host, name)
		}
	}
	u.RawQuery, u.Fragment = "", ""
	e.base = strings.TrimRight(u.String(), "/")
	e.bare = strings.Trim(u.Path, "/") == ""
	return e, nil
}

// TokenizerOf and WeightsOf are the directories that a URL names, "" where it names none.
func TokenizerOf(path string) string {
	e, _ := parseURL(path)
	return e.tokenizer
}

func WeightsOf(path string) string {
	e, _ := parseURL(path)
	return e.weights
}

// AsChat reports whether the URL says that prompts are sent as conversations, which the server puts into its own template.
func AsChat(path string) bool {
	e, err := parseURL(path)
	return err == nil && e.chat
}

// Model is an endpoint in use. It is safe for concurrent use.
type Model struct {
	*client
	model string
	chat  bool
	caps  Capabilities
	cache cache
	tok   tokenizer.Tokenizer // nil unless the URL names one

	answered atomic.Pointer[string] // the model that answers, as it calls itself
}

var _ models.Model = (*Model)(nil)

// Open probes an endpoint and makes it ready.
func Open(ctx context.Context, path string, o Options) (*Model, error) {
	e, err := parseURL(path)
	if err != nil {
		return nil, err
	}
	m := &Model{client: newClient(e.base, o), chat: e.chat}
	m.client.bare = e.bare
	m.cache.dir = m.opts.CacheDir
	if e.tokenizer != "" {
		if m.tok, err = tokenizer.Load(e.tokenizer); err != nil {
			return nil, err
		}
	}
	if m.caps, err = probe(ctx, m.client, e); err != nil {
		return nil, err
	}
	m.model = m.caps.Model
	return m, nil
}

// Capabilities says what the endpoint can do, as found when it was opened.
func (m *Model) Capabilities() Capabilities { return m.caps }

// Close ends idle connections.
func (m *Model) Close() error {
	m.http.CloseIdleConnections()
	return nil
}

// digest identifies the model behind an endpoint: by the digest of its weights where the server gives it, else by what it
// calls itself and where it is, which is all that can be known.
func digest(ctx context.Context, e endpoint, o Options) (string, error) {
	m, base, err := e.offers(ctx, o)
	if err != nil {
		return "", err
	}
	if m.Millrace != nil && m.Millrace.Digest != "" {
		return m.Millrace.Digest, nil
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "openai\n%s\n%s\n", base, m.ID))
	return hex.EncodeToString(sum[:]), nil
}

// offers asks the endpoint about its model, and finds out where the endpoint is.
func (e endpoint) offers(ctx context.Context, o Options) (m openai.Model, base string, err error) {
	c := newClient(e.base, o)
	c.bare = e.bare
	defer c.http.CloseIdleConnections()
	offered, err := c.offered(ctx, e)
	if err != nil {
		return m, "", err
	}
	e.base = c.base
	m, err = pick(e, offered)
	return m, c.base, err
}

// all runs f for every index; the first error that concerns every request ends the others.
func all(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	// The client bounds the requests under way; this bounds the goroutines that wait for it.
	gate := make(chan struct{}, 256)
	for i := range n {
		gate <- struct{}{}
		wg.Add(1)
		go func() {
			defer func() { <-gate; wg.Done() }()
			if err := f(ctx, i); err != nil {
				cancel(err)
			}
		}()
	}
	wg.Wait()
	return context.Cause(ctx)
}

// named checks that the model that answers is still the same.
func (m *Model) named(name string) *Error {
	if name == "" {
		return nil
	}
	if m.answered.CompareAndSwap(nil, &name) {
		return nil
	}
	if first := *m.answered.Load(); first != name {
		return &Error{Kind: KindModelChanged, Problem: fmt.Sprintf("answers came from model %q, now from %q", first, name)}
	}
	return nil
}

// ask sends a request, or finds its kept answer. parse checks an answer and takes what is needed from it.
func (m *Model) ask(ctx context.Context, path string, body any, parse func(text []byte, live bool) *Error) error {
	key, err := m.cache.key(m.base, m.caps.Weights, path, body)
	if err != nil {
		return err
	}
	if text, ok := m.cache.get(key); ok && parse(text, false) == nil {
		return nil
	}
	var answer []byte
	err = m.do(ctx, path, body, func(text []byte) *Error {
		answer = text
		return parse(text, true)
	})
	if err != nil {
		return err
	}
	return m.cache.put(key, answer)
}
