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
	"github.com/millrace/millrace/models/outbound"
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

	Weights string `json:"weights,omitempty"` // what the server says of their origin: a digest, or a path

	Completions    bool   `json:"completions"`
	Chat           bool   `json:"chat"`
	AsChat         bool   `json:"as_chat"` // what follows was found of chat completions
	TokenIDsIn     bool   `json:"token_ids_in"`
	TokenIDsOut    bool   `json:"token_ids_out"`
	LogProbs       bool   `json:"logprobs"`                  // of sampled tokens
	PromptLogProbs string `json:"prompt_logprobs,omitempty"` // PromptLogProbs, Echo or Extended; "" when it gives none
	Several        bool   `json:"several"`                   // n samples in one request
	Seeded         bool   `json:"seeded"`                    // the same seed gave the same text twice

	// What log-probs are of, as measured: they are the model's own, or follow the temperature, or top-p and top-k, of the request.
	// True where that could not be measured, which Notes say.
	FollowTemperature bool `json:"logprobs_follow_temperature"`
	FollowTopP        bool `json:"logprobs_follow_top_p"`
	Unmeasured        bool `json:"logprobs_unmeasured,omitempty"`

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

// Missing names what the endpoint lacks; hasTokenizer says that token ids can be found from text, asChat that the URL says chat=1.
func (c Capabilities) Missing(n Need, hasTokenizer, asChat bool) []string {
	var out []string
	lacks := func(needed, has bool, what string) {
		if needed && !has {
			out = append(out, what)
		}
	}
	switch {
	case asChat:
		lacks(n.Generate, c.Chat, "chat completions, which chat=1 in the URL asks for")
	case c.Chat && !c.Completions:
		lacks(n.Generate, false, "completions: it answers conversations only; put chat=1 into the URL (each prompt is then sent as the one user "+
			"message, and the server's own template is put around it)")
	default:
		lacks(n.Generate, c.Completions, "completions")
	}
	lacks(n.Generate, c.TokenIDsIn && c.TokenIDsOut || hasTokenizer, "token ids (name the model's tokenizer with ?tokenizer=DIRECTORY)")
	if c.LogProbs && !c.TokenIDsOut {
		lacks(n.LogProbs, false, "log-probs of sampled tokens: it gives some, but no token ids, so that nobody knows which tokens they are of")
	} else {
		lacks(n.LogProbs, c.LogProbs, "log-probs of sampled tokens")
	}
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
	c.bare = e.bare
	defer c.http.CloseIdleConnections()
	return probe(ctx, c, e)
}

// offered are the models of a server. It finds out where the endpoint is if the URL has no path, and does without a list where
// the URL names a model.
func (c *client) offered(ctx context.Context, e endpoint) (openai.Models, error) {
	if c.bare {
		c.bare = false
		given := c.base
		c.base += "/v1"
		m, err := c.models(ctx)
		var failed *Error
		if err == nil || !errors.As(err, &failed) || failed.Kind != KindNotFound && failed.Kind != KindMalformed {
			return m, err
		}
		c.base = given
	}
	m, err := c.models(ctx)
	var failed *Error
	if errors.As(err, &failed) && (failed.Kind == KindNotFound || failed.Kind == KindMalformed) && e.model != "" {
		return openai.Models{}, nil
	}
	return m, err
}

