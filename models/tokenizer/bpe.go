package tokenizer

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// bpe is byte-level byte-pair encoding as published models use it. A text is cut at added tokens, normalised, cut into
// pieces by the split patterns, and the bytes of each piece are joined by the merges.
type bpe struct {
	tokens  []string         // the bytes of every id, "" for unused ids
	vocab   map[string]int32 // the model's own tokens by their bytes
	added   map[string]int32
	special []bool

	rawWords, normWords *trie // added tokens searched for before and after normalisation
	addedFlags          map[int32]addedToken

	forms        []normalForm
	splits       []split
	prefixSpace  bool
	bytes        [256]int32 // the token of a single byte, None where the vocabulary has none
	unk          int32
	fuseUnk      bool
	ignoreMerges bool
	merges       merges

	bos, pad int32
	eos      []int32
	prefix   []int32
	template string

	files map[string][]byte // what Save writes

	mu    sync.RWMutex
	cache map[string][]int32 // short pieces already encoded
}

// A piece is cached when it is short; the cache is emptied when it is full.
const (
	cachePiece = 48
	cacheSize  = 1 << 16
)

// split is one step of cutting text into pieces.
type split struct {
	pattern *pattern
	removed bool // matches (or with invert what lies between) are dropped, not kept as pieces
	invert  bool
}

func (t *bpe) Encode(text string) ([]int32, error) {
	if !utf8.ValidString(text) {
		at := 0
		for at < len(text) {
			r, n := utf8.DecodeRuneInString(text[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		return nil, &TextError{Offset: at, Problem: "not valid UTF-8"}
	}
	ids := make([]int32, 0, len(text)/3+8)
	err := t.cut(t.rawWords, text, &ids, func(text string) error {
		for _, f := range t.forms {
			text = f.normalize(text)
		}
		return t.cut(t.normWords, text, &ids, func(text string) error {
			return t.pieces(text, t.splits, &ids)
		})
	})
	if err != nil {
		return nil, &TextError{Problem: err.Error()}
	}
	return ids, nil
}

// cut appends the ids of added tokens in a text and calls rest for what lies between.
func (t *bpe) cut(words *trie, text string, ids *[]int32, rest func(string) error) error {
	begin := 0
	for at := 0; at < len(text); {
		id, n := words.longest(text[at:])
		if n == 0 {
			at++
			continue
		}
		flags := t.addedFlags[id]
		from, to := at, at+n
		at = to
		if flags.SingleWord && (endsInWord(text[:from]) || startsWithWord(text[to:])) {
			continue
		}
		if flags.LStrip {
			from = begin + len(strings.TrimRightFunc(text[begin:from], unicode.IsSpace))
		}
		if flags.RStrip {
			to = len(text) - len(strings.TrimLeftFunc(text[to:], unicode.IsSpace))
			at = to
		}
		if begin < from {
			if err := rest(text[begin:from]); err != nil {
				return err
			}
		}
		*ids = append(*ids, id)
		begin = to
	}
	if begin < len(text) {
		return rest(text[begin:])
	}
	return nil
}

func endsInWord(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && isWord(r)
}

func startsWithWord(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && isWord(r)
}

func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Pc)
}

// pieces runs the remaining steps of cutting on a text and encodes what comes out.
func (t *bpe) pieces(text string, steps []split, ids *[]int32) error {
	if len(steps) == 0 {
		if t.prefixSpace && !strings.HasPrefix(text, " ") {
			text = " " + text
		}
		t.piece(text, ids)
		return nil
	}
	s := steps[0]
	return s.pattern.each(text, func(piece string, matched bool) error {
		if s.removed && matched != s.invert {
			return nil
		}
		return t.pieces(piece, steps[1:], ids)
	})
}

// piece appends the ids of one piece.
func (t *bpe) piece(text string, ids *[]int32) {
	if t.ignoreMerges {
		if id, ok := t.vocab[text]; ok {
			*ids = append(*ids, id)
			return
		}
	}
	if len(text) <= cachePiece {
		t.mu.RLock()
		known, ok := t.cache[text]
		t.mu.RUnlock()
		if ok {
			*ids = append(*ids, known...)
			return
		}
	}
	word := make([]int32, 0, len(text))
	for i := range len(text) {
		id := t.bytes[text[i]]
		if id == None {
			// As the published implementation does: a byte without a token is the unknown token, or nothing.
			id = t.unk
			if id == None || t.fuseUnk && len(word) > 0 && word[len(word)-1] == id {
				continue
			}
		}
		word = append(word, id)
	}
	word = t.merges.apply(word)
	*ids = append(*ids, word...)
	if len(text) <= cachePiece {
		t.mu.Lock()
		if len(t.cache) >= cacheSize {
			clear(t.cache)
		}
		t.cache[strings.Clone(text)] = slices.Clone(word)
		t.mu.Unlock()
	}
}

func (t *bpe) Decode(ids []int32) string { return decode(t, ids) }

func (t *bpe) Token(id int32) string {
	if id < 0 || int(id) >= len(t.tokens) {
		return ""
	}
	return t.tokens[id]
}

func (t *bpe) ID(token string) (int32, bool) {
	if id, ok := t.added[token]; ok {
		return id, true
	}
	id, ok := t.vocab[token]
	return id, ok
}

func (t *bpe) VocabSize() int { return len(t.tokens) }
func (t *bpe) BOS() int32     { return t.bos }
func (t *bpe) Pad() int32     { return t.pad }
func (t *bpe) EOS() []int32   { return slices.Clone(t.eos) }

func (t *bpe) Prefix() []int32      { return slices.Clone(t.prefix) }
func (t *bpe) ChatTemplate() string { return t.template }

func (t *bpe) Special(id int32) bool {
	return id >= 0 && int(id) < len(t.special) && t.special[id]
}

func (t *bpe) Save(dir string) error {
	for _, name := range []string{bpeFile, configFile, templateFile, generationFile} {
		if data, ok := t.files[name]; ok {
			if err := writeFile(filepath.Join(dir, name), data); err != nil {
				return err
			}
		}
	}
	return nil
}

// charBytes are the bytes for which characters stand in the files of byte-level vocabularies: printable ones of Latin-1 for
// themselves, characters from U+0100 on for the others, in order.
var charBytes = func() map[rune]byte {
	bytes := make(map[rune]byte, 256)
	other := rune(0x100)
	for b := range 256 {
		c := rune(b)
		if b < '!' || b > '~' && b < 0xa1 || b == 0xad {
			c = other
			other++
		}
		bytes[c] = byte(b)
	}
	return bytes
}()

// tokenBytes turns a token as written in a file into the bytes it stands for; ok is false for one that is not written in
// byte characters, which stands for itself.
func tokenBytes(token string) (raw string, ok bool) {
	b := make([]byte, 0, len(token))
	for _, c := range token {
		x, ok := charBytes[c]
		if !ok {
			return token, false
		}
		b = append(b, x)
	}
	return string(b), true
}

// asString decodes a JSON value that is a string.
func asString(raw json.RawMessage) (string, bool) {
	var s *string
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}
