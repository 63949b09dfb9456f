package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/models"
	_ "github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/local/localtest"
	"github.com/millrace/millrace/models/openai"
	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/serve"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
)

// tiny is a small transformer with a scalar head, of a vocabulary of 37, and a tokenizer that fits it.
func tiny(t testing.TB) (*models.Handle, tokenizer.Tokenizer) {
	t.Helper()
	made, err := transformer.New(transformer.Config{ModelType: "qwen3", Vocab: 37, Hidden: 16, Intermediate: 24, Layers: 2, Heads: 4,
		KVHeads: 2, HeadDim: 8,
		MaxPositions: 128, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}, QKNorm: true}, 3, true)
	if err != nil {
		t.Fatal(err)
	}
	tokens := []string{"<pad>", "<eos>"}
	for _, c := range "abcdefghijklmnopqrstuvwxyz 0123456.é" {
		tokens = append(tokens, string(c))
	}
	tok, err := tokenizer.NewCharacters(tokens[:37], tokens[:2], "", "<pad>", []string{"<eos>"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := models.Acquire(context.Background(), localtest.Save(t, made, tok))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Release() })
	return m, tok
}

func start(t testing.TB, o serve.Options) (url string, m *models.Handle, tok tokenizer.Tokenizer) {
	t.Helper()
	m, tok = tiny(t)
	o.Name, o.Digest, o.Tokenizer = "tiny", m.Ref.Digest, tok
	s, err := serve.New(m, o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { h.Close(); s.Close() })
	return h.URL + "/v1", m, tok
}

func generateRequests() []models.GenerateRequest {
	var out []models.GenerateRequest
	for i := range 12 {
		r := models.GenerateRequest{Prompt: []int32{int32(i) + 2, 9, 4}, Seed: 77, FirstSample: i % 3, Samples: 1 + i%4,
			Sampling: models.Sampling{Temperature: 0.8 + float32(i)/10, MaxNewTokens: 6 + i, Stop: []int32{1, 5}, CandidateK: i % 4,
				CandidateMinP: 0.01}}
		r.PromptID[3] = byte(i)
		switch i {
		case 3:
			r.Sampling.Greedy = true
		case 4:
			r.Sampling.TopP, r.Sampling.TopK = 0.9, 7
		case 5:
			r.Sampling.MinNewTokens, r.Sampling.Stop = 4, nil
		case 6:
			r.Sampling.Stop, r.Sampling.StopStrings = nil, []string{"a", "e"}
		case 7:
			r.Sampling.MinNewTokens, r.Sampling.StopStrings = 3, []string{"a", "b", "c", "d", "o"}
		}
		out = append(out, r)
	}
	return out
}

func scoreRequests() []models.ScoreRequest {
	var out []models.ScoreRequest
	for i := range 8 {
		r := models.ScoreRequest{Sequence: models.Sequence{Prompt: []int32{3, int32(i)}, Response: []int32{4, 5, 6, int32(i) + 7}}}
		if i%2 == 1 {
			r.ListStart, r.ListIDs = []int32{0, 2, 2, 3, 5}, []int32{1, 36, -1, 0, 9}
		}
		r.TopK = 3 * (i % 3)
		r.Values, r.ValueAfter = i%4 == 2, i%8 == 2
		if i == 6 {
			r.TopK = 37 // everything: no mass is left, and its logarithm is minus infinity
		}
		out = append(out, r)
	}
	return out
}

