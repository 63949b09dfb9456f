package remote

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/tokenizer"
)

// habits is a server whose answers are edited as JSON, so that they can have any form. It answers with the bytes of a text.
type habits struct {
	models  func(list map[string]any) any
	status  int                                      // of answers; 0: 200
	answer  func(q, a map[string]any) any            // what is answered in place of a
	choice  func(q, c map[string]any)                // edits every choice
	refuses func(path string, q map[string]any) bool // with 404
	asked   atomic.Int64
}

type object = map[string]any

func (h *habits) start(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func (h *habits) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	say := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if text, ok := v.(string); ok {
			_, _ = w.Write([]byte(text))
			return
		}
		_ = json.NewEncoder(w).Encode(v)
	}
	if !strings.HasPrefix(r.URL.Path, "/v1/") {
		say(404, object{"detail": "Not Found"})
		return
	}
	if strings.HasSuffix(r.URL.Path, "/models") {
		var list any = object{"object": "list", "data": []any{object{"id": "m"}}}
		if h.models != nil {
			list = h.models(list.(object))
		}
		say(200, list)
		return
	}
	h.asked.Add(1)
	var q object
	if json.NewDecoder(r.Body).Decode(&q) != nil {
		say(400, object{"error": "no JSON"})
		return
	}
	if h.refuses != nil && h.refuses(r.URL.Path, q) {
		say(404, object{"error": object{"message": "not here"}})
		return
	}
	n := 1
	if v, ok := q["n"].(float64); ok {
		n = int(v)
	}
	ids := []int{'s', 'i', 'x'}
	var choices []any
	for i := range n {
		c := object{"index": i, "finish_reason": "stop"}
		if strings.Contains(r.URL.Path, "chat") {
			c["message"] = object{"role": "assistant", "content": "six"}
		} else {
			c["text"] = "six"
		}
		if q["return_token_ids"] == true {
			c["token_ids"] = ids
		}
		if lp := q["logprobs"]; lp != nil && lp != false {
			if strings.Contains(r.URL.Path, "chat") {
				c["logprobs"] = object{"content": []any{object{"token": "s", "logprob": -1}, object{"token": "i", "logprob": -1.5},
					object{"token": "x", "logprob": -0.5}}}
			} else {
				c["logprobs"] = object{"tokens": []string{"s", "i", "x"}, "token_logprobs": []float64{-1, -1.5, -0.5}}
			}
		}
		if h.choice != nil {
			h.choice(q, c)
		}
		choices = append(choices, c)
	}
	a := object{"id": "c", "object": "x", "created": 1, "model": "m", "choices": choices}
	if h.answer != nil {
		say(max(h.status, 200), h.answer(q, a))
		return
	}
	say(max(h.status, 200), a)
}

// run asks for two samples of at most six tokens.
func run(t *testing.T, url string) (models.GenerateResult, error) {
	t.Helper()
	m, err := Open(t.Context(), url, fast())
	if err != nil {
		return models.GenerateResult{}, err
	}
	defer m.Close()
	results, err := m.Generate(t.Context(), []models.GenerateRequest{{Prompt: []int32{4}, Samples: 2,
		Sampling: models.Sampling{MaxNewTokens: 6}}})
	if err != nil {
		return models.GenerateResult{}, err
	}
	return results[0], nil
}

