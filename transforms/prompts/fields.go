package prompts

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/millrace/millrace/schemas"
)

// named are the fields that are named, by key.
func (f Fields) named() map[string]string {
	out := map[string]string{"id": f.ID, "prompt": f.Prompt, "messages": f.Messages,
		"answer": f.Answer, "response": f.Response, "conversation": f.Conversation,
		"chosen": f.Chosen, "rejected": f.Rejected, "outcome": f.Outcome, "difficulty": f.Difficulty, "steps": f.Steps,
		"first_error": f.FirstError, "prompt_tokens": f.PromptTokens, "response_tokens": f.ResponseTokens, "tokens": f.Tokens,
		"loss_mask": f.LossMask, "logprobs": f.LogProbs, "finish_reason": f.FinishReason}
	maps.DeleteFunc(out, func(_, path string) bool { return path == "" })
	return out
}

// asks reports whether a column of a Parquet file belongs to a field that is named.
func (f Fields) asks(column string) bool {
	for _, path := range f.named() {
		if column == path || strings.HasPrefix(column, path+".") {
			return true
		}
	}
	return false
}

// fieldReader takes fields out of a row.
type fieldReader struct {
	row  map[string]any
	rest map[string]any // what no field has taken
	// lax lets rows pass that have no answer, no response or numbers that are no log-probs: they are looked at, not used.
	lax bool
}

func (r *fieldReader) get(path string) (any, error) {
	v, root, err := find(r.row, path)
	delete(r.rest, root)
	return v, err
}

// text reads a field that may not be asked for.
func (r *fieldReader) text(path string, into *string) error {
	if path == "" {
		return nil
	}
	v, err := r.get(path)
	if err == nil {
		*into, err = text(v, path)
	}
	return err
}

// read takes the fields of a row: one row, or two of chosen and rejected, or one a response of a list.
func (f Fields) read(row map[string]any) ([]promptRow, error) {
	return f.readFrom(&fieldReader{row: row, rest: maps.Clone(row)})
}

func (f Fields) readFrom(r *fieldReader) ([]promptRow, error) {
	base, err := f.readPrompt(r)
	if err != nil {
		return nil, err
	}
	alone := base
	out, err := f.readResponses(r, base)
	if err != nil {
		return nil, err
	}
	if f.tokens() && !(r.lax && emptyList(r.row, f.ResponseTokens)) {
		if len(out) > 1 {
			return nil, bad(schemas.ReasonMismatch, "field %q has %d responses, and a row has the token ids of one", f.Response, len(out))
		}
		if err := f.readTokens(r, &out[0]); err != nil {
			return nil, err
		}
	}
	if out[0].finish, err = f.readFinish(r); err != nil {
		return nil, err
	}
	for i := range out {
		out[i].finish = out[0].finish
	}
	if f.Outcome != "" {
		if err := f.readOutcomes(r, out); err != nil {
			return nil, err
		}
	}
	if strings.TrimSpace(out[0].prompt) == "" && out[0].promptTokens == nil {
		return nil, bad(schemas.ReasonEmpty, "the prompt is empty")
	}
	if f.PromptsOnly {
		alone.prompt, alone.messages, alone.promptTokens = out[0].prompt, out[0].messages, out[0].promptTokens
		out = []promptRow{alone}
	}
	if len(r.rest) > 0 {
		raw, err := json.Marshal(r.rest) // keys in order
		if err != nil {
			return nil, bad(schemas.ReasonUnreadable, "further fields: %v", err)
		}
		for i := range out {
			out[i].extra, out[i].hasExtra = string(raw), true
		}
	}
	return out, nil
}

// readOutcomes takes the outcome of the response, or a list of one for each of a list of responses, in which null is none. Of steps it
// may be the list of verdicts, which are all right or not.
func (f Fields) readOutcomes(r *fieldReader, out []promptRow) error {
	v, err := r.get(f.Outcome)
	if err != nil {
		return err
	}
	list, ok := v.([]any)
	switch {
	case ok && f.Steps != "":
		first, err := firstError(list, f.Outcome)
		out[0].hasOutcome = true
		if first < 0 {
			out[0].outcome = 1
		}
		return err
	case ok && len(list) != len(out):
		return bad(schemas.ReasonMismatch, "field %q has %d outcomes for %d responses", f.Outcome, len(list), len(out))
	case !ok && len(out) > 1:
		return bad(schemas.ReasonMismatch, "field %q is %s; want a list of %d outcomes, one a response", f.Outcome, kindOf(v), len(out))
	case !ok:
		list = []any{v}
	}
	for i, v := range list {
		if v == nil {
			continue
		}
		if out[i].outcome, err = outcome(v, f.Outcome); err != nil {
			return err
		}
		out[i].hasOutcome = true
	}
	return nil
}

