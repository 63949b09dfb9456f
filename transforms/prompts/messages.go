package prompts

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files/parquetrows"
)

// rowError is what is wrong with a row of a file, with the reason it is counted under.
type rowError struct {
	reason schemas.Reason
	err    error
}

func (e *rowError) Error() string { return e.err.Error() }
func (e *rowError) Unwrap() error { return e.err }

// errNull says of a field that it is there without a value.
var errNull = errors.New("is null")

func bad(reason schemas.Reason, format string, args ...any) error {
	return &rowError{reason, fmt.Errorf(format, args...)}
}

// field follows a dotted path, such as reward_model.ground_truth, into a row.
func field(row map[string]any, path string) (any, error) {
	v, _, err := find(row, path)
	return v, err
}

// find is field, and names what it found in the row itself. Names may hold dots: the longest that is there is taken.
func find(row map[string]any, path string) (v any, root string, err error) {
	for end := len(path); end >= 0; end = strings.LastIndexByte(path[:end], '.') {
		key := path[:end]
		in, there := row[key]
		if !there {
			continue
		}
		if in == nil || end == len(path) {
			v = in
		} else if m, ok := in.(map[string]any); ok {
			v, _, err = find(m, path[end+1:])
		} else {
			err = bad(schemas.ReasonBadType, "field %q: %q is %s, want an object", path, key, kindOf(in))
		}
		if err == nil && v == nil {
			err = bad(schemas.ReasonMissingField, "field %q %w", path, errNull)
		}
		return v, key, err
	}
	return nil, "", bad(schemas.ReasonMissingField, "field %q is missing", path)
}

// text is a string, or a number as it was written.
func text(v any, path string) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case []byte:
		return "", bad(schemas.ReasonBadUTF8, "field %q is not UTF-8", path)
	case parquetrows.NotFinite:
		return "", bad(schemas.ReasonNotFinite, "field %q is %s, want text or a number", path, v)
	}
	return "", bad(schemas.ReasonBadType, "field %q is %s, want text or a number", path, kindOf(v))
}

// answer is the text of a reference answer; a list is one where it has one item. A row has one answer, so a list of several, as data
// or as Python or JSON writes it into a text, is refused rather than read as a part of it.
func answer(v any, path string) (string, error) {
	list, ok := v.([]any)
	if ok && len(list) == 1 {
		return text(list[0], path)
	}
	n := len(list)
	if s, isText := v.(string); isText {
		n = quotedList(s)
	}
	if n > 1 {
		return "", bad(schemas.ReasonBadType, "field %q has %d answers, want one", path, n)
	}
	return text(v, path)
}

// quotedList is the number of items of a list of quoted texts, such as ['34', "35"]; 0 where a text is none.
func quotedList(s string) (n int) {
	s = strings.TrimSpace(s)
	if len(s) < 2 || s[0] != '[' || s[len(s)-1] != ']' {
		return 0
	}
	for rest := strings.TrimSpace(s[1 : len(s)-1]); rest != ""; n++ {
		quote := rest[0]
		if quote != '\'' && quote != '"' {
			return 0
		}
		end := 1
		for ; end < len(rest) && rest[end] != quote; end++ {
			if rest[end] == '\\' {
				end++
			}
		}
		if end >= len(rest) {
			return 0
		}
		rest = strings.TrimSpace(rest[end+1:])
		if rest != "" {
			if rest[0] != ',' {
				return 0
			}
			rest = strings.TrimSpace(rest[1:])
		}
	}
	return n
}

// outcome is a label: 0 or 1, true or false, or a number between, each also as text.
func outcome(v any, path string) (float32, error) {
	switch t := v.(type) {
	case bool:
		v = json.Number(map[bool]string{true: "1", false: "0"}[t])
	case string:
		switch strings.ToLower(strings.TrimSpace(t)) {
		case "true":
			v = json.Number("1")
		case "false":
			v = json.Number("0")
		default:
			v = json.Number(strings.TrimSpace(t))
		}
	}
	n, ok := v.(json.Number)
	if !ok {
		return 0, bad(schemas.ReasonBadType, "field %q is %s, want an outcome in [0, 1]", path, kindOf(v))
	}
	f, err := strconv.ParseFloat(n.String(), 32)
	if err != nil || !(f >= 0 && f <= 1) {
		return 0, bad(schemas.ReasonBadType, "field %q is %q, want an outcome in [0, 1]", path, n)
	}
	return float32(f), nil
}