// bytesTokenizer writes a tokenizer whose ids are bytes.
func bytesTokenizer(t *testing.T) string {
	t.Helper()
	tok, err := tokenizer.NewBytes()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := tok.Save(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What is not used can have any type.
func TestUnusedFieldsDoNotMatter(t *testing.T) {
	for name, h := range map[string]*habits{
		"a fraction for a time": {answer: func(_, a object) any { a["created"] = 1.7e9 + 0.25; return a }},
		"a number for an id":    {answer: func(_, a object) any { a["id"], a["object"] = 17, object{}; return a }},
		"null everywhere":       {answer: func(_, a object) any { a["id"], a["created"], a["model"], a["usage"] = nil, nil, nil, nil; return a }},
		"usage of nulls":        {answer: func(_, a object) any { a["usage"] = object{"prompt_tokens": nil}; return a }},
		"usage as fractions":    {answer: func(_, a object) any { a["usage"] = object{"prompt_tokens": 4.0, "total_tokens": "x"}; return a }},
		"an index as a text":    {choice: func(_, c object) { c["index"] = []string{"0", "1"}[c["index"].(int)] }},
		"an object as reason":   {choice: func(_, c object) { c["finish_reason"] = object{"type": "stop", "matched": 258} }},
		"top log-probs as lists": {choice: func(_, c object) {
			if l, ok := c["logprobs"].(object); ok {
				l["top_logprobs"] = []any{[]any{object{"token": "a"}}}
			}
		}},
		"no index, so that one is asked for at a time": {choice: func(_, c object) { delete(c, "index") }},
		"a bare list of models":                        {models: func(l object) any { return l["data"] }},
		"a length as a text": {models: func(l object) any {
			l["data"].([]any)[0].(object)["max_model_len"] = "4096"
			return l
		}},
		"models of other types": {models: func(l object) any {
			l["data"].([]any)[0].(object)["created"], l["data"].([]any)[0].(object)["owned_by"] = 1.5, 3
			return l
		}},
	} {
		r, err := run(t, h.start(t)+"/v1")
		if err != nil || r.Err != nil || len(r.Responses) != 2 || !slices.Equal(r.Responses[1].Tokens, []int32{'s', 'i', 'x'}) ||
			r.Responses[1].Finish != models.FinishStop || r.Responses[1].LogP == nil {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
}

// A row's fault is the row's, at the first attempt and with the reason; a server's fault ends with the server's own sentence.
func TestReasonsAreKept(t *testing.T) {
	sampled := func(q object) bool { return q["max_tokens"] == 6.0 } // not a question of the probe
	logs := func(edit func(l object)) func(q, c object) {
		return func(q, c object) {
			if l, ok := c["logprobs"].(object); ok && sampled(q) {
				edit(l)
			}
		}
	}
	refused := func(v any) func(q, a object) any {
		return func(q, a object) any {
			if sampled(q) {
				return v
			}
			return a
		}
	}
	for name, c := range map[string]struct {
		h        *habits
		kind     Kind
		attempts int
		want     string
	}{
		"longer than asked": {&habits{choice: func(q, c object) {
			if sampled(q) {
				c["token_ids"] = make([]int, 100_000)
			}
		}}, KindMalformed, 1, "100000 tokens, and 6 were asked for"},
		"a floor": {&habits{choice: logs(func(l object) { l["token_logprobs"].([]float64)[1] = -9999 })}, KindMalformed, 1,
			"-9999 at token 1"},
		"the least number": {&habits{choice: logs(func(l object) { l["token_logprobs"].([]float64)[0] = -3e38 })}, KindMalformed, 1,
			"is no log-prob"},
		"log-probs as texts": {&habits{choice: logs(func(l object) { l["token_logprobs"] = []string{"-1", "-1", "-1"} })}, KindMalformed, 1,
			"logprobs is not what the protocol says"},
		"no index": {&habits{choice: func(q, c object) {
			if sampled(q) {
				delete(c, "index")
			}
		}}, KindMalformed, 1, "index is missing"},
		"equal index": {&habits{choice: func(q, c object) {
			if sampled(q) {
				c["index"] = 0
			}
		}}, KindMalformed, 1, "index 0 of 2 appears twice"},
		"an error as an answer": {&habits{answer: refused(object{"error": object{"message": "Provider is on fire", "code": 502}})}, KindServer, 3,
			"Provider is on fire"},
		"an error without choices": {&habits{answer: refused(object{"choices": nil, "error": "no GPU"})}, KindServer, 3, "no GPU"},
		"a refusal as an answer": {&habits{answer: refused(object{"error": object{"message": "too long a prompt", "code": 400}})},
			KindRejected, 1, "too long a prompt"},
		"out of credit as an answer": {&habits{answer: refused(object{"error": object{"message": "Insufficient credits", "code": 402}})},
			KindQuota, 1, "Insufficient credits"},
	} {
		t.Run(name, func(t *testing.T) {
			url := c.h.start(t)
			m, err := Open(t.Context(), url+"/v1", fast())
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			before := c.h.asked.Load()
			results, err := m.Generate(t.Context(), []models.GenerateRequest{{Prompt: []int32{4}, Samples: 2,
				Sampling: models.Sampling{MaxNewTokens: 6}}})
			got := err
			if err == nil {
				got = results[0].Err
			}
			var e *Error
			attempts := c.h.asked.Load() - before
			if !errors.As(got, &e) || e.Kind != c.kind || !strings.Contains(e.Error(), c.want) || attempts != int64(c.attempts) {
				t.Errorf("%v after %d attempts, want %s with %q after %d", got, attempts, c.kind, c.want, c.attempts)
			}
		})
	}
}

// Forms in which servers say what is wrong.
func TestComplaints(t *testing.T) {
	t.Setenv("MILLRACE_API_KEY", "sk-secret-1")
	t.Setenv("OPENAI_API_KEY", "sk-secret-2")
	for _, c := range []struct {
		status     int
		body, want string
		kind       Kind
	}{
		{400, `{"error": {"message": "bad prompt"}}`, "bad prompt", KindRejected},
		{422, `{"error": "inputs too long", "error_type": "validation"}`, "inputs too long", KindRejected},
		{400, `{"object": "error", "message": "at most 10 tokens", "code": 400}`, "at most 10 tokens", KindRejected},
		{422, `{"detail": [{"loc": ["body", "top_k"], "msg": "not permitted"}]}`, "body top_k: not permitted", KindRejected},
		{500, `CUDA out of memory`, "CUDA out of memory", KindServer},
		{502, `<html>Bad Gateway</html>`, "Bad Gateway", KindServer},
		{402, `{"error": {"message": "Insufficient credits", "code": 402}}`, "Insufficient credits", KindQuota},
		{429, `{"error": {"message": "over quota", "type": "insufficient_quota", "code": "insufficient_quota"}}`, "over quota", KindQuota},
		{429, `{"error": {"message": "over quota", "type": "insufficient_quota"}}`, "over quota", KindQuota},
		{429, `{"error": {"message": "slow down", "type": "rate_limit"}}`, "slow down", KindServer},
		{400, `{"error": {"message": "your key sk-secret-1 or sk-secret-2"}}`, "your key (key) or (key)", KindRejected},
		{400, `{"error": {"message": "a\u001b]0;owned\u0007\nb\u202ec"}}`, `a\x1b]0;owned\a\nb\u202ec`, KindRejected},
	} {
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		}))
		_, err := Probe(t.Context(), h.URL+"/v1", fast())
		h.Close()
		var e *Error
		if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") ||
			strings.ContainsAny(err.Error(), "\x1b\x07\n\u202e") || e.Kind == KindQuota && !e.everyRequest() {
			t.Errorf("%d %s: %v, want %s and %q", c.status, c.body, err, c.kind, c.want)
		}
	}
	// Whatever a server names itself, a table of it does nothing to a terminal and holds no key.
	h := &habits{models: func(object) any { return object{"data": []any{object{"id": "m\x1b[2J sk-secret-1"}}} }}
	caps, err := Probe(t.Context(), h.start(t)+"/v1", fast())
	if text := caps.String(); err != nil || strings.Contains(text, "\x1b") || strings.Contains(text, "secret") || !strings.Contains(text, `m\x1b[2J (key)`) {
		t.Errorf("%v %q", err, text)
	}
}

// A server that stays away says with what, and one whose quota is used up is not asked again.
func TestEndsWithTheServersSentence(t *testing.T) {
	var down, quota atomic.Bool
	h := &habits{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case quota.Load():
			h.asked.Add(1)
			w.WriteHeader(429)
			_, _ = w.Write([]byte(`{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}`))
		case down.Load():
			w.WriteHeader(503)
			_, _ = w.Write([]byte(`{"error": {"message": "Loading model"}}`))
		default:
			h.ServeHTTP(w, r)
		}
	}))
	defer s.Close()
	o := fast()
	o.BreakAfter = 4
	m, err := Open(t.Context(), s.URL+"/v1", o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	down.Store(true)
	_, err = m.Generate(t.Context(), requests(8))
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindUnavailable || !strings.Contains(err.Error(), "Loading model") {
		t.Errorf("%v", err)
	}
	m.breaker.leave(false, nil)
	quota.Store(true)
	before := h.asked.Load()
	_, err = m.Generate(t.Context(), requests(1))
	if !errors.As(err, &e) || e.Kind != KindQuota || !strings.Contains(err.Error(), "current quota") || h.asked.Load() != before+1 {
		t.Errorf("%v after %d attempts", err, h.asked.Load()-before)
	}
	if _, err := Probe(t.Context(), s.URL+"/v1?model=m", o); !errors.As(err, &e) || e.Kind != KindQuota {
		t.Errorf("a probe: %v", err)
	}
}

