package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/models/tokenizer/jinja"
	"github.com/millrace/millrace/schemas/setting"
)

// Prompting says how a prompt is put to a model: as plain text, or as the user's turn of a conversation in the form that the
// model's chat template gives it.
type Prompting struct {
	Template    bool      `json:"template" doc:"write prompts out with the tokenizer's chat template, up to where the answer begins"`
	System      string    `json:"system" doc:"the system's turn; empty: the template's; a prompt that brings its own keeps it"`
	Instruction string    `json:"instruction" doc:"put after every prompt, such as how the answer is to be marked"`
	Variables   Variables `json:"variables,omitempty" doc:"further variables of the template, such as {enable_thinking: false}"`
}

// Variables are the variables of a chat template, a JSON object as text.
type Variables string

// UnmarshalJSON takes an object.
func (v *Variables) UnmarshalJSON(raw []byte) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return errors.New("variables: want a section of keys, such as {enable_thinking: false}")
	}
	*v = ""
	if len(object) > 0 {
		text, err := json.Marshal(object) // keys in order
		if err != nil {
			return err
		}
		*v = Variables(text)
	}
	return nil
}

// SettingSchema describes an object of any keys.
func (v *Variables) SettingSchema() *setting.Schema { return &setting.Schema{Type: "object"} }

// MarshalJSON is the inverse of UnmarshalJSON.
func (v Variables) MarshalJSON() ([]byte, error) {
	if v == "" {
		return []byte("{}"), nil
	}
	return []byte(v), nil
}

func (v Variables) values() (map[string]any, error) {
	if v == "" {
		return nil, nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(v), &raw); err != nil {
		return nil, errors.New("is not an object")
	}
	out := make(map[string]any, len(raw))
	for name, text := range raw {
		value, err := jinja.FromJSON(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = value
	}
	return out, nil
}

// reserved are what the template reads of the conversation itself.
var reserved = []string{"messages", "add_generation_prompt"}

// Validate names the first key that does not go with the others.
func (p Prompting) Validate() error {
	vars, err := p.Variables.values()
	switch {
	case err != nil:
		return setting.In("variables", err)
	case !p.Template && p.System != "":
		return setting.Errorf("system", "belongs to a chat template; set template: true")
	case !p.Template && len(vars) > 0:
		return setting.Errorf("variables", "belong to a chat template; set template: true")
	}
	for _, name := range reserved {
		if _, ok := vars[name]; ok {
			return setting.Errorf("variables", "%s is the conversation's own", name)
		}
	}
	return nil
}

// Prompter turns prompts into the ids that a model continues. It is safe for concurrent use.
type Prompter struct {
	t      Tokenizer
	config Prompting
	chat   *Chat // nil: plain text
	vars   map[string]any
	end    []int32
}

// NewPrompter makes the prompter of a tokenizer; ErrNoTemplate when a template is asked for and there is none.
func NewPrompter(t Tokenizer, config Prompting) (*Prompter, error) {
	if err := setting.Check(config); err != nil {
		return nil, err
	}
	p := &Prompter{t: t, config: config, end: t.EOS()}
	if !config.Template {
		return p, nil
	}
	var err error
	if p.chat, err = NewChat(t); err != nil {
		return nil, err
	}
	if p.vars, err = config.Variables.values(); err != nil {
		return nil, err
	}
	turn, ok, err := p.turnEnd()
	if err != nil {
		return nil, err
	}
	if ok {
		p.end = append([]int32{turn}, slices.DeleteFunc(slices.Clone(p.end), func(id int32) bool { return id == turn })...)
	}
	return p, nil
}

// Encode returns the ids of a prompt, given as a text and, where it came as one, as the messages of a conversation: a JSON
// list of {role, content}, "" for none. With a template the messages count, else the text.
func (p *Prompter) Encode(prompt, messages string) ([]int32, error) {
	if p.chat == nil {
		ids, err := p.t.Encode(prompt + p.config.Instruction)
		if err != nil {
			return nil, err
		}
		return append(slices.Clone(p.t.Prefix()), ids...), nil
	}
	turns := []Message{{Role: "user", Content: prompt}}
	if messages != "" {
		if err := json.Unmarshal([]byte(messages), &turns); err != nil {
			return nil, fmt.Errorf("tokenizer: messages: %w", err)
		}
		if len(turns) == 0 {
			return nil, errors.New("tokenizer: messages: there are none")
		}
	}
	turns[len(turns)-1].Content += p.config.Instruction
	if p.config.System != "" && turns[0].Role != "system" {
		turns = append([]Message{{Role: "system", Content: p.config.System}}, turns...)
	}
	return p.chat.Encode(turns, true, p.vars)
}

// End are the ids that end a response: with a template the token that closes the assistant's turn first, then the
// tokenizer's own.
func (p *Prompter) End() []int32 { return p.end }

// probe is an answer that no template changes.
const probe = "millrace7answer"

// turnEnd finds the control token that the template writes after an answer.
func (p *Prompter) turnEnd() (int32, bool, error) {
	text, err := p.chat.Render([]Message{{Role: "user", Content: "q"}, {Role: "assistant", Content: probe}}, false, p.vars)
	if err != nil {
		return None, false, fmt.Errorf("tokenizer: the chat template does not take a question and its answer: %w", err)
	}
	at := strings.LastIndex(text, probe)
	if at < 0 {
		return None, false, nil
	}
	ids, err := p.t.Encode(strings.TrimLeft(text[at+len(probe):], " \n"))
	if err != nil || len(ids) == 0 || !p.t.Special(ids[0]) {
		return None, false, nil // a template that ends turns with text
	}
	return ids[0], true, nil
}
