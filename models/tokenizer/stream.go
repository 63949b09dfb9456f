package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// Stream decodes ids one at a time, as they are sampled: every piece it returns is whole characters, and the pieces with
// the rest from Flush are what Decode gives for all ids at once.
type Stream struct {
	t    Tokenizer
	held []byte // the beginning of a character whose end has not come yet, at most 3 bytes
}

// NewStream starts a text.
func NewStream(t Tokenizer) *Stream { return &Stream{t: t} }

// Next takes an id and returns the text that has become certain, often "".
func (s *Stream) Next(id int32) string {
	s.held = append(s.held, s.t.Token(id)...)
	cut := completeLen(s.held)
	out := validText(string(s.held[:cut]))
	s.held = append(s.held[:0], s.held[cut:]...)
	return out
}

// Flush ends the text: a character that was never completed becomes U+FFFD.
func (s *Stream) Flush() string {
	out := validText(string(s.held))
	s.held = s.held[:0]
	return out
}

// completeLen is the length of b without a last character that further bytes could still complete.
func completeLen(b []byte) int {
	for back := 1; back <= min(3, len(b)); back++ {
		if start := len(b) - back; utf8.RuneStart(b[start]) {
			if b[start] >= utf8.RuneSelf && !utf8.FullRune(b[start:]) {
				return start
			}
			break
		}
	}
	return len(b)
}

// validText replaces what is not UTF-8 by U+FFFD, one for each maximal beginning of a character (Unicode standard, section
// 3.9, "U+FFFD substitution of maximal subparts"), as the decoders of published tokenizers do.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r != utf8.RuneError || n != 1 {
			b.WriteString(s[i : i+n])
			i += n
			continue
		}
		// The longest prefix that some continuation would make a character: FullRune is false for exactly those.
		n = 1
		for n < 3 && i+n < len(s) && !utf8.FullRuneInString(s[i:i+n]) && !startsNone(s[i:i+n+1]) {
			n++
		}
		b.WriteRune(utf8.RuneError)
		i += n
	}
	return b.String()
}

// startsNone reports whether no character begins with these bytes.
func startsNone(s string) bool {
	if !utf8.FullRuneInString(s) {
		return false
	}
	r, n := utf8.DecodeRuneInString(s)
	return r == utf8.RuneError && n == 1
}
