package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind uint8

const (
	kindText     kind = iota // template text
	kindOpen                 // {{
	kindClose                // }}
	kindTag                  // {%
	kindEndTag               // %}
	kindName                 // identifiers and words such as and, in
	kindString               // text holds the value
	kindInt                  // text holds the digits
	kindFloat                // likewise
	kindOperator             // text holds the operator
	kindEOF
)

type token struct {
	kind kind
	text string
	line int
}

func (t token) String() string {
	switch t.kind {
	case kindEOF:
		return "the end of the template"
	case kindEndTag:
		return "%}"
	case kindClose:
		return "}}"
	case kindString:
		return strconv.Quote(t.text)
	}
	return t.text
}

// operators, longer ones before their beginnings.
var operators = []string{"**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}",
	",", ":", ".", "|", ";"}

// lex cuts a template into tokens. White space is trimmed as published templates expect it: the newline after a tag, and
// the blanks before a tag that stands first in its line (Jinja's trim_blocks and lstrip_blocks), and a newline at the end
// of the template; "-" trims all of a side, "+" nothing.
func lex(source string) ([]token, error) {
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	source = strings.TrimSuffix(source, "\n")
	var tokens []token
	line := 1
	fail := func(format string, args ...any) ([]token, error) {
		return nil, &Error{Line: line, Problem: fmt.Sprintf(format, args...)}
	}
	trimLeft, trimNewline := false, false // what the end of the last tag asks of the text after it
	raw := false
	for at := 0; ; {
		open, delimiter := nextDelimiter(source, at, raw)
		text := source[at:open]
		lines := strings.Count(text, "\n")
		if trimLeft {
			text = strings.TrimLeftFunc(text, unicode.IsSpace)
		} else if trimNewline {
			text = strings.TrimPrefix(text, "\n")
		}
		if delimiter == "" {
			if text != "" {
				tokens = append(tokens, token{kindText, text, line})
			}
			return append(tokens, token{kindEOF, "", line + lines}), nil
		}
		at = open + 2
		control := byte(0)
		if at < len(source) && (source[at] == '-' || source[at] == '+' && delimiter != "{{") {
			control = source[at]
			at++
		}
		switch {
		case control == '-':
			text = strings.TrimRightFunc(text, unicode.IsSpace)
		case control != '+' && delimiter != "{{":
			// Only where nothing but blanks precedes the tag in its line, in the source as it was written.
			start := strings.LastIndexByte(source[:open], '\n') + 1
			if strings.Trim(source[start:open], " \t") == "" {
				text = strings.TrimRight(text, " \t")
			}
		}
		if text != "" {
			tokens = append(tokens, token{kindText, text, line})
		}
		line += lines
		if delimiter == "{#" {
			end := strings.Index(source[at:], "#}")
			if end < 0 {
				return fail("comment without #}")
			}
			trimLeft, trimNewline = end > 0 && source[at+end-1] == '-', true
			line += strings.Count(source[at:at+end], "\n")
			at += end + 2
			continue
		}
		if word, end := tagWord(source, at); delimiter == "{%" && (word == "raw" || word == "endraw" && raw) {
			raw = word == "raw"
			at = end
			trimLeft, trimNewline = source[end-3] == '-', true
			continue
		}
		closing, first, last := "}}", kindOpen, kindClose
		if delimiter == "{%" {
			closing, first, last = "%}", kindTag, kindEndTag
		}
		tokens = append(tokens, token{first, delimiter, line})
		depth := 0 // of brackets: }} within a dictionary does not end the expression
		for {
			for at < len(source) && strings.IndexByte(" \t\n\v\f", source[at]) >= 0 {
				if source[at] == '\n' {
					line++
				}
				at++
			}
			rest := source[at:]
			if rest == "" {
				return fail("%s without %s", delimiter, closing)
			}
			if depth == 0 {
				end := ""
				for _, e := range []string{"-" + closing, "+" + closing, closing} {
					if strings.HasPrefix(rest, e) {
						end = e
						break
					}
				}
				if end != "" {
					at += len(end)
					tokens = append(tokens, token{last, closing, line})
					trimLeft, trimNewline = end[0] == '-', last == kindEndTag && end[0] != '+'
					break
				}
			}
			t, n, problem := lexOne(rest)
			if problem != "" {
				return fail("%s", problem)
			}
			t.line = line
			if t.kind == kindOperator {
				switch t.text {
				case "(", "[", "{":
					depth++
				case ")", "]", "}":
					depth--
				}
			}
			line += strings.Count(rest[:n], "\n")
			tokens = append(tokens, t)
			at += n
		}
	}
}

