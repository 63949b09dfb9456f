package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/millrace/millrace/models/outbound"
	"github.com/millrace/millrace/schemas/setting"
)

// HTTPConfig configures a verifier service. It gets the questions that a verifier program gets, as the lines of a POST,
// and answers with the lines that the program answers with.
type HTTPConfig struct {
	URL         string  `json:"url" doc:"http or https address of the service"`
	Connections int     `json:"connections" range:"[1,1024]" doc:"requests at a time"`
	Batch       int     `json:"batch" range:"[1,4096]" doc:"rows in one request, at most"`
	Seconds     float64 `json:"seconds" range:"(0,inf)" doc:"seconds for one request"`
	Attempts    int     `json:"attempts" range:"[1,20]" doc:"how often a request is tried while the service is busy (429, 5xx) or unreachable"`
	KeyEnv      string  `json:"key_env" doc:"environment variable with the bearer key, if the service wants one"`
	Gold        string  `json:"gold" enum:"text,json" doc:"the reference answer is sent as a text, or as the JSON value that its text is"`
	Rules       string  `json:"version" doc:"the service's version, which lineage names"`
}

var defaultHTTP = HTTPConfig{Connections: 8, Batch: 1, Seconds: 30, Attempts: 3, Gold: GoldText}

// HTTP asks a verifier service. A service that does not answer as agreed is an error, never a verdict.
type HTTP struct {
	cfg  HTTPConfig
	pool *dispatcher
}

func init() { Register("http", defaultHTTP) }

// Validate checks the address.
func (c HTTPConfig) Validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return setting.Errorf("url", "is not an http or https address") // not repeated here: it may hold a key
	case u.User != nil:
		return setting.Errorf("url", "holds a name or a password; give the key in an environment variable that key_env names")
	case outbound.Forbidden(u.Hostname()):
		return setting.Errorf("url",
			"%s is an address of the machine's own network, where cloud credentials are; no verifier is asked there", u.Hostname())
	}
	return nil
}

// New makes the verifier.
func (c HTTPConfig) New() (Verifier, error) {
	client := outbound.Client(c.Connections)
	return &HTTP{c, newDispatcher(c.Connections, c.Batch, 1, func() carrier { return &service{cfg: c, client: client} })}, nil
}

// Version names the service and the configuration. How requests are spread changes no verdict.
func (h *HTTP) Version() string {
	cfg := h.cfg
	cfg.Connections, cfg.Batch = 0, 0
	return version("http-2", HTTPConfig{}, cfg)
}

// Close lets connections go; a later row makes new ones.
func (h *HTTP) Close() error {
	h.pool.close()
	return nil
}

// Verify asks the service about one row.
func (h *HTTP) Verify(ctx context.Context, gold Gold, response Response) (Result, error) {
	q, err := newQuestion(gold, response, h.cfg.Gold)
	if err != nil {
		return Result{}, err
	}
	return h.pool.do(ctx, q)
}

// service is one connection's worth of requests.
type service struct {
	cfg    HTTPConfig
	client *http.Client
}

func (s *service) close() {}

// carry posts the rows and reads an answer for each.
func (s *service) carry(ctx context.Context, rows []*ask, settle func(*ask, told)) failure {
	var body bytes.Buffer
	for i, a := range rows {
		a.row.ID = i
		line, err := json.Marshal(a.row)
		if err != nil {
			return failure{err: fmt.Errorf("verify: http: %w", err), world: true}
		}
		body.Write(line)
		body.WriteByte('\n')
	}
	wait := 200 * time.Millisecond
	for attempt := 1; ; attempt++ {
		out, f, retry := s.post(ctx, body.Bytes())
		if f.err == nil {
			return s.read(out, rows, settle)
		}
		if !retry || attempt >= s.cfg.Attempts {
			return f
		}
		select {
		case <-ctx.Done():
			return failure{err: ctx.Err(), world: true}
		case <-time.After(wait):
			wait = min(2*wait, 10*time.Second)
		}
	}
}

