package verify

import (
	"strings"
	"unicode/utf8"
)

// narrow writes the digits, letters and signs of full width, and the digits of Arabic, as ASCII has them, and Chinese
// marks of a sentence as signs that the search for an answer knows.
func narrow(s string) string {
	if strings.IndexByte(s, 0xEF) < 0 && strings.IndexByte(s, 0xE3) < 0 && strings.IndexByte(s, 0xD9) < 0 && strings.IndexByte(s, 0xDB) < 0 {
		return s
	}
	var sb strings.Builder
	sb.Grow(len(s))
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			sb.WriteByte(s[i])
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '．' && i+n < len(s) && !digitAfter(s[i+n:]): // a full stop, not a point
			sb.WriteString(". ")
		case r >= '！' && r <= '～':
			sb.WriteByte(byte(r - '！' + '!'))
		case r >= '٠' && r <= '٩':
			sb.WriteByte(byte(r-'٠') + '0')
		case r >= '۰' && r <= '۹':
			sb.WriteByte(byte(r-'۰') + '0')
		case r == '。':
			sb.WriteString(". ")
		case r == '、':
			sb.WriteString(",")
		case r == '\u3000':
			sb.WriteByte(' ')
		case r == '【' || r == '】':
			sb.WriteByte(' ')
		default:
			sb.WriteString(s[i : i+n])
		}
		i += n
	}
	return sb.String()
}

func digitAfter(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return r >= '0' && r <= '9' || r >= '０' && r <= '９'
}
