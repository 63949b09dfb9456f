package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/openai"
	"github.com/millrace/millrace/models/tokenizer"
)

// fake is a server in the manner of vLLM that can be told to fail. A fault sees the number of the attempt at a prompt, from
// 1 on, and reports whether it has answered.
type fake struct {
	*httptest.Server
	tokenIDs bool // takes and gives token ids
	several  bool // knows n

	mu       sync.Mutex
	fault    func(w http.ResponseWriter, q *openai.Request, attempt int) bool
	edit     func(q *openai.Request, a *openai.Response)
	attempts map[string]int
	answered int // completions answered in full
	last     openai.Request
	keys     map[string]bool
}

func newFake(t *testing.T) *fake {
	f := &fake{tokenIDs: true, several: true, attempts: map[string]int{}, keys: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		write(w, openai.Models{Data: []openai.Model{{ID: "m", MaxLen: 100}}})
	})
	mux.HandleFunc("POST /v1/completions", f.completions)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// An endpoint computes as its server does: it is not asked for another precision.
func TestPrecisionIsTheServers(t *testing.T) {
	url := newFake(t).URL + "/v1"
	if h, err := models.Acquire(t.Context(), models.Ref{Path: url}); err != nil {
		t.Error(err)
	} else {
		h.Release()
	}
	if _, err := models.Acquire(t.Context(), models.Ref{Path: url, Precision: kernels.BFloat16}); err == nil ||
		!strings.Contains(err.Error(), "precision of its server") {
		t.Errorf("an endpoint in bfloat16: %v", err)
	}
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (f *fake) completions(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var q openai.Request
	if err := json.Unmarshal(text, &q); err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	name, _ := json.Marshal(q.Prompt)
	f.mu.Lock()
	f.keys[r.Header.Get("Authorization")] = true
	f.attempts[string(name)]++
	attempt, fault, edit := f.attempts[string(name)], f.fault, f.edit
	f.mu.Unlock()
	if fault != nil && fault(w, &q, attempt) {
		return
	}
	if q.Prompt.IDs != nil && !f.tokenIDs {
		write2(w, 422, openai.ErrorBody{Error: openai.ErrorDetail{Message: "prompt: not a string"}})
		return
	}
	a := f.answer(&q)
	if edit != nil {
		edit(&q, a)
	}
	f.mu.Lock()
	f.answered++
	f.last = q
	f.mu.Unlock()
	write(w, a)
}

func write2(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// answer is deterministic: sample i of a prompt is three tokens made of its length, its seed and i.
func (f *fake) answer(q *openai.Request) *openai.Response {
	a := &openai.Response{Model: "m", Usage: &openai.Usage{Prompt: len(q.Prompt.IDs)}}
	n := max(q.N, 1)
	if !f.several {
		n = 1
	}
	for i := range n {
		seed := int64(0)
		if q.Seed != nil {
			seed = *q.Seed
		}
		ids := []int32{int32(len(q.Prompt.IDs)), int32(seed%50) + 10, int32(i)}
		text := "abc"
		stop := "stop"
		c := openai.Choice{Index: i, Text: &text, FinishReason: &stop}
		if f.tokenIDs && q.ReturnTokenIDs {
			c.TokenIDs = ids
		}
		if q.LogProbs != nil {
			c.LogProbs = &openai.LogProbs{Tokens: []string{"a", "b", "c"}}
			for j := range ids {
				p := -float32(j+1) / 3
				c.LogProbs.TokenLogProbs = append(c.LogProbs.TokenLogProbs, &p)
			}
		}
		if q.PromptLogProbs != nil {
			c.PromptLogProbs = make([]map[string]openai.TokenLog, len(q.Prompt.IDs))
			for j, id := range q.Prompt.IDs[1:] {
				c.PromptLogProbs[j+1] = map[string]openai.TokenLog{fmt.Sprint(id): {LogProb: -float32(id) / 7}, "999": {LogProb: -0.5}}
			}
		}
		a.Choices = append(a.Choices, c)
	}
	return a
}

// fast are options with which nothing takes long.
func fast() Options {
	return Options{Timeout: 300 * time.Millisecond, Attempts: 3, MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond,
		BreakAfter: 1000, Cooldown: 20 * time.Millisecond, MaxCooldown: 2}
}

func open(t *testing.T, f *fake, o Options, query string) *Model {
	t.Helper()
	m, err := Open(context.Background(), f.URL+"/v1"+query, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func requests(n int) []models.GenerateRequest {
	out := make([]models.GenerateRequest, n)
	for i := range out {
		out[i] = models.GenerateRequest{Prompt: make([]int32, i+1), Seed: 5, Samples: 2,
			Sampling: models.Sampling{MaxNewTokens: 16, Stop: []int32{2}}}
		out[i].PromptID[0] = byte(i)
	}
	return out
}

func (f *fake) inject(fault func(w http.ResponseWriter, q *openai.Request, attempt int) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.attempts = fault, map[string]int{}
}

func status(code int, header ...string) func(http.ResponseWriter, *openai.Request, int) bool {
	return func(w http.ResponseWriter, _ *openai.Request, _ int) bool {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		write2(w, code, openai.ErrorBody{Error: openai.ErrorDetail{Message: fmt.Sprintf("no (%d)", code)}})
		return true
	}
}

func edited(edit func(a *openai.Response)) func(f *fake) {
	return func(f *fake) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.edit, f.attempts = func(_ *openai.Request, a *openai.Response) { edit(a) }, map[string]int{}
	}
}

func injected(fault func(w http.ResponseWriter, q *openai.Request, attempt int) bool) func(f *fake) {
	return func(f *fake) { f.inject(fault) }
}

// hijack takes over the connection after the head of an answer of a hundred bytes.
func hijack(then func(w io.Writer)) func(http.ResponseWriter, *openai.Request, int) bool {
	return func(w http.ResponseWriter, _ *openai.Request, _ int) bool {
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return false
		}
		defer conn.Close()
		fmt.Fprint(buf, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n")
		buf.Flush()
		then(conn)
		return true
	}
}

// Every way of failing ends in a typed error, after as many attempts as make sense.
func TestFaults(t *testing.T) {
	zero, positive := float32(0), float32(0.5)
	logs := func(edit func(l *openai.LogProbs)) func(f *fake) {
		return edited(func(a *openai.Response) {
			for i := range a.Choices {
				edit(a.Choices[i].LogProbs)
			}
		})
	}
	cases := map[string]struct {
		arrange  func(f *fake)
		kind     Kind
		attempts int
		want     string
	}{
		"400":          {injected(status(400)), KindRejected, 1, "no (400)"},
		"401":          {injected(status(401)), KindAuth, 1, "MILLRACE_API_KEY"},
		"403":          {injected(status(403)), KindAuth, 1, "no (403)"},
		"404":          {injected(status(404)), KindNotFound, 1, "no (404)"},
		"413":          {injected(status(413)), KindRejected, 1, "no (413)"},
		"422":          {injected(status(422)), KindRejected, 1, "no (422)"},
		"429":          {injected(status(429)), KindServer, 3, "no (429)"},
		"429, seconds": {injected(status(429, "Retry-After", "1")), KindServer, 3, "no (429)"},
		"429, a date": {injected(status(429, "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))), KindServer, 3,
			"no (429)"},
		"500":                   {injected(status(500)), KindServer, 3, "no (500)"},
		"502":                   {injected(status(502)), KindServer, 3, "no (502)"},
		"503":                   {injected(status(503)), KindServer, 3, "no (503)"},
		"504":                   {injected(status(504)), KindServer, 3, "no (504)"},
		"redirect":              {injected(status(302, "Location", "http://example.invalid/")), KindNotFound, 1, "302"},
		"reset in the body":     {injected(hijack(func(w io.Writer) { fmt.Fprint(w, `{"choices"`) })), KindBroken, 3, "EOF"},
		"reset before the body": {injected(reset), KindBroken, 3, "EOF"},
		"never answers": {injected(func(_ http.ResponseWriter, _ *openai.Request, _ int) bool {
			time.Sleep(400 * time.Millisecond)
			return true
		}), KindTimeout, 3, "300ms"},
		"one byte at a time":    {injected(hijack(drip)), KindTimeout, 3, "300ms"},
		"HTML":                  {injected(page("<html><body>Welcome</body></html>")), KindMalformed, 3, "<html>"},
		"truncated JSON":        {injected(page(`{"model":"m","choices":[{"index":0,`)), KindMalformed, 3, "unexpected end"},
		"empty answer":          {injected(page("")), KindMalformed, 3, "unexpected end"},
		"null":                  {injected(page("null")), KindMalformed, 3, "no choices"},
		"another shape":         {injected(page(`{"choices":{"a":1}}`)), KindMalformed, 3, "protocol"},
		"binary":                {injected(page("\xff\xfe\x00")), KindMalformed, 3, "(binary)"},
		"no choices":            {edited(func(a *openai.Response) { a.Choices = nil }), KindMalformed, 3, "no choices"},
		"an index twice":        {edited(func(a *openai.Response) { a.Choices[1].Index = 0 }), KindMalformed, 1, "index 0"},
		"an index out of range": {edited(func(a *openai.Response) { a.Choices[1].Index = 7 }), KindMalformed, 1, "index 7"},
		"no token ids":          {edited(func(a *openai.Response) { a.Choices[0].TokenIDs = nil }), KindMalformed, 1, "no token ids"},
		"empty token ids": {edited(func(a *openai.Response) { a.Choices[0].TokenIDs, a.Choices[0].LogProbs.TokenLogProbs = nil, nil }),
			KindMalformed, 1, "no token ids"},
		"a negative id":     {edited(func(a *openai.Response) { a.Choices[0].TokenIDs[1] = -5 }), KindMalformed, 1, "-5"},
		"log-probs missing": {edited(func(a *openai.Response) { a.Choices[0].LogProbs = nil }), KindMalformed, 1, "no log-probs"},
		"log-probs short": {logs(func(l *openai.LogProbs) { l.TokenLogProbs = l.TokenLogProbs[:2] }), KindMalformed, 1,
			"2 log-probs for 3 tokens"},
		"a log-prob missing":  {logs(func(l *openai.LogProbs) { l.TokenLogProbs[1] = nil }), KindMalformed, 1, "token 1 has no log-prob"},
		"a log-prob positive": {logs(func(l *openai.LogProbs) { l.TokenLogProbs[1] = &positive }), KindMalformed, 1, "0.5"},
		"log-probs zero":      {edited(func(a *openai.Response) { longZeros(a, &zero) }), KindMalformed, 1, "all 9 log-probs are zero"},
		"the server gives up": {edited(func(a *openai.Response) { abort := "content_filter"; a.Choices[0].FinishReason = &abort }), "", 1,
			""},
		"fewer than n":            {edited(func(a *openai.Response) { a.Choices = a.Choices[1:] }), "", 1, ""},
		"finish_reason null":      {edited(func(a *openai.Response) { a.Choices[0].FinishReason = nil }), "", 1, ""},
		"finish_reason unknown":   {edited(func(a *openai.Response) { odd := "bored"; a.Choices[0].FinishReason = &odd }), "", 1, ""},
		"too long an answer":      {injected(page(`{"choices":[` + strings.Repeat(" ", 1<<17) + `]}`)), KindMalformed, 1, "longer than"},
		"fails once":              {injected(once(status(503))), "", 2, ""},
		"resets once":             {injected(once(hijack(func(io.Writer) {}))), "", 2, ""},
		"one HTML page in 3":      {injected(once(page("<html>"))), "", 2, ""},
		"a long wait is cut":      {injected(once(status(503, "Retry-After", "86400"))), "", 2, ""},
		"the model's name is new": {edited(func(a *openai.Response) { a.Model = "other" }), "", 1, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			o := fast()
			o.MaxBody = 1 << 16
			m := open(t, f, o, "")
			c.arrange(f)
			results, err := m.Generate(context.Background(), requests(1))
			got := err
			if err == nil {
				got = results[0].Err
			}
			f.mu.Lock()
			attempts := 0
			for _, n := range f.attempts {
				attempts += n
			}
			f.mu.Unlock()
			if attempts != c.attempts {
				t.Errorf("%d attempts, want %d", attempts, c.attempts)
			}
			if c.kind == "" {
				if got != nil {
					t.Errorf("%v, want responses", got)
				}
				return
			}
			var e *Error
			if !errors.As(got, &e) || e.Kind != c.kind || !strings.Contains(e.Error(), c.want) || e.Attempts != c.attempts {
				t.Errorf("%v, want kind %s and %q", got, c.kind, c.want)
			}
			if everyone := e != nil && e.everyRequest(); everyone != (err != nil) {
				t.Errorf("error of the call %v, of the request %v", err, results)
			}
		})
	}
}

func reset(w http.ResponseWriter, _ *openai.Request, _ int) bool {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
	return true
}

func drip(w io.Writer) {
	for range 100 {
		if _, err := fmt.Fprint(w, " "); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func page(text string) func(http.ResponseWriter, *openai.Request, int) bool {
	return func(w http.ResponseWriter, _ *openai.Request, _ int) bool {
		fmt.Fprint(w, text)
		return true
	}
}

func once(fault func(http.ResponseWriter, *openai.Request, int) bool) func(http.ResponseWriter, *openai.Request, int) bool {
	return func(w http.ResponseWriter, q *openai.Request, attempt int) bool {
		return attempt == 1 && fault(w, q, attempt)
	}
}

func longZeros(a *openai.Response, zero *float32) {
	for i := range a.Choices {
		a.Choices[i].TokenIDs = make([]int32, 9)
		a.Choices[i].LogProbs.TokenLogProbs = slices.Repeat([]*float32{zero}, 9)
	}
}

func TestPartialAnswersKeepWhatCame(t *testing.T) {
	f := newFake(t)
	m := open(t, f, fast(), "")
	abort := "content_filter"
	edited(func(a *openai.Response) {
		a.Choices = a.Choices[1:]
		a.Choices[0].FinishReason = nil
	})(f)
	results, err := m.Generate(context.Background(), requests(1))
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results[0].Err)
	}
	r := results[0].Responses
	if len(r) != 2 || r[0].Finish != models.FinishError || !strings.Contains(fmt.Sprint(r[0].Err), "2 samples were asked for, 1 came") {
		t.Errorf("missing sample: %+v", r)
	}
	if r[1].Finish != models.FinishUnknown || r[1].Sample != 1 || len(r[1].Tokens) != 3 || len(r[1].LogP) != 3 {
		t.Errorf("sample that came: %+v", r[1])
	}
	edited(func(a *openai.Response) { a.Choices[0].FinishReason = &abort })(f)
	results, err = m.Generate(context.Background(), requests(1))
	if err != nil || results[0].Responses[0].Finish != models.FinishError || results[0].Responses[1].Finish != models.FinishStop {
		t.Errorf("filtered sample: %v %+v", err, results)
	}
}

func TestTheModelMustNotChange(t *testing.T) {
	f := newFake(t)
	m := open(t, f, fast(), "")
	if _, err := m.Generate(context.Background(), requests(1)); err != nil {
		t.Fatal(err)
	}
	edited(func(a *openai.Response) { a.Model = "other" })(f)
	_, err := m.Generate(context.Background(), requests(1))
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindModelChanged {
		t.Errorf("%v, want %s", err, KindModelChanged)
	}
}

func TestResultsAreInOrderAndOthersSurviveAFault(t *testing.T) {
	f := newFake(t)
	m := open(t, f, fast(), "")
	f.inject(func(w http.ResponseWriter, q *openai.Request, attempt int) bool {
		return len(q.Prompt.IDs)%5 == 0 && status(500)(w, q, attempt)
	})
	results, err := m.Generate(context.Background(), requests(30))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if (i+1)%5 == 0 {
			if r.Err == nil {
				t.Errorf("request %d: no error", i)
			}
			continue
		}
		if r.Err != nil || len(r.Responses) != 2 || r.Responses[1].Tokens[0] != int32(i+1) || r.Responses[1].Tokens[2] != 1 {
			t.Errorf("request %d: %+v", i, r)
		}
	}
}

// What was answered once is not asked for again, by another process either; what failed is.
func TestAReplayDoesNotSampleAgain(t *testing.T) {
	f := newFake(t)
	o := fast()
	o.CacheDir = t.TempDir()
	first := open(t, f, o, "")
	f.inject(func(w http.ResponseWriter, q *openai.Request, attempt int) bool {
		return len(q.Prompt.IDs) == 3 && status(500)(w, q, attempt)
	})
	a, err := first.Generate(context.Background(), requests(6))
	if err != nil || a[2].Err == nil {
		t.Fatal(err, a[2].Err)
	}
	second := open(t, f, o, "")
	f.inject(nil)
	b, err := second.Generate(context.Background(), requests(6))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.attempts) != 1 || f.attempts["[0,0,0]"] != 1 {
		t.Errorf("asked again: %v", f.attempts)
	}
	for i := range a {
		if i != 2 && !slices.Equal(a[i].Responses[0].Tokens, b[i].Responses[0].Tokens) {
			t.Errorf("request %d: another answer", i)
		}
	}
	// A kept answer that was damaged is asked for again.
	damaged := 0
	err = filepath.WalkDir(o.CacheDir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			damaged++
			return os.WriteFile(path, []byte(`{"choices":[]}`), 0o644)
		}
		return err
	})
	if err != nil || damaged != 6 {
		t.Fatal(err, damaged)
	}
	f.inject(nil)
	if c, err := second.Generate(context.Background(), requests(6)); err != nil || len(f.attempts) != 6 || c[0].Err != nil {
		t.Errorf("%v, %d asked", err, len(f.attempts))
	}
	// A server that says it serves other weights by now is asked again.
	f.inject(nil)
	second.caps.Weights = "digest+bfloat16"
	if _, err := second.Generate(context.Background(), requests(2)); err != nil || len(f.attempts) != 2 {
		t.Errorf("%v, %d asked", err, len(f.attempts))
	}
	second.caps.Weights = ""
	// Another seed is another request.
	f.inject(nil)
	other := requests(1)
	other[0].Seed++
	if _, err := second.Generate(context.Background(), other); err != nil || len(f.attempts) != 1 {
		t.Errorf("%v, %d asked", err, len(f.attempts))
	}
}

