package prompts

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/schemas"
)

// rowError is what is wrong with a row of a file, with the reason it is counted under.
type rowError struct {
	reason schemas.Reason
	err    error
}

func (e *rowError) Error() string { return e.err.Error() }
func (e *rowError) Unwrap() error { return e.err }

func bad(reason schemas.Reason, format string, args ...any) error {
	return &rowError{reason, fmt.Errorf(format, args...)}
}

// field follows a dotted path, such as reward_model.ground_truth, into a row.
func field(row map[string]any, path string) (any, error) {
	var v any = row
	for key := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, bad(schemas.ReasonBadType, "field %q: what holds %q is %s, want an object", path, key, kindOf(v))
		}
		if v, ok = m[key]; !ok || v == nil {
			return nil, bad(schemas.ReasonMissingField, "field %q is missing", path)
		}
	}
	return v, nil
}

// text is a string, or a number as it was written.
func text(v any, path string) (string, error) {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return "", bad(schemas.ReasonBadUTF8, "field %q is not UTF-8", path)
		}
		return v, nil
	case json.Number:
		return v.String(), nil
	}
	return "", bad(schemas.ReasonBadType, "field %q is %s, want text or a number", path, kindOf(v))
}

// outcome is a label: 0 or 1, true or false, or a number between.
func outcome(v any, path string) (float32, error) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	case json.Number:
		f, err := strconv.ParseFloat(v.String(), 32)
		if err != nil || !(f >= 0 && f <= 1) {
			return 0, bad(schemas.ReasonBadType, "field %q is %s, want an outcome in [0, 1]", path, v)
		}
		return float32(f), nil
	}
	return 0, bad(schemas.ReasonBadType, "field %q is %s, want an outcome in [0, 1]", path, kindOf(v))
}

// turn is a chat message.
type turn struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// dialogue is what was read of chat messages: the prompt is what stands before the response, as text and as messages.
type dialogue struct{ prompt, messages, response string }

// conversation reads chat messages [{role, content}, ...] of a single turn: an optional system message, one user
// message, and an assistant message where there is a response.
func conversation(v any, path string) (d dialogue, err error) {
	list, ok := v.([]any)
	if !ok {
		return d, bad(schemas.ReasonUnreadable, "field %q is %s, want a list of messages", path, kindOf(v))
	}
	var before []turn
	for i, m := range list {
		msg, ok := m.(map[string]any)
		if !ok {
			return d, bad(schemas.ReasonUnreadable, "field %q: message %d is %s, want an object with role and content", path, i, kindOf(m))
		}
		role, _ := msg["role"].(string)
		content, ok := msg["content"].(string)
		if !ok {
			return d, bad(schemas.ReasonUnreadable, "field %q: message %d has %s for its content, want text", path, i, kindOf(msg["content"]))
		}
		if !utf8.ValidString(content) {
			return d, bad(schemas.ReasonBadUTF8, "field %q: message %d is not UTF-8", path, i)
		}
		last := i == len(list)-1
		switch {
		case role == "system" && i == 0, role == "user" && i <= 1 && (i == 0 || list[0].(map[string]any)["role"] == "system"):
			before = append(before, turn{role, content})
		case role == "assistant" && last && i > 0:
			d.response = content
		default:
			return d, bad(schemas.ReasonUnreadable, "field %q: message %d has role %q; want one turn: system (or none), user, assistant",
				path, i, role)
		}
	}
	if len(before) == 0 {
		return d, bad(schemas.ReasonUnreadable, "field %q has no messages", path)
	}
	texts := make([]string, len(before))
	for i, t := range before {
		texts[i] = t.Content
	}
	raw, err := json.Marshal(before)
	d.prompt, d.messages = strings.Join(texts, "\n\n"), string(raw)
	return d, err
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case bool:
		return "a truth value"
	case json.Number:
		return "a number"
	case string:
		return "text"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("a %T", v)
}
