package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/openai"
	"github.com/millrace/millrace/models/serve"
	"github.com/millrace/millrace/models/tokenizer"
)

// streamed posts a request and returns the chunks of its answer.
func streamed(t *testing.T, url string, body map[string]any) []openai.Response {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %d, type %q", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	var chunks []openai.Response
	lines := bufio.NewScanner(resp.Body)
	for done := false; lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case lines.Text() == "":
		case !ok || done:
			t.Fatalf("line %q, after the end: %v", lines.Text(), done)
		case data == "[DONE]":
			done = true
		default:
			var c openai.Response
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				t.Fatalf("%v in %s", err, data)
			}
			chunks = append(chunks, c)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return chunks
}

// TestStreamIsTheAnswerInPieces: the chunks of every choice, put together, are the answer that comes without streaming.
func TestStreamIsTheAnswerInPieces(t *testing.T) {
	url, _, _ := start(t, serve.Options{})
	several, held := 0, 0
	for seed := range 25 {
		body := map[string]any{"prompt": "abc", "max_tokens": 25, "seed": seed, "n": 3, "logprobs": 1, "return_token_ids": true}
		switch seed % 4 {
		case 1:
			body["stop"] = []string{"ab", "e", "q "}
		case 2:
			body["stop"], body["min_tokens"] = []string{"a", "b", "c", "d", "e"}, 6
		}
		_, want, _ := post(t, url+"/completions", body)
		body["stream"], body["stream_options"] = true, map[string]any{"include_usage": true}
		chunks := streamed(t, url+"/completions", body)
		last := chunks[len(chunks)-1]
		if len(last.Choices) != 0 || last.Usage == nil || *last.Usage != *want.Usage {
			t.Fatalf("usage %+v, want %+v", last.Usage, want.Usage)
		}
		for i, w := range want.Choices {
			text, reason := "", ""
			var ids []int32
			var logs []float32
			parts := 0
			for _, c := range chunks[:len(chunks)-1] {
				if c.Object != "text_completion" || c.ID != chunks[0].ID || len(c.Choices) != 1 {
					t.Fatalf("chunk %+v", c)
				}
				if p := c.Choices[0]; p.Index == i {
					if reason != "" {
						t.Errorf("seed %d: a chunk after the last", seed)
					}
					text, ids = text+*p.Text, append(ids, p.TokenIDs...)
					for _, l := range p.LogProbs.TokenLogProbs {
						logs = append(logs, *l)
					}
					if p.FinishReason != nil {
						reason = *p.FinishReason
					}
					parts++
				}
			}
			if parts > 2 {
				several++
			}
			if len(ids) > parts {
				held++
			}
			if text != *w.Text || reason != *w.FinishReason || !slices.Equal(ids, w.TokenIDs) || len(logs) != len(w.LogProbs.TokenLogProbs) {
				t.Errorf("seed %d, choice %d: %q (%s) %v, want %q (%s) %v", seed, i, text, reason, ids, *w.Text, *w.FinishReason, w.TokenIDs)
				continue
			}
			for k := range logs {
				if logs[k] != *w.LogProbs.TokenLogProbs[k] {
					t.Errorf("seed %d: log-prob %d is %v, want %v", seed, k, logs[k], *w.LogProbs.TokenLogProbs[k])
				}
			}
		}
	}
	if several == 0 || held == 0 {
		t.Errorf("%d answers in more than two chunks, %d with tokens that waited for others", several, held)
	}
}

// told is a model that answers every request with the same tokens, one after the other.
type told struct {
	models.Model
	ids []int32
}

func (m told) Generate(_ context.Context, requests []models.GenerateRequest) ([]models.GenerateResult, error) {
	out := make([]models.GenerateResult, len(requests))
	for i, r := range requests {
		response := models.Response{Finish: models.FinishStop}
		for t, id := range m.ids {
			response.Tokens, response.LogP = append(response.Tokens, id), append(response.LogP, -1)
			if r.OnToken != nil {
				r.OnToken(0, t, id, -1)
			}
		}
		out[i].Responses = []models.Response{response}
	}
	return out, nil
}

// TestStreamedChat: chunks of a conversation's answer hold whole characters, the first names the role, and the end token is no
// text.
func TestStreamedChat(t *testing.T) {
	tok, err := tokenizer.NewBytes()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := tok.Encode("h\u00e9 \u20ac!")
	if err != nil {
		t.Fatal(err)
	}
	s, err := serve.New(told{ids: append(ids, tok.EOS()[0])}, serve.Options{Name: "told", Tokenizer: tok})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	defer server.Close()
	defer s.Close()
	chunks := streamed(t, server.URL+"/v1/chat/completions", map[string]any{"messages": []map[string]string{{"role": "user",
		"content": "abc"}}, "stream": true, "logprobs": true})
	text, tokens := "", 0
	for i, c := range chunks {
		d := c.Choices[0].Delta
		if c.Object != "chat.completion.chunk" || d == nil || (d.Role == "assistant") != (i == 0) || c.Choices[0].Message != nil ||
			strings.ContainsRune(*d.Content, '\ufffd') {
			t.Fatalf("chunk %d: %+v", i, c)
		}
		text, tokens = text+*d.Content, tokens+len(c.Choices[0].LogProbs.Content)
	}
	if last := chunks[len(chunks)-1].Choices[0].FinishReason; text != "h\u00e9 \u20ac!" || tokens != len(ids)+1 || last == nil ||
		*last != "stop" {
		t.Errorf("%q, %d log-probs, finished by %v", text, tokens, last)
	}
}

// slow tells one token and goes on only when it is let.
type slow struct {
	models.Model
	goOn chan struct{}
}

func (s slow) Generate(ctx context.Context, requests []models.GenerateRequest) ([]models.GenerateResult, error) {
	out := models.Response{Finish: models.FinishLength}
	for t, id := range []int32{4, 5} {
		out.Tokens, out.LogP = append(out.Tokens, id), append(out.LogP, -1)
		requests[0].OnToken(0, t, id, -1)
		select {
		case <-s.goOn:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return []models.GenerateResult{{Responses: []models.Response{out}}}, nil
}

// TestStreamDoesNotWaitForTheEnd reads the first chunk of an answer that is not finished, and nobody would finish.
func TestStreamDoesNotWaitForTheEnd(t *testing.T) {
	_, tok := tiny(t)
	m := slow{goOn: make(chan struct{})}
	s, err := serve.New(m, serve.Options{Name: "slow", Tokenizer: tok})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	defer server.Close()
	defer s.Close()
	resp, err := http.Post(server.URL+"/v1/completions", "application/json",
		strings.NewReader(`{"prompt": "a", "max_tokens": 2, "stream": true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func() string {
		for lines.Scan() {
			if lines.Text() != "" {
				return lines.Text()
			}
		}
		return ""
	}
	if first := next(); !strings.Contains(first, `"text":"c"`) {
		t.Fatalf("first chunk %s", first)
	}
	m.goOn <- struct{}{}
	if second := next(); !strings.Contains(second, `"text":"d"`) {
		t.Fatalf("second chunk %s", second)
	}
	m.goOn <- struct{}{}
	if third := next(); !strings.Contains(third, `"finish_reason":"length"`) || next() != "data: [DONE]" {
		t.Fatalf("third chunk %s", third)
	}
}
