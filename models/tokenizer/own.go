package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"unicode/utf8"
)

// ownFile describes a Characters or Bytes tokenizer beside a model.
const ownFile = "millrace_tokenizer.json"

// maxOwn bounds the vocabulary of an own tokenizer: no character set is larger.
const maxOwn = 1 << 21

// own is the content of ownFile. Tokens are the whole vocabulary of a Characters tokenizer, and what follows the 256 bytes
// of a Bytes tokenizer.
type own struct {
	Kind    string   `json:"kind"` // characters | bytes
	Tokens  []string `json:"tokens"`
	Special []string `json:"special"` // which of the tokens are control tokens
	BOS     string   `json:"bos,omitempty"`
	Pad     string   `json:"pad,omitempty"`
	EOS     []string `json:"eos,omitempty"`

	ChatTemplate string `json:"chat_template,omitempty"`
}

const (
	kindCharacters = "characters"
	kindBytes      = "bytes"
)

// simple implements both own kinds: a list of tokens, recognised in a text by longest match.
type simple struct {
	file    own
	tokens  []string
	ids     map[string]int32
	words   *trie // the tokens of more than one character (one byte), and the special ones
	special []bool
	bos     int32
	pad     int32
	eos     []int32
}

// NewCharacters makes a tokenizer with one id a token, in the order given. A token is a character, or longer (an end mark, a
// label): then it is recognised where its text is written out. special names control tokens; bos and pad may be "".
func NewCharacters(tokens, special []string, bos, pad string, eos []string) (Tokenizer, error) {
	return newOwn(own{Kind: kindCharacters, Tokens: tokens, Special: special, BOS: bos, Pad: pad, EOS: eos})
}

// NewBytes makes the byte-level tokenizer: ids 0 to 255 are the bytes, then <pad>, <bos>, <eos> and any further tokens (chat
// marks, labels), which are recognised where their text is written out. All but the bytes are special.
func NewBytes(further ...string) (Tokenizer, error) {
	tokens := append([]string{"<pad>", "<bos>", "<eos>"}, further...)
	return newOwn(own{Kind: kindBytes, Tokens: tokens, Special: slices.Clone(tokens), BOS: "<bos>", Pad: "<pad>", EOS: []string{"<eos>"},
		ChatTemplate: bytesTemplate})
}

// bytesTemplate writes a conversation as turns <bos>role, newline, content<eos>, which costs a byte-level model few tokens.
const bytesTemplate = `{% for message in messages %}{{ '<bos>' + message.role + '\n' + message.content + '<eos>' }}{% endfor %}` +
	`{% if add_generation_prompt %}{{ '<bos>assistant\n' }}{% endif %}`

// RevisionLabels are the tokens that say how far a response has to be revised (SEFT).
var RevisionLabels = []string{"[No Revise]", "[Minor Revise]", "[Major Revise]"}

// NewProvingGround makes the vocabulary of chain arithmetic: pad, eos, newline, digits, operators, labels a to h; 26 ids, or
// 29 with the revision labels.
func NewProvingGround(revision bool) Tokenizer {
	tokens := []string{"<pad>", "<eos>"}
	for _, c := range "\n0123456789+-*=#abcdefgh" {
		tokens = append(tokens, string(c))
	}
	special := []string{"<pad>", "<eos>"}
	if revision {
		tokens = append(tokens, RevisionLabels...)
		special = append(special, RevisionLabels...)
	}
	t, err := NewCharacters(tokens, special, "", "<pad>", []string{"<eos>"})
	if err != nil {
		panic("tokenizer: proving ground vocabulary: " + err.Error())
	}
	return t
}

func loadOwn(path string) (Tokenizer, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var file own
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, &Error{Path: path, Problem: err.Error()}
	}
	t, err := newOwn(file)
	if e, ok := err.(*Error); ok {
		e.Path = path
	}
	return t, err
}

