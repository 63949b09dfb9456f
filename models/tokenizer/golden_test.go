package tokenizer

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
)

// published are the tokenizers with golden encodings.
var published = []string{"smollm2", "qwen3"}

func sharedTokenizer(t *testing.T, name string) (Tokenizer, string) {
	t.Helper()
	dir := golden.Path(t, "tokenizers", name)
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tok, dir
}

func eachLine[T any](t *testing.T, path string, f func(T)) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 64<<20)
	n := 0
	for lines.Scan() {
		var c T
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		f(c)
		n++
	}
	if err := lines.Err(); err != nil || n == 0 {
		t.Fatalf("%s: %d lines, %v", path, n, err)
	}
}

type encoding struct {
	Text    string  `json:"text"`
	IDs     []int32 `json:"ids"`
	Decoded string  `json:"decoded"`
}

func checkEncoding(t *testing.T, tok Tokenizer, c encoding) {
	t.Helper()
	ids, err := tok.Encode(c.Text)
	if err != nil {
		t.Errorf("%.200q: %v", c.Text, err)
		return
	}
	if !slices.Equal(ids, c.IDs) {
		same := 0
		for same < min(len(ids), len(c.IDs)) && ids[same] == c.IDs[same] {
			same++
		}
		t.Errorf("%.200q: from token %d (after %.60q): %v, want %v", c.Text, same, tok.Decode(ids[:same]),
			ids[same:min(same+8, len(ids))], c.IDs[same:min(same+8, len(c.IDs))])
	}
	if got := tok.Decode(c.IDs); got != c.Decoded {
		t.Errorf("decoded %.200q, want %.200q", got, c.Decoded)
	}
	s, streamed := NewStream(tok), ""
	for _, id := range c.IDs {
		streamed += s.Next(id)
	}
	if streamed += s.Flush(); streamed != c.Decoded {
		t.Errorf("streamed %.200q, want %.200q", streamed, c.Decoded)
	}
}

func TestGoldenEncodings(t *testing.T) {
	for _, name := range published {
		t.Run(name, func(t *testing.T) {
			tok, dir := sharedTokenizer(t, name)
			eachLine(t, filepath.Join(dir, "encodings.jsonl"), func(c encoding) { checkEncoding(t, tok, c) })
		})
	}
}

func TestGoldenChats(t *testing.T) {
	for _, name := range published {
		t.Run(name, func(t *testing.T) {
			tok, dir := sharedTokenizer(t, name)
			chat, err := NewChat(tok)
			if err != nil {
				t.Fatal(err)
			}
			type chatCase struct {
				Messages []Message      `json:"messages"`
				Prompt   bool           `json:"add_generation_prompt"`
				Vars     map[string]any `json:"kwargs"`
				Text     string         `json:"text"`
				IDs      []int32        `json:"ids"`
			}
			eachLine(t, filepath.Join(dir, "chat.jsonl"), func(c chatCase) {
				text, err := chat.Render(c.Messages, c.Prompt, c.Vars)
				if err != nil || text != c.Text {
					t.Errorf("%v: %q, want %q", err, text, c.Text)
				}
				ids, err := chat.Encode(c.Messages, c.Prompt, c.Vars)
				if err != nil || !slices.Equal(ids, c.IDs) {
					t.Errorf("%v: ids %v, want %v", err, ids, c.IDs)
				}
			})
		})
	}
}

// A tokenizer that was saved beside another model is the same one.
func TestSavedTokenizersLoad(t *testing.T) {
	for _, name := range published {
		t.Run(name, func(t *testing.T) {
			tok, _ := sharedTokenizer(t, name)
			dir := t.TempDir()
			if err := tok.Save(dir); err != nil {
				t.Fatal(err)
			}
			again, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if again.VocabSize() != tok.VocabSize() || !slices.Equal(again.EOS(), tok.EOS()) || again.BOS() != tok.BOS() ||
				again.Pad() != tok.Pad() || again.ChatTemplate() != tok.ChatTemplate() {
				t.Error("the saved tokenizer is another one")
			}
			for id := range int32(tok.VocabSize()) {
				if tok.Token(id) != again.Token(id) || tok.Special(id) != again.Special(id) {
					t.Fatalf("token %d differs", id)
				}
			}
		})
	}
}
