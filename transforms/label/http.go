package label

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/millrace/millrace/schemas"
)

// HTTPConfig asks an HTTP service: the [Question] is posted as JSON, a [Reply] comes back. The key is read from the
// environment, so it appears in no configuration, log or lineage.
type HTTPConfig struct {
	URL      string  `json:"url"`
	KeyEnv   string  `json:"key_env"`  // environment variable whose value is sent as a bearer token; "": none
	Seconds  float64 `json:"seconds"`  // for one attempt
	Attempts int     `json:"attempts"` // tries in all, when the service is busy or unreachable
}

const maxReplyBytes = 1 << 20

type httpVerifier struct {
	HTTPConfig
	client *http.Client
	key    string
	wait   time.Duration // before the second attempt
}

func newHTTP(c HTTPConfig) (Verifier, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return nil, errors.New("url: is not a URL") // the parser's message would quote what may hold a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("url: want http://host/path or https://host/path")
	case u.User != nil:
		return nil, errors.New("url: holds a user or password; name an environment variable in key_env instead")
	case !(c.Seconds > 0 && c.Seconds <= 3600):
		return nil, fmt.Errorf("seconds: %v is not in (0, 3600]", c.Seconds)
	case c.Attempts < 1:
		return nil, fmt.Errorf("attempts: %d is not at least 1", c.Attempts)
	}
	v := httpVerifier{HTTPConfig: c, wait: 200 * time.Millisecond,
		client: &http.Client{Timeout: time.Duration(c.Seconds * float64(time.Second))}}
	if c.KeyEnv != "" {
		if v.key = os.Getenv(c.KeyEnv); v.key == "" {
			return nil, fmt.Errorf("key_env: environment variable %s is not set", c.KeyEnv)
		}
	}
	return v, nil
}

func (v httpVerifier) Version() string { return version("http", 1, v.HTTPConfig) }

func (v httpVerifier) Verify(ctx context.Context, q Question) (Judgement, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return Judgement{}, &RowError{schemas.ReasonUnreadable, err}
	}
	policy := backoff.NewExponentialBackOff(backoff.WithInitialInterval(v.wait), backoff.WithMaxElapsedTime(0))
	var wait time.Duration // what the service asked for
	for attempt := 1; ; attempt++ {
		var j Judgement
		if j, wait, err = v.post(ctx, body, len(q.Response)); err == nil || ctx.Err() != nil {
			return j, err
		}
		var row *RowError
		if errors.As(err, &row) || attempt == v.Attempts {
			return Judgement{}, err
		}
		select {
		case <-ctx.Done():
			return Judgement{}, ctx.Err()
		case <-time.After(max(wait, policy.NextBackOff())):
		}
	}
}

// post is one attempt; a RowError is not worth another one.
func (v httpVerifier) post(ctx context.Context, body []byte, responseBytes int) (Judgement, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.URL, bytes.NewReader(body))
	if err != nil {
		return Judgement{}, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if v.key != "" {
		req.Header.Set("Authorization", "Bearer "+v.key)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return Judgement{}, 0, fmt.Errorf("verifier service: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes+1))
	switch code := resp.StatusCode; {
	case err != nil:
		return Judgement{}, 0, fmt.Errorf("verifier service: %w", err)
	case code == http.StatusTooManyRequests || code >= 500 || code == http.StatusRequestTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return Judgement{}, time.Duration(min(max(seconds, 0), 60)) * time.Second, fmt.Errorf("verifier service: status %d", code)
	case code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusNotFound:
		return Judgement{}, 0, fmt.Errorf("verifier service: status %d; check url and key_env", code)
	case code != http.StatusOK:
		return Judgement{}, 0, &RowError{schemas.ReasonModel, fmt.Errorf("verifier service: status %d: %.100q", code, raw)}
	case len(raw) > maxReplyBytes:
		return Judgement{Verdict: Budget, Rule: "a reply above 1 MiB"}, 0, nil
	}
	j, err := readReply(raw, responseBytes)
	return j, 0, err
}