func TestTheCircuitOpensAndCloses(t *testing.T) {
	f := newFake(t)
	o := fast()
	o.BreakAfter, o.Attempts, o.MaxCooldown, o.Cooldown, o.Concurrency = 4, 100, 1000, 5*time.Millisecond, 4
	m := open(t, f, o, "")
	var down atomic.Bool
	var asked atomic.Int64
	down.Store(true)
	f.inject(func(w http.ResponseWriter, q *openai.Request, attempt int) bool {
		if !down.Load() {
			return false
		}
		if asked.Add(1) == 12 {
			down.Store(false) // the endpoint comes back
		}
		return status(503)(w, q, attempt)
	})
	results, err := m.Generate(context.Background(), requests(20))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Err != nil {
			t.Errorf("request %d: %v", i, r.Err)
		}
	}
	// One that stays away ends every request with one error.
	o.MaxCooldown = 2
	m = open(t, f, o, "")
	f.inject(status(503))
	_, err = m.Generate(context.Background(), requests(20))
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindUnavailable {
		t.Errorf("%v, want %s", err, KindUnavailable)
	}
	total := 0
	for _, n := range f.attempts {
		total += n
	}
	if total > 4+o.Concurrency+o.MaxCooldown {
		t.Errorf("%d attempts at an endpoint that is down", total)
	}
}

