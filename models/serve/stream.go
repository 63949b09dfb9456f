package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/openai"
	"github.com/millrace/millrace/models/tokenizer"
)

// stream answers with server-sent events, a chunk as soon as its text is certain. Put together, the chunks of a choice are the
// answer without streaming, except that log-probs are those of the sampled tokens alone. Errors that are found before the first
// chunk are returned, for an ordinary answer.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, q *openai.Request, ids []int32, chat bool) error {
	switch {
	case q.Echo || q.PromptLogProbs != nil:
		return invalid("stream", "echo and prompt_logprobs are not streamed")
	case q.Millrace != nil:
		return invalid("stream", "answers to the extension millrace are not streamed")
	}
	want, err := wants(q, chat)
	if err != nil {
		return err
	}
	request, err := s.generateRequest(q, ids, wanted{}, chat)
	if err != nil {
		return err
	}
	drawn := feed{wake: make(chan struct{}, 1)}
	request.OnToken = func(sample, _ int, token int32, logP float32) {
		drawn.put(sampledToken{sample - request.FirstSample, token, logP})
	}
	type ending struct {
		result models.GenerateResult
		err    error
	}
	ended := make(chan ending, 1)
	go func() {
		result, err := s.sample(r, request)
		ended <- ending{result, err}
	}()

	object := "text_completion"
	if chat {
		object = "chat.completion.chunk"
	}
	out := &events{w: w, patience: func() { s.patience(w) }, flush: http.NewResponseController(w).Flush, head: s.head(object)}
	choices := make([]*streamedChoice, request.Samples)
	for i := range choices {
		choices[i] = &streamedChoice{server: s, index: i, chat: chat, logProbs: want.logProbs, ids: q.ReturnTokenIDs, stops: q.Stop}
		if s.opts.Tokenizer != nil {
			choices[i].text = tokenizer.NewStream(s.opts.Tokenizer)
		}
	}
	for {
		select {
		case <-drawn.wake:
			for _, t := range drawn.take() {
				if c, ok := choices[t.sample].add(t); ok {
					out.send(c)
				}
			}
		case end := <-ended:
			if err := errors.Join(end.err, end.result.Err); err != nil {
				if !out.begun {
					if end.err == nil {
						return invalid("prompt", "%v", err)
					}
					return err
				}
				out.fail(err)
				return nil
			}
			for _, t := range drawn.take() {
				choices[t.sample].hold(t)
			}
			total := 0
			for i, response := range end.result.Responses {
				out.send(choices[i].finish(response))
				total += len(response.Tokens)
			}
			if q.StreamOptions != nil && q.StreamOptions.IncludeUsage {
				out.usage(&openai.Usage{Prompt: len(ids), Completion: total, Total: len(ids) + total})
			}
			out.line("[DONE]")
			return nil
		}
	}
}

// sampledToken is a token on its way to a client.
type sampledToken struct {
	sample int
	id     int32
	logP   float32
}

// feed passes tokens from the sampler to a client without making the sampler wait for it.
type feed struct {
	mu    sync.Mutex
	items []sampledToken
	wake  chan struct{} // capacity 1
}

func (f *feed) put(t sampledToken) {
	f.mu.Lock()
	f.items = append(f.items, t)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *feed) take() []sampledToken {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.items
	f.items = nil
	return out
}

// streamedChoice is one sample of a streamed answer.
type streamedChoice struct {
	server        *Server
	index         int
	chat, begun   bool
	logProbs, ids bool
	stops         []string
	text          *tokenizer.Stream // nil without a tokenizer

	told    int            // tokens that were told or are waiting
	waiting []sampledToken // of the next chunk
	pending string         // text that may be the beginning of a stop text
	sent    int            // bytes of text
}

// hold keeps a token for the next chunk.
func (c *streamedChoice) hold(t sampledToken) {
	c.told++
	c.waiting = append(c.waiting, t)
	if c.text != nil && !c.server.opts.Tokenizer.Special(t.id) {
		c.pending += c.text.Next(t.id)
	}
}

