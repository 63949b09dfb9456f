package prompts

import (
	"encoding/json"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"

	"github.com/millrace/millrace/models/keyed"
)

// problemOf is what makes two prompts one problem: what the user says, whatever its case, its white space and the Unicode normal form
// that it is written in. Neither ids nor answers nor
// names of sources are part of it, nor a system message, so copies that differ in these are on one side of a split.
func problemOf(r promptRow) string {
	if r.prompt == "" {
		return r.identity()
	}
	return normalised(said(r))
}

// normalised is a text whatever its case, its white space and its Unicode normal form.
func normalised(s string) string {
	return norm.NFC.String(strings.ToLower(strings.Join(strings.FieldsFunc(norm.NFC.String(s), blank), " ")))
}

// blank reports white space, that of no width included.
func blank(c rune) bool { return unicode.IsSpace(c) || c == '\u200b' || c == '\u2060' || c == '\ufeff' }

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
	if f.TestShare == 0 {
		return false
	}
	return keyed.New(f.SplitSeed).WithBytes(uuid.NewSHA1(promptSpace, []byte(problemOf(r)))).Uniform() < f.TestShare
}

// inSplit reports whether a split has the prompts that are in test, or the others.
func inSplit(test bool, split string) bool { return split == "all" || test == (split == "test") }
