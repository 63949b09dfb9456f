package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/models/openai"
)

// Ways of giving the log-probs of a prompt.
const (
	PromptLogProbs = "prompt_logprobs" // vLLM's field
	Echo           = "echo"            // the prompt repeated in front of the completion, with its log-probs
	Extended       = "millrace"        // this program's extension
)

// Capabilities are what an endpoint was found to be able to do.
type Capabilities struct {
	URL      string   `json:"url"`
	Model    string   `json:"model"`
	Models   []string `json:"models,omitempty"` // all it offers
	MaxLen   int      `json:"max_model_len,omitempty"`
	Vocab    int      `json:"vocab,omitempty"`
	Millrace bool     `json:"millrace"` // understands this program's extension: keyed samples, candidates, any token's log-prob

	Completions    bool   `json:"completions"`
	Chat           bool   `json:"chat"`
	TokenIDsIn     bool   `json:"token_ids_in"`
	TokenIDsOut    bool   `json:"token_ids_out"`
	LogProbs       bool   `json:"logprobs"`                  // of sampled tokens
	PromptLogProbs string `json:"prompt_logprobs,omitempty"` // PromptLogProbs, Echo or Extended; "" when it gives none
	Several        bool   `json:"several"`                   // n samples in one request
	Seeded         bool   `json:"seeded"`                    // the same seed gave the same text twice

	Notes []string `json:"notes,omitempty"` // why something is missing
}

// Need is what a plan needs of an endpoint.
type Need struct {
	Generate   bool // samples with their token ids
	LogProbs   bool // the sampled tokens' log-probs
	Candidates bool // further tokens at every position
	Score      bool // log-probs of given responses
	AnyToken   bool // of any token at every position, or a scalar head
}

// Missing names what the endpoint lacks; hasTokenizer says that token ids can be found from text.
func (c Capabilities) Missing(n Need, hasTokenizer bool) []string {
	var out []string
	lacks := func(needed, has bool, what string) {
		if needed && !has {
			out = append(out, what)
		}
	}
	lacks(n.Generate, c.Completions || c.Chat, "completions")
	lacks(n.Generate, c.TokenIDsIn && c.TokenIDsOut || hasTokenizer, "token ids (name the model's tokenizer with ?tokenizer=DIRECTORY)")
	lacks(n.LogProbs, c.LogProbs, "log-probs of sampled tokens")
	lacks(n.Candidates, c.Millrace, "candidates at every token")
	lacks(n.Score, c.TokenIDsIn && c.PromptLogProbs != "", "log-probs of a given response (prompt_logprobs or echo)")
	lacks(n.AnyToken, c.Millrace, "log-probs of any token at every position, or a scalar head")
	return out
}

// Probe asks an endpoint what it can do, with a handful of short requests.
func Probe(ctx context.Context, path string, o Options) (Capabilities, error) {
	e, err := parseURL(path)
	if err != nil {
		return Capabilities{}, err
	}
	c := newClient(e.base, o)
	defer c.http.CloseIdleConnections()
	return probe(ctx, c, e)
}

func (c *client) models(ctx context.Context) (openai.Models, error) {
	var m openai.Models
	err := c.do(ctx, "/models", nil, func(text []byte) *Error {
		if err := json.Unmarshal(text, &m); err != nil {
			return malformed("the list of models is not what the protocol says: %v", err)
		}
		return nil
	})
	return m, err
}

// pick finds the model that is meant.
func pick(e endpoint, offered openai.Models) (openai.Model, error) {
	var names []string
	for _, m := range offered.Data {
		if m.ID == e.model {
			return m, nil
		}
		names = append(names, m.ID)
	}
	switch {
	case e.model != "" && len(names) > 0:
		return openai.Model{}, &Error{Kind: KindNotFound, URL: e.base, Problem: fmt.Sprintf("no model %q; there are %q", e.model, names)}
	case e.model != "":
		return openai.Model{ID: e.model}, nil
	case len(names) == 1:
		return offered.Data[0], nil
	case len(names) == 0:
		return openai.Model{}, &Error{Kind: KindNotFound, URL: e.base, Problem: "the server lists no models; name one with ?model=NAME"}
	}
	return openai.Model{}, &Error{Kind: KindNotFound, URL: e.base, Problem: fmt.Sprintf("name one of the models %q with ?model=NAME", names)}
}

