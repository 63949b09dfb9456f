// Package serve offers a model to others over HTTP, in the completions protocol of OpenAI-compatible servers, with token ids
// and the log-probs of prompts; and, for the remote package of another process, with keyed samples, candidates and scores
// that are bit for bit those of the model at hand.
package serve

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/semaphore"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/openai"
	"github.com/millrace/millrace/models/tokenizer"
)

// Options say how a model is offered. Name is required.
type Options struct {
	Name      string              // what the model is called
	Digest    string              // of its weights, with its precision: models.Ref.Identity
	Tokenizer tokenizer.Tokenizer // nil: token ids only
	MaxLen    int                 // longest sequence, 0: not told
	Key       string              // what clients have to send as their key; "": nothing
	Hosts     []string            // names of this server besides localhost and addresses, for clients without a key
	Limits

	Report func(format string, args ...any) // told what went wrong inside; nil: nobody
}

// Server answers requests with a model.
type Server struct {
	opts     Options
	model    models.Model
	vocab    int             // 0: not known
	chat     *tokenizer.Chat // nil without a template
	generate *generateQueue
	score    *scoreQueue
	room     *semaphore.Weighted // of bodies, in bytes
	mux      *http.ServeMux
}

// New makes a server; Close ends it. The model stays the caller's.
func New(model models.Model, o Options) (*Server, error) {
	if o.Name == "" {
		return nil, errors.New("serve: the model has no name")
	}
	o.Limits = o.Limits.withDefaults()
	if o.Report == nil {
		o.Report = func(string, ...any) {}
	}
	s := &Server{opts: o, model: model, mux: http.NewServeMux(), room: semaphore.NewWeighted(bodies * o.MaxBody),
		generate: newGenerateQueue(model, o.MaxWaiting, o.Report), score: newScoreQueue(model, o.MaxWaiting, o.Report)}
	inner := model
	if h, ok := model.(*models.Handle); ok {
		inner = h.Model
	}
	if sized, ok := inner.(interface{ VocabSize() int }); ok {
		s.vocab = sized.VocabSize()
	} else if o.Tokenizer != nil {
		s.vocab = o.Tokenizer.VocabSize()
	}
	if o.Tokenizer != nil {
		chat, err := tokenizer.NewChat(o.Tokenizer)
		if err != nil && !errors.Is(err, tokenizer.ErrNoTemplate) {
			return nil, err
		}
		s.chat = chat
	}
	s.mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	s.mux.HandleFunc("GET /v1/models", s.models)
	s.mux.HandleFunc("POST /v1/completions", func(w http.ResponseWriter, r *http.Request) { s.complete(w, r, false) })
	s.mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { s.complete(w, r, true) })
	return s, nil
}

// Close ends the requests under way.
func (s *Server) Close() {
	s.generate.close()
	s.score.close()
}

// maxConnections bounds the connections that are open at once.
const maxConnections = 1024

// Serve answers on a listener until the context ends; then it takes no more, and what is under way has its grace to end.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return serveOn(ctx, l, s, s.opts.Grace, s.Close)
}

// serveOn answers until the context ends; closing ends what is under way when its grace is over.
func serveOn(ctx context.Context, l net.Listener, handler http.Handler, grace time.Duration, closing func()) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		ending, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if server.Shutdown(ending) == nil {
			return
		}
		closing() // who still waits is told so
		last, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(last)
		_ = server.Close()
	})
	err := server.Serve(netutil.LimitListener(l, maxConnections))
	if !stop() {
		<-ended
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // that of an earlier answer on this connection
	defer func() {
		if cause := recover(); cause != nil {
			s.opts.Report("a request made the server panic: %v\n%s", cause, debug.Stack())
			fail(w, errors.New("the server failed on this request"))
		}
	}()
	if err := s.fromElsewhere(r); err != nil {
		fail(w, err)
		return
	}
	if key := s.opts.Key; key != "" && r.URL.Path != "/health" {
		given := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(given), []byte(key)) != 1 {
			fail(w, &fault{status: http.StatusUnauthorized, problem: "the key is missing or wrong"})
			return
		}
	}
	s.mux.ServeHTTP(w, r)
}

// fault is a request that cannot be answered.
type fault struct {
	status  int
	param   string // the field at fault
	problem string
}

func (f *fault) Error() string { return f.problem }

func invalid(param, format string, args ...any) *fault {
	return &fault{http.StatusBadRequest, param, fmt.Sprintf(format, args...)}
}

func fail(w http.ResponseWriter, err error) {
	f := &fault{status: http.StatusInternalServerError, problem: err.Error()}
	errors.As(err, &f)
	if f.status == http.StatusTooManyRequests || f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	kind := "invalid_request_error"
	if f.status >= 500 {
		kind = "server_error"
	}
	message := f.problem
	if f.param != "" { // most clients show the message alone
		message = f.param + ": " + message
	}
	reply(w, f.status, openai.ErrorBody{Error: openai.ErrorDetail{Message: message, Type: kind, Param: f.param}})
}

