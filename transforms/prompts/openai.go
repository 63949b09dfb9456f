package prompts

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/millrace/millrace/schemas"
)

// openAI are requests and responses of OpenAI's API, and of servers that speak it such as vLLM: a line with both (request, response), the
// body of a response alone, or a line of a batch's output (custom_id, response.body). Chat and completions; every choice is a row.
type openAI struct{}

func init() { layouts["openai"] = openAI{} }

// bodyOf is the request or the response itself: a line of a batch has it as the body of an HTTP message.
func bodyOf(m map[string]any) map[string]any {
	if body := object(m, "body"); body != nil {
		return body
	}
	return m
}

// split finds request and response of a row.
func (openAI) split(row map[string]any) (request, response map[string]any) {
	if response = bodyOf(object(row, "response")); response == nil && row["choices"] != nil {
		response = row
	}
	if request = bodyOf(object(row, "request")); request == nil {
		request = object(row, "body")
	}
	return request, response
}

func (o openAI) tells(row map[string]any) bool {
	_, response := o.split(row)
	_, choices := response["choices"].([]any)
	_, batch := row["custom_id"].(string)
	return choices || batch && (object(row, "response") != nil || object(row, "error") != nil)
}

func (o openAI) rows(row map[string]any) ([]map[string]any, error) {
	if failed := object(row, "error"); failed != nil {
		return nil, requestFailed(failed)
	}
	request, response := o.split(row)
	if code := fmt.Sprint(object(row, "response")["status_code"]); code != "<nil>" && code != "200" {
		return nil, bad(schemas.ReasonModel, "the request failed with status code %s: %v", code, object(response, "error")["message"])
	}
	choices, err := listAt(response, "choices", "response")
	if err != nil {
		return nil, err
	}
	if failed := object(response, "error"); failed != nil && len(choices) == 0 {
		return nil, requestFailed(failed)
	}
	if len(choices) == 0 {
		return nil, bad(schemas.ReasonMissingField, "the response has no choices")
	}
	base := without(row, "request", "response", "error", "body", "choices", "usage", "object", "created", "system_fingerprint",
		"prompt_token_ids", "prompt_logprobs", "method", "url")
	if metadata := request["metadata"]; metadata != nil {
		base["metadata"] = metadata
	}
	how := sampling(request)
	if model := response["model"]; model != nil {
		how["model"] = model
	}
	base[sampledBy], base["finish_reason"] = how, ""
	if messages := request["messages"]; messages != nil {
		base["prompt"] = messages
	} else if list, ok := request["prompt"].([]any); ok {
		base["prompt_tokens"] = list // ids; of several prompts the fields say that they are none
	} else if prompt := request["prompt"]; prompt != nil {
		base["prompt"] = prompt
	}
	var out []map[string]any
	var broken parts
	for i := range choices {
		choice, err := item(choices, i, "choices")
		fields := without(base)
		if err == nil {
			err = o.choice(choice, response, fields)
		}
		if err != nil {
			broken = append(broken, err) // and the other choices are rows all the same
			continue
		}
		if fields["prompt"] == nil && fields["prompt_tokens"] == nil {
			return nil, bad(schemas.ReasonMissingField, "the line has a response and no prompt: neither request.messages nor request.prompt nor "+
				"prompt_token_ids is there; the output of a batch has to be joined with its input by custom_id, as request")
		}
		out = append(out, fields)
	}
	if len(broken) > 0 {
		return out, broken
	}
	return out, nil
}

// requestFailed is the error of a request that a server answered with one.
func requestFailed(failed map[string]any) error {
	said := "the request failed:"
	for _, key := range []string{"code", "message"} {
		if failed[key] != nil {
			said += fmt.Sprintf(" %v", failed[key])
		}
	}
	return bad(schemas.ReasonModel, "%s", said)
}

// choice fills in the fields of a response.
func (openAI) choice(choice, response, fields map[string]any) error {
	where := fmt.Sprintf("choices[%v]", choice["index"])
	spelled := true // by the ids, if there are any
	if m := choice["message"]; m != nil {
		said, _ := m.(map[string]any)
		calls, _ := said["tool_calls"].([]any)
		for _, key := range []string{"reasoning_content", "reasoning"} {
			thought, _ := said[key].(string)
			spelled = spelled && thought == ""
		}
		spelled = spelled && len(calls) == 0
		_, content, err := message(m, where+".message")
		if err == nil {
			fields["response"] = content
		} else if choice["token_ids"] == nil {
			return err
		}
	} else if text := choice["text"]; text != nil {
		fields["response"] = text
	}
	if reason := choice["finish_reason"]; reason != nil {
		fields["finish_reason"] = reason
	}
	ids, err := listAt(choice, "token_ids", where)
	if err != nil {
		return err
	}
	logProbs, named, err := logProbsOf(choice, where)
	if err != nil {
		return err
	}
	if ids == nil {
		ids = named
	}
	for _, from := range []map[string]any{choice, response} {
		if prompt := from["prompt_token_ids"]; prompt != nil {
			fields["prompt_tokens"] = prompt
			break
		}
	}
	if ids == nil || fields["prompt_tokens"] == nil { // without ids log-probs are of tokens that are not known
		delete(fields, "prompt_tokens")
		return nil
	}
	fields["response_tokens"] = ids
	if logProbs != nil {
		fields["logprobs"] = logProbs
	}
	if !spelled { // a server's parser has taken marks out of what the ids spell
		delete(fields, "response")
	}
	return nil
}

// logProbsOf are the log-probs of a choice, of chat or of completions, and its ids where tokens are named by them
// (return_tokens_as_token_ids of vLLM).
func logProbsOf(choice map[string]any, where string) (logProbs, ids []any, err error) {
	of := object(choice, "logprobs")
	content, err := listAt(of, "content", where+".logprobs")
	if err != nil {
		return nil, nil, err
	}
	tokens := make([]any, 0, len(content))
	for i := range content {
		token, err := item(content, i, where+".logprobs.content")
		if err != nil {
			return nil, nil, err
		}
		logProbs, tokens = append(logProbs, token["logprob"]), append(tokens, token["token"])
	}
	if content == nil {
		if logProbs, err = listAt(of, "token_logprobs", where+".logprobs"); err != nil {
			return nil, nil, err
		}
		if tokens, err = listAt(of, "tokens", where+".logprobs"); err != nil {
			return nil, nil, err
		}
	}
	for _, token := range tokens {
		text, _ := token.(string)
		id, ok := strings.CutPrefix(text, "token_id:")
		if !ok {
			return logProbs, nil, nil
		}
		ids = append(ids, json.Number(id))
	}
	return logProbs, ids, nil
}

// defines: at temperature 1 over all tokens raw and processed log-probs are one. Of others a request does not say which its server
// gives: vLLM gives raw ones unless it is started otherwise.
func (openAI) defines(how sampled) *LogProbs {
	if how != (sampled{temperature: 1, topP: 1}) {
		return nil
	}
	return &LogProbs{Temperature: 1, TopP: 1}
}
