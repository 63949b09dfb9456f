package label

import (
	"slices"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// tokenEndsOf gives the token_ends of each row; nil where they are not known.
func tokenEndsOf(b stage.Batch) func(row int) []int32 {
	v, err := schemas.TokenEnds.Find(b)
	if err != nil {
		return func(int) []int32 { return nil }
	}
	return v.Row
}

// placeSteps turns the bytes at which steps end into tokens, counted from 1. The last token of a step is the first one with
// which all bytes of the step are there, so a token in which one step ends and the next begins belongs to the former. The
// last step ends with the response: its end token has no text of its own. There is no place for steps when two end in one
// token, or when they end outside the text.
func placeSteps(bytes, tokenEnds []int32) ([]int32, bool) {
	if len(bytes) == 0 || len(tokenEnds) == 0 {
		return nil, false
	}
	out := make([]int32, len(bytes))
	last := int32(0)
	for s, end := range bytes {
		at, _ := slices.BinarySearch(tokenEnds, end)
		if at == len(tokenEnds) {
			return nil, false
		}
		out[s] = int32(at) + 1
		if s == len(bytes)-1 {
			out[s] = int32(len(tokenEnds))
		}
		if out[s] <= last {
			return nil, false
		}
		last = out[s]
	}
	return out, true
}