// firstError is the index of the first verdict of a list that is false, or -1.
func firstError(list []any, path string) (int, error) {
	for i, v := range list {
		right, ok := v.(bool)
		if !ok {
			return 0, bad(schemas.ReasonBadType, "field %q: item %d is %s, want true or false", path, i, kindOf(v))
		}
		if !right {
			return i, nil
		}
	}
	return -1, nil
}

// turn is a chat message.
type turn struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// dialogue is what was read of chat messages: the prompt is what stands before the response, as text and as messages.
type dialogue struct {
	prompt, messages, response string
	question                   string // what the user says
	system                     bool   // there is a system message that says something
}

// roleOf are the names that roles go by, those of ShareGPT included.
var roleOf = map[string]string{"system": "system", "developer": "system", "user": "user", "human": "user",
	"assistant": "assistant", "gpt": "assistant", "tool": "tool", "observation": "tool", "function": "tool"}

// conversation reads chat messages: an optional system message, what the user says, with earlier turns of the assistant and of tools
// before it, and a last assistant message where there is a response, which may stand alone where the prompt is known. Messages
// are {role, content} or, as in ShareGPT, {from, value}.
func conversation(v any, path string, prompted bool) (d dialogue, err error) {
	list, ok := v.([]any)
	if !ok {
		return d, bad(schemas.ReasonUnreadable, "field %q is %s, want a list of messages", path, kindOf(v))
	}
	var before []turn
	for i, m := range list {
		role, content, err := message(m, fmt.Sprintf("field %q: message %d", path, i))
		if err != nil {
			return d, err
		}
		last := i == len(list)-1
		switch {
		case role == "system" && len(before) == 0 && i == 0:
			d.system = strings.TrimSpace(content) != ""
			before = append(before, turn{role, content})
		case role == "assistant" && last && (i > 0 || prompted):
			d.response = content
		case role == "user", role == "assistant" && asked(before), role == "tool" && asked(before):
			before = append(before, turn{role, content})
		default:
			return d, bad(schemas.ReasonUnreadable, "field %q: message %d has role %q; want system (or none), user, and then further turns of "+
				"assistant, tool and user", path, i, role)
		}
	}
	d.question = strings.TrimSpace(saidIn(before))
	if len(before) == 0 {
		if prompted && d.response != "" {
			return d, nil
		}
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

// asked reports whether the user has said something.
func asked(turns []turn) bool {
	return slices.ContainsFunc(turns, func(t turn) bool { return t.Role == "user" })
}

// message is the role and the text of a message. What a model thought, where it stands in a field of its own, is put before what it
// said, in the marks that models write it with.
func message(m any, what string) (role, content string, err error) {
	msg, ok := m.(map[string]any)
	if !ok {
		return "", "", bad(schemas.ReasonUnreadable, "%s is %s, want an object with role and content, or from and value", what, kindOf(m))
	}
	said, there := msg["content"]
	name, _ := msg["role"].(string)
	if from, is := msg["from"].(string); is && !there {
		name, said = from, msg["value"]
	}
	if role, ok = roleOf[name]; !ok {
		role = name
	}
	if parts, is := said.([]any); is {
		if content, ok = partsOf(parts); !ok {
			return "", "", bad(schemas.ReasonUnreadable, "%s has parts that are no text", what)
		}
		said = content
	}
	switch text := said.(type) {
	case string:
		content = text
	case []byte:
		return "", "", bad(schemas.ReasonBadUTF8, "%s is not UTF-8", what)
	default:
		return "", "", bad(schemas.ReasonUnreadable, "%s has %s for its content, want text", what, kindOf(said))
	}
	for _, key := range []string{"reasoning_content", "reasoning", "thinking"} {
		thought, is := msg[key].(string)
		if is && role == "assistant" && strings.TrimSpace(thought) != "" && !strings.Contains(content, "</think>") {
			return role, "<think>\n" + strings.TrimSpace(thought) + "\n</think>\n\n" + content, nil
		}
	}
	return role, content, nil
}

// partsOf joins the texts of a content that comes in parts; false where one is none, such as an image.
func partsOf(parts []any) (string, bool) {
	var b strings.Builder
	for _, part := range parts {
		m, _ := part.(map[string]any)
		text, ok := m["text"].(string)
		if kind, _ := m["type"].(string); !ok || kind != "text" && kind != "input_text" && kind != "output_text" {
			return "", false
		}
		b.WriteString(text)
	}
	return b.String(), len(parts) > 0
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
	case []byte:
		return "bytes that are no text"
	case parquetrows.NotFinite:
		return "no finite number"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return fmt.Sprintf("a %T", v)
}
