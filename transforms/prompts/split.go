package prompts

import (
	"encoding/json"
	"strings"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models/keyed"
)

// problemOf is what makes two prompts one problem: what the user says, whatever its case and white space. Neither ids nor answers nor
// names of sources are part of it, nor a system message, so copies that differ in these are on one side of a split.
func problemOf(r promptRow) string {
	if r.prompt == "" {
		return r.identity()
	}
	return strings.ToLower(strings.Join(strings.Fields(said(r)), " "))
}

// said is what the user says in a prompt.
func said(r promptRow) string {
	if r.messages == "" {
		return r.prompt
	}
	var turns []turn
	if err := json.Unmarshal([]byte(r.messages), &turns); err != nil || len(turns) == 0 {
		return r.prompt
	}
	return saidIn(turns)
}

// saidIn is what stands before a response: of a conversation of several turns all but the system message.
func saidIn(turns []turn) string {
	if len(turns) > 1 && turns[0].Role == "system" {
		turns = turns[1:]
	}
	texts := make([]string, len(turns))
	for i, t := range turns {
		texts[i] = t.Content
	}
	return strings.Join(texts, "\n\n")
}

// test reports whether a prompt belongs to the split test.
func (f File) test(r promptRow) bool {
	return keyed.New(f.SplitSeed).WithBytes(uuid.NewSHA1(promptSpace, []byte(problemOf(r)))).Uniform() < f.TestShare
}

// inSplit reports whether a split has the prompts that are in test, or the others.
func inSplit(test bool, split string) bool { return split == "all" || test == (split == "test") }
