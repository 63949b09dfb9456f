package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"

	"github.com/millrace/millrace/models"
)

// Opener opens a model as it is to be offered, and gives it back.
type Opener func(ctx context.Context, path string) (model models.Model, o Options, release func() error, err error)

// Swap is a Server whose weights a client may change, by POST /update_weights_from_disk with {"model_path": ...}, as SGLang has it.
// Requests under way end with the weights that they began with; those that come later have the new ones.
type Swap struct {
	open  Opener
	below string // where weights may lie

	loading sync.Mutex // one change at a time
	mu      sync.RWMutex
	now     *offered
}

// offered is a model that is offered, with the requests that it answers.
type offered struct {
	*Server
	requests sync.WaitGroup
	release  func() error
}

// NewSwap offers the model at a path. Others may be loaded from below a directory, and from nowhere else.
func NewSwap(ctx context.Context, path, below string, open Opener) (*Swap, error) {
	real, err := filepath.EvalSymlinks(below)
	if err != nil {
		return nil, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, err
	}
	s := &Swap{open: open, below: real}
	s.now, err = s.begin(ctx, path)
	return s, err
}

func (s *Swap) begin(ctx context.Context, path string) (*offered, error) {
	model, o, release, err := s.open(ctx, path)
	if err != nil {
		return nil, err
	}
	server, err := New(model, o)
	if err != nil {
		_ = release()
		return nil, err
	}
	server.mux.HandleFunc("POST /update_weights_from_disk", s.update)
	return &offered{Server: server, release: release}, nil
}

// ServeHTTP implements http.Handler.
func (s *Swap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.RLock()
	now := s.now
	now.requests.Add(1)
	s.mu.RUnlock()
	defer now.requests.Done()
	now.Server.ServeHTTP(w, r)
}

// current is what is offered now.
func (s *Swap) current() *offered {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.now
}

// Serve answers on a listener until the context ends, as a Server does.
func (s *Swap) Serve(ctx context.Context, l net.Listener) error {
	return serveOn(ctx, l, s, s.now.opts.Grace, s.Close)
}

// Close ends the requests under way. The model goes with the process.
func (s *Swap) Close() {
	s.current().Server.Close()
}

// update changes the weights. The tokenizer stays: ids mean what they meant.
func (s *Swap) update(w http.ResponseWriter, r *http.Request) {
	var q struct {
		ModelPath string `json:"model_path"`
	}
	text, done, err := s.current().read(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	err = json.Unmarshal(text, &q)
	done() // loading takes long
	if err != nil {
		fail(w, invalid("model_path", "the body is no JSON object with model_path: %v", err))
		return
	}
	path, err := filepath.EvalSymlinks(q.ModelPath)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil || path != s.below && !strings.HasPrefix(path, s.below+string(filepath.Separator)) {
		fail(w, invalid("model_path", "is not below the directory that this server takes weights from (--reload)"))
		return
	}
	s.loading.Lock()
	defer s.loading.Unlock()
	old := s.current()
	next, err := s.begin(context.WithoutCancel(r.Context()), path)
	if err != nil {
		fail(w, invalid("model_path", "cannot be loaded: %v", err))
		return
	}
	if next.vocab != old.vocab {
		next.Server.Close()
		_ = next.release()
		fail(w, invalid("model_path", "has a vocabulary of %d tokens, and that of the model served has %d", next.vocab, old.vocab))
		return
	}
	s.mu.Lock()
	s.now = next
	s.mu.Unlock()
	go func() { // this request is one of them
		old.requests.Wait()
		old.Server.Close()
		if err := old.release(); err != nil {
			old.opts.Report("the weights before could not be given back: %v", err)
		}
	}()
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintln(w, `{"success": true, "message": ""}`)
}
