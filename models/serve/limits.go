package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/openai"
)

// Limits bound what a request may cost; a zero field takes its default.
type Limits struct {
	MaxBody    int64 // bytes of a request; default 16 MiB
	MaxPrompt  int   // tokens of a prompt; default 16384
	MaxTokens  int   // of a response; default 8192
	MaxN       int   // samples of a request; default 256
	MaxWork    int   // tokens of the prompt and of all samples together; default 262144
	MaxAnswer  int   // bytes of an answer, as far as they can be foreseen; default 64 MiB
	MaxWaiting int   // requests that wait or are under way, of which a client may have half of what others have left; default 1024

	BodyTime time.Duration // until a request has come in full, and for which a client may refuse to read; default 30 s
	Grace    time.Duration // for requests under way when the server is told to end; default 30 s
}

func (l Limits) withDefaults() Limits {
	return Limits{
		MaxBody: positive(l.MaxBody, 16<<20), MaxPrompt: positive(l.MaxPrompt, 1<<14), MaxTokens: positive(l.MaxTokens, 8192),
		MaxN: positive(l.MaxN, 256), MaxWork: positive(l.MaxWork, 1<<18), MaxAnswer: positive(l.MaxAnswer, 64<<20),
		MaxWaiting: positive(l.MaxWaiting, 1024),
		BodyTime:   positive(l.BodyTime, 30*time.Second), Grace: positive(l.Grace, 30*time.Second),
	}
}

func positive[T cmp.Ordered](value, otherwise T) T {
	var zero T
	if value > zero {
		return value
	}
	return otherwise
}

// Bodies of the longest kind of which so many may be in memory at once; short ones do not count.
const (
	bodies    = 4
	shortBody = 64 << 10
)

// read reads a request's body, which has to come in time. Long ones wait for each other where they would take too much memory;
// done gives back the room.
func (s *Server) read(w http.ResponseWriter, r *http.Request) (text []byte, done func(), err error) {
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.BodyTime)
	defer cancel()
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(s.opts.BodyTime)) // a connection that knows none is a test's
	done = func() {}
	body := http.MaxBytesReader(w, r.Body, s.opts.MaxBody)
	text, err = io.ReadAll(io.LimitReader(body, shortBody))
	if err == nil && len(text) == shortBody {
		size := s.opts.MaxBody
		if r.ContentLength >= 0 {
			size = min(size, r.ContentLength)
		}
		if err := s.room.Acquire(ctx, size); err != nil {
			return nil, nil, &fault{status: http.StatusServiceUnavailable, problem: "too many large requests at once; come back later"}
		}
		done = func() { s.room.Release(size) }
		var rest []byte
		rest, err = io.ReadAll(body)
		text = append(text, rest...)
	}
	if err == nil {
		_ = conn.SetReadDeadline(time.Time{})
		return text, done, nil
	}
	// What is left of the body would be read before the answer goes out, as long as the client cares to send it.
	_ = conn.SetReadDeadline(time.Now())
	w.Header().Set("Connection", "close")
	done()
	var tooLarge *http.MaxBytesError
	var slow interface{ Timeout() bool }
	switch {
	case errors.As(err, &tooLarge):
		return nil, nil, &fault{status: http.StatusRequestEntityTooLarge, problem: fmt.Sprintf("the request is longer than %d bytes",
			s.opts.MaxBody)}
	case errors.As(err, &slow) && slow.Timeout():
		return nil, nil, &fault{status: http.StatusRequestTimeout, problem: fmt.Sprintf("the request did not come in full within %v",
			s.opts.BodyTime)}
	}
	return nil, nil, invalid("", "the request broke off: %v", err)
}

// maxTokenBytes is more than the text of a token has on average, in any text that somebody means.
const maxTokenBytes = 32

// checkText refuses a text that is longer than any prompt, before it is made into tokens.
func (s *Server) checkText(param string, bytes int) error {
	if most := maxTokenBytes * s.opts.MaxPrompt; bytes > most {
		return invalid(param, "%d bytes of text are longer than any prompt of %d tokens, the most that is taken", bytes, s.opts.MaxPrompt)
	}
	return nil
}

// checkPrompt refuses a prompt by its length, and ids that are no tokens.
func (s *Server) checkPrompt(ids []int32) error {
	if len(ids) > s.opts.MaxPrompt {
		return invalid("prompt", "%d tokens, %d is the most that is taken", len(ids), s.opts.MaxPrompt)
	}
	if s.opts.MaxLen > 0 && len(ids) > s.opts.MaxLen {
		return invalid("prompt", "%d tokens, the model takes %d in all", len(ids), s.opts.MaxLen)
	}
	for i, id := range ids {
		if id < 0 || s.vocab > 0 && int(id) >= s.vocab {
			return invalid("prompt", "id %d, at %d, is not in the vocabulary of %d tokens", id, i, s.vocab)
		}
	}
	return nil
}

// Bytes of an answer, estimated from above.
const (
	tokenBytes     = 40 // id, log-prob and normaliser of a token, text included
	candidateBytes = 16
	topBytes       = 64 // a token's text with its log-prob
	promptBytes    = 96 // an entry of prompt_logprobs
)

// checkWork refuses what costs too much: all samples and the prompt together, and the answer.
func (s *Server) checkWork(q *openai.Request, r models.GenerateRequest, w wanted) error {
	if work := len(r.Prompt) + r.Samples*r.Sampling.MaxNewTokens; work > s.opts.MaxWork {
		return invalid("max_tokens", "a prompt of %d tokens and n = %d samples of up to max_tokens = %d are %d tokens, above "+
			"the %d of a request; ask for fewer samples at a time", len(r.Prompt), r.Samples, r.Sampling.MaxNewTokens, work, s.opts.MaxWork)
	}
	// Numbers of a request can be of any size: as float64 their products are.
	token := tokenBytes + candidateBytes*float64(s.candidates(r.Sampling.CandidateK))
	if w.logProbs {
		token += topBytes * float64(1+w.top)
	}
	prompt := 0.0
	if q.PromptLogProbs != nil {
		prompt += promptBytes * float64(1+*q.PromptLogProbs)
	}
	if q.Echo {
		prompt += topBytes
	}
	return s.checkAnswer(float64(r.Samples) * (token*float64(r.Sampling.MaxNewTokens) + prompt*float64(len(r.Prompt))))
}

func (s *Server) checkScore(r models.ScoreRequest) error {
	return s.checkAnswer(tokenBytes*float64(len(r.Response)) + candidateBytes*float64(s.candidates(r.TopK))*float64(len(r.Response)) +
		candidateBytes*float64(len(r.ListIDs)))
}

// candidates are at most the whole vocabulary.
func (s *Server) candidates(k int) int {
	if s.vocab > 0 {
		k = min(k, s.vocab)
	}
	return k
}

func (s *Server) checkAnswer(bytes float64) error {
	if bytes > float64(s.opts.MaxAnswer) {
		return invalid("", "the answer could take %.0f bytes, above the %d of an answer; ask for fewer samples, tokens or candidates at a time",
			bytes, s.opts.MaxAnswer)
	}
	return nil
}
