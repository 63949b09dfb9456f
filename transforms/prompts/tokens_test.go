package prompts

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// Rows with token ids keep them, with what belongs to each, bit for bit; what does not fit is set aside with its reason.
func TestTokenIDs(t *testing.T) {
	path := write(t, "rows.jsonl", `{"q": "a", "a": "1", "p": [1, 2], "r": [3, 4, 5], "m": [1, 0, true], "l": [-0.1, 0, -3.25], "f": "eos"}
{"q": "b", "a": "1", "p": [1], "r": [7], "m": [1], "l": [-0.30000001192092896], "f": "length"}
{"q": "c", "a": "1", "p": [1], "r": [7], "m": [1, 1], "l": [-1], "f": "stop"}
{"q": "d", "a": "1", "p": [1], "r": [7], "m": [1], "l": [-9999], "f": "stop"}
{"q": "e", "a": "1", "p": [1], "r": [-7], "m": [1], "l": [-1], "f": "stop"}
{"q": "f", "a": "1", "p": [], "r": [7], "m": [1], "l": [-1], "f": "stop"}
{"q": "g", "a": "1", "p": [1], "r": [7], "m": [2], "l": [-1], "f": "stop"}
{"q": "h", "a": "1", "p": [1], "r": [7], "m": [1], "l": ["-1"], "f": 3}
`)
	fields := Fields{Prompt: "q", Answer: "a", PromptTokens: "p", ResponseTokens: "r", LossMask: "m", LogProbs: "l", FinishReason: "f"}
	c := changed(fileConfig(path, fields), func(f *File) { f.LogProbs = &LogProbs{Temperature: 0.7, TopP: 1, Engine: "vllm"} })
	rows, dead, _ := scan(t, c, Window{})
	if rows.NumRows() != 2 {
		t.Fatalf("%d rows, want 2", rows.NumRows())
	}
	at := slices.Index([]string{schemas.Prompt.Of(rows).At(0), schemas.Prompt.Of(rows).At(1)}, "a")
	if got := schemas.ResponseTokens.Of(rows).Row(at); !slices.Equal(got, []int32{3, 4, 5}) {
		t.Error(got)
	}
	if got := schemas.LossMask.Of(rows).Row(at); !slices.Equal(got, []int32{1, 0, 1}) {
		t.Error(got)
	}
	if mask := schemas.LossMask.Of(rows); mask.Valid(1 - at) {
		t.Error("a response that the policy wrote alone has a mask")
	}
	if got := schemas.OldLogP.Of(rows).Row(1 - at); got[0] != -0.3 {
		t.Error(got)
	}
	if got := schemas.FinishReason.Of(rows); got.At(at) != "stop" || got.At(1-at) != "length" {
		t.Error(got.At(at), got.At(1-at))
	}
	d, ok := schemas.LogPOf(rows, schemas.OldLogP)
	if !ok || d.Temperature != 0.7 || d.Engine != "vllm" {
		t.Errorf("%+v", d)
	}
	stagetest.Dead(t, dead, schemas.ReasonMismatch, schemas.ReasonNotFinite, schemas.ReasonBadToken, schemas.ReasonEmpty,
		schemas.ReasonBadType, schemas.ReasonBadType)
	unknown, _, _ := scan(t, fileConfig(path, fields), Window{})
	if d, _ := schemas.LogPOf(unknown, schemas.OldLogP); d.Known() || schemas.FullLogP("").Matches(d) {
		t.Errorf("nobody has said what the log-probs are, and they are %v", d)
	}
}

