package tokenizer

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalForm is one of Unicode's four normalisation forms. The algorithm (Unicode Standard Annex 15) is run here on the
// character data of x/text: that package's own functions break up sequences of more than 30 combining marks by inserting a
// character, which published tokenizers do not.
type normalForm struct {
	quick         norm.Form // for texts without such sequences, which is to say nearly all
	decomposition norm.Form
	compose       bool
}

var (
	formNFC  = normalForm{norm.NFC, norm.NFD, true}
	formNFD  = normalForm{norm.NFD, norm.NFD, false}
	formNFKC = normalForm{norm.NFKC, norm.NFKD, true}
	formNFKD = normalForm{norm.NFKD, norm.NFKD, false}
)

// newer are the characters with a combining class or a decomposition that Unicode has added since version 9, whose data the
// published tokenizers normalise with: they leave these alone, and so does this package, or ids would differ.
var newer = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x07fd, 0x07fd, 1}, {0x0897, 0x089f, 1}, {0x08ca, 0x08d3, 1}, {0x09fe, 0x09fe, 1}, {0x0c3c, 0x0c3c, 1},
		{0x0d3b, 0x0d3c, 1}, {0x0eba, 0x0eba, 1}, {0x1715, 0x1715, 1}, {0x1abf, 0x1add, 1}, {0x1ae0, 0x1aeb, 1},
		{0x1df6, 0x1dfa, 1}, {0x32ff, 0x32ff, 1}, {0xa7f1, 0xa7f4, 1}, {0xa82c, 0xa82c, 1}, {0xab69, 0xab69, 1},
	},
	R32: []unicode.Range32{
		{0x105c9, 0x105c9, 1}, {0x105e4, 0x105e4, 1}, {0x10781, 0x10785, 1}, {0x10787, 0x107b0, 1}, {0x107b2, 0x107ba, 1},
		{0x10d24, 0x10d27, 1}, {0x10d69, 0x10d6d, 1}, {0x10eab, 0x10eac, 1}, {0x10efa, 0x10efb, 1}, {0x10efd, 0x10eff, 1},
		{0x10f46, 0x10f50, 1}, {0x10f82, 0x10f85, 1}, {0x11070, 0x11070, 1}, {0x1133b, 0x1133b, 1}, {0x11383, 0x11383, 1},
		{0x11385, 0x11385, 1}, {0x1138e, 0x1138e, 1}, {0x11391, 0x11391, 1}, {0x113c5, 0x113c5, 1}, {0x113c7, 0x113c8, 1},
		{0x113ce, 0x113d0, 1}, {0x1145e, 0x1145e, 1}, {0x11839, 0x1183a, 1}, {0x11938, 0x11938, 1}, {0x1193d, 0x1193e, 1},
		{0x11943, 0x11943, 1}, {0x119e0, 0x119e0, 1}, {0x11a34, 0x11a34, 1}, {0x11a47, 0x11a47, 1}, {0x11a99, 0x11a99, 1},
		{0x11d42, 0x11d42, 1}, {0x11d44, 0x11d45, 1}, {0x11d97, 0x11d97, 1}, {0x11f41, 0x11f42, 1}, {0x16121, 0x16128, 1},
		{0x1612f, 0x1612f, 1}, {0x16d68, 0x16d6a, 1}, {0x16ff0, 0x16ff1, 1}, {0x1ccd6, 0x1ccf9, 1}, {0x1e030, 0x1e06d, 1},
		{0x1e08f, 0x1e08f, 1}, {0x1e130, 0x1e136, 1}, {0x1e2ae, 0x1e2ae, 1}, {0x1e2ec, 0x1e2ef, 1}, {0x1e4ec, 0x1e4ef, 1},
		{0x1e5ee, 0x1e5ef, 1}, {0x1e6e3, 0x1e6e3, 1}, {0x1e6e6, 0x1e6e6, 1}, {0x1e6ee, 0x1e6ef, 1}, {0x1e6f5, 0x1e6f5, 1},
		{0x1f16c, 0x1f16c, 1}, {0x1fbf0, 0x1fbf9, 1},
	},
}

type classed struct {
	r     rune
	class uint8 // canonical combining class
}

func (f normalForm) normalize(text string) string {
	if f.quick.IsNormalString(text) {
		return text
	}
	chars := make([]classed, 0, len(text))
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		p := f.decomposition.PropertiesString(text[i:])
		switch d := p.Decomposition(); {
		case unicode.Is(newer, r):
			chars = append(chars, classed{r, 0})
		case isHangulSyllable(r):
			chars = appendHangul(chars, r)
		case d != nil:
			chars = appendClassed(chars, f.decomposition, d)
		default:
			chars = append(chars, classed{r, p.CCC()})
		}
		i += n
	}
	for i := 0; i < len(chars); {
		j := i + 1
		if chars[i].class != 0 {
			for j < len(chars) && chars[j].class != 0 {
				j++
			}
			slices.SortStableFunc(chars[i:j], func(a, b classed) int { return int(a.class) - int(b.class) })
		}
		i = j
	}
	if f.compose {
		chars = compose(chars)
	}
	var b strings.Builder
	b.Grow(len(text))
	for _, c := range chars {
		b.WriteRune(c.r)
	}
	return b.String()
}

func appendClassed(chars []classed, form norm.Form, text []byte) []classed {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		chars = append(chars, classed{r, form.Properties(text).CCC()})
		text = text[n:]
	}
	return chars
}

// compose joins each starter with the marks after it that are not blocked, in place.
func compose(chars []classed) []classed {
	out := chars[:0]
	starter := -1 // index in out
	var last uint8
	pairs := map[[2]rune]rune{}
	for _, c := range chars {
		if starter >= 0 {
			adjacent := len(out) == starter+1
			if adjacent || last < c.class {
				if joined := composed(pairs, out[starter].r, c.r); joined != 0 {
					out[starter].r = joined
					continue
				}
			}
		}
		if c.class == 0 {
			starter = len(out)
		}
		last = c.class
		out = append(out, c)
	}
	return out
}

// composed returns the primary composite of two characters, or 0.
func composed(memo map[[2]rune]rune, a, b rune) rune {
	if b < 0x300 { // nothing before the combining marks composes with what precedes it
		return 0
	}
	key := [2]rune{a, b}
	r, ok := memo[key]
	if !ok {
		pair := norm.NFC.String(string(a) + string(b))
		if got, n := utf8.DecodeRuneInString(pair); n == len(pair) && !unicode.Is(newer, got) {
			r = got
		}
		if len(memo) < 1<<12 {
			memo[key] = r
		}
	}
	return r
}

// Hangul syllables compose and decompose by arithmetic (Unicode standard, section 3.12).
const (
	hangulS, hangulL, hangulV, hangulT = 0xac00, 0x1100, 0x1161, 0x11a7
	hangulVs, hangulTs                 = 21, 28
	hangulCount                        = 19 * hangulVs * hangulTs
)

func isHangulSyllable(r rune) bool { return r >= hangulS && r < hangulS+hangulCount }

func appendHangul(chars []classed, r rune) []classed {
	s := r - hangulS
	chars = append(chars, classed{hangulL + s/(hangulVs*hangulTs), 0}, classed{hangulV + s/hangulTs%hangulVs, 0})
	if t := s % hangulTs; t != 0 {
		chars = append(chars, classed{hangulT + t, 0})
	}
	return chars
}