func probe(ctx context.Context, c *client, e endpoint) (Capabilities, error) {
	caps := Capabilities{URL: e.base}
	note := func(format string, args ...any) { caps.Notes = append(caps.Notes, fmt.Sprintf(format, args...)) }
	offered, err := c.models(ctx)
	var failed *Error
	if errors.As(err, &failed) && failed.Kind == KindNotFound && e.model != "" {
		note("the server lists no models")
		err = nil
	}
	if err != nil {
		return caps, err
	}
	m, err := pick(e, offered)
	if err != nil {
		return caps, err
	}
	caps.Model, caps.MaxLen = m.ID, m.MaxLen
	for _, o := range offered.Data {
		caps.Models = append(caps.Models, o.ID)
	}
	if m.Millrace != nil {
		caps.Millrace, caps.Vocab = true, m.Millrace.Vocab
		caps.Completions, caps.TokenIDsIn, caps.TokenIDsOut, caps.LogProbs, caps.Several, caps.Seeded = true, true, true, true, true, true
		caps.PromptLogProbs = Extended
		return caps, nil
	}

	// What a server cannot do it may answer with an error of any kind: one more attempt, and not a long wait.
	quick := newClient(e.base, c.opts)
	quick.opts.Attempts, quick.opts.MaxBackoff = min(2, c.opts.Attempts), min(c.opts.MaxBackoff, time.Second)
	quick.breaker.threshold = 1 << 30
	defer quick.http.CloseIdleConnections()
	temperature, seed, one := float32(1), int64(7), 1
	ask := func(path string, r openai.Request) (*openai.Response, error) {
		r.Model = m.ID
		r.Temperature, r.Seed = &temperature, &seed
		if r.MaxTokens == 0 {
			r.MaxTokens = 8
		}
		var answer *openai.Response
		err := quick.do(ctx, path, r, func(text []byte) *Error {
			var e *Error
			answer, e = decode(text)
			return e
		})
		var refused *Error
		if errors.As(err, &refused) && (refused.Kind == KindAuth || refused.Kind == KindUnreachable) {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return &openai.Response{}, nil
		}
		return answer, nil
	}
	words := &openai.Prompt{Text: "The numbers are one, two, three,"}
	ids := []int32{11, 12, 13, 14} // every vocabulary has these

	// Completions, at first with everything at once: a server that knows all of it needs no further questions. A small
	// vocabulary may lack the words' letters.
	full := openai.Request{Prompt: words, LogProbs: json.RawMessage("1"), ReturnTokenIDs: true}
	answer := &openai.Response{}
	for _, prompt := range []*openai.Prompt{words, {IDs: ids}} {
		full.Prompt = prompt
		if answer, err = ask(completionsPath, full); err != nil {
			return caps, err
		}
		if len(answer.Choices) > 0 {
			break
		}
	}
	if len(answer.Choices) == 0 {
		full = openai.Request{Prompt: words}
		if answer, err = ask(completionsPath, full); err != nil {
			return caps, err
		}
		if caps.Completions = len(answer.Choices) > 0; caps.Completions {
			note("completions work, but not together with logprobs and return_token_ids")
		}
	}
	if len(answer.Choices) > 0 {
		choice := answer.Choices[0]
		caps.Completions = true
		caps.TokenIDsOut = len(choice.TokenIDs) > 0
		if !caps.TokenIDsOut && choice.LogProbs == nil {
			alone, err := ask(completionsPath, openai.Request{Prompt: full.Prompt, LogProbs: json.RawMessage("1")})
			if err != nil {
				return caps, err
			}
			if len(alone.Choices) > 0 {
				choice = alone.Choices[0]
			}
		}
		_, bad := logProbs(choice)
		if caps.LogProbs = bad == nil; !caps.LogProbs {
			note("log-probs: %s", bad.Problem)
		}
	}
	if caps.Completions {
		again, err := ask(completionsPath, full)
		if err != nil {
			return caps, err
		}
		caps.Seeded = len(again.Choices) > 0 && len(answer.Choices) > 0 && content(again.Choices[0]) == content(answer.Choices[0])
		two, err := ask(completionsPath, openai.Request{Prompt: full.Prompt, N: 2, MaxTokens: 1})
		if err != nil {
			return caps, err
		}
		caps.Several = len(two.Choices) == 2

		counted, err := ask(completionsPath, openai.Request{Prompt: &openai.Prompt{IDs: ids}, MaxTokens: 1})
		if err != nil {
			return caps, err
		}
		// A server that takes the list for a list of texts, or for a text, counts other tokens.
		caps.TokenIDsIn = len(counted.Choices) == 1 && (counted.Usage == nil || counted.Usage.Prompt == len(ids))
		if caps.TokenIDsIn {
			scored, err := ask(completionsPath, openai.Request{Prompt: &openai.Prompt{IDs: ids}, MaxTokens: 1, PromptLogProbs: &one})
			if err != nil {
				return caps, err
			}
			echoed, err := ask(completionsPath, openai.Request{Prompt: &openai.Prompt{IDs: ids}, MaxTokens: 1, Echo: true,
				LogProbs: json.RawMessage("1")})
			if err != nil {
				return caps, err
			}
			switch {
			case len(scored.Choices) > 0 && givesPromptLogProbs(scored.Choices[0], ids):
				caps.PromptLogProbs = PromptLogProbs
			case len(echoed.Choices) > 0 && echoesLogProbs(echoed.Choices[0], len(ids)):
				caps.PromptLogProbs = Echo
			default:
				note("no log-probs of a prompt: neither prompt_logprobs nor echo gives them")
			}
		} else {
			note("prompts of token ids are not understood, so no given response can be scored")
		}
	}
	chat, err := ask(chatPath, openai.Request{Messages: []openai.Message{{Role: "user", Content: "Hello"}}, MaxTokens: 1})
	if err != nil {
		return caps, err
	}
	caps.Chat = len(chat.Choices) > 0 && chat.Choices[0].Message != nil
	if !caps.Completions && !caps.Chat {
		return caps, &Error{Kind: KindNotFound, URL: e.base, Problem: "neither completions nor chat completions are answered"}
	}
	return caps, nil
}

