package tokenizer

import "strings"

// TextEnds decodes ids as [Text] does, without their special tokens, and tells where each token ends in the text: ends[i]
// is the number of bytes up to and with token i. A character whose bytes are spread over several tokens belongs to the one
// that completes it; bytes that never become a character are U+FFFD in the text, and belong to the token with which that is
// certain, the last one at the latest.
func TextEnds(t Tokenizer, ids []int32) (text string, ends []int32) { return ended(t, ids, false) }

// DecodeEnds is TextEnds for ids whose special tokens are written out, as [Tokenizer.Decode] does.
func DecodeEnds(t Tokenizer, ids []int32) (text string, ends []int32) { return ended(t, ids, true) }

func ended(t Tokenizer, ids []int32, special bool) (string, []int32) {
	var b strings.Builder
	stream, ends := NewStream(t), make([]int32, len(ids))
	last := 0 // tokens from here on end where the text does
	for i, id := range ids {
		if special || !t.Special(id) {
			b.WriteString(stream.Next(id))
			last = i
		}
		ends[i] = int32(b.Len())
	}
	b.WriteString(stream.Flush())
	for i := last; i < len(ends); i++ {
		ends[i] = int32(b.Len())
	}
	return b.String(), ends
}
