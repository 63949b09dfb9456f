package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// Ways in which a server is given other weights.
const (
	ReloadLoRA = "lora" // vLLM's load_lora_adapter: adapters under a name of their own beside the model that is served
	ReloadDisk = "disk" // SGLang's update_weights_from_disk, which this program's server has too
)

// LoadAdapter has the server load an adapter directory under a name, which requests then ask for. One that is there under that name
// is kept: a name stands for its weights.
func LoadAdapter(ctx context.Context, path, name, dir string, o Options) error {
	e, err := parseURL(path)
	if err != nil {
		return err
	}
	c := newClient(versioned(e), o)
	defer c.http.CloseIdleConnections()
	err = c.do(ctx, "/load_lora_adapter", map[string]string{"lora_name": name, "lora_path": dir}, func([]byte) *Error { return nil })
	if err != nil && strings.Contains(err.Error(), "already been loaded") {
		return nil
	}
	return err
}

// UnloadAdapter has the server forget an adapter.
func UnloadAdapter(ctx context.Context, path, name string, o Options) error {
	e, err := parseURL(path)
	if err != nil {
		return err
	}
	c := newClient(versioned(e), o)
	defer c.http.CloseIdleConnections()
	return c.do(ctx, "/unload_lora_adapter", map[string]string{"lora_name": name}, func([]byte) *Error { return nil })
}

// LoadWeights has the server take the weights of a model directory that it can read in the place of those it serves.
func LoadWeights(ctx context.Context, path, dir string, o Options) error {
	e, err := parseURL(path)
	if err != nil {
		return err
	}
	c := newClient(strings.TrimSuffix(e.base, "/v1"), o)
	defer c.http.CloseIdleConnections()
	return c.do(ctx, "/update_weights_from_disk", map[string]string{"model_path": dir}, func(text []byte) *Error {
		var said struct {
			Success bool   `json:"success"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(text, &said); err != nil || !said.Success {
			return &Error{Kind: KindRejected, Problem: fmt.Sprintf("the weights were not taken: %.200s", said.Message)}
		}
		return nil
	})
}

// versioned is the base of an endpoint, at /v1 where the URL has no path.
func versioned(e endpoint) string {
	if e.bare {
		return e.base + "/v1"
	}
	return e.base
}

// Asking is the URL of an endpoint that asks for a model by name, with a tokenizer where it names none.
func Asking(path, name, tokenizer string) (string, error) {
	if _, err := parseURL(path); err != nil {
		return "", err
	}
	u, err := url.Parse(path)
	if err != nil {
		return "", err
	}
	q := u.Query()
	if name != "" {
		q.Set("model", name)
	}
	if q.Get("tokenizer") == "" && tokenizer != "" {
		q.Set("tokenizer", tokenizer)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Serves gives the digest of the weights that the server says it serves, "" where it says none.
func Serves(ctx context.Context, path string, o Options) (string, error) {
	e, err := parseURL(path)
	if err != nil {
		return "", err
	}
	m, _, err := e.offers(ctx, o)
	if err != nil || m.Millrace == nil {
		return "", err
	}
	return m.Millrace.Digest, nil
}