// The model behind an endpoint and the model at hand are the same to the last bit, and so is its identity.
func TestRemoteIsLocalBitForBit(t *testing.T) {
	url, local, _ := start(t, serve.Options{})
	ctx := context.Background()
	far, err := models.Acquire(ctx, models.Ref{Path: url, Digest: local.Ref.Digest})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Release()
	want, err := local.Generate(ctx, generateRequests())
	if err != nil {
		t.Fatal(err)
	}
	got, err := far.Generate(ctx, generateRequests())
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if got[i].Err != nil || len(got[i].Responses) != len(want[i].Responses) {
			t.Fatalf("request %d: %v, %d responses", i, got[i].Err, len(got[i].Responses))
		}
		for j := range want[i].Responses {
			a, b := want[i].Responses[j], got[i].Responses[j]
			if a.Sample != b.Sample || a.Finish != b.Finish || !slices.Equal(a.Tokens, b.Tokens) || !slices.Equal(a.LogP, b.LogP) ||
				!slices.Equal(a.LogZ, b.LogZ) ||
				!slices.Equal(a.CandidateStart, b.CandidateStart) || !slices.Equal(a.CandidateIDs, b.CandidateIDs) ||
				!slices.Equal(a.CandidateLogP, b.CandidateLogP) {
				t.Errorf("request %d, sample %d:\n%+v, want\n%+v", i, j, b, a)
			}
		}
	}
	scores, err := local.Score(ctx, scoreRequests())
	if err != nil {
		t.Fatal(err)
	}
	farScores, err := far.Score(ctx, scoreRequests())
	if err != nil {
		t.Fatal(err)
	}
	for i := range scores {
		a, b := scores[i], farScores[i]
		if b.Err != nil || !slices.Equal(a.LogP, b.LogP) || !slices.Equal(a.LogZ, b.LogZ) || !slices.Equal(a.Entropy, b.Entropy) ||
			!slices.Equal(a.ListLogP, b.ListLogP) ||
			!slices.Equal(a.TopIDs, b.TopIDs) || !slices.Equal(a.TopLogP, b.TopLogP) || !slices.Equal(a.TopRestLogP, b.TopRestLogP) ||
			!slices.Equal(a.Values, b.Values) {
			t.Errorf("score %d:\n%+v, want\n%+v", i, b, a)
		}
	}
	if _, err := models.Acquire(ctx, models.Ref{Path: url, Digest: strings.Repeat("0", 64)}); err == nil {
		t.Error("a model with another digest is accepted")
	}
}

// The row's own faults come back as the row's.
func TestFaultsOfRowsStayTheirs(t *testing.T) {
	url, _, _ := start(t, serve.Options{})
	ctx := context.Background()
	m, err := remote.Open(ctx, url, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	q := generateRequests()[:3]
	q[1].Prompt = []int32{99}
	results, err := m.Generate(ctx, q)
	var e *remote.Error
	if err != nil || results[0].Err != nil || results[2].Err != nil || !errors.As(results[1].Err, &e) || e.Kind != remote.KindRejected {
		t.Errorf("%v %+v", err, results)
	}
	s := scoreRequests()[:3]
	s[1].Response = []int32{99}
	s[1].ListStart, s[1].ListIDs = nil, nil
	s[2].ListStart, s[2].ListIDs = []int32{0, 1, 1, 1, 1}, []int32{99}
	scores, err := m.Score(ctx, s)
	if err != nil || scores[0].Err != nil || scores[1].Err == nil || scores[2].Err == nil {
		t.Errorf("%v %+v", err, scores)
	}
}

func post(t *testing.T, url string, body any) (int, openai.Response, string) {
	t.Helper()
	text, ok := body.(string)
	if !ok {
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(raw)
	}
	resp, err := http.Post(url, "application/json", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	var r openai.Response
	_ = json.Unmarshal(b.Bytes(), &r)
	return resp.StatusCode, r, b.String()
}

// A client that knows nothing of this program gets text, log-probs and token ids in the forms it knows.
func TestStandardClients(t *testing.T) {
	url, local, tok := start(t, serve.Options{})
	ids, _ := tok.Encode("abc")
	code, r, raw := post(t, url+"/completions", map[string]any{"model": "tiny", "prompt": "abc", "max_tokens": 5, "temperature": 0,
		"logprobs": 2, "return_token_ids": true})
	if code != 200 || len(r.Choices) != 1 {
		t.Fatalf("%d %s", code, raw)
	}
	want, err := local.Generate(context.Background(), []models.GenerateRequest{{Prompt: ids, Samples: 1,
		Sampling: models.Sampling{Greedy: true, MaxNewTokens: 5, Stop: tok.EOS()}}})
	if err != nil {
		t.Fatal(err)
	}
	c, w := r.Choices[0], want[0].Responses[0]
	if !slices.Equal(c.TokenIDs, w.Tokens) || *c.Text != tokenizer.Text(tok, w.Tokens) || len(c.LogProbs.TokenLogProbs) != len(w.Tokens) ||
		*c.LogProbs.TokenLogProbs[0] != w.LogP[0] ||
		len(c.LogProbs.TopLogProbs[0]) != 2 || r.Usage.Prompt != 3 || r.Usage.Completion != len(w.Tokens) || c.Millrace != nil {
		t.Errorf("%s", raw)
	}

	// The prompt's log-probs, in both forms, are the scores.
	scores, err := local.Score(context.Background(), []models.ScoreRequest{{Sequence: models.Sequence{Prompt: ids[:1], Response: ids[1:]}}})
	if err != nil {
		t.Fatal(err)
	}
	_, r, raw = post(t, url+"/completions", map[string]any{"prompt": ids, "temperature": 0})
	if len(r.Choices) != 1 || r.Usage.Completion < 1 || r.Usage.Completion > 16 {
		t.Errorf("without max_tokens: %s", raw)
	}
	_, r, raw = post(t, url+"/completions", map[string]any{"prompt": ids, "max_tokens": 0, "echo": true, "logprobs": 1})
	if l := r.Choices[0].LogProbs; len(l.TokenLogProbs) != 3 || l.TokenLogProbs[0] != nil || *l.TokenLogProbs[2] != scores[0].LogP[1] ||
		*r.Choices[0].Text != "abc" {
		t.Errorf("echo: %s", raw)
	}
	_, r, raw = post(t, url+"/completions", map[string]any{"prompt": ids, "max_tokens": 1, "prompt_logprobs": 3})
	p := r.Choices[0].PromptLogProbs
	if len(p) != 3 || p[0] != nil || p[1][fmt.Sprint(ids[1])].LogProb != scores[0].LogP[0] || len(p[2]) < 3 {
		t.Errorf("prompt_logprobs: %s", raw)
	}

	// The same seed gives the same text, none gives another every time.
	text := func(seed any) string {
		body := map[string]any{"prompt": "abc", "max_tokens": 30}
		if seed != nil {
			body["seed"] = seed
		}
		_, r, _ := post(t, url+"/completions", body)
		return *r.Choices[0].Text
	}
	seeded, again := text(3), text(3)
	if one, other := text(nil), text(nil); seeded != again || one == other {
		t.Error("seeds do not decide the text")
	}

	// A stop text ends the response, and is not part of its text.
	full := text(3)
	if len(full) > 4 {
		stop := full[2:4]
		_, r, raw = post(t, url+"/completions", map[string]any{"prompt": "abc", "max_tokens": 30, "seed": 3, "stop": []string{stop},
			"return_token_ids": true, "logprobs": 1})
		c := r.Choices[0]
		if at := strings.Index(full, stop); *c.Text != full[:at] || *c.FinishReason != "stop" || len(c.TokenIDs) != at+2 ||
			len(c.LogProbs.TokenLogProbs) != at+2 {
			t.Errorf("stop at %q of %q: %s", stop, full, raw)
		}
	}
}

// A probe without the extension's announcement finds what the server can do by trying.
func TestProbeByTrying(t *testing.T) {
	url, _, _ := start(t, serve.Options{})
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/models") {
			_ = json.NewEncoder(w).Encode(openai.Models{Data: []openai.Model{{ID: "tiny"}}})
			return
		}
		resp, err := http.Post(url+strings.TrimPrefix(r.URL.Path, "/v1"), "application/json", r.Body)
		if err != nil {
			w.WriteHeader(502)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		var b bytes.Buffer
		_, _ = b.ReadFrom(resp.Body)
		_, _ = w.Write(b.Bytes())
	}))
	defer plain.Close()
	caps, err := remote.Probe(context.Background(), plain.URL+"/v1", remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := remote.Capabilities{URL: plain.URL + "/v1", Model: "tiny", Models: []string{"tiny"}, Completions: true, TokenIDsIn: true,
		TokenIDsOut: true, LogProbs: true,
		PromptLogProbs: remote.PromptLogProbs, Several: true, Seeded: true}
	caps.Notes = nil
	if !reflect.DeepEqual(caps, want) {
		t.Errorf("%+v, want %+v", caps, want)
	}
}

