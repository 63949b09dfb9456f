// Package openai holds the messages of the completions protocol of OpenAI-compatible servers, as far as this program speaks
// it: the standard fields, the widespread additions for token ids and prompt log-probs (vLLM's names), and additions of its
// own, under the key millrace, which servers that do not know them ignore.
package openai

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
)

// Prompt is a text, or token ids.
type Prompt struct {
	Text string
	IDs  []int32 // nil: Text counts
}

func (p Prompt) MarshalJSON() ([]byte, error) {
	if p.IDs != nil {
		return json.Marshal(p.IDs)
	}
	return json.Marshal(p.Text)
}

func (p *Prompt) UnmarshalJSON(text []byte) error {
	*p = Prompt{}
	if len(text) > 0 && text[0] == '"' {
		return json.Unmarshal(text, &p.Text)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil {
		return errors.New("prompt is neither a text nor a list of token ids")
	}
	if list == nil {
		return errors.New("prompt is null")
	}
	p.IDs = make([]int32, len(list))
	for i, item := range list {
		if len(list) > 0 && (item[0] == '"' || item[0] == '[') {
			return errors.New("prompt is a list of prompts; send one prompt a request, as a text or a list of token ids")
		}
		var id *int32
		if err := json.Unmarshal(item, &id); err != nil || id == nil {
			return fmt.Errorf("prompt: %s, at %d, is not a token id", item[:min(len(item), 40)], i)
		}
		p.IDs[i] = *id
	}
	return nil
}

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`

	Reasoning string   `json:"reasoning_content,omitempty"` // what a server set apart of the text of an answer
	Unread    []string `json:"-"`                           // fields with a value that are none of these; parts that are no text
}

// UnmarshalJSON takes a text, or the texts of a list of parts.
func (m *Message) UnmarshalJSON(text []byte) error {
	*m = Message{}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		var err error
		switch name {
		case "role":
			err = json.Unmarshal(value, &m.Role)
		case "content":
			err = m.content(value)
		case "reasoning_content", "reasoning":
			var text string
			if json.Unmarshal(value, &text) == nil && text != "" {
				m.Reasoning = text
			}
		default:
			if !empty(value) {
				m.Unread = append(m.Unread, name)
			}
		}
		if err != nil {
			return fmt.Errorf("%s of a message: %w", name, err)
		}
	}
	return nil
}

func (m *Message) content(value json.RawMessage) error {
	if value[0] != '[' {
		return json.Unmarshal(value, &m.Content)
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(value, &parts); err != nil {
		return err
	}
	for _, p := range parts {
		if p.Type != "text" {
			m.Unread = append(m.Unread, "content of type "+p.Type)
		}
		m.Content += p.Text
	}
	return nil
}

func empty(value json.RawMessage) bool {
	return slices.Contains([]string{"null", "[]", "{}", `""`, "false"}, string(value))
}

// Texts are one text or a list of them.
type Texts []string

func (t *Texts) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		*t = make(Texts, 1)
		return json.Unmarshal(text, &(*t)[0])
	}
	return json.Unmarshal(text, (*[]string)(t))
}

// Fields are the names of the fields of a message.
func Fields(message any) []string {
	var out []string
	t := reflect.TypeOf(message)
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		out = append(out, name)
	}
	return out
}

// Request asks for completions of a prompt (/v1/completions) or of a conversation (/v1/chat/completions).
type Request struct {
	Model    string    `json:"model"`
	Prompt   *Prompt   `json:"prompt,omitempty"`
	Messages []Message `json:"messages,omitempty"`

	MaxTokens int `json:"max_tokens"`
	MinTokens int `json:"min_tokens,omitempty"`

	MaxCompletionTokens int `json:"max_completion_tokens,omitempty"` // what chat completions call MaxTokens of late

	N           int      `json:"n,omitempty"`
	Temperature *float32 `json:"temperature,omitempty"`
	TopP        *float32 `json:"top_p,omitempty"`
	TopK        int      `json:"top_k,omitempty"`
	Seed        *int64   `json:"seed,omitempty"`
	Stop        Texts    `json:"stop,omitempty"`
	StopIDs     []int32  `json:"stop_token_ids,omitempty"`
	Stream      bool     `json:"stream,omitempty"`

	StreamOptions *StreamOptions `json:"stream_options,omitempty"`

	LogProbs       json.RawMessage `json:"logprobs,omitempty"` // completions: how many; chat: a boolean
	TopLogProbs    int             `json:"top_logprobs,omitempty"`
	Echo           bool            `json:"echo,omitempty"`
	PromptLogProbs *int            `json:"prompt_logprobs,omitempty"`
	ReturnTokenIDs bool            `json:"return_token_ids,omitempty"`

	Millrace *Extension `json:"millrace,omitempty"`
}

// StreamOptions are the options of a streamed answer.
type StreamOptions struct {
	IncludeUsage bool `json:"include_usage"` // a last chunk counts the tokens
}

// Delta is what a chunk of a streamed chat answer adds to its message.
type Delta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

// Extension asks for what the standard cannot say.
type Extension struct {
	Generate *Generate `json:"generate,omitempty"`
	Score    *Score    `json:"score,omitempty"`
}

// Generate says which keyed samples are wanted, so that they are those of the model at hand.
type Generate struct {
	Seed          uint64  `json:"seed"`
	PromptID      string  `json:"prompt_id"` // 32 hexadecimal digits
	FirstSample   int     `json:"first_sample"`
	CandidateK    int     `json:"candidate_k,omitempty"`
	CandidateMinP float32 `json:"candidate_min_p,omitempty"`
	Greedy        bool    `json:"greedy,omitempty"`
}

// Score asks for the log-probs of the last tokens of the prompt.
type Score struct {
	Response   int     `json:"response"` // how many of the prompt's tokens are the response
	ListStart  []int32 `json:"list_start,omitempty"`
	ListIDs    []int32 `json:"list_ids,omitempty"`
	TopK       int     `json:"top_k,omitempty"`
	Values     bool    `json:"values,omitempty"`
	ValueAfter bool    `json:"value_after,omitempty"`
}

// Response is the answer to a Request.
type Response struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []Choice `json:"choices"`
	Usage   *Usage   `json:"usage,omitempty"`
}

// Usage counts tokens.
type Usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

// Choice is one completion.
type Choice struct {
	Index          int                   `json:"index"`
	Text           *string               `json:"text,omitempty"`
	Message        *Message              `json:"message,omitempty"`
	Delta          *Delta                `json:"delta,omitempty"` // in place of Message, in a stream
	FinishReason   *string               `json:"finish_reason"`
	TokenIDs       []int32               `json:"token_ids,omitempty"`
	LogProbs       *LogProbs             `json:"logprobs,omitempty"`
	PromptLogProbs []map[string]TokenLog `json:"prompt_logprobs,omitempty"` // by token id; null for the first token
	Millrace       *Detail               `json:"millrace,omitempty"`

	Odd map[string]string `json:"-"` // what is wrong with fields that could not be read, by name; "index" where it is missing
}

// LogProbs is the standard form: for completions token by token, for chat as a list of objects.
type LogProbs struct {
	Tokens        []string             `json:"tokens,omitempty"`
	TokenLogProbs []*float32           `json:"token_logprobs,omitempty"`
	TopLogProbs   []map[string]float32 `json:"top_logprobs,omitempty"`
	Content       []TokenLog           `json:"content,omitempty"`
}

// TokenLog is a token with its log-prob.
type TokenLog struct {
	Token   string  `json:"token,omitempty"`
	LogProb float32 `json:"logprob"`
	Rank    int     `json:"rank,omitempty"`
	Decoded string  `json:"decoded_token,omitempty"`

	Top []TokenLog `json:"top_logprobs,omitempty"` // of chat completions
}

// Detail is what the standard has no place for.
type Detail struct {
	Sample         int     `json:"sample,omitempty"`
	LogP           Floats  `json:"logp,omitempty"`
	LogZ           Floats  `json:"logz,omitempty"`
	CandidateStart []int32 `json:"candidate_start,omitempty"`
	CandidateIDs   []int32 `json:"candidate_ids,omitempty"`
	CandidateLogP  Floats  `json:"candidate_logp,omitempty"`

	Entropy     Floats  `json:"entropy,omitempty"`
	ListLogP    Floats  `json:"list_logp,omitempty"`
	TopIDs      []int32 `json:"top_ids,omitempty"`
	TopLogP     Floats  `json:"top_logp,omitempty"`
	TopRestLogP Floats  `json:"top_rest_logp,omitempty"`
	Values      Floats  `json:"values,omitempty"`

	Error string `json:"error,omitempty"` // what is wrong with this one response
}

// Floats are sent as the base64 of their little-endian bits: short, exact, and infinities have a form.
type Floats []float32

func (f Floats) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 4*len(f))
	for _, v := range f {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(b))
}

func (f *Floats) UnmarshalJSON(text []byte) error {
	var s *string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if s == nil {
		*f = nil
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(*s)
	if err != nil {
		return err
	}
	if len(b)%4 != 0 {
		return fmt.Errorf("%d bytes are not whole floats", len(b))
	}
	*f = make(Floats, len(b)/4)
	for i := range *f {
		(*f)[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return nil
}

// Models is the answer of /v1/models.
type Models struct {
	Object string  `json:"object"`
	Data   []Model `json:"data"`
}

// Model is a model that a server offers.
type Model struct {
	ID       string `json:"id"`
	Object   string `json:"object"`
	OwnedBy  string `json:"owned_by,omitempty"`
	Root     string `json:"root,omitempty"` // vLLM: where the weights came from
	MaxLen   int    `json:"max_model_len,omitempty"`
	Millrace *About `json:"millrace,omitempty"`
}

// About says that a server understands the extension, and which model it serves.
type About struct {
	Digest string `json:"digest"` // with the precision, where that is not float32
	Vocab  int    `json:"vocab,omitempty"`
}

// ErrorBody is the answer to a request that failed.
type ErrorBody struct {
	Error ErrorDetail `json:"error"`
}

// ErrorDetail says what went wrong.
type ErrorDetail struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Param   string `json:"param,omitempty"`
}
