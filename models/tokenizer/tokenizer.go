// Package tokenizer turns text into token ids and back. Three kinds share one interface: a vocabulary with one id a
// character (Characters), one id a byte (Bytes), and the byte-level BPE of published models (BPE), read from a
// tokenizer.json or from a GGUF file.
//
// Tokenizer files are untrusted: loading is bounded in time and memory and reports what it does not support instead of
// guessing, and encoding takes time that grows at most as n log n with the text, whatever the text is.
package tokenizer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/regular"
)

// None stands for a special token that a vocabulary does not have.
const None int32 = -1

// Tokenizer maps text to token ids. Implementations are safe for concurrent use.
type Tokenizer interface {
	// Encode returns the ids of a text. Special tokens written out in the text are recognised; none are added.
	Encode(text string) ([]int32, error)

	// Decode returns the text of the ids, special tokens written out. Bytes that are not UTF-8 become U+FFFD; ids outside
	// the vocabulary are skipped.
	Decode(ids []int32) string

	// Token returns the bytes that one id stands for, which need not be whole characters; "" outside the vocabulary.
	Token(id int32) string

	// ID returns the id of a token by its bytes.
	ID(token string) (int32, bool)

	// VocabSize is the number of ids: the largest plus one.
	VocabSize() int

	// Special reports whether the id is a control token, such as an end mark, rather than text.
	Special(id int32) bool

	// BOS and Pad are the ids that start a text and fill up a batch, or None.
	BOS() int32
	Pad() int32

	// EOS are the ids that end a response, the tokenizer's own first.
	EOS() []int32

	// Prefix are the ids that a published tokenizer puts before a plain text (often BOS); Encode does not add them.
	Prefix() []int32

	// ChatTemplate is the Jinja source of the model's chat template, "" when it has none; see Chat.
	ChatTemplate() string

	// Save writes the tokenizer into a model's directory, so that Load finds it there.
	Save(dir string) error
}

// Error says what is wrong with a tokenizer's file, and where in it.
type Error struct {
	Path    string
	Field   string // such as pre_tokenizer.pretokenizers[0].pattern; empty when it is about the file as a whole
	Problem string
}

func (e *Error) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("tokenizer: %s: %s", e.Path, e.Problem)
	}
	return fmt.Sprintf("tokenizer: %s: %s: %s", e.Path, e.Field, e.Problem)
}

// TextError says that a text cannot be encoded.
type TextError struct {
	Offset  int // in bytes
	Problem string
}

func (e *TextError) Error() string {
	return fmt.Sprintf("tokenizer: text at byte %d: %s", e.Offset, e.Problem)
}

// maxFile bounds how much of a tokenizer's file is read. The largest published ones are below 40 MB.
const maxFile = 64 << 20

// Load reads the tokenizer of a model: the directory it lies in, a tokenizer.json or millrace_tokenizer.json, or a .gguf
// file. A model behind an endpoint is a URL; its tokenizer is what the parameter tokenizer of the URL names.
func Load(path string) (Tokenizer, error) {
	if u, err := url.Parse(path); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		at := u.Query().Get("tokenizer")
		if at == "" {
			return nil, &Error{Path: u.Redacted(), Problem: "the URL names no tokenizer (?tokenizer=DIRECTORY)"}
		}
		return loadFile(at)
	}
	return loadFile(path)
}

// Open loads the tokenizer of a model, which may lie elsewhere: without its weights, where they are files of their own.
func Open(ctx context.Context, model models.Ref) (Tokenizer, error) {
	here, err := models.FetchDescription(ctx, model)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	defer here.Release()
	return Load(here.Path)
}

func loadFile(path string) (Tokenizer, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if st.IsDir() {
		for _, name := range []string{ownFile, bpeFile} {
			file := filepath.Join(path, name)
			if _, err := os.Stat(file); err == nil {
				return loadFile(file)
			} else if !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("tokenizer: %w", err)
			}
		}
		return nil, &Error{Path: path, Problem: fmt.Sprintf("no %s and no %s in the directory", bpeFile, ownFile)}
	}
	switch {
	case filepath.Base(path) == ownFile:
		return loadOwn(path)
	case strings.EqualFold(filepath.Ext(path), ".json"):
		return loadBPE(path)
	case strings.EqualFold(filepath.Ext(path), ".gguf"):
		return loadGGUF(path)
	}
	return nil, &Error{Path: path, Problem: fmt.Sprintf("not a tokenizer (a directory, %s, %s or a .gguf file)", bpeFile, ownFile)}
}

// readFile reads a file of bounded size.
func readFile(path string) ([]byte, error) {
	text, err := regular.Read(path, maxFile)
	var long *regular.TooLongError
	switch {
	case errors.Is(err, regular.ErrNotRegular):
		return nil, &Error{Path: path, Problem: "not a regular file"}
	case errors.As(err, &long):
		return nil, &Error{Path: path, Problem: fmt.Sprintf("more than the %d bytes that are read at most", int64(maxFile))}
	case err != nil:
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if !utf8.Valid(text) {
		return nil, &Error{Path: path, Problem: "not valid UTF-8"}
	}
	return text, nil
}

// writeFile writes a file of a model's directory so that it appears complete or not at all.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("tokenizer: %w", err)
	}
	_, err = tmp.Write(data)
	for _, step := range []func() error{func() error { return tmp.Chmod(0o644) }, tmp.Sync, tmp.Close} {
		if e := step(); err == nil {
			err = e
		}
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("tokenizer: %w", err)
	}
	return nil
}

// Text decodes ids without their special tokens.
func Text(t Tokenizer, ids []int32) string {
	kept := make([]int32, 0, len(ids))
	for _, id := range ids {
		if !t.Special(id) {
			kept = append(kept, id)
		}
	}
	return t.Decode(kept)
}

// decode joins the bytes of the ids.
func decode(t Tokenizer, ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(t.Token(id))
	}
	return validText(b.String())
}

// VocabDigest identifies what ids mean: the SHA-256, as lower-case hex, over the bytes of every token in order and whether
// it is a control token. Models whose tokenizers share it can read each other's ids.
func VocabDigest(t Tokenizer) string {
	h := sha256.New()
	for id := range int32(t.VocabSize()) {
		fmt.Fprintf(h, "%q %t\n", t.Token(id), t.Special(id))
	}
	return hex.EncodeToString(h.Sum(nil))
}