func content(c openai.Choice) string {
	if c.Text != nil {
		return *c.Text
	}
	if c.Message != nil {
		return c.Message.Content
	}
	return ""
}

func givesPromptLogProbs(c openai.Choice, ids []int32) bool {
	if len(c.PromptLogProbs) != len(ids) {
		return false
	}
	for i, id := range ids[1:] {
		if log, ok := c.PromptLogProbs[i+1][fmt.Sprint(id)]; !ok || log.LogProb > 0 {
			return false
		}
	}
	return true
}

func echoesLogProbs(c openai.Choice, n int) bool {
	if c.LogProbs == nil || len(c.LogProbs.TokenLogProbs) < n || len(c.LogProbs.TokenLogProbs) > n+1 {
		return false
	}
	return !slices.ContainsFunc(c.LogProbs.TokenLogProbs[1:n], func(p *float32) bool { return p == nil || *p > 0 })
}

// String is a table for people.
func (c Capabilities) String() string {
	var b strings.Builder
	row := func(what string, value any) {
		if v, ok := value.(bool); ok {
			value = map[bool]string{true: "yes", false: "no"}[v]
		}
		fmt.Fprintf(&b, "%-28s %v\n", what, value)
	}
	row("endpoint", c.URL)
	row("model", c.Model)
	if c.MaxLen > 0 {
		row("longest sequence", c.MaxLen)
	}
	row("completions", c.Completions)
	row("chat", c.Chat)
	row("takes token ids", c.TokenIDsIn)
	row("gives token ids", c.TokenIDsOut)
	row("log-probs of samples", c.LogProbs)
	prompt := c.PromptLogProbs
	if prompt == "" {
		prompt = "no"
	}
	row("log-probs of a prompt", prompt)
	row("several samples at once", c.Several)
	row("same seed, same text", c.Seeded)
	row("keyed samples, candidates", c.Millrace)
	for _, n := range c.Notes {
		row("note", n)
	}
	return b.String()
}