// An open circuit lets one attempt through every cooldown, and counts those that fail.
func TestBreakerCoolsDownAfterEveryAttempt(t *testing.T) {
	b := breaker{threshold: 2, limit: 2, cooldown: time.Hour}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // whoever has to wait gives up at once
	for range 2 {
		if probe, err := b.enter(ctx); probe || err != nil {
			t.Fatal(probe, err)
		}
		b.leave(false, &Error{retry: true})
	}
	for range 2 {
		if _, err := b.enter(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("an attempt during the cooldown: %v", err)
		}
		b.until = time.Now().Add(-time.Second)
		if probe, err := b.enter(ctx); !probe || err != nil {
			t.Fatal(probe, err)
		}
		if _, err := b.enter(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("a second attempt beside the first: %v", err)
		}
		b.leave(true, &Error{retry: true})
	}
	var e *Error
	if _, err := b.enter(ctx); !errors.As(err, &e) || e.Kind != KindUnavailable {
		t.Fatalf("%v, want %s", err, KindUnavailable)
	}
	b.until = time.Now().Add(-time.Second) // later there is another chance
	if probe, err := b.enter(ctx); !probe || err != nil {
		t.Fatal(probe, err)
	}
	b.leave(true, nil)
	if probe, err := b.enter(ctx); probe || err != nil {
		t.Fatal(probe, err)
	}
}

