package export

import (
	"encoding/json"
	"slices"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// Why formats of texts leave rows out.
const (
	leftNoAnswer   = "no answer"
	leftNoOutcome  = "no outcome"
	leftNotCorrect = "not correct"
	leftNoResponse = "an empty response"
	leftMessages   = "messages that are no list of role and content"
)

// Message is a turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Prompts are the settings of formats that hold prompts as texts or as messages.
type Prompts struct {
	Prompt string `json:"prompt" enum:"auto,text,messages" doc:"write prompts as texts, or as messages, which trainers put through a chat template; auto: messages where the run did that, or where files have messages"`

	chat     *Chat
	messages bool
}

// known settles whether prompts are messages, which is the same for all rows of an export: a column of both is read by no one.
func (p Prompts) known(of Origin, heads []stage.Batch) Prompts {
	p.chat = of.Chat
	switch p.Prompt {
	case "text":
	case "messages":
		p.messages = true
	default:
		p.messages = slices.ContainsFunc(heads, func(b stage.Batch) bool { return b.Has(schemas.Messages) })
		if of.Chat != nil {
			p.messages = of.Chat.Template
		}
	}
	return p
}

// of gives the prompts of a batch as they were put to the model, before any chat template.
func (p Prompts) of(b stage.Batch) func(row int) prompt {
	texts, messages := schemas.Prompt.Of(b), schemas.MessagesOf(b)
	var chat Chat
	if p.chat != nil {
		chat = *p.chat
	}
	return func(row int) prompt {
		if !p.messages {
			return prompt{text: texts.At(row) + chat.Instruction}
		}
		turns := []Message{{Role: "user", Content: texts.At(row)}}
		if raw := messages(row); raw != "" {
			turns = nil
			if err := json.Unmarshal([]byte(raw), &turns); err != nil || len(turns) == 0 {
				return prompt{left: leftMessages}
			}
		}
		turns[len(turns)-1].Content += chat.Instruction
		if chat.System != "" && turns[0].Role != "system" {
			turns = append([]Message{{Role: "system", Content: chat.System}}, turns...)
		}
		return prompt{turns: turns}
	}
}

// prompt is a text or, where it has turns, a conversation up to the answer.
type prompt struct {
	text  string
	turns []Message
	left  string // why it cannot be written; "" where it can
}

// MarshalJSON writes a text or a list of messages.
func (p prompt) MarshalJSON() ([]byte, error) {
	if p.turns != nil {
		return marshal(p.turns)
	}
	return marshal(p.text)
}

// reply is a response in the form of its prompt.
func (p prompt) reply(text string) prompt {
	if p.turns != nil {
		return prompt{turns: []Message{{Role: "assistant", Content: text}}}
	}
	return prompt{text: text}
}

// Kept is the setting of formats that imitate responses.
type Kept struct {
	Keep string `json:"keep" enum:"correct,all" doc:"the responses that are written: those with outcome 1, or all"`
}

// left says why a response is left out; "" where it is kept.
func (k Kept) left(outcome schemas.Scalars[float32], row int) string {
	if k.Keep == "all" {
		return ""
	}
	switch y, ok := outcome.At(row); {
	case !ok:
		return leftNoOutcome
	case y <= 0.5:
		return leftNotCorrect
	}
	return ""
}

// kept gives the responses of a batch that are written, or says why a row is left out.
func (k Kept) kept(of Prompts, b stage.Batch) func(row int) (p prompt, response string, left string) {
	prompts, texts, outcome := of.of(b), schemas.Response.Of(b), k.outcomes(b)
	return func(row int) (prompt, string, string) {
		p := prompts(row)
		switch why := k.left(outcome, row); {
		case why != "":
			return p, "", why
		case p.left != "":
			return p, "", p.left
		case texts.At(row) == "":
			return p, "", leftNoResponse
		}
		return p, texts.At(row), ""
	}
}

// outcomes is the column of outcomes, or none where it is not read.
func (k Kept) outcomes(b stage.Batch) schemas.Scalars[float32] {
	if k.Keep == "all" {
		return schemas.Scalars[float32]{}
	}
	return schemas.Outcome.Of(b)
}

// columns are those that the setting reads.
func (k Kept) columns() []schemas.Descriptor {
	if k.Keep == "all" {
		return nil
	}
	return []schemas.Descriptor{schemas.Outcome}
}

// withoutPairs refuses rows that are pairs, which formats of single responses do not read.
func withoutPairs(format string, heads []stage.Batch) error {
	for _, rows := range heads {
		if rows.Has(schemas.PairID) {
			return setting.Errorf("rows", "are preference pairs, and %s is made of single responses; give it the batch files of a run", format)
		}
	}
	return nil
}

// scoreOf is the reward of a response where the recipe composed one, else its outcome.
func scoreOf(b stage.Batch) func(row int) (float32, bool) {
	column := schemas.Outcome
	if b.Has(schemas.Reward) {
		column = schemas.Reward
	}
	return column.Of(b).At
}

// textOf gives a nullable text of a batch; nil where it is null or the batch has no such column.
func textOf(c schemas.Text, b stage.Batch) func(row int) *string {
	v, err := c.Find(b)
	return func(row int) *string {
		if err != nil || !v.Valid(row) {
			return nil
		}
		text := v.At(row)
		return &text
	}
}
