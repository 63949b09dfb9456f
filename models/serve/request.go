package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/models/inbound"
	"github.com/millrace/millrace/models/openai"
)

// Fields that this server does not act on. An answer without them would be another than was asked for: they are taken only where
// their value asks for nothing.
var unserved = map[string][]string{
	"min_p":                  {"0"},
	"presence_penalty":       {"0"},
	"frequency_penalty":      {"0"},
	"repetition_penalty":     {"1"},
	"length_penalty":         {"1"},
	"logit_bias":             {"{}"},
	"suffix":                 {`""`},
	"best_of":                {"1"},
	"use_beam_search":        {"false"},
	"ignore_eos":             {"false"},
	"skip_special_tokens":    {"true"},
	"add_special_tokens":     {"true"},
	"response_format":        {`{"type":"text"}`},
	"tools":                  {"[]"},
	"tool_choice":            {`"none"`, `"auto"`},
	"functions":              {"[]"},
	"function_call":          {`"none"`, `"auto"`},
	"reasoning_effort":       {`"none"`},
	"modalities":             {`["text"]`},
	"bad_words":              {"[]"},
	"logits_processors":      {"[]"},
	"continue_final_message": {"false"},
	"add_generation_prompt":  {"true"},
}

// Fields that change nothing about the result.
var harmless = []string{"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "request_id", "priority",
	"parallel_tool_calls"}

// defaultTokens is how many tokens a completion has at most where the request does not say, as OpenAI's protocol has it.
const defaultTokens = 16

// decodeRequest reads a request. A field that would change the result and is not acted on is refused by its name.
func decodeRequest(text []byte, chat bool) (*openai.Request, error) {
	var q openai.Request
	if err := json.Unmarshal(text, &q); err != nil {
		return nil, invalid("", "%v", err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil || fields == nil {
		return nil, invalid("", "the request is not a JSON object")
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		if string(value) == "null" || slices.Contains(harmless, name) {
			continue
		}
		if number, is := vanishing(value); is {
			return nil, invalid(name, "%s is too small: in single precision it is 0, which asks for something else", number)
		}
		nothing, known := unserved[name]
		switch {
		case slices.Contains(served, name):
		case !known:
			return nil, invalid(name, "is not a field that this server knows; it might change the answer")
		case name == "best_of" && string(value) == fmt.Sprint(q.N):
		case !slices.ContainsFunc(nothing, func(n string) bool { return sameJSON(value, n) }):
			return nil, invalid(name, "is not served; leave it out")
		}
	}
	if _, given := fields["max_completion_tokens"]; given && chat {
		q.MaxTokens = q.MaxCompletionTokens
	} else if given {
		return nil, invalid("max_completion_tokens", "belongs to chat completions; max_tokens is that of completions")
	}
	if given := fields["max_tokens"]; !chat && (given == nil || string(given) == "null") {
		q.MaxTokens = defaultTokens
	}
	switch {
	case chat && fields["prompt"] != nil:
		return nil, invalid("prompt", "belongs to completions; chat completions have messages")
	case !chat && fields["messages"] != nil:
		return nil, invalid("messages", "belong to chat completions; completions have a prompt")
	case q.TopP != nil && *q.TopP == 0:
		return nil, invalid("top_p", "0 keeps no token; 1, or none, keeps all, and temperature 0 takes the most probable")
	case chat && (q.Echo || q.PromptLogProbs != nil && *q.PromptLogProbs < 0):
		return nil, invalid("echo", "is not served in chat completions")
	case q.PromptLogProbs != nil && *q.PromptLogProbs < 0:
		return nil, invalid("prompt_logprobs", "%d is negative", *q.PromptLogProbs)
	case q.TopLogProbs > 0 && (!chat || string(q.LogProbs) != "true"):
		return nil, invalid("top_logprobs", "belongs to chat completions with logprobs: true")
	}
	if err := known(fields["millrace"], &openai.Extension{}); err != nil {
		return nil, invalid("millrace", "%v", err)
	}
	return &q, nil
}

// served are the fields of a request that this server acts on.
var served = openai.Fields(openai.Request{})

// known decodes a value without fields that its type does not have.
func known(value json.RawMessage, into any) error {
	if value == nil {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// vanishing finds a number that is not 0 and becomes 0 in single precision, in which 0 is often the word for "off".
func vanishing(value json.RawMessage) (number string, is bool) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return "", false
		}
		n, ok := token.(json.Number)
		if !ok {
			continue
		}
		digits, _, _ := strings.Cut(strings.ToLower(n.String()), "e")
		if f, err := strconv.ParseFloat(n.String(), 32); err == nil && f == 0 && strings.ContainsAny(digits, "123456789") {
			return n.String(), true
		}
	}
}

func sameJSON(value json.RawMessage, other string) bool {
	var a, b any
	return json.Unmarshal(value, &a) == nil && json.Unmarshal([]byte(other), &b) == nil && fmt.Sprint(a) == fmt.Sprint(b)
}

// fromElsewhere refuses what a web page of another site makes a browser send.
func (s *Server) fromElsewhere(r *http.Request) error {
	if host := inbound.HostName(r.Host); s.opts.Key == "" && net.ParseIP(host) == nil && host != "localhost" &&
		!strings.HasSuffix(host, ".localhost") && !slices.Contains(s.opts.Hosts, host) {
		return &fault{status: http.StatusForbidden, problem: fmt.Sprintf(
			"%q is not a name of this server; without a key it answers to localhost and to addresses", r.Host)}
	}
	if why := inbound.FromSite(r); why != "" {
		return &fault{status: http.StatusForbidden, problem: why}
	}
	return nil
}
