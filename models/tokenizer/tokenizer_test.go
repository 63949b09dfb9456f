package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// smallTokenizer is testdata/small.json, a vocabulary of 601 tokens, changed by edit.
func smallTokenizer(t testing.TB, edit func(doc map[string]any)) (*bpe, error) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "small.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	edit(doc)
	if text, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	return newBPE("tokenizer.json", map[string][]byte{bpeFile: text})
}

// The encodings of variants.jsonl were made by the tokenizers library 0.23.3 from small.json with its normaliser,
// pre-tokeniser and so on exchanged for those of published families and some rarer ones.
func TestVariants(t *testing.T) {
	type variant struct {
		Name         string         `json:"name"`
		Patch        map[string]any `json:"patch"`
		IgnoreMerges bool           `json:"ignore_merges"`
		Every        int            `json:"every"` // leave out every such merge
		Cases        []encoding     `json:"cases"`
	}
	eachLine(t, filepath.Join("testdata", "variants.jsonl"), func(v variant) {
		t.Run(v.Name, func(t *testing.T) {
			tok, err := smallTokenizer(t, func(doc map[string]any) {
				for key, value := range v.Patch {
					doc[key] = value
				}
				model := doc["model"].(map[string]any)
				model["ignore_merges"] = v.IgnoreMerges
				if v.Every > 0 {
					var kept []any
					for i, m := range model["merges"].([]any) {
						if i%v.Every != 0 {
							kept = append(kept, m)
						}
					}
					model["merges"] = kept
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range v.Cases {
				checkEncoding(t, tok, c)
			}
			if v.Patch["post_processor"] != nil && !slices.Equal(tok.Prefix(), []int32{0}) {
				t.Errorf("prefix %v, want [0]", tok.Prefix())
			}
		})
	})
}

// Hostile texts: long ones that quadratic algorithms do not finish. Decoding has to give the text back.
func TestHostileTextsEncode(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	const qwen = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	tok, err := smallTokenizer(t, func(doc map[string]any) {
		doc["normalizer"] = map[string]any{"type": "NFC"}
		doc["pre_tokenizer"] = map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Split", "pattern": map[string]any{"Regex": qwen}, "behavior": "Isolated"},
			map[string]any{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	letters := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range letters {
		letters[i] = "abcdefghijklmnopqrstuvwxyz"[rng.IntN(26)]
	}
	for name, text := range map[string]string{
		"letters":           string(letters),
		"one letter":        strings.Repeat("a", n),
		"carets":            strings.Repeat("^", n),
		"spaces":            strings.Repeat(" ", n),
		"space newline":     strings.Repeat(" \n", n/2),
		"newline spaces":    "\n" + strings.Repeat(" ", n),
		"apostrophes":       strings.Repeat("'", n),
		"digits":            strings.Repeat("7", n),
		"half added tokens": strings.Repeat("<|end|<|user|", n/13),
		"added tokens":      strings.Repeat("<think>", n/7),
		"combining marks":   "e" + strings.Repeat("\u0323\u0323", n/4),
		"marks in disorder": "e" + strings.Repeat("\u0301\u0323", n/4),
		"hangul parts":      strings.Repeat("\u1100\u1161\u11a8", n/9),
		"ideographs":        strings.Repeat("世", n/3),
	} {
		ids, err := tok.Encode(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, want := tok.Decode(ids), formNFC.normalize(text); got != want {
			t.Errorf("%s: decoding gives another text of %d bytes, want %d", name, len(got), len(want))
		}
	}
}

func TestRejectedTokenizerFiles(t *testing.T) {
	object := func(kv ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return m
	}
	splitBy := func(expr string) map[string]any {
		return object("type", "Sequence", "pretokenizers", []any{
			object("type", "Split", "pattern", object("Regex", expr), "behavior", "Isolated"), object("type", "ByteLevel", "use_regex", false)})
	}
	model := func(key string, value any) func(map[string]any) {
		return func(doc map[string]any) { doc["model"].(map[string]any)[key] = value }
	}
	top := func(key string, value any) func(map[string]any) {
		return func(doc map[string]any) { doc[key] = value }
	}
	for name, c := range map[string]struct {
		edit func(map[string]any)
		want string
	}{
		"unigram":            {model("type", "Unigram"), "model.type"},
		"dropout":            {model("dropout", 0.1), "model.dropout"},
		"byte fallback":      {model("byte_fallback", true), "model.byte_fallback"},
		"subword prefix":     {model("continuing_subword_prefix", "##"), "model.continuing_subword_prefix"},
		"no vocabulary":      {model("vocab", object()), "model.vocab"},
		"negative id":        {model("vocab", object("a", -1)), "negative"},
		"huge id":            {model("vocab", object("a", 1<<30)), "limit"},
		"id twice":           {model("vocab", object("a", 0, "b", 0)), "two tokens"},
		"unknown unk":        {model("unk_token", "<nope>"), "model.unk_token"},
		"merge of strangers": {model("merges", []any{[]any{"qqq", "zzz"}}), "model.merges[0]"},
		"merge of one":       {model("merges", []any{"abc"}), "two tokens"},
		"merge of three":     {model("merges", []any{[]any{"a", "b", "c"}}), "not 2"},
		"vocab is a list":    {model("vocab", []any{1}), "cannot unmarshal"},
		"added id taken":     {top("added_tokens", []any{object("id", 5, "content", "<new>")}), "added_tokens[0]"},
		"added id other":     {top("added_tokens", []any{object("id", 700, "content", "<|end|>")}), "added_tokens[0]"},
		"added twice":        {top("added_tokens", []any{object("id", 700, "content", "x1"), object("id", 700, "content", "x2")}), "added twice"},
		"added empty":        {top("added_tokens", []any{object("id", 700, "content", "")}), "empty"},
		"added too long":     {top("added_tokens", []any{object("id", 700, "content", strings.Repeat("x", 2000))}), "longer"},
		"added too many": {func(doc map[string]any) {
			var added []any
			for i := range 1100 {
				added = append(added, object("id", 1000+i, "content", fmt.Sprint(i, strings.Repeat("x", 1000))))
			}
			doc["added_tokens"] = added
		}, "together"},
		"normaliser":       {top("normalizer", object("type", "Lowercase")), "normalizer.type"},
		"metaspace":        {top("pre_tokenizer", object("type", "Metaspace")), "pre_tokenizer.type"},
		"no pre-tokeniser": {top("pre_tokenizer", nil), "pre_tokenizer"},
		"not byte-level":   {top("pre_tokenizer", object("type", "Digits")), "ByteLevel"},
		"merged behaviour": {top("pre_tokenizer", object("type", "Split", "pattern", object("Regex", "a"), "behavior", "MergedWithNext")),
			"behavior"},
		"no pattern":      {top("pre_tokenizer", object("type", "Split", "behavior", "Isolated")), "pattern"},
		"look-behind":     {top("pre_tokenizer", splitBy(`(?<=a)b`)), "not supported"},
		"long look-ahead": {top("pre_tokenizer", splitBy(`a(?!bc)`)), "one character"},
		"back-reference":  {top("pre_tokenizer", splitBy(`(a)\1`)), "not supported"},
		"anchor":          {top("pre_tokenizer", splitBy(`^a`)), "not supported"},
		"possessive":      {top("pre_tokenizer", splitBy(`a++ab`)), "possessive"},
		"intersection":    {top("pre_tokenizer", splitBy(`[a-z&&[^b]]`)), "not supported"},
		"syntax":          {top("pre_tokenizer", splitBy(`a(b`)), "pattern"},
		"too many states": {top("pre_tokenizer", splitBy(`[ab]*a[ab]{12}c`)), "pattern"},
		"too large":       {top("pre_tokenizer", splitBy(`((a{100}){100}){100}`)), "pattern"},
		"too long":        {top("pre_tokenizer", splitBy(strings.Repeat("a", 10000))), "limit"},
		"decoder":         {top("decoder", object("type", "Metaspace")), "decoder"},
		"post-processor":  {top("post_processor", object("type", "BertProcessing")), "post_processor"},
		"prefix out of range": {top("post_processor", object("type", "TemplateProcessing", "single",
			[]any{object("SpecialToken", object("id", "x"))}, "special_tokens", object("x", object("ids", []any{9999})))), "9999"},
	} {
		_, err := smallTokenizer(t, c.edit)
		var typed *Error
		if !errors.As(err, &typed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an Error that says %q", name, err, c.want)
		}
	}
}

func TestRejectedTexts(t *testing.T) {
	tok, err := smallTokenizer(t, func(map[string]any) {})
	if err != nil {
		t.Fatal(err)
	}
	var e *TextError
	if _, err := tok.Encode("abc\xffdef"); !errors.As(err, &e) || e.Offset != 3 {
		t.Errorf("invalid UTF-8: %v", err)
	}
	if _, err := NewProvingGround(false).Encode("5a*2x"); !errors.As(err, &e) || e.Offset != 4 {
		t.Errorf("character outside the vocabulary: %v", err)
	}
	for _, id := range []int32{-1, 601, 1 << 30} {
		if got := tok.Decode([]int32{id}); got != "" || tok.Token(id) != "" || tok.Special(id) {
			t.Errorf("id %d is %q", id, got)
		}
	}
}

func TestProvingGround(t *testing.T) {
	for _, revision := range []bool{false, true} {
		tok := NewProvingGround(revision)
		if want := map[bool]int{false: 26, true: 29}[revision]; tok.VocabSize() != want {
			t.Errorf("%d tokens, want %d", tok.VocabSize(), want)
		}
		text := "5a*2b*6=a5*2=0\nb0*6=0\n#0"
		ids, err := tok.Encode(text)
		if err != nil || len(ids) != len(text) {
			t.Fatalf("%v, %v", ids, err)
		}
		if want := []int32{8, 18, 15, 5}; !slices.Equal(ids[:4], want) {
			t.Errorf("%q is %v, want %v", text[:4], ids[:4], want)
		}
		if tok.Decode(ids) != text || Text(tok, append(ids, tok.EOS()...)) != text {
			t.Errorf("%q and %q, want %q", tok.Decode(ids), Text(tok, append(ids, tok.EOS()...)), text)
		}
		if tok.Pad() != 0 || !slices.Equal(tok.EOS(), []int32{1}) || !tok.Special(1) || tok.Special(2) {
			t.Errorf("pad %d, eos %v", tok.Pad(), tok.EOS())
		}
		checkSaved(t, tok, text+"<eos>")
	}
	tok := NewProvingGround(true)
	for i, label := range RevisionLabels {
		ids, err := tok.Encode(label + "#")
		if err != nil || !slices.Equal(ids, []int32{int32(26 + i), 17}) {
			t.Errorf("%q is %v (%v)", label, ids, err)
		}
	}
}

func TestVocabDigest(t *testing.T) {
	small, large := NewProvingGround(false), NewProvingGround(true)
	other, err := NewCharacters([]string{"<eos>", "<pad>", "a"}, []string{"<eos>"}, "", "", []string{"<eos>"})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := NewCharacters([]string{"<eos>", "<pad>", "a"}, nil, "", "", []string{"<eos>"})
	if err != nil {
		t.Fatal(err)
	}
	if VocabDigest(small) != VocabDigest(NewProvingGround(false)) {
		t.Error("the same vocabulary has two digests")
	}
	seen := map[string]bool{}
	for _, tok := range []Tokenizer{small, large, other, plain} {
		seen[VocabDigest(tok)] = true
	}
	if len(seen) != 4 {
		t.Error("different vocabularies share a digest")
	}
}

func TestBytes(t *testing.T) {
	tok, err := NewBytes("<|tool|>")
	if err != nil {
		t.Fatal(err)
	}
	if tok.VocabSize() != 260 || tok.Pad() != 256 || tok.BOS() != 257 || !slices.Equal(tok.EOS(), []int32{258}) {
		t.Errorf("%d tokens, pad %d, bos %d, eos %v", tok.VocabSize(), tok.Pad(), tok.BOS(), tok.EOS())
	}
	text := "é🙂\x00\n<|tool|>x"
	ids, err := tok.Encode(text)
	if want := []int32{0xc3, 0xa9, 0xf0, 0x9f, 0x99, 0x82, 0, '\n', 259, 'x'}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("%v (%v), want %v", ids, err, want)
	}
	checkSaved(t, tok, text)
	chat, err := NewChat(tok)
	if err != nil {
		t.Fatal(err)
	}
	got, err := chat.Encode([]Message{{Role: "user", Content: "hi"}}, true, nil)
	want, _ := tok.Encode("<bos>user\nhi<eos><bos>assistant\n")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("chat %v (%v), want %v", got, err, want)
	}
	if _, err := NewChat(NewProvingGround(false)); !errors.Is(err, ErrNoTemplate) {
		t.Errorf("chat without a template: %v", err)
	}
}

// A model behind an endpoint has its tokenizer here.
func TestTokenizerOfAnEndpoint(t *testing.T) {
	dir := t.TempDir()
	if err := NewProvingGround(false).Save(dir); err != nil {
		t.Fatal(err)
	}
	tok, err := Load("http://localhost:8000/v1?model=m&tokenizer=" + url.QueryEscape(dir))
	if err != nil || tok.VocabSize() != 26 {
		t.Errorf("%v", err)
	}
	if _, err := Load("https://u:secret@h/v1"); err == nil || strings.Contains(err.Error(), "secret") ||
		!strings.Contains(err.Error(), "?tokenizer=") {
		t.Errorf("a URL without a tokenizer: %v", err)
	}
	if _, err := Load("http://h/v1?tokenizer=http://h/v1"); err == nil {
		t.Error("a tokenizer behind a URL is accepted")
	}
}

func checkSaved(t *testing.T, tok Tokenizer, text string) {
	t.Helper()
	dir := t.TempDir()
	if err := tok.Save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := tok.Encode(text)
	b, err := again.Encode(text)
	if err != nil || !slices.Equal(a, b) || again.Decode(b) != text || !slices.Equal(again.EOS(), tok.EOS()) {
		t.Errorf("saved and loaded: %v (%v), want %v", b, err, a)
	}
}

func TestRejectedOwnFiles(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"kind":        {`{"kind":"words","tokens":["a"]}`, "kind"},
		"unknown key": {`{"kind":"characters","tokens":["a"],"tokns":[]}`, "tokns"},
		"twice":       {`{"kind":"characters","tokens":["a","a"]}`, "two ids"},
		"a byte":      {`{"kind":"bytes","tokens":["a"]}`, "two ids"},
		"empty":       {`{"kind":"characters","tokens":["a",""]}`, "tokens[1]"},
		"eos":         {`{"kind":"characters","tokens":["a"],"eos":["b"]}`, "eos[0]"},
		"not JSON":    {`{`, "unexpected"},
	} {
		path := filepath.Join(t.TempDir(), ownFile)
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		var typed *Error
		if !errors.As(err, &typed) || typed.Path != path || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an Error about the file that says %q", name, err, c.want)
		}
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), bpeFile) {
		t.Errorf("empty directory: %v", err)
	}
}

func TestInvalidBytesDecodeAsMaximalSubparts(t *testing.T) {
	for in, want := range map[string]string{
		"a\xffb":                   "a\ufffdb",
		"\xe1\x80A":                "\ufffdA",
		"\xe1\x80":                 "\ufffd",
		"\xf0\x80\x80":             "\ufffd\ufffd\ufffd",
		"\xf0\x9f\x99":             "\ufffd",
		"\xf0\x9f\x99\xf0\x9f\x99": "\ufffd\ufffd",
		"\xed\xa0\x80":             "\ufffd\ufffd\ufffd",
		"\x80\x80":                 "\ufffd\ufffd",
		"\ufffd":                   "\ufffd",
	} {
		if got := validText(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// Both ways of applying merges give the same, and many goroutines see the same as one.
func TestMergeOrderAndConcurrency(t *testing.T) {
	tok, err := smallTokenizer(t, func(map[string]any) {})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var texts []string
	for range 300 {
		b := make([]byte, 1+rng.IntN(60))
		for i := range b {
			b[i] = "etaoin shrdlu"[rng.IntN(13)]
		}
		texts = append(texts, string(b))
		word := make([]int32, len(b))
		for i, c := range b {
			word[i] = tok.bytes[c]
		}
		short, long := tok.merges.applyShort(slices.Clone(word)), tok.merges.applyLong(slices.Clone(word))
		if !slices.Equal(short, long) {
			t.Fatalf("%q: %v and %v", b, short, long)
		}
	}
	want := make([][]int32, len(texts))
	for i, text := range texts {
		want[i], _ = tok.Encode(text)
	}
	fresh, _ := smallTokenizer(t, func(map[string]any) {})
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i, text := range texts {
				if got, err := fresh.Encode(text); err != nil || !slices.Equal(got, want[i]) {
					t.Errorf("%q: %v (%v), want %v", text, got, err, want[i])
				}
			}
		}()
	}
	wg.Wait()
}

func FuzzEncode(f *testing.F) {
	tok, err := smallTokenizer(f, func(map[string]any) {})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", "Hello, world!", "<|end|><think", "a\xff", "e\u0301", "  \n x", strings.Repeat("the ", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := tok.Encode(text)
		if !utf8.ValidString(text) {
			if err == nil {
				t.Error("invalid UTF-8 is accepted")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Decode(ids); got != text { // this vocabulary has all bytes and no normaliser
			t.Errorf("%q is decoded as %q", text, got)
		}
		s, streamed := NewStream(tok), ""
		for _, id := range ids {
			piece := s.Next(id)
			if !utf8.ValidString(piece) {
				t.Errorf("piece %q is not whole characters", piece)
			}
			streamed += piece
		}
		if streamed += s.Flush(); streamed != text {
			t.Errorf("%q is streamed as %q", text, streamed)
		}
	})
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{gpt2Split, `[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}`, `\s+(?!\S)|\s+`, `(?i:'s|'ll)|a{2,3}?b`, `[\]\s-]+`,
		`\x{41}\u0042`, `[ab]*a[ab]{12}`} {
		f.Add(s, "it's  a\n test 12345 \u00e9")
	}
	f.Fuzz(func(t *testing.T, expr, text string) {
		if len(expr) > 200 || !utf8.ValidString(text) {
			return
		}
		p, err := compilePattern(expr)
		if err != nil {
			return
		}
		joined := ""
		err = p.each(text, func(piece string, _ bool) error {
			if piece == "" {
				t.Error("empty piece")
			}
			joined += piece
			return nil
		})
		if err == nil && joined != text {
			t.Errorf("%q cuts %q into %q", expr, text, joined)
		}
	})
}

func FuzzTokenizerFile(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "small.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},` +
		`"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"}}`))
	f.Add([]byte(`{"model":{"vocab":{"a":0},"merges":[]},"added_tokens":[{"id":1,"content":"<x>","special":true}],` +
		`"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		tok, err := newBPE("tokenizer.json", map[string][]byte{bpeFile: text})
		if err != nil {
			return
		}
		ids, err := tok.Encode("ab <x> abab 12")
		if err != nil {
			return
		}
		for _, id := range ids {
			if id < 0 || int(id) >= tok.VocabSize() {
				t.Errorf("id %d of a vocabulary of %d", id, tok.VocabSize())
			}
		}
		tok.Decode(ids)
	})
}

func BenchmarkEncode(b *testing.B) {
	tok, err := smallTokenizer(b, func(map[string]any) {})
	if err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat("The quick brown fox jumps over 12 lazy dogs, then it's 3.5 times \"as far\".\n", 1000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := tok.Encode(text); err != nil {
			b.Fatal(err)
		}
	}
}

// A file that is no tokenizer gives no tokenizer, not a nil one in an interface.
func TestUnreadableIsNil(t *testing.T) {
	for _, text := range []string{"", "{", "null", "{}", `{"model": 3}`, `{"model": {"type": "BPE"}}`, "\xff"} {
		path := filepath.Join(t.TempDir(), "tokenizer.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if tok, err := Load(filepath.Dir(path)); err == nil || tok != nil {
			t.Errorf("%q: %v %v", text, tok, err)
		}
	}
}
