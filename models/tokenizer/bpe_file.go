package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Files of a published tokenizer.
const (
	bpeFile        = "tokenizer.json"
	configFile     = "tokenizer_config.json"
	templateFile   = "chat_template.jinja"
	generationFile = "generation_config.json"
	modelFile      = "config.json"
)

// Limits on a vocabulary: published ones have up to 262,144 tokens of up to 512 bytes.
const (
	maxVocab = 1 << 22
	maxToken = 1 << 16
)

// bpeJSON is a tokenizer.json, in the writing order of the published implementation.
type bpeJSON struct {
	Version       string          `json:"version"`
	Truncation    json.RawMessage `json:"truncation"` // limits of length are the caller's
	Padding       json.RawMessage `json:"padding"`
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    *component      `json:"normalizer"`
	PreTokenizer  *component      `json:"pre_tokenizer"`
	PostProcessor *component      `json:"post_processor"`
	Decoder       *component      `json:"decoder"`
	Model         modelJSON       `json:"model"`
}

type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only where no word character is next to it
	LStrip     bool   `json:"lstrip"`      // takes white space before it along
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"` // is searched for in the normalised text
	Special    bool   `json:"special"`
}

// component is a normalizer, pre-tokenizer, post-processor or decoder: the union of those that are understood.
type component struct {
	Type             string                     `json:"type"`
	Normalizers      []component                `json:"normalizers,omitempty"`
	Pretokenizers    []component                `json:"pretokenizers,omitempty"`
	Processors       []component                `json:"processors,omitempty"`
	Decoders         []component                `json:"decoders,omitempty"`
	Pattern          map[string]string          `json:"pattern,omitempty"` // Regex or String
	Behavior         string                     `json:"behavior,omitempty"`
	Invert           *bool                      `json:"invert,omitempty"`
	AddPrefixSpace   *bool                      `json:"add_prefix_space,omitempty"`
	TrimOffsets      *bool                      `json:"trim_offsets,omitempty"`
	UseRegex         *bool                      `json:"use_regex,omitempty"`
	IndividualDigits bool                       `json:"individual_digits,omitempty"`
	Single           []map[string]templatePiece `json:"single,omitempty"`
	Pair             []map[string]templatePiece `json:"pair,omitempty"` // for two texts: never used here
	SpecialTokens    map[string]templateToken   `json:"special_tokens,omitempty"`
}

type templatePiece struct {
	ID     json.RawMessage `json:"id"`
	TypeID int             `json:"type_id"`
}

type templateToken struct {
	ID     string   `json:"id"`
	IDs    []int32  `json:"ids"`
	Tokens []string `json:"tokens"`
}

type modelJSON struct {
	Type         string           `json:"type"`
	Dropout      *float64         `json:"dropout"`
	Unk          *string          `json:"unk_token"`
	Continuing   *string          `json:"continuing_subword_prefix"`
	EndOfWord    *string          `json:"end_of_word_suffix"`
	FuseUnk      bool             `json:"fuse_unk"`
	ByteFallback bool             `json:"byte_fallback"`
	IgnoreMerges bool             `json:"ignore_merges"`
	Vocab        map[string]int32 `json:"vocab"`
	Merges       []mergePair      `json:"merges"`
}

// mergePair is written as two strings, or in older files as one with a space between.
type mergePair [2]string

func (m *mergePair) UnmarshalJSON(text []byte) error {
	if s, ok := asString(text); ok {
		left, right, found := strings.Cut(s, " ")
		if !found || strings.Contains(right, " ") {
			return fmt.Errorf("merge %.40q is not two tokens with a space between", s)
		}
		*m = mergePair{left, right}
		return nil
	}
	var two []string
	if err := json.Unmarshal(text, &two); err != nil {
		return err
	}
	if len(two) != 2 {
		return fmt.Errorf("merge of %d tokens, not 2", len(two))
	}
	*m = mergePair(two)
	return nil
}

// configJSON is the part of tokenizer_config.json that is used.
type configJSON struct {
	BOS          json.RawMessage `json:"bos_token,omitempty"`
	EOS          json.RawMessage `json:"eos_token,omitempty"`
	Pad          json.RawMessage `json:"pad_token,omitempty"`
	ChatTemplate json.RawMessage `json:"chat_template,omitempty"`
}

