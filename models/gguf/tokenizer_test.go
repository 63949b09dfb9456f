package gguf_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/models/gguf"
	"github.com/millrace/millrace/models/tokenizer"
)

// vocabulary is the metadata of a small tokenizer: all bytes, "th", "the" and " the", an end mark and a marked word.
func vocabulary(edit ...any) []any {
	var tokens []string
	var types []int
	for b := range 256 {
		c := rune(b)
		switch {
		case b < '!':
			c += 0x100
		case b > '~' && b <= 0xa0:
			c = rune(b-0x7f) + 0x121
		case b == 0xad:
			c = 0x143
		}
		tokens, types = append(tokens, string(c)), append(types, 1)
	}
	tokens = append(tokens, "th", "the", "Ġthe", "<|end|>", "<mark>")
	types = append(types, 1, 1, 1, 3, 4)
	keys := []any{"tokenizer.ggml.model", "gpt2", "tokenizer.ggml.pre", "gpt-2", "tokenizer.ggml.tokens", tokens, "tokenizer.ggml.token_type",
		types,
		"tokenizer.ggml.merges", []string{"t h", "th e", "Ġ the"}, "tokenizer.ggml.eos_token_id", 259, "tokenizer.ggml.bos_token_id", 259,
		"tokenizer.ggml.add_bos_token", true, "tokenizer.chat_template", "{{ messages[0].content }}{{ eos_token }}"}
	for i := 0; i < len(edit); i += 2 {
		found := false
		for j := 0; j < len(keys); j += 2 {
			if keys[j] == edit[i] {
				keys[j+1], found = edit[i+1], true
			}
		}
		if !found {
			keys = append(keys, edit[i], edit[i+1])
		}
	}
	return keys
}

func load(t *testing.T, keys []any) (tokenizer.Tokenizer, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, gguf.FileWith(keys...), 0o644); err != nil {
		t.Fatal(err)
	}
	return tokenizer.Load(path)
}

func TestEmbeddedTokenizer(t *testing.T) {
	tok, err := load(t, vocabulary())
	if err != nil {
		t.Fatal(err)
	}
	ids, err := tok.Encode("the the<mark>t<|end|>")
	if want := []int32{257, 258, 260, 't', 259}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("%v (%v), want %v", ids, err, want)
	}
	if got := tok.Decode(ids); got != "the the<mark>t<|end|>" {
		t.Errorf("decoded %q", got)
	}
	if !slices.Equal(tok.EOS(), []int32{259}) || !slices.Equal(tok.Prefix(), []int32{259}) || !tok.Special(259) || tok.Special(260) ||
		tok.VocabSize() != 261 {
		t.Errorf("eos %v, prefix %v, %d tokens", tok.EOS(), tok.Prefix(), tok.VocabSize())
	}
	chat, err := tokenizer.NewChat(tok)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := chat.Render([]tokenizer.Message{{Role: "user", Content: "the"}}, true, nil); err != nil || text != "the<|end|>" {
		t.Errorf("%q, %v", text, err)
	}
	// As files of a Hugging Face directory it is the same.
	dir := t.TempDir()
	if err := tok.Save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := again.Encode("the the<mark>t<|end|>"); err != nil || !slices.Equal(b, ids) || !slices.Equal(again.EOS(), tok.EOS()) ||
		again.ChatTemplate() != tok.ChatTemplate() {
		t.Errorf("saved: %v (%v)", b, err)
	}
	// The families differ in how digits and white space are cut.
	for pre, want := range map[string]int{"gpt-2": 2, "smollm": 4, "llama-bpe": 3, "qwen2": 4} {
		tok, err := load(t, vocabulary("tokenizer.ggml.pre", pre, "tokenizer.ggml.tokens", append(vocabulary()[5].([]string), "11", "Ġ1"),
			"tokenizer.ggml.token_type", append(vocabulary()[7].([]int), 1, 1), "tokenizer.ggml.merges", []string{"Ġ 1", "1 1"}))
		if err != nil {
			t.Fatal(err)
		}
		if ids, err := tok.Encode(" 111"); err != nil || len(ids) != want {
			t.Errorf("%s: %v (%v), want %d tokens", pre, ids, err, want)
		}
	}
}

func TestRejectedEmbeddedTokenizers(t *testing.T) {
	for name, c := range map[string]struct {
		edit []any
		want string
	}{
		"sentencepiece":      {[]any{"tokenizer.ggml.model", "llama"}, "tokenizer.ggml.model"},
		"unknown family":     {[]any{"tokenizer.ggml.pre", "chatglm-bpe"}, "tokenizer.ggml.pre"},
		"no tokens":          {[]any{"tokenizer.ggml.tokens", []string{}}, "tokenizer.ggml.tokens"},
		"token twice":        {[]any{"tokenizer.ggml.tokens", []string{"a", "a"}, "tokenizer.ggml.token_type", []int{1, 1}}, "two ids"},
		"types short":        {[]any{"tokenizer.ggml.token_type", []int{1}}, "token_type"},
		"no merges":          {[]any{"tokenizer.ggml.merges", 1}, "tokenizer.ggml.merges"},
		"merge of one":       {[]any{"tokenizer.ggml.merges", []string{"th"}}, "merges[0]"},
		"merge of strangers": {[]any{"tokenizer.ggml.merges", []string{"xx yy"}}, "merges[0]"},
		"eos out of range":   {[]any{"tokenizer.ggml.eos_token_id", 1000}, "eos_token_id"},
	} {
		_, err := load(t, vocabulary(c.edit...))
		var typed *tokenizer.Error
		if !errors.As(err, &typed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an Error that says %q", name, err, c.want)
		}
	}
}
