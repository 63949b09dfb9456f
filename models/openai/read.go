package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Servers give fields of their own types where nobody looks: an answer is read field by field, and what is not used can be anything.

type object = map[string]json.RawMessage

// into reads a field if it is there, whole or not at all.
func into[T any](o object, name string, v *T) error {
	value, ok := o[name]
	if !ok || string(value) == "null" {
		return nil
	}
	var read T
	if err := json.Unmarshal(value, &read); err != nil {
		return fmt.Errorf("%s is not what the protocol says: %w", name, err)
	}
	*v = read
	return nil
}

// number reads a whole number that may be written as a fraction or a text.
func number(value json.RawMessage) (int, bool) {
	text := strings.Trim(string(value), `"`)
	if n, err := strconv.Atoi(text); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	return int(f), err == nil && f == float64(int32(f))
}

// UnmarshalJSON reads an answer.
func (r *Response) UnmarshalJSON(text []byte) error {
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	*r = Response{}
	_ = json.Unmarshal(o["id"], &r.ID) // these are shown at most
	_ = json.Unmarshal(o["object"], &r.Object)
	_ = json.Unmarshal(o["created"], &r.Created)
	_ = json.Unmarshal(o["model"], &r.Model)
	var usage object
	if json.Unmarshal(o["usage"], &usage) == nil {
		if prompt, ok := number(usage["prompt_tokens"]); ok {
			r.Usage = &Usage{Prompt: prompt}
			r.Usage.Completion, _ = number(usage["completion_tokens"])
			r.Usage.Total, _ = number(usage["total_tokens"])
		}
	}
	return into(o, "choices", &r.Choices)
}

// UnmarshalJSON reads a choice. A field that cannot be read is left out, and Odd says why.
func (c *Choice) UnmarshalJSON(text []byte) error {
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	*c = Choice{}
	odd := func(name string, err error) {
		if err != nil {
			if c.Odd == nil {
				c.Odd = map[string]string{}
			}
			c.Odd[name] = err.Error()
		}
	}
	if n, ok := number(o["index"]); ok {
		c.Index = n
	} else {
		odd("index", errors.New("index is missing"))
	}
	odd("text", into(o, "text", &c.Text))
	odd("message", into(o, "message", &c.Message))
	odd("delta", into(o, "delta", &c.Delta))
	odd("token_ids", into(o, "token_ids", &c.TokenIDs))
	odd("logprobs", into(o, "logprobs", &c.LogProbs))
	odd("prompt_logprobs", into(o, "prompt_logprobs", &c.PromptLogProbs))
	odd("millrace", into(o, "millrace", &c.Millrace))
	var reason struct {
		Type string `json:"type"` // SGLang's native form
	}
	if json.Unmarshal(o["finish_reason"], &c.FinishReason) != nil && json.Unmarshal(o["finish_reason"], &reason) == nil && reason.Type != "" {
		c.FinishReason = &reason.Type
	}
	return nil
}

// UnmarshalJSON reads log-probs. The most probable tokens are left out where they have another form.
func (l *LogProbs) UnmarshalJSON(text []byte) error {
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	*l = LogProbs{}
	_ = json.Unmarshal(o["tokens"], &l.Tokens)
	if json.Unmarshal(o["top_logprobs"], &l.TopLogProbs) != nil {
		l.TopLogProbs = nil
	}
	if err := into(o, "token_logprobs", &l.TokenLogProbs); err != nil {
		return err
	}
	return into(o, "content", &l.Content)
}

// UnmarshalJSON reads the list of models, which some servers send bare.
func (m *Models) UnmarshalJSON(text []byte) error {
	*m = Models{}
	if err := json.Unmarshal(text, &m.Data); err == nil {
		return nil
	}
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	m.Data = nil
	return into(o, "data", &m.Data)
}

// UnmarshalJSON reads a model.
func (m *Model) UnmarshalJSON(text []byte) error {
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	*m = Model{}
	_ = json.Unmarshal(o["object"], &m.Object)
	_ = json.Unmarshal(o["owned_by"], &m.OwnedBy)
	_ = json.Unmarshal(o["root"], &m.Root)
	m.MaxLen, _ = number(o["max_model_len"])
	if err := into(o, "id", &m.ID); err != nil {
		return err
	}
	return into(o, "millrace", &m.Millrace)
}

// Complaint is what an answer says went wrong, in whichever form the server has for it; "" where it says nothing. Code is
// what it calls the fault, a number or a name.
func Complaint(text []byte) (problem, code string) {
	var o object
	if json.Unmarshal(text, &o) != nil {
		return "", ""
	}
	say := func(o object, names ...string) string {
		for _, name := range names {
			var s string
			if json.Unmarshal(o[name], &s) == nil && s != "" {
				return s
			}
		}
		return ""
	}
	in := o
	var inner object
	if json.Unmarshal(o["error"], &inner) == nil && inner != nil {
		in = inner
	}
	problem = say(in, "message", "error", "detail", "msg", "title")
	var details []struct { // of FastAPI's validation
		Where []any  `json:"loc"`
		Text  string `json:"msg"`
	}
	if problem == "" && json.Unmarshal(in["detail"], &details) == nil {
		var all []string
		for _, d := range details {
			all = append(all, strings.Trim(fmt.Sprint(d.Where), "[]")+": "+d.Text)
		}
		problem = strings.Join(all, "; ")
	}
	for _, name := range []string{"code", "type", "error_type"} {
		if value := strings.Trim(string(in[name]), `"`); value != "" && value != "null" && code == "" {
			code = value
		}
	}
	return problem, code
}