func reply(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil { // an infinity outside the extension
		status, text = http.StatusInternalServerError, []byte(
			`{"error":{"message":"the answer holds a number that JSON cannot","type":"server_error"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // nobody is left to tell when the client is gone
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	m := openai.Model{ID: s.opts.Name, Object: "model", OwnedBy: "millrace", MaxLen: s.opts.MaxLen,
		Millrace: &openai.About{Digest: s.opts.Digest}}
	if t := s.opts.Tokenizer; t != nil {
		m.Millrace.Vocab = t.VocabSize()
	}
	reply(w, http.StatusOK, openai.Models{Object: "list", Data: []openai.Model{m}})
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request, chat bool) {
	q, ids, err := s.prepare(w, r, chat)
	if err != nil {
		fail(w, err)
		return
	}
	if q.Stream {
		if err := s.stream(w, r, q, ids, chat); err != nil {
			fail(w, err)
		}
		return
	}
	answer, err := s.answer(r, q, ids, chat)
	if err != nil {
		fail(w, err)
		return
	}
	s.patience(w)
	reply(w, http.StatusOK, answer)
}

// patience is how long a client may take to read what is written next.
func (s *Server) patience(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.opts.BodyTime)) // a connection that knows none is a test's
}

// prepare reads a request and makes its prompt into tokens.
func (s *Server) prepare(w http.ResponseWriter, r *http.Request, chat bool) (*openai.Request, []int32, error) {
	text, done, err := s.read(w, r)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	q, err := decodeRequest(text, chat)
	if err != nil {
		return nil, nil, err
	}
	ids, err := s.promptIDs(q, chat)
	if err != nil {
		return nil, nil, err
	}
	return q, ids, s.checkPrompt(ids)
}

// answer serves a request.
func (s *Server) answer(r *http.Request, q *openai.Request, ids []int32, chat bool) (*openai.Response, error) {
	out := s.head("text_completion")
	out.Usage = &openai.Usage{Prompt: len(ids)}
	if chat {
		out.Object = "chat.completion"
	}
	if q.Millrace != nil && q.Millrace.Score != nil {
		choice, err := s.scores(r, ids, q.Millrace.Score)
		if err != nil {
			return nil, err
		}
		out.Choices = []openai.Choice{choice}
	} else {
		var err error
		if out.Choices, err = s.completions(r, q, ids, chat); err != nil {
			return nil, err
		}
	}
	for _, c := range out.Choices {
		out.Usage.Completion += len(c.TokenIDs)
	}
	if !q.ReturnTokenIDs {
		for i := range out.Choices {
			out.Choices[i].TokenIDs = nil
		}
	}
	out.Usage.Total = out.Usage.Prompt + out.Usage.Completion
	return out, nil
}

// head is an answer without choices.
func (s *Server) head(object string) *openai.Response {
	id := make([]byte, 12)
	_, _ = rand.Read(id) // never fails
	return &openai.Response{ID: fmt.Sprintf("cmpl-%x", id), Object: object, Created: time.Now().Unix(), Model: s.opts.Name}
}

// promptIDs are the tokens of a request's prompt; the model it names must be the one that is served.
func (s *Server) promptIDs(q *openai.Request, chat bool) ([]int32, error) {
	if q.Model != "" && q.Model != s.opts.Name {
		return nil, &fault{http.StatusNotFound, "model", fmt.Sprintf("no model %q; %q is served", q.Model, s.opts.Name)}
	}
	t := s.opts.Tokenizer
	if chat {
		if s.chat == nil {
			return nil, invalid("messages", "the model has no chat template")
		}
		if len(q.Messages) == 0 {
			return nil, invalid("messages", "is missing or empty")
		}
		turns, bytes := make([]tokenizer.Message, len(q.Messages)), 0
		for i, m := range q.Messages {
			if m.Reasoning != "" {
				m.Unread = append(m.Unread, "reasoning_content")
			}
			if len(m.Unread) > 0 {
				return nil, invalid(fmt.Sprintf("messages[%d].%s", i, m.Unread[0]), "is not served; a message is a role and a text")
			}
			turns[i] = tokenizer.Message{Role: m.Role, Content: m.Content}
			bytes += len(m.Content)
		}
		if err := s.checkText("messages", bytes); err != nil {
			return nil, err
		}
		ids, err := s.chat.Encode(turns, true, nil)
		if err != nil {
			return nil, invalid("messages", "%v", err)
		}
		return ids, nil
	}
	switch {
	case q.Prompt == nil:
		return nil, invalid("prompt", "is missing")
	case q.Prompt.IDs != nil:
		return q.Prompt.IDs, nil
	case t == nil:
		return nil, invalid("prompt", "this server has no tokenizer and takes token ids only")
	}
	if err := s.checkText("prompt", len(q.Prompt.Text)); err != nil {
		return nil, err
	}
	ids, err := t.Encode(q.Prompt.Text)
	if err != nil {
		return nil, invalid("prompt", "%v", err)
	}
	return append(t.Prefix(), ids...), nil
}

// randomSeed is for requests that ask for no particular samples.
func randomSeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}
