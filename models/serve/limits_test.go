package serve_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/serve"
)

// A request is served as it is asked, or refused by the name of what is not.
func TestFieldsAreNeverIgnored(t *testing.T) {
	url, _, _ := start(t, serve.Options{})
	for body, refused := range map[string]string{
		`"stop": "a"`:        "",
		`"stop": ["a", "b"]`: "",
		`"stop": null, "logit_bias": null, "min_p": null`: "",
		`"min_p": 0, "presence_penalty": 0.0, "n": 1`:     "",
		`"repetition_penalty": 1.0, "logit_bias": {}`:     "",
		`"user": "me", "metadata": {"a": "b"}`:            "",
		`"n": 2, "best_of": 2`:                            "",
		`"top_k": -1`:                                     "",
		`"temperature": 1e-45`:                            "temperature",
		`"temperature": 9e-31`:                            "temperature",
		`"temperature": 1e-30`:                            "",
		`"temperature": 0`:                                "",
		`"temperature": 1e-320`:                           "temperature",
		`"top_p": 1e-320`:                                 "top_p",
		`"top_p": 1e-400`:                                 "top_p",
		`"top_p": 0`:                                      "top_p",
		`"top_p": 1e-40`:                                  "",
		`"min_p": 1e-320`:                                 "min_p",
		`"min_p": 1e-400`:                                 "min_p",
		`"min_p": 0e-400`:                                 "",
		`"presence_penalty": 1e-400`:                      "presence_penalty",
		`"frequency_penalty": -1e-400`:                    "frequency_penalty",
		`"temperature": 1e-10`:                            "",
		`"min_p": 0.2`:                                    "\"message\":\"min_p: is not served",
		`"min_p": 0.1`:                                    "min_p",
		`"presence_penalty": 0.5`:                         "presence_penalty",
		`"frequency_penalty": -1`:                         "frequency_penalty",
		`"repetition_penalty": 1.1`:                       "repetition_penalty",
		`"logit_bias": {"5": -100}`:                       "logit_bias",
		`"best_of": 3`:                                    "best_of",
		`"suffix": "b"`:                                   "suffix",
		`"ignore_eos": true`:                              "ignore_eos",
		`"guided_regex": "a+"`:                            "guided_regex",
		`"Temperature": 2`:                                "Temperature",
		`"something_new": 1`:                              "something_new",
		`"max_completion_tokens": 3`:                      "max_completion_tokens",
		`"messages": []`:                                  "messages",
		`"prompt_logprobs": -1`:                           "prompt_logprobs",
		`"top_logprobs": 2`:                               "top_logprobs",
		`"millrace": {"generate": {"prompt_id": "00000000000000000000000000000000", "min_p": 1}}`: "min_p",
		`"prompt": ["abc", "d"]`:                           "list of prompts",
		`"prompt": [[3], [4]]`:                             "list of prompts",
		`"prompt": [3, null]`:                              "null, at 1",
		`"prompt": [3, 99], "echo": true, "max_tokens": 0`: "id 99",
		`"prompt": [3, 1.5]`:                               "1.5",
		`"temperature": NaN`:                               "invalid character",
		`"temperature": 1e400`:                             "temperature",
	} {
		if !strings.Contains(body, `"prompt"`) {
			body = `"prompt": "abc", ` + body
		}
		if !strings.Contains(body, `"max_tokens"`) {
			body = `"max_tokens": 3, ` + body
		}
		code, _, raw := post(t, url+"/completions", "{"+body+"}")
		if refused == "" && code != 200 || refused != "" && (code != 400 || !strings.Contains(raw, refused)) {
			t.Errorf("{%s}: %d %s, want it served or refused for %q", body, code, raw, refused)
		}
	}
}

// What a request may cost is bounded as a whole, before anything is computed.
func TestCosts(t *testing.T) {
	url, _, _ := start(t, serve.Options{Limits: serve.Limits{MaxWork: 1000, MaxPrompt: 40, MaxAnswer: 200_000}})
	for body, want := range map[string]string{
		`"prompt": [3], "max_tokens": 9, "n": 111`:                              "",
		`"prompt": [3], "max_tokens": 10, "n": 100`:                             "1001 tokens",
		`"prompt": [` + strings.Repeat("3,", 40) + `3], "max_tokens": 1`:        "41 tokens",
		`"prompt": "` + strings.Repeat("a", 41) + `", "max_tokens": 1`:          "41 tokens",
		`"prompt": "` + strings.Repeat("\u00ff", 4000) + `", "max_tokens": 1`:   "8000 bytes of text", // not looked at
		`"prompt": [3], "max_tokens": 100, "n": 9, "logprobs": 20`:              "the answer could take",
		`"prompt": [3,4,5,6], "max_tokens": 1, "n": 200, "prompt_logprobs": 20`: "the answer could take",
		`"prompt": [3], "max_tokens": 100, "n": 9, "millrace": {"generate": {"prompt_id": "00000000000000000000000000000000",` +
			`"candidate_k": 2000000000}}`: "the answer could take",
		`"prompt": [3,4,5], "millrace": {"score": {"response": 2, "top_k": 32767}}`: "", // of a small vocabulary
	} {
		code, _, raw := post(t, url+"/completions", "{"+body+"}")
		if want == "" && code != 200 || want != "" && (code != 400 || !strings.Contains(raw, want)) {
			t.Errorf("{%.100s}: %d %.300s, want %q", body, code, raw, want)
		}
	}
}