func (c *client) models(ctx context.Context) (openai.Models, error) {
	var m openai.Models
	err := c.do(ctx, "/models", nil, func(text []byte) *Error {
		if err := json.Unmarshal(text, &m); err != nil {
			return garbled("the list of models is not what the protocol says: %v", err)
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
	offered, err := c.offered(ctx, e)
	e.base = c.base
	caps := Capabilities{URL: c.base}
	if err != nil {
		return caps, err
	}
	m, err := pick(e, offered)
	if err != nil {
		return caps, err
	}
	caps.Model, caps.MaxLen, caps.Weights = m.ID, m.MaxLen, m.Root
	for _, o := range offered.Data {
		caps.Models = append(caps.Models, o.ID)
	}
	if m.Millrace != nil {
		caps.Millrace, caps.Vocab, caps.Weights = true, m.Millrace.Vocab, m.Millrace.Digest
		caps.Completions, caps.TokenIDsIn, caps.TokenIDsOut, caps.LogProbs, caps.Several, caps.Seeded = true, true, true, true, true, true
		caps.PromptLogProbs = Extended
		return caps, nil
	}
	// What a server cannot do it may answer with an error of any kind: one more attempt, and not a long wait.
	quick := newClient(e.base, c.opts)
	quick.opts.Attempts, quick.opts.MaxBackoff = min(2, c.opts.Attempts), min(c.opts.MaxBackoff, time.Second)
	quick.breaker.threshold = 1 << 30
	defer quick.http.CloseIdleConnections()
	p := &prober{ctx: ctx, client: quick, caps: &caps}
	if len(offered.Data) == 0 {
		p.note("the server lists no models")
	}
	if !e.chat {
		p.completions()
	}
	p.chat(e.chat)
	if p.err == nil && !caps.Completions && !caps.Chat {
		problem := "neither completions nor chat completions are answered"
		if e.chat {
			problem = "chat completions are not answered"
		}
		if p.refused != nil {
			problem += "; the last answer: " + p.refused.Problem
		}
		p.err = &Error{Kind: KindNotFound, URL: e.base, Problem: problem}
	}
	return caps, p.err
}

// prober asks an endpoint one question after the other, until an error that concerns all of them.
type prober struct {
	ctx     context.Context
	client  *client
	caps    *Capabilities
	refused *Error // what the last refused question got
	err     error
}

func (p *prober) note(format string, args ...any) {
	p.caps.Notes = append(p.caps.Notes, fmt.Sprintf(format, args...))
}

// ask puts a question; what is not answered has no choices.
func (p *prober) ask(path string, r openai.Request) *openai.Response {
	if p.err != nil {
		return &openai.Response{}
	}
	r.Model = p.caps.Model
	one, seed := float32(1), int64(7)
	if r.Temperature == nil {
		r.Temperature = &one
	}
	if r.Seed == nil {
		r.Seed = &seed
	}
	if r.MaxTokens == 0 {
		r.MaxTokens = 8
	}
	answer := &openai.Response{}
	err := p.client.do(p.ctx, path, r, func(text []byte) *Error {
		got, e := decode(text)
		if e == nil {
			answer = got
		}
		return e
	})
	switch {
	case p.ctx.Err() != nil:
		p.err = p.ctx.Err()
	case errors.As(err, &p.refused) && (p.refused.Kind == KindAuth || p.refused.Kind == KindUnreachable || p.refused.Kind == KindQuota):
		p.err = err
	}
	return answer
}

// Prompts that every vocabulary has, or almost every one.
var (
	words    = "The numbers are one, two, three,"
	probeIDs = []int32{11, 12, 13, 14}
)

// completions finds out what completions can do, at first with everything at once: a server that knows all of it needs no further
// questions. A small vocabulary may lack the words' letters.
func (p *prober) completions() {
	full := openai.Request{LogProbs: json.RawMessage("1"), ReturnTokenIDs: true}
	answer := &openai.Response{}
	for _, prompt := range []*openai.Prompt{{Text: words}, {IDs: probeIDs}} {
		full.Prompt = prompt
		if answer = p.ask(completionsPath, full); len(answer.Choices) > 0 {
			break
		}
	}
	if len(answer.Choices) == 0 {
		full = openai.Request{Prompt: &openai.Prompt{Text: words}}
		if answer = p.ask(completionsPath, full); len(answer.Choices) > 0 {
			p.note("completions work, but not together with logprobs and return_token_ids")
		}
	}
	if p.caps.Completions = len(answer.Choices) > 0; !p.caps.Completions {
		return
	}
	p.samples(completionsPath, full, answer)

	counted := p.ask(completionsPath, openai.Request{Prompt: &openai.Prompt{IDs: probeIDs}, MaxTokens: 1})
	// A server that takes the list for a list of texts, or for a text, counts other tokens.
	p.caps.TokenIDsIn = len(counted.Choices) == 1 && (counted.Usage == nil || counted.Usage.Prompt == len(probeIDs))
	if !p.caps.TokenIDsIn {
		p.note("prompts of token ids are not understood, so no given response can be scored")
		return
	}
	one := 1
	scored := p.ask(completionsPath, openai.Request{Prompt: &openai.Prompt{IDs: probeIDs}, MaxTokens: 1, PromptLogProbs: &one})
	echoed := p.ask(completionsPath, openai.Request{Prompt: &openai.Prompt{IDs: probeIDs}, MaxTokens: 1, Echo: true,
		LogProbs: json.RawMessage("1")})
	switch {
	case len(scored.Choices) > 0 && givesPromptLogProbs(scored.Choices[0], probeIDs):
		p.caps.PromptLogProbs = PromptLogProbs
	case len(echoed.Choices) > 0 && echoesLogProbs(echoed.Choices[0], len(probeIDs)):
		p.caps.PromptLogProbs = Echo
	default:
		p.note("no log-probs of a prompt: neither prompt_logprobs nor echo gives them")
	}
}

// chat finds out whether conversations are answered; and, where they are what is to be used, or all there is, what they can do.
func (p *prober) chat(used bool) {
	hello := []openai.Message{{Role: "user", Content: "Hello"}}
	if p.caps.Completions {
		answer := p.ask(chatPath, openai.Request{Messages: hello, MaxTokens: 1})
		p.caps.Chat = len(answer.Choices) > 0 && answer.Choices[0].Message != nil
		return
	}
	full := openai.Request{Messages: hello, LogProbs: json.RawMessage("true"), ReturnTokenIDs: true}
	answer := p.ask(chatPath, full)
	if len(answer.Choices) == 0 {
		full = openai.Request{Messages: hello}
		if answer = p.ask(chatPath, full); len(answer.Choices) > 0 {
			p.note("chat completions work, but not together with logprobs and return_token_ids")
		}
	}
	if p.caps.Chat = len(answer.Choices) > 0 && answer.Choices[0].Message != nil; !p.caps.Chat {
		return
	}
	p.caps.AsChat = true
	if !used {
		p.note("conversations only: put chat=1 into the URL; prompts are then sent as user messages, and the " +
			"server's template is put around them")
	}
	p.samples(chatPath, full, answer)
}

// samples finds out what the answers to a full request hold, the first of which is given.
func (p *prober) samples(path string, full openai.Request, answer *openai.Response) {
	choice := answer.Choices[0]
	p.caps.TokenIDsOut = len(choice.TokenIDs) > 0
	if !p.caps.TokenIDsOut && choice.LogProbs == nil {
		alone := full
		alone.ReturnTokenIDs, alone.LogProbs = false, json.RawMessage("1")
		if path == chatPath {
			alone.LogProbs = json.RawMessage("true")
		}
		if a := p.ask(path, alone); len(a.Choices) > 0 {
			choice = a.Choices[0]
		}
	}
	if _, bad := logProbs(choice); bad != nil {
		p.note("log-probs: %s", bad.Problem)
	} else {
		p.caps.LogProbs = true
		if !p.caps.TokenIDsOut {
			p.note("log-probs come without token ids: recipes that need log-probs of samples are refused, as nobody knows which tokens they are of")
		}
	}
	if _, e := textOf(choice); e != nil && !p.caps.TokenIDsOut {
		p.note("%s", e.Problem)
	}
	again := p.ask(path, full)
	p.caps.Seeded = len(again.Choices) > 0 && content(again.Choices[0]) == content(answer.Choices[0])
	two := full
	two.N, two.MaxTokens = 2, 1
	several := p.ask(path, two)
	p.caps.Several = len(several.Choices) == 2 && several.Choices[0].Index+several.Choices[1].Index == 1
	if p.caps.LogProbs {
		p.define(path, full)
	}
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

func (c Capabilities) logProbsAre() string {
	switch {
	case c.Unmeasured:
		return "not known to be the model's own"
	case c.FollowTemperature && c.FollowTopP:
		return "of what is sampled from: after temperature, top-p and top-k"
	case c.FollowTemperature:
		return "of the logits divided by the temperature"
	case c.FollowTopP:
		return "after top-p and top-k, not after the temperature"
	}
	return "the model's own: at temperature 1, over all tokens"
}

// String is a table for people.
func (c Capabilities) String() string {
	var b strings.Builder
	row := func(what string, value any) {
		if v, ok := value.(bool); ok {
			value = map[bool]string{true: "yes", false: "no"}[v]
		}
		fmt.Fprintf(&b, "%-28s %s\n", what, outbound.Visible(outbound.Masked(fmt.Sprint(value), keys()...)))
	}
	row("endpoint", c.URL)
	row("model", c.Model)
	if c.MaxLen > 0 {
		row("longest sequence", c.MaxLen)
	}
	row("completions", c.Completions)
	row("chat", c.Chat)
	if c.AsChat {
		row("the following is of", "chat completions (chat=1)")
	}
	row("takes token ids", c.TokenIDsIn)
	row("gives token ids", c.TokenIDsOut)
	row("log-probs of samples", c.LogProbs)
	if c.LogProbs {
		row("these are", c.logProbsAre())
	}
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