// nextDelimiter finds what opens the next tag; within raw that is only its end.
func nextDelimiter(source string, at int, raw bool) (int, string) {
	for i := at; i+1 < len(source); i++ {
		if source[i] != '{' {
			continue
		}
		switch d := source[i : i+2]; d {
		case "{%", "{{", "{#":
			if raw {
				word := ""
				if d == "{%" {
					j := i + 2
					if j < len(source) && (source[j] == '-' || source[j] == '+') {
						j++
					}
					word, _ = tagWord(source, j)
				}
				if word != "endraw" {
					continue
				}
			}
			return i, d
		}
	}
	return len(source), ""
}

// tagWord returns the only word of a tag and where the tag ends; "" for any other tag.
func tagWord(source string, at int) (word string, end int) {
	// A tag of one word is short; looking further would make many open tags slow.
	close := strings.Index(source[at:min(len(source), at+64)], "%}")
	if close < 0 {
		return "", 0
	}
	word = strings.Trim(source[at:at+close], " \t\n-+")
	for i := range len(word) {
		if !isNameByte(word[i]) {
			return "", 0
		}
	}
	return word, at + close + 2
}

func isNameByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

func lexOne(s string) (t token, n int, problem string) {
	c := s[0]
	switch {
	case c == '"' || c == '\'':
		return lexString(s)
	case c >= '0' && c <= '9':
		return lexNumber(s)
	case isNameByte(c) || c >= utf8.RuneSelf:
		for n < len(s) {
			r, size := utf8.DecodeRuneInString(s[n:])
			if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
				break
			}
			n += size
		}
		if n > 0 {
			return token{kind: kindName, text: s[:n]}, n, ""
		}
	}
	for _, o := range operators {
		if strings.HasPrefix(s, o) {
			return token{kind: kindOperator, text: o}, len(o), ""
		}
	}
	r, _ := utf8.DecodeRuneInString(s)
	return t, 0, fmt.Sprintf("unexpected character %q", r)
}

func lexNumber(s string) (t token, n int, problem string) {
	digits := func(at int) int {
		for at < len(s) && s[at] >= '0' && s[at] <= '9' {
			at++
		}
		return at
	}
	for n < len(s) && (s[n] >= '0' && s[n] <= '9' || s[n] == '_') {
		n++
	}
	t.kind = kindInt
	if n < len(s) && s[n] == '.' && digits(n+1) > n+1 {
		t.kind, n = kindFloat, digits(n+1)
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		m := n + 1
		if m < len(s) && (s[m] == '+' || s[m] == '-') {
			m++
		}
		if digits(m) > m {
			t.kind, n = kindFloat, digits(m)
		}
	}
	t.text = strings.ReplaceAll(s[:n], "_", "")
	return t, n, ""
}

func lexString(s string) (t token, n int, problem string) {
	var b strings.Builder
	for i := 1; i < len(s); {
		switch c := s[i]; c {
		case s[0]:
			return token{kind: kindString, text: b.String()}, i + 1, ""
		case '\\':
			if i+1 == len(s) {
				return t, 0, "string without its end"
			}
			i += 2
			switch e := s[i-1]; e {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'r':
				b.WriteByte('\r')
			case 'a':
				b.WriteByte('\a')
			case 'b':
				b.WriteByte('\b')
			case 'f':
				b.WriteByte('\f')
			case 'v':
				b.WriteByte('\v')
			case '\\', '\'', '"':
				b.WriteByte(e)
			case '\n':
			case 'x', 'u', 'U':
				digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[e]
				if i+digits > len(s) {
					return t, 0, "string without its end"
				}
				code, err := strconv.ParseUint(s[i:i+digits], 16, 32)
				if err != nil || code > unicode.MaxRune {
					return t, 0, fmt.Sprintf(`\%c is not followed by %d hexadecimal digits of a character`, e, digits)
				}
				b.WriteRune(rune(code))
				i += digits
			default:
				b.WriteByte('\\')
				b.WriteByte(e)
			}
		default:
			b.WriteByte(c)
			i++
		}
	}
	return t, 0, "string without its end"
}