func TestUnreachableAndCancelled(t *testing.T) {
	f := newFake(t)
	m := open(t, f, fast(), "")
	ctx, cancel := context.WithCancel(context.Background())
	f.inject(func(_ http.ResponseWriter, _ *openai.Request, _ int) bool {
		cancel()
		time.Sleep(50 * time.Millisecond)
		return false
	})
	if _, err := m.Generate(ctx, requests(5)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	f.Close()
	_, err := m.Generate(context.Background(), requests(1))
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindUnreachable || e.Attempts != 3 {
		t.Errorf("closed server: %v", err)
	}
	if _, err := Open(context.Background(), f.URL+"/v1", fast()); !errors.As(err, &e) || e.Kind != KindUnreachable {
		t.Errorf("opened without a server: %v", err)
	}
}

func TestKeysComeFromTheEnvironmentAndGoNowhereElse(t *testing.T) {
	const key = "sk-very-secret"
	t.Setenv("MILLRACE_API_KEY", key)
	f := newFake(t)
	o := fast()
	o.CacheDir = t.TempDir()
	m := open(t, f, o, "")
	if _, err := m.Generate(context.Background(), requests(1)); err != nil {
		t.Fatal(err)
	}
	if !f.keys["Bearer "+key] || len(f.keys) != 1 {
		t.Errorf("keys that arrived: %v", f.keys)
	}
	f.inject(func(w http.ResponseWriter, _ *openai.Request, _ int) bool {
		write2(w, 401, openai.ErrorBody{Error: openai.ErrorDetail{Message: "Incorrect API key provided: " + key}})
		return true
	})
	other := requests(1)
	other[0].Seed = 99
	_, err := m.Generate(context.Background(), other)
	if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), key) {
		t.Errorf("the key is in the error: %v", err)
	}
	text, _ := json.Marshal(m.Capabilities())
	if strings.Contains(string(text), key) || strings.Contains(m.Capabilities().String(), key) {
		t.Error("the key is in the report")
	}
	_ = filepath.WalkDir(o.CacheDir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if text, _ := os.ReadFile(path); strings.Contains(string(text), key) {
				t.Errorf("the key is in %s", path)
			}
		}
		return nil
	})
	if _, err := Open(context.Background(), "http://user:"+key+"@localhost:1/v1", o); err == nil || strings.Contains(err.Error(), key) {
		t.Errorf("a key in the URL: %v", err)
	}
}