// Finish reasons of other servers.
func TestFinishReasons(t *testing.T) {
	for name, want := range map[string]models.FinishReason{"stop": models.FinishStop, "STOP": models.FinishStop,
		"eos_token": models.FinishStop,
		"eos":       models.FinishStop, "end_turn": models.FinishStop, "length": models.FinishLength, "model_length": models.FinishLength,
		"MAX_TOKENS": models.FinishLength, "tool_calls": models.FinishUnknown, "load": models.FinishUnknown} {
		if got, ended := finishOf(&name); got != want || !ended {
			t.Errorf("%s: %v %v", name, got, ended)
		}
	}
	for _, name := range []string{"abort", "content_filter", "error"} {
		if _, ended := finishOf(&name); ended {
			t.Errorf("%s is an ending", name)
		}
	}
}

// A server that answers conversations only is found out as such, used with chat=1, and not used without.
func TestChatOnly(t *testing.T) {
	chatOnly := func() *habits {
		return &habits{refuses: func(path string, _ object) bool { return !strings.Contains(path, "chat") }}
	}
	url := chatOnly().start(t)
	caps, err := Probe(t.Context(), url+"/v1", fast())
	if err != nil || !caps.Chat || caps.Completions || !caps.AsChat || !caps.LogProbs || !caps.TokenIDsOut || !caps.Several ||
		!strings.Contains(caps.String(), "chat=1") {
		t.Errorf("%v\n%s", err, caps)
	}
	if missing := caps.Missing(Need{Generate: true}, true, false); len(missing) != 1 || !strings.Contains(missing[0], "chat=1") {
		t.Errorf("missing without chat=1: %q", missing)
	}
	if missing := caps.Missing(Need{Generate: true, LogProbs: true}, true, true); len(missing) != 0 {
		t.Errorf("missing with chat=1: %q", missing)
	}
	r, err := run(t, url+"/v1?chat=1&tokenizer="+bytesTokenizer(t))
	if err != nil || r.Err != nil || len(r.Responses) != 2 || len(r.Responses[0].Tokens) != 3 {
		t.Errorf("%+v %v", r, err)
	}

	// What is asked of conversations is found out of conversations: n works for completions only.
	h := &habits{answer: func(q, a object) any {
		if q["messages"] != nil {
			a["choices"] = a["choices"].([]any)[:1]
		}
		return a
	}}
	url = h.start(t)
	caps, err = Probe(t.Context(), url+"/v1?chat=1", fast())
	if err != nil || caps.Several || !caps.AsChat {
		t.Errorf("%v\n%s", err, caps)
	}
	r, err = run(t, url+"/v1?chat=1&tokenizer="+bytesTokenizer(t))
	if err != nil || r.Err != nil || len(r.Responses) != 2 || r.Responses[0].Err != nil || r.Responses[1].Err != nil {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := Probe(t.Context(), url+"/v1?chat=maybe", fast()); err == nil || !strings.Contains(err.Error(), "chat=1") {
		t.Errorf("%v", err)
	}
}

// Thinking that a server sets apart is not left out of a response without a word.
func TestReasoningApart(t *testing.T) {
	for name, edit := range map[string]func(message object){
		"reasoning":  func(m object) { m["reasoning_content"] = "let me think" },
		"no content": func(m object) { m["content"], m["reasoning_content"] = nil, "let me think" },
		"tools":      func(m object) { m["content"], m["tool_calls"] = nil, []any{object{"id": "c"}} },
		"an image":   func(m object) { m["content"] = []any{object{"type": "image_url"}} },
	} {
		h := &habits{choice: func(_, c object) {
			delete(c, "token_ids")
			if m, ok := c["message"].(object); ok {
				edit(m)
			}
		}}
		r, err := run(t, h.start(t)+"/v1?chat=1&tokenizer="+bytesTokenizer(t))
		var e *Error
		if err != nil || !errors.As(r.Err, &e) || e.Kind != KindUnsupported {
			t.Errorf("%s: %+v %v", name, r, err)
		}
	}
	h := &habits{choice: func(_, c object) {
		delete(c, "token_ids")
		if m, ok := c["message"].(object); ok {
			m["content"] = []any{object{"type": "text", "text": "six"}}
			m["refusal"], m["tool_calls"], m["anything"] = nil, []any{}, 3
		}
	}}
	if r, err := run(t, h.start(t)+"/v1?chat=1&tokenizer="+bytesTokenizer(t)); err != nil || r.Err != nil || len(r.Responses[0].Tokens) != 3 {
		t.Errorf("parts: %+v %v", r, err)
	}
}

// The server of a URL without a path has its endpoint at /v1.
func TestFindsTheEndpoint(t *testing.T) {
	url := (&habits{}).start(t)
	for _, path := range []string{url, url + "/", url + "/v1", url + "?model=m"} {
		caps, err := Probe(t.Context(), path, fast())
		if err != nil || caps.URL != url+"/v1" {
			t.Errorf("%s: %s %v", path, caps.URL, err)
		}
		digests := map[string]bool{}
		h, err := models.Acquire(t.Context(), models.Ref{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		digests[h.Ref.Digest] = true
		h.Release()
		if len(digests) != 1 {
			t.Errorf("%d digests", len(digests))
		}
	}
	if _, err := Probe(t.Context(), url+"/v2", fast()); err == nil {
		t.Error("a path that is given is not changed")
	}
	if _, err := Probe(t.Context(), "http://user:pa%ss@host/v1", fast()); err == nil || strings.Contains(err.Error(), "pa%ss") {
		t.Errorf("a password is told: %v", err)
	}
}

// sampler is a server with a distribution of its own, whose log-probs are raw or those that it samples from.
func sampler(followTemperature, followTopP, top bool) *habits {
	logits := []float64{2, 1.2, 0.7, 0, -1}
	h := &habits{}
	h.choice = func(q, c object) {
		temperature, topP := q["temperature"].(float64), 1.0
		if v, ok := q["top_p"].(float64); ok {
			topP = v
		}
		softmax := func(t, nucleus float64) []float64 {
			out, sum := make([]float64, len(logits)), 0.0
			for i, z := range logits {
				out[i] = math.Exp(z / t)
				sum += out[i]
			}
			mass := 0.0
			for i := range out {
				out[i] /= sum
				if mass += out[i]; mass-out[i] >= nucleus && i > 0 {
					mass, out[i] = mass-out[i], 0
				}
			}
			for i := range out {
				out[i] /= mass
			}
			return out
		}
		drawn := softmax(temperature, topP)
		u := math.Mod(q["seed"].(float64)*0.37+0.11, 1)
		token := 0
		for u > drawn[token] && token < len(drawn)-1 {
			u -= drawn[token]
			token++
		}
		for drawn[token] == 0 {
			token--
		}
		at, nucleus := 1.0, 1.0
		if followTemperature {
			at = temperature
		}
		if followTopP {
			nucleus = topP
		}
		told := softmax(at, nucleus)
		if l, ok := c["logprobs"].(object); ok && l["tokens"] != nil {
			l["tokens"], l["token_logprobs"] = []string{string(rune('a' + token))}, []float64{math.Log(told[token])}
			if top {
				most := object{}
				for i, p := range told {
					most[string(rune('a'+i))] = max(math.Log(p), -9999)
				}
				l["top_logprobs"] = []any{most}
			}
			c["token_ids"] = []int{token}
		}
	}
	return h
}

// Log-probs carry the definition that was measured, from those of the most probable tokens or of the sampled ones alone.
func TestDefinitionIsMeasured(t *testing.T) {
	sampling := models.Sampling{Temperature: 0.7, TopP: 0.9, TopK: 20}
	for _, top := range []bool{true, false} {
		for _, c := range []struct {
			temperature, topP bool
			wantT, wantP      float64
			wantK             int
		}{{false, false, 1, 1, 0}, {true, false, 0.7, 1, 0}, {false, true, 1, 0.9, 20}, {true, true, 0.7, 0.9, 20}} {
			caps, err := Probe(t.Context(), sampler(c.temperature, c.topP, top).start(t)+"/v1", fast())
			if err != nil {
				t.Fatal(err)
			}
			temperature, topP, topK := caps.LogPAt(sampling)
			if math.Abs(temperature-c.wantT) > 1e-6 || math.Abs(topP-c.wantP) > 1e-6 || topK != c.wantK ||
				caps.FollowTemperature != c.temperature || caps.FollowTopP != c.topP {
				t.Errorf("top %v, %+v: measured %v %v %v\n%s", top, c, temperature, topP, topK, caps)
			}
		}
	}
	// Where nothing can be measured nothing is claimed.
	h := &habits{choice: func(_, c object) {
		if l, ok := c["logprobs"].(object); ok {
			l["token_logprobs"] = []float64{-0.001, -0.001, -0.001}
		}
	}}
	caps, err := Probe(t.Context(), h.start(t)+"/v1", fast())
	if err != nil || !caps.FollowTemperature || !caps.FollowTopP || !strings.Contains(caps.String(), "could not be measured") {
		t.Errorf("%v\n%s", err, caps)
	}
	if temperature, topP, topK := caps.LogPAt(models.Sampling{Temperature: 1}); temperature != 1 || topP != 1 || topK != 0 {
		t.Errorf("plain sampling is at %v %v %v", temperature, topP, topK)
	}
}

// vLLM refuses several samples of which all would be the most probable: they are asked for one at a time.
func TestSeveralGreedySamples(t *testing.T) {
	h := &habits{refuses: func(_ string, q object) bool { return q["temperature"] == 0.0 && q["n"] != nil && q["n"] != 1.0 }}
	m, err := Open(t.Context(), h.start(t)+"/v1", fast())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	results, err := m.Generate(t.Context(), []models.GenerateRequest{{Prompt: []int32{4}, Samples: 3,
		Sampling: models.Sampling{MaxNewTokens: 6, Greedy: true}}})
	if err != nil || results[0].Err != nil || len(results[0].Responses) != 3 || results[0].Responses[2].Err != nil {
		t.Errorf("%v %+v", err, results)
	}
}

// An endpoint at an address where a cloud has its credentials is refused at once.
func TestForbiddenEndpoint(t *testing.T) {
	c := newClient("http://169.254.169.254:1/v1", Options{})
	start := time.Now()
	err := c.do(t.Context(), "/models", nil, func([]byte) *Error { return nil })
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindUnreachable || !strings.Contains(err.Error(), "link-local") || e.Attempts != 1 ||
		time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
