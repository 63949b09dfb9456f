package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/millrace/millrace/models/gguf"
)

// Split patterns of the pre-tokenizers that GGUF files name; see setPreTokenizer for gpt2Split.
const (
	qwenSplit   = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	llama3Split = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// Token types of a GGUF vocabulary that are searched for in a text.
const (
	ggufControl     = 3
	ggufUserDefined = 4
)

// loadGGUF builds the tokenizer that a GGUF file embeds.
func loadGGUF(path string) (Tokenizer, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files, err := GGUFFiles(f)
	if err != nil {
		return nil, err
	}
	t, err := newBPE(path, files)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// GGUFFiles writes the tokenizer that a GGUF file embeds as the files of a Hugging Face directory, by name.
func GGUFFiles(f *gguf.File) (map[string][]byte, error) {
	bad := func(key, format string, args ...any) (map[string][]byte, error) {
		return nil, &Error{Path: f.Path(), Field: key, Problem: fmt.Sprintf(format, args...)}
	}
	const prefix = "tokenizer.ggml."
	if kind, ok := f.Text(prefix + "model"); !ok || kind != "gpt2" {
		return bad(prefix+"model", "%q is not supported (gpt2, byte-level BPE, is)", kind)
	}
	tokens, ok := f.Texts(prefix + "tokens")
	if !ok || len(tokens) == 0 || len(tokens) > maxVocab {
		return bad(prefix+"tokens", "is missing, empty or longer than %d", maxVocab)
	}
	pairs, ok := f.Texts(prefix + "merges")
	if !ok {
		return bad(prefix+"merges", "is missing")
	}
	types, hasTypes := f.Ints(prefix + "token_type")
	if hasTypes && len(types) != len(tokens) {
		return bad(prefix+"token_type", "has %d entries for %d tokens", len(types), len(tokens))
	}

	no := false
	byteLevel := component{Type: "ByteLevel", AddPrefixSpace: &no, TrimOffsets: &no, UseRegex: &no}
	doc := bpeJSON{Version: "1.0", Decoder: &component{Type: "ByteLevel", AddPrefixSpace: &no, TrimOffsets: &no, UseRegex: &no},
		Model: modelJSON{Type: "BPE", Vocab: make(map[string]int32, len(tokens)), Merges: make([]mergePair, len(pairs))}}
	steps := []component{}
	split := func(expr string) {
		steps = append(steps, component{Type: "Split", Pattern: map[string]string{"Regex": expr}, Behavior: "Isolated", Invert: &no})
	}
	switch pre, _ := f.Text(prefix + "pre"); pre {
	case "", "default", "gpt-2":
		split(gpt2Split)
	case "smollm":
		steps = append(steps, component{Type: "Digits", IndividualDigits: true})
		split(gpt2Split)
	case "llama-bpe", "llama3", "llama-v3":
		split(llama3Split)
		doc.Model.IgnoreMerges = true
	case "qwen2":
		split(qwenSplit)
		doc.Normalizer = &component{Type: "NFC"}
	default:
		return bad(prefix+"pre", "%q is not supported (default, gpt-2, smollm, llama-bpe and qwen2 are)", pre)
	}
	doc.PreTokenizer = &component{Type: "Sequence", Pretokenizers: append(steps, byteLevel)}

	for id, token := range tokens {
		if hasTypes && (types[id] == ggufControl || types[id] == ggufUserDefined) {
			doc.AddedTokens = append(doc.AddedTokens, addedToken{ID: int32(id), Content: token, Special: types[id] == ggufControl})
		}
		if other, twice := doc.Model.Vocab[token]; twice {
			return bad(prefix+"tokens", "%.40q has two ids, %d and %d", token, other, id)
		}
		doc.Model.Vocab[token] = int32(id)
	}
	for i, pair := range pairs {
		left, right, found := strings.Cut(pair, " ")
		if !found || strings.Contains(right, " ") {
			return bad(fmt.Sprintf("%smerges[%d]", prefix, i), "%.40q is not two tokens with a space between", pair)
		}
		doc.Model.Merges[i] = mergePair{left, right}
	}

	config := map[string]any{}
	ids := []int64{}
	for _, special := range []struct{ key, name string }{
		{"bos_token_id", "bos_token"}, {"eos_token_id", "eos_token"}, {"eot_token_id", ""}, {"padding_token_id", "pad_token"},
	} {
		id, ok := f.Int(prefix + special.key)
		if !ok {
			continue
		}
		if id < 0 || id >= int64(len(tokens)) {
			return bad(prefix+special.key, "%d is not in the vocabulary of %d tokens", id, len(tokens))
		}
		if special.name != "" {
			config[special.name] = tokens[id]
		}
		if special.key == "eos_token_id" || special.key == "eot_token_id" {
			ids = append(ids, id)
		}
		if add, _ := f.Flag(prefix + "add_bos_token"); add && special.key == "bos_token_id" {
			first, text := templatePiece{ID: quoted(tokens[id])}, templatePiece{ID: quoted("A")}
			second := templatePiece{ID: quoted("B"), TypeID: 1}
			doc.PostProcessor = &component{Type: "TemplateProcessing",
				Single:        []map[string]templatePiece{{"SpecialToken": first}, {"Sequence": text}},
				Pair:          []map[string]templatePiece{{"SpecialToken": first}, {"Sequence": text}, {"Sequence": second}},
				SpecialTokens: map[string]templateToken{tokens[id]: {tokens[id], []int32{int32(id)}, []string{tokens[id]}}}}
		}
	}
	if template, ok := f.Text("tokenizer.chat_template"); ok {
		config["chat_template"] = template
	}
	files := map[string][]byte{}
	for name, content := range map[string]any{bpeFile: doc, configFile: config, generationFile: map[string]any{"eos_token_id": ids}} {
		text, err := json.Marshal(content)
		if err != nil {
			return bad("", "%v", err)
		}
		files[name] = text
	}
	return files, nil
}

func quoted(s string) json.RawMessage {
	text, err := json.Marshal(s)
	if err != nil {
		panic("tokenizer: a string has no JSON form")
	}
	return text
}
