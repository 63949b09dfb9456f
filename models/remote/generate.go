package remote

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/models/openai"
	"github.com/millrace/millrace/models/outbound"
	"github.com/millrace/millrace/schemas/setting"
)

const (
	completionsPath = "/completions"
	chatPath        = "/chat/completions"
)

// Generate implements models.Generator. A request whose answer cannot be used gets an *Error in its result; an endpoint
// that fails for everyone is the returned error.
func (m *Model) Generate(ctx context.Context, requests []models.GenerateRequest) ([]models.GenerateResult, error) {
	results := make([]models.GenerateResult, len(requests))
	began := time.Now()
	err := all(ctx, len(requests), func(ctx context.Context, i int) error {
		responses, err := m.samples(ctx, requests[i])
		var e *Error
		if errors.As(err, &e) && !e.everyRequest() {
			results[i] = models.GenerateResult{Err: err}
			return nil
		}
		results[i] = models.GenerateResult{Responses: responses}
		return err
	})
	if err != nil {
		return nil, err
	}
	stats := models.SamplingStats{Time: time.Since(began)}
	for _, r := range results {
		stats.Responses += len(r.Responses)
		for _, response := range r.Responses {
			stats.Tokens += len(response.Tokens)
		}
	}
	models.CountSampling(ctx, stats)
	return results, nil
}

// samples asks for all samples of a request: at once, or one by one where the server gives one at a time. vLLM refuses several of
// which all would be the most probable.
func (m *Model) samples(ctx context.Context, r models.GenerateRequest) ([]models.Response, error) {
	if r.Samples <= 1 || m.caps.Millrace || m.caps.Several && !r.Sampling.Greedy {
		return m.generate(ctx, &r)
	}
	var out []models.Response
	for i := range r.Samples {
		one := r
		one.FirstSample, one.Samples = r.FirstSample+i, 1
		responses, err := m.generate(ctx, &one)
		var e *Error
		if errors.As(err, &e) && !e.everyRequest() && e.Kind != KindUnsupported {
			responses = []models.Response{{Sample: one.FirstSample, Finish: models.FinishError, Err: err}}
		} else if err != nil {
			return nil, err
		}
		out = append(out, responses...)
	}
	return out, nil
}

func (m *Model) generate(ctx context.Context, r *models.GenerateRequest) ([]models.Response, error) {
	path, body, err := m.generateBody(r)
	if err != nil {
		return nil, err
	}
	var responses []models.Response
	err = m.ask(ctx, path, body, func(text []byte, live bool) *Error {
		answer, e := decode(text)
		if e != nil {
			return e
		}
		if live {
			if e := m.named(answer.Model); e != nil {
				return e
			}
		}
		responses, e = m.responses(r, answer)
		return e
	})
	return responses, err
}

// rejected is a fault of the request that is found before it is sent.
func (m *Model) rejected(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, URL: m.base, Problem: fmt.Sprintf(format, args...)}
}

func (m *Model) generateBody(r *models.GenerateRequest) (string, *openai.Request, error) {
	s := r.Sampling
	if err := setting.Check(s); err != nil {
		return "", nil, m.rejected(KindRejected, "sampling.%v", err)
	}
	if len(r.Prompt) == 0 || r.Samples < 1 {
		return "", nil, m.rejected(KindRejected, "a prompt of %d tokens, %d samples", len(r.Prompt), r.Samples)
	}
	temperature := cmp.Or(s.Temperature, 1)
	if s.Greedy && !m.caps.Millrace {
		temperature = 0
	}
	seed := int64(keyed.New(r.Seed).WithBytes(r.PromptID).With(uint64(r.FirstSample)) >> 33) // 31 bits: what every server takes
	body := &openai.Request{Model: m.model, N: r.Samples, MaxTokens: s.MaxNewTokens, Temperature: &temperature, Seed: &seed, TopK: s.TopK}
	if s.TopP > 0 && s.TopP < 1 {
		body.TopP = &s.TopP
	}
	switch {
	case m.caps.Millrace:
		body.Millrace = &openai.Extension{Generate: &openai.Generate{Seed: r.Seed, PromptID: hex.EncodeToString(r.PromptID[:]),
			FirstSample: r.FirstSample, CandidateK: s.CandidateK, CandidateMinP: s.CandidateMinP, Greedy: s.Greedy}}
	case s.CandidateK > 0:
		return "", nil, m.rejected(KindUnsupported, "the server gives no candidates at every token (sampling.candidate_k)")
	}
	body.Stop = slices.Clone(s.StopStrings)
	if m.caps.TokenIDsOut {
		body.ReturnTokenIDs, body.StopIDs, body.MinTokens = true, s.Stop, s.MinNewTokens
	} else {
		if m.tok == nil {
			return "", nil, m.rejected(KindUnsupported, "the server gives no token ids, and the URL names no tokenizer (?tokenizer=DIRECTORY)")
		}
		if s.MinNewTokens > 0 {
			return "", nil, m.rejected(KindUnsupported, "the server takes no least number of tokens (sampling.min_new_tokens)")
		}
		for _, id := range s.Stop {
			if !slices.Contains(m.tok.EOS(), id) { // at these the server stops by itself
				body.Stop = append(body.Stop, m.tok.Token(id))
			}
		}
	}
	if m.caps.LogProbs {
		body.LogProbs = json.RawMessage("1")
	}
	if m.chat {
		if m.tok == nil {
			return "", nil, m.rejected(KindUnsupported, "a conversation needs text, and the URL names no tokenizer (?tokenizer=DIRECTORY)")
		}
		body.Messages = []openai.Message{{Role: "user", Content: m.text(r.Prompt)}}
		if m.caps.LogProbs {
			body.LogProbs = json.RawMessage("true")
		}
		return chatPath, body, nil
	}
	prompt, err := m.prompt(r.Prompt)
	body.Prompt = prompt
	return completionsPath, body, err
}