func TestRejectedRequests(t *testing.T) {
	url, _, _ := start(t, serve.Options{Limits: serve.Limits{MaxBody: 1 << 12, MaxN: 4, MaxTokens: 64}})
	ok := func(edit ...any) map[string]any {
		m := map[string]any{"prompt": []int{3}, "max_tokens": 2}
		for i := 0; i < len(edit); i += 2 {
			m[edit[i].(string)] = edit[i+1]
		}
		return m
	}
	for name, c := range map[string]struct {
		path string
		body any
		code int
		want string
	}{
		"good":               {"/completions", ok(), 200, "choices"},
		"not JSON":           {"/completions", "{", 400, "unexpected end"},
		"no prompt":          {"/completions", map[string]any{"max_tokens": 1}, 400, "prompt"},
		"odd prompt":         {"/completions", ok("prompt", map[string]any{"a": 1}), 400, "prompt"},
		"several prompts":    {"/completions", ok("prompt", []string{"a", "b"}), 400, "prompt"},
		"empty prompt":       {"/completions", ok("prompt", []int{}), 400, "prompt"},
		"outside the vocab":  {"/completions", ok("prompt", []int{37}), 400, "vocabulary"},
		"odd character":      {"/completions", ok("prompt", "X"), 400, "vocabulary"},
		"other model":        {"/completions", ok("model", "gpt"), 404, "tiny"},
		"streamed echo":      {"/completions", map[string]any{"prompt": "abc", "max_tokens": 3, "stream": true, "echo": true}, 400, "stream"},
		"streamed, too long": {"/completions", map[string]any{"prompt": "abc", "max_tokens": 1 << 20, "stream": true}, 400, "max_tokens"},
		"no tokens":          {"/completions", ok("max_tokens", 0), 400, "max_tokens"},
		"too many tokens":    {"/completions", ok("max_tokens", 65), 400, "max_tokens"},
		"too many samples":   {"/completions", ok("n", 5), 400, "n: "},
		"negative samples":   {"/completions", ok("n", -1), 400, "-1"},
		"temperature":        {"/completions", ok("temperature", -1), 400, "temperature"},
		"top_p":              {"/completions", ok("top_p", 2), 400, "top_p"},
		"logprobs":           {"/completions", ok("logprobs", 100), 400, "logprobs"},
		"logprobs, a text":   {"/completions", ok("logprobs", "x"), 400, "logprobs"},
		"prompt_logprobs":    {"/completions", ok("prompt_logprobs", 100), 400, "prompt_logprobs"},
		"score":              {"/completions", ok("millrace", map[string]any{"score": map[string]any{"response": 1}}), 400, "response"},
		"prompt id":          {"/completions", ok("millrace", map[string]any{"generate": map[string]any{"prompt_id": "zz"}}), 400, "prompt_id"},
		"too long":           {"/completions", ok("prompt", strings.Repeat("a", 1<<13)), 413, "longer"},
		"no template": {"/chat/completions", map[string]any{"messages": []any{map[string]any{"role": "user", "content": "a"}}}, 400,
			"template"},
		"no such path": {"/embeddings", ok(), 404, ""},
	} {
		code, _, raw := post(t, url+c.path, c.body)
		if name == "too many samples" {
			c.want = "5 is not from 1 to 4"
		}
		if code != c.code || !strings.Contains(raw, c.want) {
			t.Errorf("%s: %d %s, want %d and %q", name, code, raw, c.code, c.want)
		}
	}
}