func newOwn(file own) (Tokenizer, error) {
	bad := func(field, format string, args ...any) (Tokenizer, error) {
		return nil, &Error{Path: ownFile, Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	t := &simple{file: file, ids: map[string]int32{}, words: &trie{}, bos: None, pad: None}
	switch file.Kind {
	case kindBytes:
		for b := range 256 {
			t.tokens = append(t.tokens, string([]byte{byte(b)}))
		}
	case kindCharacters:
	default:
		return bad("kind", "%q is neither %q nor %q", file.Kind, kindCharacters, kindBytes)
	}
	if len(file.Tokens) > maxOwn {
		return bad("tokens", "%d tokens are more than the limit of %d", len(file.Tokens), maxOwn)
	}
	for i, tok := range file.Tokens {
		if tok == "" || len(tok) > maxWord || !utf8.ValidString(tok) {
			return bad(fmt.Sprintf("tokens[%d]", i), "%.40q is empty, longer than %d bytes or not UTF-8", tok, maxWord)
		}
	}
	t.tokens = append(t.tokens, file.Tokens...)
	for id, tok := range t.tokens {
		if other, ok := t.ids[tok]; ok {
			return bad("tokens", "%q has two ids, %d and %d", tok, other, id)
		}
		t.ids[tok] = int32(id)
		if id >= 256 && file.Kind == kindBytes || utf8.RuneCountInString(tok) > 1 {
			if t.words.bytes+len(tok) > maxWords {
				return bad("tokens", "those of several characters have more than %d bytes together", maxWords)
			}
			t.words.add(tok, int32(id))
		}
	}
	t.special = make([]bool, len(t.tokens))
	find := func(field, tok string, into func(int32)) error {
		id, ok := t.ids[tok]
		if !ok {
			_, err := bad(field, "%q is not one of the tokens", tok)
			return err
		}
		into(id)
		return nil
	}
	for i, tok := range file.Special {
		if err := find(fmt.Sprintf("special[%d]", i), tok, func(id int32) { t.special[id] = true }); err != nil {
			return nil, err
		}
	}
	for i, tok := range file.EOS {
		if err := find(fmt.Sprintf("eos[%d]", i), tok, func(id int32) { t.eos = append(t.eos, id) }); err != nil {
			return nil, err
		}
	}
	if file.BOS != "" {
		if err := find("bos", file.BOS, func(id int32) { t.bos = id }); err != nil {
			return nil, err
		}
	}
	if file.Pad != "" {
		if err := find("pad", file.Pad, func(id int32) { t.pad = id }); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *simple) Encode(text string) ([]int32, error) {
	ids := make([]int32, 0, len(text))
	for at := 0; at < len(text); {
		if id, n := t.words.longest(text[at:]); n > 0 {
			ids = append(ids, id)
			at += n
			continue
		}
		n := 1
		if t.file.Kind == kindCharacters {
			_, n = utf8.DecodeRuneInString(text[at:])
		}
		id, ok := t.ids[text[at:at+n]]
		if !ok {
			return nil, &TextError{Offset: at, Problem: fmt.Sprintf("%q is not in the vocabulary of %d tokens", text[at:at+n], len(t.tokens))}
		}
		ids = append(ids, id)
		at += n
	}
	return ids, nil
}

func (t *simple) Decode(ids []int32) string { return decode(t, ids) }

func (t *simple) Token(id int32) string {
	if id < 0 || int(id) >= len(t.tokens) {
		return ""
	}
	return t.tokens[id]
}

func (t *simple) ID(token string) (int32, bool) { id, ok := t.ids[token]; return id, ok }
func (t *simple) VocabSize() int                { return len(t.tokens) }
func (t *simple) BOS() int32                    { return t.bos }
func (t *simple) Pad() int32                    { return t.pad }
func (t *simple) EOS() []int32                  { return slices.Clone(t.eos) }
func (t *simple) Prefix() []int32               { return nil }
func (t *simple) ChatTemplate() string          { return t.file.ChatTemplate }

func (t *simple) Special(id int32) bool {
	return id >= 0 && int(id) < len(t.special) && t.special[id]
}

func (t *simple) Save(dir string) error {
	text, err := json.MarshalIndent(t.file, "", "  ")
	if err != nil {
		return fmt.Errorf("tokenizer: %w", err)
	}
	return writeFile(filepath.Join(dir, ownFile), append(text, '\n'))
}