func TestScores(t *testing.T) {
	f := newFake(t)
	m := open(t, f, fast(), "")
	if m.Capabilities().PromptLogProbs != PromptLogProbs {
		t.Fatalf("%+v", m.Capabilities())
	}
	q := models.ScoreRequest{Sequence: models.Sequence{Prompt: []int32{1, 2}, Response: []int32{7, 14, 21}}, ListStart: []int32{0, 2, 2, 3},
		ListIDs: []int32{7, 999, -1}}
	bad := q
	bad.ListIDs = []int32{7, 3, -1}
	values := models.ScoreRequest{Sequence: q.Sequence, Values: true}
	results, err := m.Score(context.Background(), []models.ScoreRequest{q, bad, values, {}})
	if err != nil {
		t.Fatal(err)
	}
	if r := results[0]; r.Err != nil || !slices.Equal(r.LogP, []float32{-1, -2, -3}) || !slices.Equal(r.ListLogP, []float32{-1, -0.5, 0}) {
		t.Errorf("%+v", r)
	}
	for i, kind := range []Kind{KindUnsupported, KindUnsupported, KindRejected} {
		var e *Error
		if !errors.As(results[i+1].Err, &e) || e.Kind != kind {
			t.Errorf("request %d: %v, want %s", i+1, results[i+1].Err, kind)
		}
	}
	edited(func(a *openai.Response) { a.Choices[0].PromptLogProbs = a.Choices[0].PromptLogProbs[:3] })(f)
	results, err = m.Score(context.Background(), []models.ScoreRequest{q})
	var e *Error
	if err != nil || !errors.As(results[0].Err, &e) || e.Kind != KindMalformed {
		t.Errorf("short prompt log-probs: %v %v", err, results[0].Err)
	}
}