// endless is a model that samples until it is told that nobody waits.
type endless struct {
	models.Model
	began, left chan struct{}
}

func (m endless) Generate(ctx context.Context, requests []models.GenerateRequest) ([]models.GenerateResult, error) {
	out := make([]models.GenerateResult, len(requests))
	for i, r := range requests {
		if r.Samples == 2 {
			panic("two samples")
		}
		if r.Samples == 1 {
			out[i].Responses = []models.Response{{Tokens: []int32{4}, LogP: []float32{-1}, Finish: models.FinishStop}}
			continue
		}
		m.began <- struct{}{}
		select {
		case <-r.Gone:
			m.left <- struct{}{}
			out[i].Err = models.ErrGone
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return out, nil
}

func serveEndless(t *testing.T, o serve.Options) (m endless, s *serve.Server, url string) {
	t.Helper()
	m = endless{began: make(chan struct{}, 1), left: make(chan struct{}, 1)}
	_, o.Tokenizer = tiny(t)
	o.Name = "endless"
	s, err := serve.New(m, o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { s.Close(); h.Close() })
	return m, s, h.URL + "/v1/completions"
}

func soon(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal(what)
	}
}

// A client that leaves takes its request with it, streamed or not.
func TestClientsThatLeave(t *testing.T) {
	m, _, url := serveEndless(t, serve.Options{})
	for _, more := range []string{"", `, "stream": true`} {
		ctx, leave := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(`{"prompt": "a", "max_tokens": 9, "n": 3`+more+`}`))
		go func() {
			if resp, err := http.DefaultClient.Do(r); err == nil {
				_, _ = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
		}()
		soon(t, m.began, "the request does not begin")
		leave()
		soon(t, m.left, "the request goes on though its client is gone")
	}
}

// A real sampler drops a large request whose client leaves: the next one does not wait for it.
func TestNobodyWaitsForTheGone(t *testing.T) {
	url, _, _ := start(t, serve.Options{})
	ctx, leave := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer leave()
	r, _ := http.NewRequestWithContext(ctx, "POST", url+"/completions", strings.NewReader(
		`{"prompt": "a", "n": 256, "max_tokens": 100, "min_tokens": 100}`))
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
	}
	if code, _, raw := post(t, url+"/completions", `{"prompt": "a", "max_tokens": 2}`); code != 200 {
		t.Errorf("%d %s", code, raw)
	}
}

// A panic below a request is that request's, and is reported; the server goes on.
func TestPanics(t *testing.T) {
	var mu sync.Mutex
	var reported string
	_, _, url := serveEndless(t, serve.Options{Report: func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		reported += fmt.Sprintf(format, args...)
	}})
	if code, _, raw := post(t, url, `{"prompt": "a", "max_tokens": 9, "n": 2}`); code != 500 || !strings.Contains(raw, "two samples") {
		t.Errorf("%d %s", code, raw)
	}
	if code, _, raw := post(t, url, `{"prompt": "a", "max_tokens": 9}`); code != 200 {
		t.Errorf("after a panic: %d %s", code, raw)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(reported, "two samples") || !strings.Contains(reported, "limits_test.go") {
		t.Errorf("reported %q", reported)
	}
}