// loadBPE reads a tokenizer.json with the files beside it that belong to it.
func loadBPE(path string) (Tokenizer, error) {
	files := map[string][]byte{}
	var err error
	if files[bpeFile], err = readFile(path); err != nil {
		return nil, err
	}
	for _, name := range []string{configFile, templateFile, generationFile, modelFile} {
		text, err := readFile(filepath.Join(filepath.Dir(path), name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[name] = text
	}
	t, err := newBPE(path, files)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// newBPE builds a tokenizer from the texts of its files, of which only tokenizer.json has to be there.
func newBPE(path string, files map[string][]byte) (*bpe, error) {
	bad := func(field, format string, args ...any) (*bpe, error) {
		return nil, &Error{Path: path, Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	var doc bpeJSON
	if err := json.Unmarshal(files[bpeFile], &doc); err != nil {
		return bad("", "%v", err)
	}
	t := &bpe{files: files, bos: None, pad: None, unk: None, cache: map[string][]int32{}, vocab: map[string]int32{}, added: map[string]int32{},
		rawWords: &trie{}, normWords: &trie{}, addedFlags: map[int32]addedToken{}}
	for _, step := range []func(*bpeJSON) (field, problem string){t.setVocab, t.setAdded, t.setMerges, t.setNormalizer, t.setPreTokenizer,
		t.setRest} {
		if field, problem := step(&doc); problem != "" {
			return bad(field, "%s", problem)
		}
	}
	if name, field, problem := t.setConfig(files); problem != "" {
		return nil, &Error{Path: filepath.Join(filepath.Dir(path), name), Field: field, Problem: problem}
	}
	return t, nil
}

func (t *bpe) setVocab(doc *bpeJSON) (field, problem string) {
	m := doc.Model
	switch {
	case m.Type != "BPE" && m.Type != "":
		return "model.type", fmt.Sprintf("%q is not supported (BPE is)", m.Type)
	case m.Dropout != nil && *m.Dropout != 0:
		return "model.dropout", "is not supported: the same text has to give the same ids"
	case m.Continuing != nil && *m.Continuing != "":
		return "model.continuing_subword_prefix", "is not supported"
	case m.EndOfWord != nil && *m.EndOfWord != "":
		return "model.end_of_word_suffix", "is not supported"
	case m.ByteFallback:
		return "model.byte_fallback", "is not supported (byte-level vocabularies are)"
	case len(m.Vocab) == 0:
		return "model.vocab", "is empty"
	}
	last := int32(-1)
	for _, id := range m.Vocab {
		last = max(last, id)
	}
	for _, a := range doc.AddedTokens {
		last = max(last, a.ID)
	}
	if last >= maxVocab {
		return "model.vocab", fmt.Sprintf("id %d is not below the limit of %d", last, maxVocab)
	}
	t.tokens, t.special = make([]string, last+1), make([]bool, last+1)
	names := make([]string, last+1)
	for name, id := range m.Vocab {
		if id < 0 || name == "" || len(name) > maxToken {
			return "model.vocab", fmt.Sprintf("token %.40q with id %d: the id is negative, or the token empty or too long", name, id)
		}
		if names[id] != "" {
			return "model.vocab", fmt.Sprintf("id %d stands for two tokens, %.40q and %.40q", id, min(names[id], name), max(names[id], name))
		}
		names[id] = name
		raw, ok := tokenBytes(name)
		t.tokens[id] = raw
		if ok {
			t.vocab[raw] = id
		}
	}
	for b := range t.bytes {
		t.bytes[b] = None
		if id, ok := t.vocab[string([]byte{byte(b)})]; ok {
			t.bytes[b] = id
		}
	}
	t.fuseUnk, t.ignoreMerges = m.FuseUnk, m.IgnoreMerges
	if m.Unk != nil {
		id, ok := m.Vocab[*m.Unk]
		if !ok {
			return "model.unk_token", fmt.Sprintf("%.40q is not in the vocabulary", *m.Unk)
		}
		t.unk = id
	}
	return "", ""
}

func (t *bpe) setAdded(doc *bpeJSON) (field, problem string) {
	size := 0
	for i, a := range doc.AddedTokens {
		field := fmt.Sprintf("added_tokens[%d]", i)
		if a.ID < 0 || a.Content == "" || len(a.Content) > maxWord {
			return field, fmt.Sprintf("%.40q with id %d: the id is negative, or the content empty or longer than %d bytes", a.Content, a.ID, maxWord)
		}
		if size += len(a.Content); size > maxWords {
			return "added_tokens", fmt.Sprintf("have more than %d bytes together", maxWords)
		}
		if id, ok := doc.Model.Vocab[a.Content]; ok && id != a.ID {
			return field, fmt.Sprintf("%.40q has id %d here and %d in the vocabulary", a.Content, a.ID, id)
		}
		if _, twice := t.addedFlags[a.ID]; twice {
			return field, fmt.Sprintf("id %d is added twice", a.ID)
		}
		if old := t.tokens[a.ID]; old != "" {
			if id, ok := doc.Model.Vocab[a.Content]; !ok || id != a.ID {
				return field, fmt.Sprintf("id %d stands for %.40q in the vocabulary", a.ID, old)
			}
		}
		t.tokens[a.ID], t.special[a.ID] = a.Content, a.Special
		t.added[a.Content] = a.ID
		t.addedFlags[a.ID] = a
	}
	return "", ""
}

func (t *bpe) setMerges(doc *bpeJSON) (field, problem string) {
	vocab := doc.Model.Vocab
	t.merges = make(merges, len(doc.Model.Merges))
	for rank, m := range doc.Model.Merges {
		left, okLeft := vocab[m[0]]
		right, okRight := vocab[m[1]]
		id, ok := vocab[m[0]+m[1]]
		if !okLeft || !okRight || !ok {
			return fmt.Sprintf("model.merges[%d]", rank), fmt.Sprintf("%.40q and %.40q, or both joined, are not in the vocabulary", m[0], m[1])
		}
		t.merges[[2]int32{left, right}] = merge{int32(rank), id}
	}
	return "", ""
}

func (t *bpe) setNormalizer(doc *bpeJSON) (field, problem string) {
	known := map[string]normalForm{"NFC": formNFC, "NFD": formNFD, "NFKC": formNFKC, "NFKD": formNFKD}
	var add func(field string, c component) (string, string)
	add = func(field string, c component) (string, string) {
		if c.Type == "Sequence" {
			for i, n := range c.Normalizers {
				if n.Type == "Sequence" {
					return field, "a sequence within a sequence is not supported"
				}
				if f, p := add(fmt.Sprintf("%s.normalizers[%d]", field, i), n); p != "" {
					return f, p
				}
			}
			return "", ""
		}
		form, ok := known[c.Type]
		if !ok {
			return field + ".type", fmt.Sprintf("%q is not supported (NFC, NFD, NFKC and NFKD are)", c.Type)
		}
		t.forms = append(t.forms, form)
		return "", ""
	}
	if doc.Normalizer != nil {
		if f, p := add("normalizer", *doc.Normalizer); p != "" {
			return f, p
		}
	}
	for _, a := range doc.AddedTokens {
		if !a.Normalized {
			t.rawWords.add(a.Content, a.ID)
			continue
		}
		content := a.Content
		for _, f := range t.forms {
			content = f.normalize(content)
		}
		if content != "" && len(content) <= maxWord {
			t.normWords.add(content, a.ID)
		}
	}
	return "", ""
}

// gpt2Split is the pattern of ByteLevel with use_regex.
const gpt2Split = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

func (t *bpe) setPreTokenizer(doc *bpeJSON) (field, problem string) {
	const field0 = "pre_tokenizer"
	if doc.PreTokenizer == nil {
		return field0, "is missing; a byte-level one is needed"
	}
	steps, prefix := []component{*doc.PreTokenizer}, ""
	if doc.PreTokenizer.Type == "Sequence" {
		steps, prefix = doc.PreTokenizer.Pretokenizers, ".pretokenizers"
	}
	if len(steps) > 16 {
		return field0, "has more than 16 steps"
	}
	for i, c := range steps {
		field := field0
		if prefix != "" {
			field = fmt.Sprintf("%s%s[%d]", field0, prefix, i)
		}
		s := split{}
		expr := ""
		switch c.Type {
		case "ByteLevel":
			if i != len(steps)-1 {
				return field, "ByteLevel has to be the last step"
			}
			t.prefixSpace = c.AddPrefixSpace == nil || *c.AddPrefixSpace
			if c.UseRegex != nil && !*c.UseRegex {
				continue
			}
			if t.prefixSpace {
				return field, "add_prefix_space together with use_regex is not supported"
			}
			expr = gpt2Split
		case "Digits":
			expr = `\p{N}+`
			if c.IndividualDigits {
				expr = `\p{N}`
			}
		case "Split":
			regex, isRegex := c.Pattern["Regex"]
			text, isText := c.Pattern["String"]
			if len(c.Pattern) != 1 || !isRegex && text == "" {
				return field + ".pattern", "is neither a Regex nor a String"
			}
			if expr = regex; isText {
				expr = regexp.QuoteMeta(text)
			}
			switch c.Behavior {
			case "Isolated":
			case "Removed":
				s.removed = true
			default:
				return field + ".behavior", fmt.Sprintf("%q is not supported (Isolated and Removed are)", c.Behavior)
			}
			s.invert = c.Invert != nil && *c.Invert
		default:
			return field + ".type", fmt.Sprintf("%q is not supported (ByteLevel, Split and Digits are)", c.Type)
		}
		var err error
		if s.pattern, err = compilePattern(expr); err != nil {
			return field + ".pattern", err.Error()
		}
		t.splits = append(t.splits, s)
	}
	if len(steps) == 0 || steps[len(steps)-1].Type != "ByteLevel" {
		return field0, "does not end in ByteLevel; other vocabularies are not supported"
	}
	return "", ""
}

// setRest checks the decoder and takes the prefix from the post-processor.
func (t *bpe) setRest(doc *bpeJSON) (field, problem string) {
	if d := doc.Decoder; d == nil || d.Type != "ByteLevel" {
		return "decoder", "is not ByteLevel; other vocabularies are not supported"
	}
	if doc.PostProcessor == nil {
		return "", ""
	}
	processors := []component{*doc.PostProcessor}
	if doc.PostProcessor.Type == "Sequence" {
		processors = doc.PostProcessor.Processors
	}
	for _, p := range processors {
		if p.Type == "ByteLevel" {
			continue
		}
		if p.Type != "TemplateProcessing" {
			return "post_processor.type", fmt.Sprintf("%q is not supported (ByteLevel and TemplateProcessing are)", p.Type)
		}
		for _, piece := range p.Single {
			special, ok := piece["SpecialToken"]
			if !ok {
				break // what comes after the text is not a prefix
			}
			name, _ := asString(special.ID)
			for _, id := range p.SpecialTokens[name].IDs {
				if id < 0 || int(id) >= len(t.tokens) {
					return "post_processor.special_tokens", fmt.Sprintf("%q: id %d is not in the vocabulary", name, id)
				}
				t.prefix = append(t.prefix, id)
			}
		}
	}
	return "", ""
}

// setConfig takes the special tokens and the chat template from the files beside tokenizer.json. A file of another model
// is not checked: what it says of ids that do not exist is left out.
func (t *bpe) setConfig(files map[string][]byte) (name, field, problem string) {
	var c configJSON
	if text, ok := files[configFile]; ok {
		if err := json.Unmarshal(text, &c); err != nil {
			return configFile, "", err.Error()
		}
	}
	id := func(raw json.RawMessage) int32 {
		s, ok := asString(raw)
		if !ok {
			var full struct {
				Content string `json:"content"`
			}
			if json.Unmarshal(raw, &full) != nil {
				return None
			}
			s = full.Content
		}
		if id, ok := t.ID(s); ok && s != "" {
			return id
		}
		return None
	}
	t.bos, t.pad = id(c.BOS), id(c.Pad)
	addEOS := func(id int32) {
		if id >= 0 && int(id) < len(t.tokens) && !slices.Contains(t.eos, id) {
			t.eos = append(t.eos, id)
			t.special[id] = true
		}
	}
	addEOS(id(c.EOS))
	for _, name := range []string{generationFile, modelFile} {
		text, ok := files[name]
		if !ok {
			continue
		}
		var g struct {
			EOS json.RawMessage `json:"eos_token_id"`
		}
		if err := json.Unmarshal(text, &g); err != nil {
			return name, "", err.Error()
		}
		var one *int32
		var many []int32
		if json.Unmarshal(g.EOS, &one) == nil && one != nil {
			addEOS(*one)
		} else if json.Unmarshal(g.EOS, &many) == nil {
			for _, id := range many {
				addEOS(id)
			}
		}
		if len(g.EOS) > 0 {
			break // generation_config.json is what generation follows; config.json is for directories without it
		}
	}
	for _, id := range []int32{t.bos, t.pad} {
		if id != None {
			t.special[id] = true
		}
	}
	if text, ok := files[templateFile]; ok {
		t.template = string(text)
	} else if s, ok := asString(c.ChatTemplate); ok {
		t.template = s
	} else if len(c.ChatTemplate) > 0 {
		var named []struct {
			Name     string `json:"name"`
			Template string `json:"template"`
		}
		if json.Unmarshal(c.ChatTemplate, &named) == nil {
			for _, n := range named {
				if n.Name == "default" {
					t.template = n.Template
				}
			}
		}
	}
	return "", "", ""
}