// A server that speaks text only, one sample at a time, is used through the model's tokenizer.
func TestTextOnlyServer(t *testing.T) {
	f := newFake(t)
	f.tokenIDs, f.several = false, false
	caps, err := Probe(context.Background(), f.URL+"/v1", fast())
	if err != nil {
		t.Fatal(err)
	}
	if caps.TokenIDsIn || caps.TokenIDsOut || caps.Several || caps.PromptLogProbs != "" || !caps.Completions || !caps.LogProbs || caps.Chat {
		t.Errorf("%s", caps)
	}
	everything := Need{Generate: true, LogProbs: true, Score: true, Candidates: true, AnyToken: true}
	if missing := caps.Missing(everything, false, false); len(missing) != 5 {
		t.Errorf("missing %q", missing)
	}
	if missing := caps.Missing(Need{Generate: true}, true, false); len(missing) != 0 {
		t.Errorf("missing %q", missing)
	}
	if missing := caps.Missing(Need{Generate: true, LogProbs: true}, true, false); len(missing) != 1 ||
		!strings.Contains(missing[0], "no token ids") ||
		!strings.Contains(caps.String(), "log-probs come without token ids") {
		t.Errorf("missing %q of\n%s", missing, caps)
	}
	m := open(t, f, fast(), "")
	results, err := m.Generate(context.Background(), requests(1))
	var e *Error
	if err != nil || !errors.As(results[0].Err, &e) || e.Kind != KindUnsupported || !strings.Contains(e.Problem, "tokenizer") {
		t.Errorf("without a tokenizer: %v %v", err, results[0].Err)
	}
	dir := t.TempDir()
	tok, err := tokenizer.NewBytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.Save(dir); err != nil {
		t.Fatal(err)
	}
	m = open(t, f, fast(), "?tokenizer="+dir)
	q := requests(1)
	q[0].Prompt = []int32{'h', 'i'}
	q[0].Sampling.Stop = tok.EOS()
	results, err = m.Generate(context.Background(), q)
	if err != nil || results[0].Err != nil || len(results[0].Responses) != 2 {
		t.Fatal(err, results)
	}
	if got := results[0].Responses[1]; !slices.Equal(got.Tokens, []int32{'a', 'b', 'c', tok.EOS()[0]}) || got.Sample != 1 {
		t.Errorf("%+v", got)
	}
	// A server that speaks text leaves the stop text out, and does not say whether it or the end token ended the response.
	q[0].Sampling.StopStrings = []string{"Q:"}
	results, err = m.Generate(context.Background(), q)
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results)
	}
	if got := results[0].Responses[0]; !slices.Equal(got.Tokens, []int32{'a', 'b', 'c'}) || got.Finish != models.FinishStop {
		t.Errorf("%+v", got)
	}
	if got := f.last.Stop; !slices.Equal(got, []string{"Q:"}) {
		t.Errorf("the server is sent the stops %q", got)
	}
}