// read gives each row its line of the answer.
func (s *service) read(out []byte, rows []*ask, settle func(*ask, told)) failure {
	answered := make([]bool, len(rows))
	next, left := 0, len(rows)
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, len(out)+1)
	whole := len(rows) == 1 && json.Valid(out) // one object, on however many lines
	for left > 0 && (whole || sc.Scan()) {
		line := sc.Bytes()
		if whole {
			line = out
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		answer, err := readReply(line)
		for next < len(rows) && answered[next] {
			next++
		}
		id := next
		if answer.ID != nil {
			id = *answer.ID
		}
		if err == nil && (id < 0 || id >= len(rows) || answered[id]) {
			err = fmt.Errorf("an answer has the id %d, which no open question has", id)
		}
		if err != nil {
			return failure{err: fmt.Errorf("verify: http %s: %s", s.where(), s.clean(err.Error())), world: len(rows) == 1}
		}
		answered[id] = true
		left--
		var t told
		t.result, t.err = answer.result("http")
		settle(rows[id], t)
		whole = false
	}
	if left > 0 {
		return failure{err: fmt.Errorf("verify: http %s: %d of %d questions were not answered", s.where(), left,
			len(rows)), world: len(rows) == 1}
	}
	return failure{}
}

// where is the address without what may be a key.
func (s *service) where() string {
	u, err := url.Parse(s.cfg.URL)
	if err != nil {
		return "service"
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// clean takes the key out of a text that the service wrote.
func (s *service) clean(text string) string {
	if key := os.Getenv(s.cfg.KeyEnv); s.cfg.KeyEnv != "" && key != "" {
		text = strings.ReplaceAll(text, key, "...")
	}
	if u, err := url.Parse(s.cfg.URL); err == nil && u.RawQuery != "" {
		text = strings.ReplaceAll(text, u.RawQuery, "...")
	}
	return short(text)
}

func (s *service) post(ctx context.Context, body []byte) (out []byte, f failure, retry bool) {
	fail := func(format string, args ...any) failure {
		return failure{err: errors.New("verify: http " + s.where() + ": " + s.clean(fmt.Sprintf(format, args...)))}
	}
	limit, cancel := context.WithTimeout(ctx, time.Duration(s.cfg.Seconds*float64(time.Second)))
	defer cancel()
	req, err := http.NewRequestWithContext(limit, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fail("the request cannot be made"), false
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	if key := os.Getenv(s.cfg.KeyEnv); s.cfg.KeyEnv != "" && key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := s.client.Do(req)
	var read error
	if err == nil {
		defer resp.Body.Close()
		out, read = io.ReadAll(io.LimitReader(resp.Body, answerBytes*int64(max(1, bytes.Count(body, []byte{'\n'})))+1))
		err = read
	}
	switch {
	case ctx.Err() != nil:
		return nil, failure{err: ctx.Err(), world: true}, false
	case errors.Is(err, context.DeadlineExceeded) || limit.Err() != nil:
		f := failure{err: &RowError{Fault: FaultVerifier, Message: fmt.Sprintf("the service took more than %v s", s.cfg.Seconds)}}
		return nil, f, true
	case err != nil:
		f := fail("%s", outbound.Plain(err))
		f.world = true
		var refused *outbound.ForbiddenError
		return nil, f, !errors.As(err, &refused)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return nil, fail("%s: %s", resp.Status, out), true
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		f := fail("%s: the service redirects, and questions are not sent on; give the address it redirects to", resp.Status)
		f.world = true
		return nil, f, false
	case resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusRequestEntityTooLarge ||
		resp.StatusCode == http.StatusUnprocessableEntity: // what was asked is at fault, not who was asked
		return nil, failure{err: &RowError{Fault: FaultVerifier, Message: s.clean(fmt.Sprintf("%s: %s", resp.Status, out))}}, false
	case resp.StatusCode != http.StatusOK:
		f := fail("%s: %s", resp.Status, out)
		f.world = true
		return nil, f, false
	case int64(len(out)) > answerBytes*int64(bytes.Count(body, []byte{'\n'})):
		return nil, fail("the answer is larger than %d bytes a row", answerBytes), false
	}
	return out, failure{}, false
}

// answerBytes bounds what a service answers about one row.
const answerBytes = int64(1) << 20
