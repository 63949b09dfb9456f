package recipe

import (
	"bytes"
	"testing"
)

// What changes nothing of an iteration leaves a recipe's identity as it is, and everything else is another recipe: what a gate reads too.
func TestIdentity(t *testing.T) {
	const plain = "kind: policy\nprompts: {count: 8}\niterations: 3\nlimits: {idle: 5, max_record_bytes: 9}\n" +
		"evaluate: {every: 2, prompts: 4}\nseed: 1\n"
	const refresh = "kind: refresh\nprompts: {count: 8}\nreward: {}\nevaluate: {every: 2, prompts: 4, best: x}\n"
	const scheduled = "kind: policy\nprompts: {count: 8}\nreward: {refresh: {every: 2}}\nevaluate: {every: 2, prompts: 4}\n"
	for _, c := range []struct {
		of, was, is string
		same        bool
	}{
		{plain, "iterations: 3", "iterations: 9", true},
		{plain, "iterations: 3\n", "", true},
		{plain, "idle: 5", "idle: 6", true},
		{plain, "every: 2", "every: 1", true},
		{plain, "prompts: 4", "prompts: 5", true},
		{plain, "max_record_bytes: 9", "max_record_bytes: 8", false},
		{plain, "count: 8", "count: 9", false},
		{plain, "seed: 1", "seed: 2", false},
		{refresh, "best: x", "best: y", true},
		{refresh, "every: 2", "every: 1", false},
		{refresh, "prompts: 4", "prompts: 5", false},
		{scheduled, "every: 2, prompts", "every: 1, prompts", true},
		{scheduled, "prompts: 4", "prompts: 5", false},
		{scheduled, "refresh: {every: 2}", "refresh: {every: 3}", false},
		{"no recipe", "no", "a", false},
	} {
		other := bytes.Replace([]byte(c.of), []byte(c.was), []byte(c.is), 1)
		if bytes.Equal(other, []byte(c.of)) {
			t.Fatalf("%q is not in the recipe", c.was)
		}
		if same := bytes.Equal(Identity([]byte(c.of)), Identity(other)); same != c.same {
			t.Errorf("%q in the place of %q: the same identity %v, want %v", c.is, c.was, same, c.same)
		}
	}
}
