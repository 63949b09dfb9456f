package prompts

import (
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// filled reads lines whose fields are known by their names.
func filled(t *testing.T, text string) (f File, layout string) {
	t.Helper()
	f, layout, err := File{Path: Paths{write(t, "log.jsonl", text)}}.Fill(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return f, layout
}

const chatChoice = `{"index": 0, "message": {"role": "assistant", "content": "it is 2"}, "finish_reason": "stop"}`

// A log of requests and responses: every choice is a row, with the prompt of its request; what failed is a dead letter.
func TestOpenAILog(t *testing.T) {
	text := strings.Join([]string{
		`{"request": {"model": "m", "temperature": 0.7, "messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "1?"}]}], "metadata": {"answer": "2"}}, "response": {"model": "m-1", "choices": [` + chatChoice + `, {"index": 1, "message": {"role": "assistant", "content": "3", "reasoning_content": "hm"}, "finish_reason": "length"}]}}`,
		`{"custom_id": "b", "body": {"messages": [{"role": "user", "content": "2+2?"}]}, "response": {"status_code": 200, "body": {"choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}]}}}`,
		`{"custom_id": "c", "body": {"messages": [{"role": "user", "content": "2+3?"}]}, "response": {"status_code": 429, "body": {"error": {"message": "slow down"}}}}`,
		`{"custom_id": "d", "response": null, "error": {"code": "batch_expired", "message": "too late"}}`,
		`{"request": {"messages": [{"role": "user", "content": "a"}]}, "response": {"choices": []}}`,
		`{"custom_id": "e", "response": {"status_code": 200, "body": {"choices": [` + chatChoice + `]}}}`,
		`{"request": {"messages": [{"role": "user", "content": "a"}]}, "response": {"choices": [{"message": {"role": "assistant", "content": null, "tool_calls": [{"id": "x"}]}}]}}`,
		`{"request": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "response": {"choices": [` + chatChoice + `]}}`,
	}, "\n")
	f, layout := filled(t, text)
	if layout != "openai" || f.Layout != layout || f.Fields.Prompt != "prompt" || f.Fields.Response != "response" || f.Fields.LogProbs != "" {
		t.Errorf("layout %q, fields %+v", layout, f.Fields)
	}
	rows, dead, _ := scan(t, New("file", f), Window{})
	stagetest.Dead(t, dead, schemas.ReasonModel, schemas.ReasonModel, schemas.ReasonMissingField, schemas.ReasonMissingField,
		schemas.ReasonUnreadable, schemas.ReasonUnreadable)
	got := map[string]string{}
	for i := range rows.NumRows() {
		got[schemas.Response.Of(rows).At(i)] = schemas.Prompt.Of(rows).At(i) + "|" + schemas.FinishReason.Of(rows).At(i)
		if i == 0 && !strings.Contains(schemas.Extra.Of(rows).At(i), `"temperature":0.7`) {
			t.Errorf("extra %s does not say how the row was sampled", schemas.Extra.Of(rows).At(i))
		}
	}
	if len(got) != 3 || got["it is 2"] != "be brief\n\n1+1?|stop" || got["<think>\nhm\n</think>\n\n3"] != "be brief\n\n1+1?|length" ||
		got["4"] != "2+2?|stop" {
		t.Errorf("%q", got)
	}
}

// vLLM's ids and log-probs: those of chat and of completions, and ids in the place of tokens. At temperature 1 they are known.
func TestOpenAITokens(t *testing.T) {
	chat := func(prompt, sampling, rest string) string {
		return `{"request": {"messages": [{"role": "user", "content": "` + prompt + `"}]` + sampling + `}, "response": {"prompt_token_ids": [1, 2], "choices": [{"message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"` +
			rest + `}]}}` + "\n"
	}
	const ids = `, "token_ids": [3, 4], "logprobs": {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]}`
	const named = `, "logprobs": {"content": [{"token": "token_id:3", "logprob": -0.5}, {"token": "token_id:4", "logprob": -1.5}]}`
	const one = `, "temperature": 1, "top_p": 1.0`
	completion := `{"request": {"prompt": "c", "temperature": 1}, "response": {"choices": [{"text": "x", "prompt_token_ids": [1, 2], "token_ids": [3, 4], "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-0.5, -1.5]}}]}}` + "\n"
	known := chat("a", one, ids) + chat("b", one, named) + completion
	f, _ := filled(t, known+chat("d", one, `, "token_ids": [3], "logprobs": {"content": [{"logprob": -9999}]}`)+chat("e", one, ""))
	if f.LogProbs == nil || *f.LogProbs != (LogProbs{Temperature: 1, TopP: 1}) {
		t.Errorf("log-probs %+v", f.LogProbs)
	}
	rows, dead, _ := scan(t, New("file", f), Window{})
	stagetest.Dead(t, dead, schemas.ReasonNotFinite, schemas.ReasonMissingField)
	if rows.NumRows() != 3 {
		t.Fatalf("%d rows", rows.NumRows())
	}
	for i := range 3 {
		p, r, l := schemas.PromptTokens.Of(rows).Row(i), schemas.ResponseTokens.Of(rows).Row(i), schemas.OldLogP.Of(rows).Row(i)
		if !slices.Equal(p, []int32{1, 2}) || !slices.Equal(r, []int32{3, 4}) || !slices.Equal(l, []float32{-0.5, -1.5}) {
			t.Errorf("%s: %v, %v, %v", schemas.Prompt.Of(rows).At(i), p, r, l)
		}
	}
	for says, sampling := range map[string]string{"another temperature": `, "temperature": 0.7`, "nothing": "", "a nucleus": `, "temperature": 1, "top_p": 0.9`} {
		for _, text := range []string{chat("d", sampling, ids), known + chat("d", sampling, ids)} {
			if f, _ := filled(t, text); f.LogProbs != nil {
				t.Errorf("a request says %s, and its log-probs are %+v", says, f.LogProbs)
			}
		}
	}
}

// Traces of prime-rl: every leaf is a row, of which what the model has sampled is learned from.
func TestPrimeRLTraces(t *testing.T) {
	trace := func(id, temperature, nodes string) string {
		return `{"id": "` + id + `", "version": 4, "task": {"type": "math", "data": {"answer": "2"}}, "run": {"type": "train", "step": 3}, "rewards": {"right": {"score": 1, "weight": 0.5}, "form": 0.25}, "calls": [{"node": null, "sampling": {}}, {"node": 3, "sampling": {"temperature": ` +
			temperature + `, "top_k": -1}, "finish_reason": "length"}], "ok": true, "nodes": [` + nodes + "]}\n"
	}
	const user = `{"parent": null, "message": {"role": "user", "content": "1+1?"}, "token_ids": [1, 2], "mask": [false, false], "logprobs": []}`
	const answer = `{"parent": 0, "sampled": true, "message": {"role": "assistant", "content": "2"}, "token_ids": [3, 4, 5], "mask": [false, true, true], "logprobs": [-0.5, -1.5]}`
	const tool = `{"parent": 1, "message": {"role": "tool", "content": "ok"}, "token_ids": [6], "mask": [false]}`
	const again = `{"parent": 2, "sampled": true, "message": {"role": "assistant", "content": "two"}, "token_ids": [7], "mask": [true], "logprobs": [-2.5]}`
	const other = `{"parent": 0, "sampled": true, "message": {"role": "assistant", "content": "3"}, "token_ids": [8], "mask": [true], "logprobs": [-3.5], "finish_reason": "stop"}`
	f, layout := filled(t, trace("a", "0.7", user+","+answer+","+tool+","+again+","+other)+
		trace("b", "0.7", user)+
		trace("c", "0.7", user+","+strings.Replace(answer, "[false, true, true]", "[true]", 1))+
		trace("d", "0.7", user+","+strings.Replace(answer, `"parent": 0`, `"parent": 1`, 1)))
	if layout != "prime-rl" || f.LogProbs == nil || *f.LogProbs != (LogProbs{Temperature: 0.7, TopP: 1}) || f.Fields.Answer != "answer" {
		t.Errorf("layout %q, log-probs %+v, fields %+v", layout, f.LogProbs, f.Fields)
	}
	rows, dead, _ := scan(t, New("file", f), Window{})
	stagetest.Dead(t, dead, schemas.ReasonEmpty, schemas.ReasonMismatch, schemas.ReasonMismatch)
	if rows.NumRows() != 2 {
		t.Fatalf("%d rows", rows.NumRows())
	}
	for i, want := range []struct {
		prompt, response, mask []int32
		logp                   []float32
		finish                 string
	}{
		{[]int32{1, 2, 3}, []int32{4, 5, 6, 7}, []int32{1, 1, 0, 1}, []float32{-0.5, -1.5, 0, -2.5}, "length"},
		{[]int32{1, 2}, []int32{8}, nil, []float32{-3.5}, "stop"},
	} {
		p, r, l := schemas.PromptTokens.Of(rows).Row(i), schemas.ResponseTokens.Of(rows).Row(i), schemas.OldLogP.Of(rows).Row(i)
		m := schemas.LossMask.Of(rows)
		if !slices.Equal(p, want.prompt) || !slices.Equal(r, want.response) || !slices.Equal(m.Row(i), want.mask) ||
			!slices.Equal(l, want.logp) || m.Valid(i) != (want.mask != nil) {
			t.Errorf("row %d: %v, %v, %v, %v", i, p, r, m.Row(i), l)
		}
		if got := schemas.FinishReason.Of(rows).At(i); got != want.finish {
			t.Errorf("row %d ended with %s, want %s", i, got, want.finish)
		}
		if extra := schemas.Extra.Of(rows).At(i); !strings.Contains(extra, `"reward":0.75`) || !strings.Contains(extra, `"step":3`) {
			t.Errorf("extra %s", extra)
		}
	}
	if f, _ := filled(t, trace("a", "0.7", user+","+answer)+trace("b", "1", user+","+answer)); f.LogProbs != nil {
		t.Errorf("log-probs of two temperatures are %+v", f.LogProbs)
	}
	// Of a client that gives no ids a trace is a conversation.
	plain := strings.NewReplacer(`"token_ids": [1, 2], "mask": [false, false], "logprobs": []`, `"token_ids": []`, `"token_ids": [3, 4, 5], "mask": [false, true, true], "logprobs": [-0.5, -1.5]`, `"token_ids": []`).Replace(user + "," + answer)
	f, _ = filled(t, trace("a", "0.7", plain))
	rows, _, _ = scan(t, New("file", f), Window{})
	if rows.NumRows() != 1 || schemas.Response.Of(rows).At(0) != "2" || schemas.Prompt.Of(rows).At(0) != "1+1?" {
		t.Errorf("%d rows, fields %+v", rows.NumRows(), f.Fields)
	}
}

// A choice that is no text is a dead letter of its own; the others of its request are rows.
func TestChoicesOfARequest(t *testing.T) {
	f, layout := filled(t, `{"request": {"messages": [{"role": "user", "content": "1+1?"}]}, "response": {"choices": [`+
		`{"index": 0, "message": {"role": "assistant", "content": "2"}, "finish_reason": "stop"}, {"index": 1, "message": `+
		`{"role": "assistant", "content": null, "tool_calls": [{"id": "a"}]}, "finish_reason": "tool_calls"}]}}
{"request": {"messages": [{"role": "user", "content": "1+2?"}]}, "response": {"error": {"message": "overloaded"}}}
`)
	if layout != "openai" {
		t.Errorf("layout %q", layout)
	}
	rows, dead, _ := scan(t, New("file", f), Window{})
	if rows.NumRows() != 1 || schemas.Response.Of(rows).At(0) != "2" {
		t.Errorf("%d rows", rows.NumRows())
	}
	if dead.NumRows() != 2 || schemas.DeadMessage.Of(dead).At(1) == "" {
		t.Fatalf("%d dead", dead.NumRows())
	}
	for i, want := range []string{"choices[1]", "the request failed: overloaded"} {
		if got := schemas.DeadMessage.Of(dead).At(i); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