// Tokens of prompt and response in one list part where the mask begins, and the text of neither is needed.
func TestTokensWithAMask(t *testing.T) {
	path := write(t, "rows.jsonl", `{"token_ids": [1, 2, 3, 4, 5], "mask": [false, false, true, false, true], "logprobs": [0, 0, -1, 0, -2]}
{"token_ids": [1, 2], "mask": [false, false], "logprobs": [0, 0]}
{"token_ids": [1, 2], "mask": [true, true], "logprobs": [0, 0]}
`)
	fields := Fields{Tokens: "token_ids", LossMask: "mask", LogProbs: "logprobs"}
	rows, dead, _ := scan(t, fileConfig(path, fields), Window{})
	stagetest.Dead(t, dead, schemas.ReasonEmpty, schemas.ReasonEmpty)
	if rows.NumRows() != 1 || rows.Has(schemas.Prompt) || rows.Has(schemas.Response) {
		t.Fatalf("%d rows with columns %v", rows.NumRows(), rows.Columns())
	}
	if p, r, m, l := schemas.PromptTokens.Of(rows).Row(0), schemas.ResponseTokens.Of(rows).Row(0), schemas.LossMask.Of(rows).Row(0),
		schemas.OldLogP.Of(rows).Row(0); !slices.Equal(p, []int32{1, 2}) || !slices.Equal(r, []int32{3, 4, 5}) ||
		!slices.Equal(m, []int32{1, 0, 1}) || !slices.Equal(l, []float32{-1, 0, -2}) {
		t.Error(p, r, m, l)
	}
}

func TestTokenFieldsGoTogether(t *testing.T) {
	for says, f := range map[string]File{
		"fields.tokens":        {Fields: Fields{Tokens: "t", LossMask: "m", PromptTokens: "p"}},
		"fields.loss_mask":     {Fields: Fields{Tokens: "t"}},
		"fields":               {Fields: Fields{Prompt: "q", PromptTokens: "p"}},
		"fields.logprobs":      {Fields: Fields{Prompt: "q", Response: "r", LogProbs: "l"}},
		"logprobs":             {Fields: Fields{Prompt: "q", Response: "r"}, LogProbs: &LogProbs{Temperature: 1, TopP: 1}},
		"fields.finish_reason": {Fields: Fields{Prompt: "q", FinishReason: "f"}},
	} {
		f.Path = Paths{"x.jsonl"}
		err := setting.Check(f)
		if e, ok := err.(*setting.Error); !ok || e.Path != says {
			t.Errorf("%+v: %v, want an error of %s", f.Fields, err, says)
		}
	}
}

// A conversation of several turns is a prompt with its earlier turns.
func TestEarlierTurns(t *testing.T) {
	path := write(t, "rows.jsonl", `{"m": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "tool", "content": "c"}, {"role": "user", "content": "d"}, {"role": "assistant", "content": "e"}]}
{"m": [{"role": "assistant", "content": "b"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
{"m": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}, {"role": "assistant", "content": "b"}]}
`)
	rows, dead, _ := scan(t, fileConfig(path, Fields{Conversation: "m"}), Window{})
	stagetest.Dead(t, dead, schemas.ReasonUnreadable, schemas.ReasonUnreadable)
	want := `[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"tool","content":"c"},{"role":"user","content":"d"}]`
	if got := schemas.Messages.Of(rows).At(0); got != want || schemas.Response.Of(rows).At(0) != "e" {
		t.Errorf("%s, %s", got, schemas.Response.Of(rows).At(0))
	}
}

func TestGuess(t *testing.T) {
	for _, c := range []struct {
		columns   []string
		responses bool
		want      Fields
	}{
		{[]string{"question", "answer", "solution", "label"}, true, Fields{Prompt: "question", Answer: "answer", Response: "solution"}},
		{[]string{"prompt", "completions", "labels"}, true,
			Fields{Prompt: "prompt", Steps: "completions", FirstError: "labels", Outcome: "labels"}},
		{[]string{"question", "answer"}, false, Fields{Prompt: "question", Answer: "answer"}},
		{[]string{"input", "output", "gts", "score", "step"}, true, Fields{Prompt: "input", Response: "output", Answer: "gts"}},
		{[]string{"data_source", "prompt", "reward_model", "ability"}, false, Fields{Prompt: "prompt", Answer: "reward_model.ground_truth"}},
		{[]string{"prompt", "completion", "answer", "finish_reason"}, true,
			Fields{Prompt: "prompt", Response: "completion", Answer: "answer", FinishReason: "finish_reason"}},
		{[]string{"prompt", "completion", "prompt_ids", "completion_ids", "logprobs"}, true, Fields{Prompt: "prompt", Response: "completion",
			PromptTokens: "prompt_ids", ResponseTokens: "completion_ids", LogProbs: "logprobs"}},
		{[]string{"token_ids", "mask", "logprobs"}, true, Fields{Tokens: "token_ids", LossMask: "mask", LogProbs: "logprobs"}},
		{[]string{"messages", "answer"}, true, Fields{Conversation: "messages", Answer: "answer"}},
	} {
		if got, _, _ := Guess(c.columns, Fields{}, c.responses); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.columns, got, c.want)
		}
	}
	named := Fields{Prompt: "question", Answer: "label"}
	got, _, _ := Guess([]string{"question", "answer", "label", "response"}, named, true)
	if got.Answer != "label" || got.Response != "response" {
		t.Errorf("%+v", got)
	}
}