// add takes a token and returns the chunk that has become certain, if any.
func (c *streamedChoice) add(t sampledToken) (openai.Choice, bool) {
	before := len(c.pending)
	c.hold(t)
	certain := len(c.pending) - unsure(c.pending, before, c.stops)
	if certain == 0 && (c.text != nil || !c.ids) {
		return openai.Choice{}, false
	}
	text := c.pending[:certain]
	c.pending = c.pending[certain:]
	return c.chunk(text, nil), true
}

// unsure is the length of the end of a text that may not be part of the answer: the beginning of a stop text, or one that
// the last token completed, which came after the first bytes of the text. Stop texts before that did not end the response.
func unsure(text string, before int, stops []string) int {
	most := 0
	for _, stop := range stops {
		for n := min(len(stop), len(text)); n > most; n-- {
			if strings.HasSuffix(text, stop[:n]) {
				most = n
			}
		}
		if i := strings.LastIndex(text, stop); i >= 0 && i+len(stop) > before {
			most = max(most, len(text)-i)
		}
	}
	return most
}

// finish is the last chunk: what is left of the response, and why it ended.
func (c *streamedChoice) finish(r models.Response) openai.Choice {
	for t := c.told; t < len(r.Tokens); t++ { // a generator that does not tell as it goes
		logP := float32(0)
		if t < len(r.LogP) {
			logP = r.LogP[t]
		}
		c.waiting = append(c.waiting, sampledToken{c.index, r.Tokens[t], logP})
	}
	text := ""
	if tok := c.server.opts.Tokenizer; tok != nil {
		text = textBeforeStop(tok, r, c.stops)
		text = text[min(c.sent, len(text)):]
	}
	reason := finishNames[r.Finish]
	return c.chunk(text, &reason)
}

func (c *streamedChoice) chunk(text string, reason *string) openai.Choice {
	c.sent += len(text)
	out := openai.Choice{Index: c.index, FinishReason: reason}
	if c.ids {
		out.TokenIDs = []int32{}
	}
	var logs []openai.TokenLog
	for _, t := range c.waiting {
		if c.ids {
			out.TokenIDs = append(out.TokenIDs, t.id)
		}
		logs = append(logs, openai.TokenLog{Token: c.server.token(t.id), LogProb: t.logP})
	}
	c.waiting = nil
	if c.chat {
		out.Delta = &openai.Delta{Content: &text}
		if !c.begun {
			out.Delta.Role, c.begun = "assistant", true
		}
	} else {
		out.Text = &text
	}
	if !c.logProbs {
		return out
	}
	out.LogProbs = &openai.LogProbs{Content: logs}
	if !c.chat {
		out.LogProbs = &openai.LogProbs{Tokens: []string{}, TokenLogProbs: []*float32{}}
		for i := range logs {
			out.LogProbs.Tokens = append(out.LogProbs.Tokens, logs[i].Token)
			out.LogProbs.TokenLogProbs = append(out.LogProbs.TokenLogProbs, &logs[i].LogProb)
		}
	}
	return out
}

// events writes server-sent events. A client that is gone is nobody to tell.
type events struct {
	w        http.ResponseWriter
	patience func() // before every write
	flush    func() error
	head     *openai.Response
	begun    bool
}

func (e *events) line(data string) {
	e.patience()
	if !e.begun {
		e.begun = true
		e.w.Header().Set("Content-Type", "text/event-stream")
		e.w.Header().Set("Cache-Control", "no-store")
		e.w.WriteHeader(http.StatusOK)
	}
	_, _ = fmt.Fprintf(e.w, "data: %s\n\n", data)
	_ = e.flush()
}

func (e *events) json(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		e.fail(errors.New("the answer holds a number that JSON cannot"))
		return
	}
	e.line(string(text))
}

func (e *events) send(c openai.Choice) {
	chunk := *e.head
	chunk.Choices = []openai.Choice{c}
	e.json(chunk)
}

func (e *events) usage(u *openai.Usage) {
	chunk := *e.head
	chunk.Choices, chunk.Usage = []openai.Choice{}, u
	e.json(chunk)
}

func (e *events) fail(err error) {
	text, _ := json.Marshal(openai.ErrorBody{Error: openai.ErrorDetail{Message: err.Error(), Type: "server_error"}}) // texts always encode
	e.line(string(text))
}
