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
	"io"
	"net"
	"net/http"
	"strings"
	"time"

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
	MaxBody   int64               // bytes of a request; default 16 MiB
	MaxTokens int                 // most tokens of a response; default 8192
	MaxN      int                 // most samples of a request; default 256
}

// Server answers requests with a model.
type Server struct {
	opts     Options
	model    models.Model
	chat     *tokenizer.Chat // nil without a template
	generate *batcher[models.GenerateRequest, models.GenerateResult]
	score    *batcher[models.ScoreRequest, models.ScoreResult]
	mux      *http.ServeMux
}

// New makes a server; Close ends it. The model stays the caller's.
func New(model models.Model, o Options) (*Server, error) {
	if o.Name == "" {
		return nil, errors.New("serve: the model has no name")
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 16 << 20
	}
	if o.MaxTokens <= 0 {
		o.MaxTokens = 8192
	}
	if o.MaxN <= 0 {
		o.MaxN = 256
	}
	s := &Server{opts: o, model: model, mux: http.NewServeMux(), generate: newBatcher(model.Generate), score: newBatcher(model.Score)}
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

// Serve answers on a listener until the context ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s, ReadHeaderTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	stop := context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(ending)
		_ = server.Close()
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if key := s.opts.Key; key != "" && r.URL.Path != "/health" {
		given := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(given), []byte(key)) != 1 {
			fail(w, &fault{http.StatusUnauthorized, "", "the key is missing or wrong"})
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
	f := &fault{http.StatusInternalServerError, "", err.Error()}
	errors.As(err, &f)
	kind := "invalid_request_error"
	if f.status >= 500 {
		kind = "server_error"
	}
	reply(w, f.status, openai.ErrorBody{Error: openai.ErrorDetail{Message: f.problem, Type: kind, Param: f.param}})
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
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			fail(w, &fault{http.StatusRequestEntityTooLarge, "", fmt.Sprintf("the request is longer than %d bytes", s.opts.MaxBody)})
			return
		}
		fail(w, invalid("", "the request broke off: %v", err))
		return
	}
	var q openai.Request
	if err := json.Unmarshal(text, &q); err != nil {
		fail(w, invalid("", "%v", err))
		return
	}
	if q.Stream {
		if err := s.stream(w, r, &q, chat); err != nil {
			fail(w, err)
		}
		return
	}
	answer, err := s.answer(r.Context(), &q, chat)
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, answer)
}

// answer serves a request.
func (s *Server) answer(ctx context.Context, q *openai.Request, chat bool) (*openai.Response, error) {
	ids, err := s.promptIDs(q, chat)
	if err != nil {
		return nil, err
	}
	out := s.head("text_completion")
	out.Usage = &openai.Usage{Prompt: len(ids)}
	if chat {
		out.Object = "chat.completion"
	}
	if q.Millrace != nil && q.Millrace.Score != nil {
		choice, err := s.scores(ctx, ids, q.Millrace.Score)
		if err != nil {
			return nil, err
		}
		out.Choices = []openai.Choice{choice}
	} else if out.Choices, err = s.completions(ctx, q, ids, chat); err != nil {
		return nil, err
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
		turns := make([]tokenizer.Message, len(q.Messages))
		for i, m := range q.Messages {
			turns[i] = tokenizer.Message{Role: m.Role, Content: m.Content}
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
