package label

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// JSONConfig compares a field of a JSON object in the response.
type JSONConfig struct {
	Field string `json:"field"` // path to it, such as result.value or items.0
}

type jsonField struct{ JSONConfig }

func newJSONField(c JSONConfig) (Verifier, error) {
	if c.Field == "" {
		return nil, errors.New("field: is empty; want a path such as result.value")
	}
	return jsonField{c}, nil
}

func (v jsonField) Version() string { return version("json", 1, v.JSONConfig) }

// Bounds on the search for JSON in a response.
const (
	maxJSONBytes  = 1 << 20
	maxJSONStarts = 64
)

func (v jsonField) Verify(_ context.Context, q Question) (Judgement, error) {
	if !q.HasAnswer {
		return Judgement{Verdict: UnparsableAnswer, Rule: "no answer to compare with"}, nil
	}
	if len(q.Response) > maxJSONBytes {
		return Judgement{Verdict: Budget, Rule: "a response above 1 MiB"}, nil
	}
	got, ok := lastWithField(q.Response, strings.Split(v.Field, "."))
	if !ok {
		return Judgement{Verdict: UnparsableResponse, Rule: "no JSON object with field " + v.Field}, nil
	}
	text, isText := got.(string)
	if !isText {
		raw, err := json.Marshal(got)
		if err != nil {
			return Judgement{}, &RowError{Reason: "unreadable", Err: err}
		}
		text = string(raw)
	}
	var want any
	if err := decodeJSON([]byte(q.Answer), &want); err != nil {
		want = q.Answer // a bare word is a text
	}
	return decide(sameJSON(got, want) || isText && strings.TrimSpace(text) == strings.TrimSpace(q.Answer), text, "field "+v.Field), nil
}

// lastWithField finds the last JSON value in the text that has the field. Values are tried from at most maxJSONStarts
// places, so that a wall of braces costs bounded work.
func lastWithField(s string, path []string) (value any, ok bool) {
	for tries := 0; tries < maxJSONStarts; tries++ {
		at := strings.IndexAny(s, "{[")
		if at < 0 {
			break
		}
		s = s[at:]
		dec := json.NewDecoder(strings.NewReader(s))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			s = s[1:]
			continue
		}
		if f, has := field(v, path); has {
			value, ok = f, true
		}
		s = s[dec.InputOffset():]
	}
	return value, ok
}

func field(v any, path []string) (any, bool) {
	for _, name := range path {
		switch x := v.(type) {
		case map[string]any:
			inner, ok := x[name]
			if !ok {
				return nil, false
			}
			v = inner
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(x) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}

func decodeJSON(raw []byte, into *any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

// sameJSON compares values, numbers by what they are worth and not how they are written.
func sameJSON(a, b any) bool {
	switch x := a.(type) {
	case json.Number:
		y, ok := b.(json.Number)
		if !ok {
			return false
		}
		fx, errX := x.Float64()
		fy, errY := y.Float64()
		return x == y || errX == nil && errY == nil && math.Abs(fx-fy) <= 1e-12*math.Max(math.Abs(fx), math.Abs(fy))
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !sameJSON(x[i], y[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for k, v := range x {
			w, has := y[k]
			if !has || !sameJSON(v, w) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}
