package prompts

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
)

// validateTokens names the first key about token ids that does not go with the others.
func (f Fields) validateTokens(defined *LogProbs) error {
	switch {
	case f.Tokens != "" && (f.PromptTokens != "" || f.ResponseTokens != ""):
		return setting.Errorf("fields.tokens", "brings prompt and response; leave prompt_tokens and response_tokens out")
	case f.Tokens != "" && f.LossMask == "":
		return setting.Errorf("fields.loss_mask", "missing; it says where in tokens the response begins")
	case (f.PromptTokens == "") != (f.ResponseTokens == ""):
		return setting.Errorf("fields", "prompt_tokens and response_tokens come together")
	case f.tokens() && (f.Conversation != "" || f.Chosen != "" || f.Steps != ""):
		return setting.Errorf("fields", "token ids are the response; leave conversation, chosen, rejected and steps out")
	case !f.tokens() && f.LossMask != "":
		return setting.Errorf("fields.loss_mask", "belongs to token ids; name prompt_tokens and response_tokens, or tokens")
	case !f.tokens() && f.LogProbs != "":
		return setting.Errorf("fields.logprobs", "belong to token ids; name prompt_tokens and response_tokens, or tokens")
	case f.LogProbs == "" && defined != nil:
		return setting.Errorf("logprobs", "says what log-probs are, and no field has any; name fields.logprobs")
	case f.FinishReason != "" && !f.answered():
		return setting.Errorf("fields.finish_reason", "belongs to a response; name response or response_tokens")
	}
	return nil
}

// said is the response as it tells rows of a prompt apart: the text, or the ids of one that comes as such alone.
func (r promptRow) said() string {
	if r.response == "" && r.responseTokens != nil {
		return fmt.Sprint(r.responseTokens)
	}
	return r.response
}

// readTokens takes the ids of a row, its mask and its log-probs.
func (f Fields) readTokens(r *fieldReader, into *promptRow) (err error) {
	mask, logProbs := []int32(nil), []float32(nil)
	if f.LossMask != "" {
		if mask, err = f.readMask(r); err != nil {
			return err
		}
	}
	if f.LogProbs != "" {
		if logProbs, err = readFloats(r, f.LogProbs); err != nil {
			return err
		}
	}
	if f.Tokens != "" {
		all, err := readIDs(r, f.Tokens)
		if err != nil {
			return err
		}
		if len(mask) != len(all) {
			return bad(schemas.ReasonMismatch, "field %q has %d items for %d token ids of field %q", f.LossMask, len(mask), len(all), f.Tokens)
		}
		begin := slices.Index(mask, 1)
		switch {
		case begin < 0:
			return bad(schemas.ReasonEmpty, "field %q has no 1, so there is no response", f.LossMask)
		case begin == 0:
			return bad(schemas.ReasonEmpty, "field %q begins with 1, so there is no prompt", f.LossMask)
		}
		into.promptTokens, into.responseTokens, mask = all[:begin:begin], all[begin:], mask[begin:]
		if len(logProbs) == len(all) {
			logProbs = logProbs[begin:]
		}
	} else {
		if into.promptTokens, err = readIDs(r, f.PromptTokens); err != nil {
			return err
		}
		if into.responseTokens, err = readIDs(r, f.ResponseTokens); err != nil {
			return err
		}
	}
	n := len(into.responseTokens)
	switch {
	case len(into.promptTokens) == 0 || n == 0:
		return bad(schemas.ReasonEmpty, "the prompt has %d token ids and the response %d; both need at least one", len(into.promptTokens), n)
	case mask != nil && len(mask) != n:
		return bad(schemas.ReasonMismatch, "field %q has %d items for %d response tokens", f.LossMask, len(mask), n)
	case logProbs != nil && len(logProbs) != n:
		return bad(schemas.ReasonMismatch, "field %q has %d items for %d response tokens", f.LogProbs, len(logProbs), n)
	}
	if mask != nil && !slices.Contains(mask, 0) {
		mask = nil // the policy wrote all
	}
	into.lossMask, into.logProbs = mask, logProbs
	return nil
}

func readIDs(r *fieldReader, path string) ([]int32, error) {
	list, err := readNumbers(r, path)
	if err != nil {
		return nil, err
	}
	out := make([]int32, len(list))
	for i, x := range list {
		n, err := x.Int64()
		if err != nil || n < 0 || n > math.MaxInt32 {
			return nil, bad(schemas.ReasonBadToken, "field %q: item %d is %s, want a token id", path, i, x)
		}
		out[i] = int32(n)
	}
	return out, nil
}

// readMask takes numbers or truth values.
func (f Fields) readMask(r *fieldReader) ([]int32, error) {
	v, err := r.get(f.LossMask)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, bad(schemas.ReasonBadType, "field %q is %s, want a list of 1 and 0", f.LossMask, kindOf(v))
	}
	out := make([]int32, len(list))
	for i, x := range list {
		switch x := x.(type) {
		case bool:
			if x {
				out[i] = 1
			}
			continue
		case json.Number:
			if n, err := x.Float64(); err == nil && (n == 0 || n == 1) {
				out[i] = int32(n)
				continue
			}
		}
		return nil, bad(schemas.ReasonBadType, "field %q: item %d is %v, want 1 or 0", f.LossMask, i, x)
	}
	return out, nil
}

// leastLogProb is less than any log-prob that a model in float32 can give: what is below it stands for none, such as a server's -9999.
const leastLogProb = -1000

func readFloats(r *fieldReader, path string) ([]float32, error) {
	list, err := readNumbers(r, path)
	if err != nil {
		return nil, err
	}
	out := make([]float32, len(list))
	for i, x := range list {
		v, err := x.Float64()
		if err != nil || !(v <= 1e-3) || v < leastLogProb {
			return nil, bad(schemas.ReasonNotFinite, "field %q: item %d is %s, which is no log-prob", path, i, x)
		}
		out[i] = float32(v)
	}
	return out, nil
}

func readNumbers(r *fieldReader, path string) ([]json.Number, error) {
	v, err := r.get(path)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, bad(schemas.ReasonBadType, "field %q is %s, want a list of numbers", path, kindOf(v))
	}
	out := make([]json.Number, len(list))
	for i, x := range list {
		if out[i], ok = x.(json.Number); !ok {
			return nil, bad(schemas.ReasonBadType, "field %q: item %d is %s, want a number", path, i, kindOf(x))
		}
	}
	return out, nil
}

// readFinish takes why sampling ended; "" where the row does not say, or in a word that is not known.
func (f Fields) readFinish(r *fieldReader) (string, error) {
	if f.FinishReason == "" {
		return "", nil
	}
	v, err := r.get(f.FinishReason)
	var re *rowError
	switch {
	case errors.As(err, &re) && re.reason == schemas.ReasonMissingField: // logs of several programs, of which some say it
		return "", nil
	case err != nil:
		return "", err
	}
	switch v := v.(type) {
	case bool: // whether it was truncated
		return map[bool]string{true: "length", false: "stop"}[v], nil
	case string:
		if reason := models.FinishOf(v); reason != models.FinishUnknown {
			return reason.String(), nil
		}
		return "", nil
	}
	return "", bad(schemas.ReasonBadType, "field %q is %s, want a word such as stop or length", f.FinishReason, kindOf(v))
}
