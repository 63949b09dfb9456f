package stage

import (
	"slices"
	"strings"
)

// What a step of a response is.
const (
	Lines  = "lines"  // a line of its text
	Blocks = "blocks" // a block of lines, up to a blank one
)

// StepBytes are the bytes at which the steps of a text end, white space after a step belonging to it.
func StepBytes(text, steps string) (out []int) {
	breaks := "\n"
	if steps == Blocks {
		breaks = "\n\n"
	}
	for at := 0; at < len(text); {
		end := len(text)
		if i := strings.Index(text[at:], breaks); i >= 0 {
			end = at + i + len(breaks)
		}
		for end < len(text) && text[end] == '\n' {
			end++
		}
		if strings.TrimSpace(text[at:end]) == "" && len(out) > 0 {
			out[len(out)-1] = end
		} else if strings.TrimSpace(text[at:end]) != "" {
			out = append(out, end)
		}
		at = end
	}
	return out
}

// StepTokens are the tokens with which steps end, counted from 1, nil where the tokens do not reach so far. Steps that end in one token
// are one; the last ends with the response.
func StepTokens(bytes []int, tokenEnds []int32) (out []int32) {
	for _, end := range bytes {
		at, _ := slices.BinarySearch(tokenEnds, int32(end))
		if at == len(tokenEnds) {
			return nil
		}
		if n := len(out); n == 0 || out[n-1] < int32(at)+1 {
			out = append(out, int32(at)+1)
		}
	}
	if len(out) > 0 {
		out[len(out)-1] = int32(len(tokenEnds))
	}
	return out
}
