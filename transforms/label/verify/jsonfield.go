package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/schemas/setting"
)

// JSONConfig configures the comparison of one field of a JSON object in the response.
type JSONConfig struct {
	Path    string `json:"path" doc:"keys and indices joined by dots, such as answer or result.0.value"`
	Compare string `json:"compare" doc:"the verifier that compares the field with the reference answer; empty: exact, as a whole"`
}

// JSONField compares a field of the last JSON object or array in the response.
type JSONField struct {
	cfg     JSONConfig
	path    []string
	compare Verifier
}

func init() { Register("json", JSONConfig{Path: "answer"}) }

// Validate checks that a field is named, and the comparison.
func (c JSONConfig) Validate() error {
	if c.Path == "" {
		return setting.Errorf("path", "is empty; name a field such as answer or result.0.value")
	}
	_, err := comparison(c.Compare)
	return err
}

// New makes the verifier.
func (c JSONConfig) New() (Verifier, error) {
	v, err := comparison(c.Compare)
	return &JSONField{c, strings.Split(c.Path, "."), v}, err
}

// Version names the rules and the configuration.
func (j *JSONField) Version() string {
	return version("json-1", JSONConfig{Path: "answer"}, j.cfg) + "/" + j.compare.Version()
}

// Verify finds the field and compares it.
func (j *JSONField) Verify(ctx context.Context, gold Gold, response Response) (Result, error) {
	rest, _ := afterThinking(tail(response.Text))
	value, ok := lastJSON(rest)
	if !ok {
		return missing(response, gold.Answer), nil
	}
	for _, key := range j.path {
		switch v := value.(type) {
		case map[string]any:
			value, ok = v[key]
		case []any:
			i, err := strconv.Atoi(key)
			ok = err == nil && i >= 0 && i < len(v)
			if ok {
				value = v[i]
			}
		default:
			ok = false
		}
		if !ok {
			return Result{Verdict: UnparsableResponse, Gold: short(gold.Answer), From: "json",
				Reason: fmt.Sprintf("no field %q (path %s)", key, j.cfg.Path)}, nil
		}
	}
	var text string
	switch v := value.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return Result{}, fmt.Errorf("verify: json: %w", err)
		}
		text = string(b)
	}
	res, err := j.compare.Verify(ctx, gold, Response{Text: text})
	res.From = "json"
	return res, err
}

// lastJSON decodes the last complete object or array of a text. It looks at a bounded number of opening brackets.
func lastJSON(s string) (any, bool) {
	var found any
	ok := false
	for tries := 0; tries < 64; tries++ {
		i := strings.IndexAny(s, "{[")
		if i < 0 {
			break
		}
		d := json.NewDecoder(strings.NewReader(s[i:]))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			s = s[i+1:]
			continue
		}
		found, ok = v, true
		s = s[i+int(d.InputOffset()):]
	}
	return found, ok
}
