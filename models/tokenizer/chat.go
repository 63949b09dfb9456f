package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/millrace/millrace/models/tokenizer/jinja"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string
	Content string
	Fields  map[string]any // what else a template may read, such as tool_calls; a "content" here replaces Content
}

// UnmarshalJSON reads {"role": ..., "content": ..., ...}. A content that is no text goes to Fields.
func (m *Message) UnmarshalJSON(text []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	*m = Message{}
	role, ok := asString(fields["role"])
	if !ok {
		return errors.New("message without a role")
	}
	m.Role = role
	for name, raw := range fields {
		if name == "role" {
			continue
		}
		if s, ok := asString(raw); ok && name == "content" {
			m.Content = s
			continue
		}
		v, err := jinja.FromJSON(raw)
		if err != nil {
			return fmt.Errorf("message: %s: %w", name, err)
		}
		if m.Fields == nil {
			m.Fields = map[string]any{}
		}
		m.Fields[name] = v
	}
	return nil
}

// Chat renders conversations with a tokenizer's chat template. It is safe for concurrent use.
type Chat struct {
	t        Tokenizer
	template *jinja.Template
	vars     map[string]any
}

// ErrNoTemplate says that a tokenizer comes without a chat template.
var ErrNoTemplate = errors.New("tokenizer: the model has no chat template (chat_template in tokenizer_config.json, or chat_template.jinja)")

// NewChat parses the tokenizer's chat template.
func NewChat(t Tokenizer) (*Chat, error) {
	source := t.ChatTemplate()
	if source == "" {
		return nil, ErrNoTemplate
	}
	template, err := jinja.Parse(source)
	if err != nil {
		return nil, err
	}
	c := &Chat{t: t, template: template, vars: map[string]any{"tools": nil, "documents": nil}}
	if id := t.BOS(); id != None {
		c.vars["bos_token"] = t.Token(id)
	}
	if id := t.Pad(); id != None {
		c.vars["pad_token"] = t.Token(id)
	}
	if ids := t.EOS(); len(ids) > 0 {
		c.vars["eos_token"] = t.Token(ids[0])
	}
	return c, nil
}

// Render writes out a conversation; with generationPrompt it ends where the assistant's answer begins. vars are further
// variables of the template, such as enable_thinking; their values are those of the jinja package.
func (c *Chat) Render(messages []Message, generationPrompt bool, vars map[string]any) (string, error) {
	turns := make([]any, len(messages))
	for i, m := range messages {
		turn := map[string]any{"role": m.Role, "content": m.Content}
		maps.Copy(turn, m.Fields)
		turns[i] = turn
	}
	all := maps.Clone(c.vars)
	all["messages"], all["add_generation_prompt"] = turns, generationPrompt
	maps.Copy(all, vars)
	return c.template.Render(all, jinja.Limits{})
}

// Encode renders a conversation and returns its ids.
func (c *Chat) Encode(messages []Message, generationPrompt bool, vars map[string]any) ([]int32, error) {
	text, err := c.Render(messages, generationPrompt, vars)
	if err != nil {
		return nil, err
	}
	return c.t.Encode(text)
}