func TestBadURLs(t *testing.T) {
	for _, path := range []string{"http://", "http://h/v1?modle=x", "http://u:p@h/v1", "http://h:port/v1"} {
		if _, err := Open(context.Background(), path, fast()); err == nil {
			t.Errorf("%s is accepted", path)
		}
	}
	f := newFake(t)
	_, err := Open(context.Background(), f.URL+"/v1?model=other", fast())
	if err == nil || !strings.Contains(err.Error(), `"m"`) {
		t.Errorf("a model that is not there: %v", err)
	}
	if _, err := Open(context.Background(), f.URL+"/wrong", fast()); err == nil {
		t.Error("a wrong path is accepted")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "x": 0, "99999999999999": 0,
		"Fri, 02 Jan 2026 03:04:35 GMT":  30 * time.Second,
		"Friday, 02-Jan-26 03:04:35 GMT": 30 * time.Second,
		"Fri, 02 Jan 2026 03:00:00 GMT":  0,
	} {
		if got := parseRetryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	c := newClient("http://h", Options{MinBackoff: time.Second, MaxBackoff: 10 * time.Second})
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 5: 10 * time.Second,
		60: 10 * time.Second} {
		for range 50 {
			if got := c.backoff(attempt, 0); got < want/2 || got > want {
				t.Errorf("attempt %d waits %v, want %v to %v", attempt, got, want/2, want)
			}
		}
	}
	if got := c.backoff(1, 5*time.Second); got != 5*time.Second {
		t.Errorf("asked for 5s, waits %v", got)
	}
	if got := c.backoff(1, time.Hour); got != 10*time.Second {
		t.Errorf("asked for an hour, waits %v", got)
	}
}