func TestKeyAndShutdown(t *testing.T) {
	m, tok := tiny(t)
	s, err := serve.New(m, serve.Options{Name: "tiny", Tokenizer: tok, Key: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	url := "http://" + l.Addr().String() + "/v1"
	var e *remote.Error
	if _, err := remote.Open(context.Background(), url, remote.Options{}); !errors.As(err, &e) || e.Kind != remote.KindAuth {
		t.Errorf("without a key: %v", err)
	}
	t.Setenv("MILLRACE_API_KEY", "secret")
	far, err := remote.Open(context.Background(), url, remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !far.Capabilities().Millrace {
		t.Errorf("%s", far.Capabilities())
	}
	far.Close()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the server does not end")
	}
}

// Many clients at once get what one alone gets.
func TestManyClients(t *testing.T) {
	url, local, _ := start(t, serve.Options{})
	ctx := context.Background()
	want, err := local.Generate(ctx, generateRequests())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			far, err := remote.Open(ctx, url, remote.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer far.Close()
			got, err := far.Generate(ctx, generateRequests())
			if err != nil {
				t.Error(err)
				return
			}
			for i := range want {
				for j, r := range want[i].Responses {
					if !slices.Equal(r.Tokens, got[i].Responses[j].Tokens) || !slices.Equal(r.LogP, got[i].Responses[j].LogP) {
						t.Errorf("request %d, sample %d differs", i, j)
					}
				}
			}
		}()
	}
	wg.Wait()
}

func FuzzRequests(f *testing.F) {
	m, tok := tiny(f)
	s, err := serve.New(m, serve.Options{Name: "tiny", Tokenizer: tok, Limits: serve.Limits{MaxTokens: 4, MaxN: 3}})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	for _, body := range []string{
		`{"prompt":[3,4],"max_tokens":2,"n":2,"logprobs":3,"return_token_ids":true}`,
		`{"prompt":"abc","max_tokens":0,"echo":true,"logprobs":1,"prompt_logprobs":2}`,
		`{"prompt":[3,4,5],"millrace":{"score":{"response":2,"list_start":[0,1,2],"list_ids":[1,2],"top_k":2,"values":true}}}`,
		`{"prompt":[3],"max_tokens":3,"millrace":{"generate":{"seed":1,"prompt_id":"00000000000000000000000000000000",` +
			`"candidate_k":2}},"stop":["a"]}`,
		`{"messages":[{"role":"user","content":"a"}]}`,
	} {
		f.Add(body, false)
		f.Add(body, true)
	}
	f.Fuzz(func(t *testing.T, body string, chat bool) {
		path := "/v1/completions"
		if chat {
			path = "/v1/chat/completions"
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	})
}
