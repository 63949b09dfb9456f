package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/millrace/millrace/schemas/setting"
)

// HTTPConfig configures a verifier service. It gets {"gold", "response", "truncated"} as a JSON POST and answers with
// {"verdict", "rule", "extracted", "reason"}.
type HTTPConfig struct {
	URL      string  `json:"url" doc:"http or https address of the service"`
	Seconds  float64 `json:"seconds" range:"(0,inf)" doc:"seconds for one request"`
	Attempts int     `json:"attempts" range:"[1,20]" doc:"how often a request is tried while the service is busy (429, 5xx) or unreachable"`
	KeyEnv   string  `json:"key_env" doc:"environment variable with the bearer key, if the service wants one"`
	Rules    string  `json:"version" doc:"the service's version, which lineage names"`
}

// HTTP asks a verifier service. A service that does not answer as agreed is an error, never a verdict.
type HTTP struct {
	cfg    HTTPConfig
	client *http.Client
}

func init() { Register("http", HTTPConfig{Seconds: 30, Attempts: 3}) }

// Validate checks the address.
func (c HTTPConfig) Validate() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return setting.Errorf("url", "%q is not an http or https address", c.URL)
	}
	return nil
}

// New makes the verifier.
func (c HTTPConfig) New() (Verifier, error) {
	return &HTTP{c, &http.Client{Timeout: time.Duration(c.Seconds * float64(time.Second))}}, nil
}

// Version names the service and the configuration.
func (h *HTTP) Version() string { return version("http-1", HTTPConfig{}, h.cfg) }

// Verify asks the service about one pair.
func (h *HTTP) Verify(ctx context.Context, gold Gold, response Response) (Result, error) {
	body, err := json.Marshal(exchange{gold.Answer, response.Text, response.Truncated})
	if err != nil {
		return Result{}, fmt.Errorf("verify: http: %w", err)
	}
	wait := 200 * time.Millisecond
	for attempt := 1; ; attempt++ {
		out, retry, err := h.post(ctx, body)
		if err == nil {
			return answered(out, "http")
		}
		if !retry || attempt == h.cfg.Attempts {
			return Result{}, err
		}
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-time.After(wait):
			wait *= 2
		}
	}
}

func (h *HTTP) post(ctx context.Context, body []byte) (out []byte, retry bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, false, fmt.Errorf("verify: http: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if key := os.Getenv(h.cfg.KeyEnv); h.cfg.KeyEnv != "" && key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, ctx.Err() == nil, fmt.Errorf("verify: http: %w", err)
	}
	defer resp.Body.Close()
	const limit = 1 << 20
	out, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, ctx.Err() == nil, fmt.Errorf("verify: http: %w", err)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return nil, true, fmt.Errorf("verify: http: %s: %s", resp.Status, short(string(out)))
	case resp.StatusCode != http.StatusOK:
		return nil, false, fmt.Errorf("verify: http: %s: %s", resp.Status, short(string(out)))
	case len(out) > limit:
		return nil, false, fmt.Errorf("verify: http: the answer is larger than %d bytes", limit)
	}
	return out, false, nil
}