func (m *Model) prompt(ids []int32) (*openai.Prompt, error) {
	if m.caps.TokenIDsIn {
		return &openai.Prompt{IDs: ids}, nil
	}
	if m.tok == nil {
		return nil, m.rejected(KindUnsupported, "the server takes no token ids, and the URL names no tokenizer (?tokenizer=DIRECTORY)")
	}
	return &openai.Prompt{Text: m.text(ids)}, nil
}

// text is that of a prompt without what the server itself puts in front of every text.
func (m *Model) text(ids []int32) string {
	if prefix := m.tok.Prefix(); len(prefix) > 0 && len(ids) > len(prefix) && slices.Equal(ids[:len(prefix)], prefix) {
		ids = ids[len(prefix):]
	}
	return m.tok.Decode(ids)
}

// malformed is an answer of the right form that cannot be one to what was asked: the server would give it again.
func malformed(format string, args ...any) *Error {
	return &Error{Kind: KindMalformed, Problem: fmt.Sprintf(format, args...)}
}

// garbled is an answer of another form, such as that of a server in between: the next attempt may come through.
func garbled(format string, args ...any) *Error {
	return &Error{Kind: KindMalformed, Problem: fmt.Sprintf(format, args...), retry: true}
}

// decode reads an answer, in a way that names what a misplaced server sends instead. Some send what went wrong as an answer.
func decode(text []byte) (*openai.Response, *Error) {
	var r openai.Response
	if err := json.Unmarshal(text, &r); err != nil {
		start := strings.TrimSpace(string(text[:min(len(text), 60)]))
		if !utf8.ValidString(start) {
			start = "(binary)"
		}
		return nil, garbled("the answer is not what the protocol says: %v; it begins %q", err, start)
	}
	if len(r.Choices) == 0 {
		if problem, code := openai.Complaint(text); problem != "" {
			status, err := strconv.Atoi(code)
			if err != nil || status < 400 || status > 599 {
				status = 500
			}
			return nil, failure(status, code, problem)
		}
		return nil, garbled("the answer has no choices")
	}
	return &r, nil
}

// responses takes the samples from an answer, in order. A sample that is missing is an error of its own, so that those that
// came are kept.
func (m *Model) responses(r *models.GenerateRequest, answer *openai.Response) ([]models.Response, *Error) {
	out := make([]models.Response, r.Samples)
	for i := range out {
		out[i] = models.Response{Sample: r.FirstSample + i, Finish: models.FinishError,
			Err: &Error{Kind: KindMalformed, URL: m.base, Status: 200,
				Problem: fmt.Sprintf("%d samples were asked for, %d came", r.Samples, len(answer.Choices))}}
	}
	seen := make([]bool, r.Samples)
	for _, c := range answer.Choices {
		if c.Odd["index"] != "" && (r.Samples > 1 || len(answer.Choices) > 1) {
			return nil, malformed("a choice does not say which of the %d it is: %s", r.Samples, c.Odd["index"])
		}
		if c.Index < 0 || c.Index >= r.Samples || seen[c.Index] {
			return nil, malformed("choice index %d of %d appears twice or is out of range", c.Index, r.Samples)
		}
		seen[c.Index] = true
		response, e := m.response(r, c)
		if e != nil {
			return nil, e
		}
		response.Sample = r.FirstSample + c.Index
		out[c.Index] = response
	}
	return out, nil
}

