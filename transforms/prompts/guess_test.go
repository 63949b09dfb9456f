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