func FuzzAnswers(f *testing.F) {
	text := "abc"
	stop := "stop"
	p := float32(-1)
	for _, a := range []openai.Response{
		{},
		{Choices: []openai.Choice{{Text: &text, FinishReason: &stop, TokenIDs: []int32{1},
			LogProbs: &openai.LogProbs{TokenLogProbs: []*float32{&p}}}}},
		{Choices: []openai.Choice{{TokenIDs: []int32{1}, Millrace: &openai.Detail{LogP: openai.Floats{-1}, CandidateStart: []int32{0, 1},
			CandidateIDs: []int32{1}, CandidateLogP: openai.Floats{-1}}}}},
	} {
		raw, _ := json.Marshal(a)
		f.Add(raw)
	}
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, millrace := range []bool{false, true} {
			m := &Model{client: &client{}, caps: Capabilities{TokenIDsOut: true, LogProbs: true, Millrace: millrace, PromptLogProbs: PromptLogProbs}}
			answer, e := decode(raw)
			if e != nil {
				return
			}
			if responses, e := m.responses(&models.GenerateRequest{Samples: 2}, answer); e == nil {
				for _, r := range responses {
					if r.Finish != models.FinishError && (len(r.Tokens) == 0 || len(r.LogP) != len(r.Tokens)) {
						t.Errorf("%d tokens with %d log-probs", len(r.Tokens), len(r.LogP))
					}
				}
			}
			q := models.ScoreRequest{Sequence: models.Sequence{Prompt: []int32{1}, Response: []int32{2}}}
			if r, e := m.scored(&q, answer.Choices[0]); e == nil && (len(r.LogP) != 1 || math.IsNaN(float64(r.LogP[0]))) {
				t.Errorf("%+v", r)
			}
		}
	})
}
