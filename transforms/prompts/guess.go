package prompts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// shape is a layout of rows that some program writes.
type shape struct {
	name   string
	has    []string // columns that tell it
	fields Fields
	// logProbs are what its log-probs are, where its program leaves no choice; nil: not known.
	logProbs *LogProbs
}

// shapes are tried in order. docs/prompts.md lists them.
var shapes = []shape{
	{name: "rows of a run", has: []string{"prompt_id", "prompt", "messages", "response_id"}, fields: Fields{Prompt: "prompt",
		Messages: "messages"}},
	{name: "verl rollouts", has: []string{"input", "output", "gts"}, fields: Fields{Prompt: "input", Response: "output", Answer: "gts"}},
	{name: "verl prompts", has: []string{"prompt", "reward_model", "data_source"}, fields: Fields{Prompt: "prompt",
		Answer: "reward_model.ground_truth"}},
	{name: "ProcessBench", has: []string{"problem", "steps", "label", "final_answer_correct"}, fields: ProcessBench()},
	{name: "TRL stepwise supervision", has: []string{"prompt", "completions", "labels"}, fields: Fields{Prompt: "prompt", Steps: "completions",
		FirstError: "labels", Outcome: "labels"}},
	{name: "preferences", has: []string{"prompt", "chosen", "rejected"}, fields: Fields{Prompt: "prompt", Chosen: "chosen",
		Rejected: "rejected"}},
	{name: "preferences without a prompt", has: []string{"chosen", "rejected"}, fields: Fields{Chosen: "chosen", Rejected: "rejected"}},
	{name: "token ids with a mask", has: []string{"token_ids", "mask"}, fields: Fields{Tokens: "token_ids", LossMask: "mask"}},
	{name: "conversations", has: []string{"messages"}, fields: Fields{Conversation: "messages"}},
	{name: "conversations", has: []string{"conversation"}, fields: Fields{Conversation: "conversation"}},
	{name: "ShareGPT", has: []string{"conversations"}, fields: Fields{Conversation: "conversations"}},
}

// Names that fields go by, the likeliest first.
var (
	promptNames   = []string{"prompt", "question", "problem", "instruction", "query", "input"}
	answerNames   = []string{"answer", "ground_truth", "gold", "gts", "reference", "target", "final_answer", "expected"}
	responseNames = []string{"response", "completion", "completions", "output", "generation", "generations", "responses", "model_output",
		"prediction", "solution"}
	promptIDNames   = []string{"prompt_ids", "prompt_token_ids", "prompt_tokens"}
	responseIDNames = []string{"completion_ids", "response_ids", "response_token_ids", "completion_token_ids", "response_tokens",
		"output_token_ids"}
	maskNames    = []string{"loss_mask", "response_mask", "completion_mask"}
	logProbNames = []string{"logprobs", "log_probs", "rollout_log_probs", "sampling_logprobs", "token_logprobs", "old_logp"}
	finishNames  = []string{"finish_reason", "stop_reason", "status"}
)

// Guess tells what the columns of rows are by their names. What is named already stays. The shape is the layout they were known by, ""
// where single names told.
func Guess(columns []string, named Fields, responses bool) (fields Fields, logProbs *LogProbs, layout string) {
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(columns, n) })
	}
	first := func(names []string, but ...string) string {
		for _, n := range names {
			if slices.Contains(columns, n) && !slices.Contains(but, n) {
				return n
			}
		}
		return ""
	}
	set := func(into *string, found string) {
		if *into == "" {
			*into = found
		}
	}
	fields = named
	if named == (Fields{}) {
		for _, s := range shapes {
			if has(s.has...) {
				fields, logProbs, layout = s.fields, s.logProbs, s.name
				break
			}
		}
	}
	if fields.Conversation == "" && fields.Chosen == "" && fields.Tokens == "" {
		set(&fields.Prompt, first(promptNames, fields.Answer, fields.Response))
	}
	set(&fields.Answer, first(answerNames, fields.Prompt, fields.Response))
	if responses && fields.Conversation == "" && fields.Chosen == "" && fields.Steps == "" {
		if fields.PromptTokens == "" && fields.ResponseTokens == "" && fields.Tokens == "" {
			p, r := first(promptIDNames), first(responseIDNames)
			if p != "" && r != "" {
				fields.PromptTokens, fields.ResponseTokens = p, r
			}
		}
		if fields.tokens() {
			set(&fields.LossMask, first(maskNames))
			set(&fields.LogProbs, first(logProbNames))
		}
		set(&fields.Response, first(responseNames, fields.Prompt, fields.Answer))
		if fields.answered() {
			set(&fields.FinishReason, first(finishNames))
		}
	}
	if !responses && fields.answered() {
		fields.PromptsOnly = true
	}
	return fields, logProbs, layout
}

