package models

import (
	"slices"
	"strings"
)

// Words of engines and trainers for how a response ended.
var (
	stopWords = []string{"stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "end_of_turn", "complete", "completed"}
	// Some of a budget, some of the model's context.
	lengthWords = []string{"length", "max_tokens", "max_length", "model_length", "max_new_tokens", "context_length", "truncated"}
	brokenWords = []string{"content_filter", "error", "failed", "abort", "aborted", "cancelled", "canceled", "timeout", "safety"}
)

// FinishOf is what a word of another program says of why a response ended, in whatever case it is written: FinishError where it was broken
// off, FinishUnknown where the word is not known.
func FinishOf(word string) FinishReason {
	word = strings.ToLower(word)
	switch {
	case slices.Contains(stopWords, word):
		return FinishStop
	case slices.Contains(lengthWords, word):
		return FinishLength
	case slices.Contains(brokenWords, word):
		return FinishError
	}
	return FinishUnknown
}