func (m *Model) response(r *models.GenerateRequest, c openai.Choice) (models.Response, *Error) {
	if c.Millrace != nil && c.Millrace.Error != "" {
		return models.Response{Finish: models.FinishError, Err: &Error{Kind: KindRejected, URL: m.base, Status: 200,
			Problem: c.Millrace.Error}}, nil
	}
	finish, ended := finishOf(c.FinishReason)
	if !ended {
		return models.Response{Finish: models.FinishError, Err: &Error{Kind: KindRejected, URL: m.base, Status: 200,
			Problem: "the server ended the response: " + outbound.Short(*c.FinishReason, 100)}}, nil
	}
	out := models.Response{Finish: finish}
	longest := r.Sampling.MaxNewTokens
	reencoded := false
	switch ids := c.TokenIDs; {
	case ids != nil:
		out.Tokens = ids
	case m.caps.TokenIDsOut:
		return out, malformed("choice %d has no token ids%s", c.Index, because(c, "token_ids"))
	default:
		text, e := textOf(c)
		if e != nil {
			return out, e
		}
		longest = 2*longest + 16 // what is encoded again need not be what was sampled
		if len(text) > maxTokenBytes*longest {
			return out, malformed("choice %d has %d bytes of text, and %d tokens were asked for", c.Index, len(text), r.Sampling.MaxNewTokens)
		}
		ids, err := m.tok.Encode(text)
		if err != nil {
			return out, &Error{Kind: KindMalformed, Problem: fmt.Sprintf("choice %d: %v", c.Index, err)}
		}
		out.Tokens, reencoded = ids, true
	}
	if len(out.Tokens) > longest {
		return out, malformed("choice %d has %d tokens, and %d were asked for", c.Index, len(out.Tokens), r.Sampling.MaxNewTokens)
	}
	vocab := math.MaxInt32
	if m.tok != nil {
		vocab = m.tok.VocabSize()
	} else if m.caps.Vocab > 0 {
		vocab = m.caps.Vocab
	}
	for t, id := range out.Tokens {
		if id < 0 || int(id) >= vocab {
			return out, malformed("choice %d: token %d has id %d, which is not in the vocabulary", c.Index, t, id)
		}
	}
	if len(out.Tokens) == 0 && !reencoded {
		return out, malformed("choice %d has no tokens", c.Index)
	}
	if m.caps.LogProbs {
		logp, e := logProbs(c)
		if e != nil {
			return out, e
		}
		// Tokens that were found again from a text need not be those that were sampled; then nobody knows their log-probs.
		if len(logp) != len(out.Tokens) && !reencoded {
			return out, malformed("choice %d has %d log-probs for %d tokens", c.Index, len(logp), len(out.Tokens))
		}
		if !reencoded || m.sameTokens(out.Tokens, c) {
			out.LogP = logp
		}
	}
	if reencoded && out.Finish == models.FinishStop && len(r.Sampling.Stop) == 1 && len(r.Sampling.StopStrings) == 0 {
		// The text does not hold the token that ended it, but only one could.
		out.Tokens, out.LogP = append(out.Tokens, r.Sampling.Stop[0]), nil
	}
	if d := c.Millrace; d != nil {
		out.LogZ, out.CandidateStart, out.CandidateIDs, out.CandidateLogP = d.LogZ, d.CandidateStart, d.CandidateIDs, d.CandidateLogP
		if e := checkCandidates(out, c.Index); e != nil {
			return out, e
		}
	}
	if m.caps.Millrace && r.Sampling.CandidateK > 0 && out.CandidateStart == nil {
		return out, malformed("choice %d has no candidates", c.Index)
	}
	return out, nil
}

// maxTokenBytes is as much text as a token can have, and more.
const maxTokenBytes = 1024

// because is what was wrong with a field that could not be read.
func because(c openai.Choice, field string) string {
	if odd := c.Odd[field]; odd != "" {
		return ": " + odd
	}
	return ""
}