// readPrompt takes what all responses of a row share.
func (f Fields) readPrompt(r *fieldReader) (base promptRow, err error) {
	if f.Prompt != "" {
		v, err := r.get(f.Prompt)
		if err != nil {
			return base, err
		}
		if _, isList := v.([]any); !isList {
			base.prompt, err = text(v, f.Prompt)
		} else {
			var d dialogue
			if d, err = conversation(v, f.Prompt, false); err == nil && d.response != "" {
				err = bad(schemas.ReasonUnreadable,
					"field %q ends with a response; name it as file.fields.conversation in the place of prompt", f.Prompt)
			}
			base.prompt, base.messages = d.prompt, d.messages
		}
		if err != nil {
			return base, err
		}
	}
	if f.Messages != "" {
		if err := f.readMessages(r, &base); err != nil {
			return base, err
		}
	}
	base.hasAnswer = f.Answer != ""
	if f.Answer != "" {
		v, err := r.get(f.Answer)
		if err == nil {
			base.answer, err = answer(v, f.Answer)
		}
		if r.lax && absent(err) {
			base.hasAnswer, err = false, nil
		}
		if err != nil {
			return base, err
		}
	}
	if err := r.text(f.ID, &base.id); err != nil {
		return base, err
	}
	return base, r.text(f.Difficulty, &base.difficulty)
}

// readMessages takes the chat messages that a prompt came as. Its text stays what it is, as the prompt is known by it.
func (f Fields) readMessages(r *fieldReader, base *promptRow) error {
	v, err := r.get(f.Messages)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if written, ok := v.(string); ok {
		if v, err = decode([]byte(written)); err != nil {
			return bad(schemas.ReasonUnreadable, "field %q is no list of messages as JSON", f.Messages)
		}
	}
	d, err := conversation(v, f.Messages, false)
	if err == nil && (d.response != "" || d.prompt != base.prompt) {
		err = bad(schemas.ReasonMismatch, "field %q is another prompt than field %q", f.Messages, f.Prompt)
	}
	base.messages = d.messages
	return err
}

// readResponses takes the response of a row, or the chosen and the rejected one; without, the row is its prompt.
func (f Fields) readResponses(r *fieldReader, base promptRow) ([]promptRow, error) {
	switch {
	case f.Chosen != "":
		chosen, err := f.readResponse(r, base, f.Chosen)
		if err != nil {
			return nil, err
		}
		rejected, err := f.readResponse(r, base, f.Rejected)
		if err == nil && chosen.prompt != rejected.prompt {
			err = bad(schemas.ReasonMismatch, "fields %q and %q answer different prompts", f.Chosen, f.Rejected)
		}
		chosen.outcome, chosen.hasOutcome = 1, true
		rejected.outcome, rejected.hasOutcome = 0, true
		return []promptRow{chosen, rejected}, err
	case f.Steps != "":
		steps, err := r.get(f.Steps)
		if err != nil {
			return nil, err
		}
		first, err := r.get(f.FirstError)
		if err == nil {
			err = base.readSteps(steps, f.Steps, first, f.FirstError)
		}
		return []promptRow{base}, err
	case f.Conversation != "" || f.Response != "":
		return f.readList(r, base, cmp.Or(f.Conversation, f.Response))
	}
	return []promptRow{base}, nil
}

// readList reads a response, or a list of texts that are each one.
func (f Fields) readList(r *fieldReader, base promptRow, path string) ([]promptRow, error) {
	v, err := r.get(path)
	if r.lax && absent(err) && f.Prompt != "" {
		return []promptRow{base}, nil
	}
	if err != nil {
		return nil, err
	}
	list, _ := v.([]any)
	if len(list) == 0 || f.Prompt == "" {
		one, err := f.response(r, v, base, path)
		return []promptRow{one}, err
	}
	if _, texts := list[0].(string); !texts {
		one, err := f.response(r, v, base, path)
		return []promptRow{one}, err
	}
	out := make([]promptRow, len(list))
	for i, v := range list {
		if out[i], err = f.response(r, v, base, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readResponse reads a response.
func (f Fields) readResponse(r *fieldReader, base promptRow, path string) (promptRow, error) {
	v, err := r.get(path)
	if err != nil {
		return base, err
	}
	return f.response(r, v, base, path)
}

// response is a text, or a conversation that ends with it. A conversation brings the prompt where no field does, and must be of the
// prompt where one does.
func (f Fields) response(r *fieldReader, v any, base promptRow, path string) (promptRow, error) {
	var err error
	if _, isList := v.([]any); !isList && f.Prompt != "" {
		base.response, err = text(v, path)
	} else {
		var d dialogue
		d, err = conversation(v, path, f.Prompt != "")
		switch {
		case err != nil:
		case f.Prompt == "", d.system && d.question == question(base):
			base.prompt, base.messages = d.prompt, d.messages
		case d.prompt != "" && d.question != question(base):
			err = bad(schemas.ReasonMismatch, "field %q begins with another prompt than field %q: %s", path, f.Prompt, clip(d.question))
		}
		base.response = d.response
	}
	if err == nil && strings.TrimSpace(base.response) == "" && !f.tokens() && !r.lax {
		err = bad(schemas.ReasonEmpty, "field %q has no response", path)
	}
	return base, err
}

// question is what the user says in a prompt, for comparing.
func question(r promptRow) string { return strings.TrimSpace(said(r)) }

func clip(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "..."
	}
	return s
}