// Ungrouped rows are prompts of their own, wherever copies of their prompt lie, and their number is known.
func TestUngrouped(t *testing.T) {
	text := ""
	for i := range 30 {
		text += fmt.Sprintf(`{"q": "p%d", "a": "1", "r": "r%d"}`+"\n", i%3, i)
	}
	c := fileConfig(write(t, "rows.jsonl", text), Fields{Prompt: "q", Answer: "a", Response: "r"})
	if rows, _, _ := scan(t, c, Window{}); rows.NumRows() != 3 {
		t.Errorf("%d rows of prompts that do not lie side by side, want the 3 first", rows.NumRows())
	}
	c = changed(c, func(f *File) { f.Ungrouped, f.Exhausted = true, "stop" })
	rows, dead, _ := scan(t, c, Window{})
	groups, err := rows.Groups()
	if err != nil || rows.NumRows() != 30 || len(groups) != 30 || dead.NumRows() != 0 {
		t.Errorf("%d rows in %d prompts, %d dead, %v", rows.NumRows(), len(groups), dead.NumRows(), err)
	}
	if n, err := c.Of.(Sized).Size(t.Context(), "all"); n != 30 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	first, _, _ := scan(t, c, Window{Count: 10})
	rest, _, _ := scan(t, c, Window{First: 10, Count: 100})
	if first.NumRows() != 10 || rest.NumRows() != 20 {
		t.Errorf("%d and %d rows", first.NumRows(), rest.NumRows())
	}
}

// Messages as rows of runs have them, beside the prompt that is their text: of rows without some it is a text.
func TestMessagesBesideAPrompt(t *testing.T) {
	path := write(t, "rows.jsonl", `{"p": "s\n\na", "m": "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"a\"}]"}
{"p": "b", "m": null}
{"p": "c", "m": "[{\"role\":\"user\",\"content\":\"d\"}]"}
{"p": "e", "m": "no list"}
`)
	rows, dead, _ := scan(t, fileConfig(path, Fields{Prompt: "p", Messages: "m"}), Window{})
	stagetest.Dead(t, dead, schemas.ReasonMismatch, schemas.ReasonUnreadable)
	m := schemas.Messages.Of(rows)
	if rows.NumRows() != 2 || m.At(0) != `[{"role":"system","content":"s"},{"role":"user","content":"a"}]` || m.Valid(1) ||
		schemas.Prompt.Of(rows).At(0) != "s\n\na" || schemas.Prompt.Of(rows).At(1) != "b" {
		t.Errorf("%d rows, messages %q", rows.NumRows(), m.At(0))
	}
}

// Why a response ended may be said by some rows only, in whatever engine's words.
func TestFinishReasons(t *testing.T) {
	lines, want := "", map[string]string{}
	for i, c := range [][2]string{{`, "f": "STOP"`, "stop"}, {`, "f": "model_length"`, "length"}, {`, "f": true`, "length"},
		{`, "f": "content_filter"`, "error"}, {`, "f": "a word"`, "unknown"}, {`, "f": null`, "unknown"}, {"", "unknown"}} {
		response := fmt.Sprint("r", i)
		lines, want[response] = lines+fmt.Sprintf("{\"q\": \"%d\", \"r\": %q%s}\n", i, response, c[0]), c[1]
	}
	rows, dead, _ := scan(t, fileConfig(write(t, "rows.jsonl", lines+`{"q": "x", "r": "y", "f": 3}`),
		Fields{Prompt: "q", Response: "r", FinishReason: "f"}), Window{})
	stagetest.Dead(t, dead, schemas.ReasonBadType)
	got := map[string]string{}
	for i := range rows.NumRows() {
		got[schemas.Response.Of(rows).At(i)] = schemas.FinishReason.Of(rows).At(i)
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