// textOf is the text of a choice, where it is all that the model wrote.
func textOf(c openai.Choice) (string, *Error) {
	switch {
	case c.Text != nil:
		return *c.Text, nil
	case c.Message == nil:
		return "", malformed("choice %d has no text%s%s", c.Index, because(c, "text"), because(c, "message"))
	case c.Message.Reasoning != "":
		return "", &Error{Kind: KindUnsupported, Problem: fmt.Sprintf("choice %d: the server keeps the thinking apart "+
			"(reasoning_content), so that "+
			"nobody knows what the model wrote; serve the model without a reasoning parser", c.Index)}
	}
	for _, name := range c.Message.Unread {
		if slices.Contains(written, name) || strings.HasPrefix(name, "content") {
			return "", &Error{Kind: KindUnsupported, Problem: fmt.Sprintf("choice %d: the answer is not its text alone: there is %q beside it",
				c.Index, outbound.Short(name, 100))}
		}
	}
	return c.Message.Content, nil
}

// Fields of a message in which servers put what the model wrote, besides its text.
var written = []string{"tool_calls", "function_call", "refusal", "audio", "thinking", "reasoning_details"}

// finishOf is why a response ended; false when it was broken off, and is none.
func finishOf(reason *string) (models.FinishReason, bool) {
	if reason == nil {
		return models.FinishUnknown, true
	}
	if f := models.FinishOf(*reason); f != models.FinishError {
		return f, true
	}
	return models.FinishUnknown, false
}

// minPlaceholder is from how many tokens on a response whose log-probs are all exactly zero is one for which the server
// filled in what it did not compute. Shorter ones can be as certain as that.
const minPlaceholder = 8

// logProbs takes the log-probs of a choice from wherever the server put them, and checks that they can be such.
func logProbs(c openai.Choice) ([]float32, *Error) {
	var out []float32
	switch {
	case c.Millrace != nil && c.Millrace.LogP != nil:
		out = c.Millrace.LogP
	case c.LogProbs == nil:
		return nil, malformed("choice %d has no log-probs%s", c.Index, because(c, "logprobs"))
	case c.LogProbs.Content != nil:
		for _, t := range c.LogProbs.Content {
			out = append(out, t.LogProb)
		}
	default:
		for t, p := range c.LogProbs.TokenLogProbs {
			if p == nil {
				return nil, malformed("choice %d: token %d has no log-prob", c.Index, t)
			}
			out = append(out, *p)
		}
	}
	return out, checkLogP(out, fmt.Sprintf("choice %d", c.Index))
}

// minLogP is less than the log-prob of any token that a model gives or is given; servers write -9999, or the least number there
// is, where they have none.
const minLogP = -1000

func checkLogP(logp []float32, where string) *Error {
	zero := true
	for t, p := range logp {
		if p < minLogP {
			return malformed("%s: the number %v at token %d is no log-prob; servers write such where they have none", where, p, t)
		}
		if math.IsNaN(float64(p)) || p > 0 {
			return malformed("%s: the log-prob %v of token %d is not that of a probability", where, p, t)
		}
		zero = zero && p == 0
	}
	if zero && len(logp) >= minPlaceholder {
		return malformed("%s: all %d log-probs are zero, which is what servers send that do not compute them", where, len(logp))
	}
	return nil
}

// sameTokens reports whether the tokens of a text that was encoded again are those the server names.
func (m *Model) sameTokens(ids []int32, c openai.Choice) bool {
	var names []string
	if c.LogProbs != nil {
		names = c.LogProbs.Tokens
		for _, t := range c.LogProbs.Content {
			names = append(names, t.Token)
		}
	}
	return slices.EqualFunc(ids, names, func(id int32, name string) bool {
		if number, ok := strings.CutPrefix(name, "token_id:"); ok {
			n, err := strconv.Atoi(number)
			return err == nil && n == int(id)
		}
		return m.tok.Token(id) == name
	})
}

func checkCandidates(r models.Response, index int) *Error {
	if r.LogZ != nil && len(r.LogZ) != len(r.Tokens) {
		return malformed("choice %d has %d normalisers for %d tokens", index, len(r.LogZ), len(r.Tokens))
	}
	if r.CandidateStart == nil {
		return nil
	}
	s := r.CandidateStart
	if len(s) != len(r.Tokens)+1 || s[0] != 0 || !slices.IsSorted(s) || int(s[len(s)-1]) != len(r.CandidateIDs) ||
		len(r.CandidateIDs) != len(r.CandidateLogP) {
		return malformed("choice %d: its candidates do not fit its %d tokens", index, len(r.Tokens))
	}
	for _, id := range r.CandidateIDs {
		if id < 0 {
			return malformed("choice %d: candidate with id %d", index, id)
		}
	}
	return nil
}