var errEnoughRows = errors.New("enough rows are seen")

// seenRows are those by whose columns fields are named: a column that is null in all of them, as one that is there for other rows than
// these, is none.
const seenRows = 64

// Fill names the fields of the file's rows that are not named yet, by the columns that have values in its first rows.
func (f File) Fill(ctx context.Context, responses bool) (filled File, layout string, err error) {
	known := []string{"", formatLines, formatArray, formatParquet, formatArrow}
	if !slices.Contains(known, f.Format) {
		return f, "", setting.Errorf("format", "%q is not one of %s", f.Format, strings.Join(known[1:], ", "))
	}
	if f.Layout == "" {
		if f.Layout, err = f.layoutOf(ctx); err != nil {
			return f, "", f.missing(err)
		}
	}
	found, rows := map[string]bool{}, 0
	fault, unread := "", map[string]error{}
	left := func(err error) {
		var of *files.ParquetError
		if errors.As(err, &of) {
			name, _, _ := strings.Cut(of.Column, ".")
			unread[name] = err
		}
	}
	err = f.each(ctx, left, func(row rawRow) error {
		if row.err != nil {
			if fault == "" {
				fault = fmt.Sprintf("; %s:%d: %v", f.name(), row.number, row.err)
			}
			return nil
		}
		for name, value := range row.fields {
			if value != nil {
				found[name] = true
			}
		}
		if rows++; rows == seenRows {
			return errEnoughRows
		}
		return nil
	})
	if err != nil {
		return f, "", f.missing(err)
	}
	columns := slices.Sorted(maps.Keys(found))
	if len(columns) == 0 {
		return f, "", setting.Errorf("path", "%s has no row that can be read%s", f.Path, fault)
	}
	if err := f.unreadable(columns, unread, responses); err != nil {
		return f, "", err
	}
	var logProbs *LogProbs
	f.Fields, logProbs, layout = Guess(columns, f.Fields, responses)
	if f.Layout != "" {
		layout = f.Layout
		if f.Fields.LogProbs != "" && f.LogProbs == nil {
			if logProbs, err = f.definedBy(ctx); err != nil {
				return f, layout, err
			}
		}
	}
	if f.LogProbs == nil {
		f.LogProbs = logProbs
	}
	switch {
	case f.Fields.Prompt == "" && f.Fields.Conversation == "" && f.Fields.Chosen == "" && !f.Fields.tokens():
		return f, layout, setting.Errorf("fields.prompt", "none of the columns of %s (%s) goes by a name of prompts; name it", f.Path,
			strings.Join(columns, ", "))
	case responses && !f.Fields.answered():
		return f, layout, setting.Errorf("fields.response", "none of the columns of %s (%s) goes by a name of responses; name it", f.Path,
			strings.Join(columns, ", "))
	}
	return f, layout, nil
}

// unreadable is the error of a column that cannot be read and that a field would be, were it there.
func (f File) unreadable(columns []string, unread map[string]error, responses bool) error {
	fields, _, _ := Guess(columns, f.Fields, responses)
	for _, name := range slices.Sorted(maps.Keys(unread)) {
		all := slices.Sorted(slices.Values(append(slices.Clone(columns), name)))
		if with, _, _ := Guess(slices.Compact(all), f.Fields, responses); with != fields {
			return unread[name]
		}
	}
	return nil
}