// A client has at most half of what the others have left of the places to wait.
func TestTooManyRequests(t *testing.T) {
	m, s, url := serveEndless(t, serve.Options{Limits: serve.Limits{MaxWaiting: 4}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", url, strings.NewReader(`{"prompt": "a", "max_tokens": 9, "n": 3}`)))
		return w
	}
	var group sync.WaitGroup
	refused := make(chan string, 3)
	for range 3 {
		group.Go(func() {
			if w := ask(); w.Code == http.StatusTooManyRequests {
				refused <- w.Header().Get("Retry-After")
			}
		})
	}
	soon(t, m.began, "nothing begins")
	if after := <-refused; after != "1" {
		t.Errorf("Retry-After %q", after)
	}
	cancel()
	s.Close()
	group.Wait()
}

// A body that does not come, a web page of another site, a name that is not this server's.
func TestConnections(t *testing.T) {
	m, tok := tiny(t)
	s, err := serve.New(m, serve.Options{Name: "tiny", Tokenizer: tok, Hosts: []string{"gpu1"},
		Limits: serve.Limits{BodyTime: 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	defer h.Close()
	defer s.Close()
	address := strings.TrimPrefix(h.URL, "http://")
	const good = `{"prompt": "a", "max_tokens": 2}`
	send := func(headers, body string) string {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "POST /v1/completions HTTP/1.1\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s", headers, len(good), body)
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Errorf("%q: %v", headers, err)
		}
		return string(answer)
	}
	for _, c := range []struct{ headers, body, want string }{
		{"Host: " + address + "\r\n", good, "200 OK"},
		{"Host: localhost:8000\r\n", good, "200 OK"},
		{"Host: [::1]:8000\r\n", good, "200 OK"},
		{"Host: GPU1\r\n", good, "200 OK"},
		{"Host: " + address + "\r\nOrigin: http://" + address + "\r\n", good, "200 OK"},
		{"Host: " + address + "\r\n", good[:9], "408 Request Timeout"},
		{"Host: rebound.example\r\n", good, "403 Forbidden"},
		{"Host: " + address + "\r\nOrigin: https://page.example\r\nContent-Type: text/plain\r\n", good, "403 Forbidden"},
		{"Host: " + address + "\r\nOrigin: null\r\n", good, "403 Forbidden"},
		{"Host: " + address + "\r\nSec-Fetch-Site: cross-site\r\n", good, "403 Forbidden"},
	} {
		if got := send(c.headers, c.body); !strings.Contains(got, "HTTP/1.1 "+c.want) {
			t.Errorf("%q, %q: %s, want %s", c.headers, c.body, got, c.want)
		}
	}
}

// A server that is told to end answers what is under way, and after its grace says that it cannot.
func TestGrace(t *testing.T) {
	m, tok := tiny(t)
	for name, c := range map[string]struct {
		grace  time.Duration
		tokens int
		code   int
	}{"in time": {20 * time.Second, 120, 200}, "not in time": {time.Millisecond, 0, 503}} {
		o := serve.Options{Name: "tiny", Tokenizer: tok, Limits: serve.Limits{Grace: c.grace}}
		var model models.Model = m
		began := make(chan struct{}, 1)
		n := 200
		if c.tokens == 0 {
			model, n, c.tokens = endless{began: began, left: make(chan struct{}, 1)}, 3, 9
		}
		s, err := serve.New(model, o)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			if err := s.Serve(ctx, l); err != nil {
				t.Error(err)
			}
			close(ended)
		}()
		answered := make(chan int, 1)
		go func() {
			code, _, _ := post(t, "http://"+l.Addr().String()+"/v1/completions",
				fmt.Sprintf(`{"prompt": "a", "max_tokens": %d, "min_tokens": %d, "n": %d}`, c.tokens, c.tokens, n))
			answered <- code
		}()
		if n == 3 {
			soon(t, began, "the request does not begin")
		} else {
			time.Sleep(30 * time.Millisecond) // it is under way, or not yet connected and then refused
		}
		end()
		soon(t, ended, "the server does not end")
		select { // the answer is on its way
		case code := <-answered:
			if code != c.code {
				t.Errorf("%s: answered with %d, want %d", name, code, c.code)
			}
		case <-time.After(50 * time.Millisecond):
			t.Errorf("%s: the server ends before it has answered", name)
		}
		s.Close()
	}
}

// A client that goes on sending a byte at a time has its answer and loses its connection when the time of a body is over.
func TestDrip(t *testing.T) {
	m, tok := tiny(t)
	options := serve.Options{Name: "tiny", Tokenizer: tok, Limits: serve.Limits{BodyTime: 200 * time.Millisecond, MaxBody: 1000}}
	open := func(context.Context, string) (models.Model, serve.Options, func() error, error) {
		return m, options, func() error { return nil }, nil
	}
	swap, err := serve.NewSwap(t.Context(), "tiny", t.TempDir(), open)
	if err != nil {
		t.Fatal(err)
	}
	defer swap.Close()
	h := httptest.NewServer(swap)
	defer h.Close()
	for _, path := range []string{"/v1/completions", "/update_weights_from_disk"} {
		drip(t, strings.TrimPrefix(h.URL, "http://"), path)
	}
}

func drip(t *testing.T, address, path string) {
	t.Helper()
	for length, want := range map[int]string{900: "408 Request Timeout", 100_000: "413 Request Entity Too Large"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", path, address, length,
			strings.Repeat(" ", min(length-500, 1001)))
		stop := make(chan struct{})
		go func() {
			for tick := time.NewTicker(50 * time.Millisecond); ; {
				select {
				case <-stop:
					return
				case <-tick.C:
					_, _ = conn.Write([]byte(" "))
				}
			}
		}()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		answer, err := io.ReadAll(conn)
		close(stop)
		conn.Close()
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() || !strings.Contains(string(answer), want) {
			t.Errorf("%s: a body of %d bytes that drips: %q, %v; want %s and the end of the connection", path, length, answer, err, want)
		}
	}
}
