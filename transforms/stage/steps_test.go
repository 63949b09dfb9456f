package stage

import (
	"slices"
	"strings"
	"testing"
)

// TestSteps: steps of texts are lines or blocks, with the white space after them.
func TestSteps(t *testing.T) {
	for _, c := range []struct {
		text, steps string
		want        []string
	}{
		{"a\nb\n\nc", Lines, []string{"a\n", "b\n\n", "c"}},
		{"a\nb\n\n\nc\n", Blocks, []string{"a\nb\n\n\n", "c\n"}},
		{"\n\na", Lines, []string{"a"}},
		{"a \n \n b", Lines, []string{"a \n \n", " b"}},
		{"", Lines, nil},
		{" \n", Blocks, nil},
		{"one", Blocks, []string{"one"}},
	} {
		var got []string
		last := 0
		for _, end := range StepBytes(c.text, c.steps) {
			got, last = append(got, c.text[last:end]), end
		}
		if len(got) > 0 {
			got[0] = strings.TrimLeft(got[0], "\n")
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q in %s: %q, want %q", c.text, c.steps, got, c.want)
		}
	}
	if got := StepTokens([]int{2, 3, 8}, []int32{1, 3, 5, 8, 8}); !slices.Equal(got, []int32{2, 5}) {
		t.Errorf("steps that end in one token are at %v", got)
	}
	if got := StepTokens([]int{9}, []int32{1, 3}); got != nil {
		t.Errorf("steps outside of the tokens are at %v", got)
	}
}
