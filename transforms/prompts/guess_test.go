package prompts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A column that is null in the first rows tells nothing; one that has a value in some of them does.
func TestNullColumnsTellNothing(t *testing.T) {
	for name, c := range map[string]struct {
		rows string
		want Fields
	}{
		"null everywhere": {strings.Repeat(`{"prompt": "a", "messages": null, "response": "b", "answer": "1"}`+"\n", 2) +
			`{"prompt": "c", "messages": null, "response": "b", "answer": "1"}` + "\n",
			Fields{Prompt: "prompt", Response: "response", Answer: "answer"}},
		"null at first": {`{"messages": null, "answer": "1"}` + "\n" + `{"messages": [{"role": "user", "content": "a"}], "answer": "1"}` + "\n",
			Fields{Conversation: "messages", Answer: "answer"}},
	} {
		path := filepath.Join(t.TempDir(), "rows.jsonl")
		if err := os.WriteFile(path, []byte(c.rows), 0o644); err != nil {
			t.Fatal(err)
		}
		f, _, err := File{Path: Paths{path}}.Fill(t.Context(), true)
		if err != nil || f.Fields != c.want {
			t.Errorf("%s: %+v, %v, want %+v", name, f.Fields, err, c.want)
		}
	}
}

// A file without a row that can be read says what is wrong with the first.
func TestNoRowThatCanBeRead(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":     {"", "has no row that can be read"},
		"not UTF-8": {"\n{\"prompt\": \"\xff\"}\n{", "rows.jsonl:2: the line is not UTF-8"},
	} {
		path := filepath.Join(t.TempDir(), "rows.jsonl")
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := (File{Path: Paths{path}}).Fill(t.Context(), true); err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
