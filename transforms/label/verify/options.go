package verify

import (
	"strings"
)

// options are the letters of a multiple choice, one bit each from A on.
type options uint32

func (o options) String() string {
	var sb strings.Builder
	for i := range 26 {
		if o&(1<<i) != 0 {
			sb.WriteByte('A' + byte(i))
		}
	}
	return sb.String()
}

// lastLetter is the last letter that names an option.
const lastLetter = 'J'

func optionByte(c byte) bool { return c >= 'A' && c <= lastLetter }

// goldOptions are the options that a gold answer names: C, (C), \text{(A), (C)}, ABD, C. with its text. A single lower-case letter in
// brackets counts as well.
func goldOptions(s string) options {
	if len(s) > 200 {
		return 0
	}
	if t := strings.Trim(unmarked(s), "()"); len(t) == 1 && t[0] >= 'a' && t[0] <= 'e' && strings.HasPrefix(unmarked(s), "(") {
		return 1 << (t[0] - 'a')
	}
	o, _ := optionsIn(s)
	return o
}

// optionsAgree decides where the gold answer names options and the response names some as well.
func optionsAgree(gold, response string) (done, correct bool) {
	want, text := optionsIn(gold)
	if want == 0 {
		if want = goldOptions(gold); want == 0 {
			return false, false
		}
	}
	if want.several() && text == "" && !strings.ContainsAny(gold, ",()") && mathematics(response) {
		return false, false // ABC may be a triangle's name
	}
	got, _ := optionsIn(response)
	if got == 0 {
		if t := unmarked(response); len(t) == 1 && t[0] >= 'a' && t[0] <= 'j' {
			got = 1 << (t[0] - 'a')
		}
	}
	if got == 0 {
		return false, false
	}
	return true, got == want
}

func (o options) several() bool { return o&(o-1) != 0 }

func mathematics(s string) bool { return strings.ContainsAny(s, "0123456789+-=^_") }

// unmarked drops what marks text: stars, commands for text, braces.
func unmarked(s string) string {
	for {
		t := strings.Trim(s, " {}*$\n\t\"")
		if t == "" || t[0] != '\\' {
			return t
		}
		for _, p := range [...]string{"\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{", "\\textrm{", "\\boxed{", "\\mathsf{"} {
			t = strings.TrimPrefix(t, p)
		}
		if t == s {
			return s
		}
		s = t
	}
}

// optionsIn reads an answer that is one option or several, and the text after a single one: C, (C), C. 12, (C) 12, A, B
// and D, ABD. It is 0 where the answer names none, or a letter is the beginning of a sentence.
func optionsIn(s string) (o options, text string) {
	if s = unmarked(s); s == "" || strings.IndexByte("ABCDEFGHIJ(Oo", s[0]) < 0 && s[0] < 0x80 && !strings.HasPrefix(s, "choice") {
		return 0, ""
	}
	for _, p := range [...]string{"Option ", "option ", "Choice ", "choice ", "选项", "选"} {
		s = strings.TrimPrefix(s, p)
	}
	s = strings.TrimRight(s, ". 。")
	if c, rest, ok := oneOption(s); ok {
		if more := markedOptions(rest); more != 0 {
			return 1<<(c-'A') | more, ""
		}
		return 1 << (c - 'A'), rest
	}
	last := byte(0)
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case optionByte(c):
			if o&(1<<(c-'A')) != 0 || last != 0 && letter(last) && !optionByte(last) {
				return 0, ""
			}
			o |= 1 << (c - 'A')
			i++
		case strings.HasPrefix(s[i:], "and ") && last == ' ', strings.HasPrefix(s[i:], "和"), strings.HasPrefix(s[i:], "、"):
			i += 3
		case strings.HasPrefix(s[i:], "\\text{"):
			i += len("\\text{")
		case strings.IndexByte(" ,;()&{}*$\\", c) >= 0:
			i++
		default:
			return 0, ""
		}
		last = s[i-1]
	}
	if !o.several() {
		return 0, ""
	}
	return o, ""
}

// markedOptions are those that a text lists after a comma or another separator: the C of "5, C) 6".
func markedOptions(s string) (o options) {
	for i := 1; i+1 < len(s); i++ {
		if optionByte(s[i]) && s[i+1] == ')' && (s[i-1] == '(' || s[i-1] == ' ') &&
			strings.ContainsAny(strings.TrimRight(s[:i], " (")[max(0, len(strings.TrimRight(s[:i], " ("))-1):], ",;&") {
			o |= 1 << (s[i] - 'A')
		}
	}
	return o
}

// oneOption reads a single option with what may follow it.
func oneOption(s string) (c byte, text string, ok bool) {
	bracket := false
	if t, found := strings.CutPrefix(s, "("); found {
		s, bracket = t, true
	}
	if s == "" || !optionByte(s[0]) {
		return 0, "", false
	}
	c, s = s[0], s[1:]
	if bracket {
		rest, found := strings.CutPrefix(s, ")")
		rest = strings.Trim(rest, " }*$\\")
		if !found || continuesOptions(rest) {
			return 0, "", false
		}
		return c, rest, true
	}
	rest := strings.TrimLeft(s, "}*$\\ ")
	if rest == "" {
		return c, "", true
	}
	for _, sign := range [...]string{")", ".", ":", "-", "–", "—", "：", "、", "．"} {
		t, found := strings.CutPrefix(rest, sign)
		// a point or a dash between letters is no sign of an option: E - 12 is one, C-D and E-12 are not
		if !found || sign != ")" && t != "" && t[0] != ' ' && t[0] != '}' && t[0] < 0x80 && sign != ":" {
			continue
		}
		if (sign == "-" || sign == "–" || sign == "—") && !strings.HasPrefix(s, " ") {
			continue
		}
		t = strings.Trim(t, " }*$\\")
		if continuesOptions(t) {
			return 0, "", false
		}
		return c, t, true
	}
	return 0, "", false
}

// continuesOptions reports text that names further options: (A), (B) or B, C.
func continuesOptions(s string) bool {
	s = strings.TrimLeft(s, " ,;/&(")
	for _, w := range [...]string{"and ", "or "} {
		s = strings.TrimPrefix(s, w)
	}
	s = strings.TrimLeft(s, " (*")
	return s != "" && optionByte(s[0]) && (len(s) == 1 || !letter(s[1]) && s[1] != ' ')
}

// chosenOptions finds the options that a response chooses: in its last box, after its last "answer" or "option is", as
// all that it says, or in brackets at its end. Several different ones, each with its sign of a question, are no choice.
func chosenOptions(s string, truncated bool) (text, from string, ok bool) {
	content, end, boxed := lastBoxed(s, truncated)
	if end < 0 { // an open box at the end
		return "", "", false
	}
	after := s
	if boxed {
		after = s[end:]
	}
	for c := range lastAnchored(after) {
		if t, ok := leadingChoice(c.text); ok {
			return t, "answer", true
		}
		if c.denied || !boxed {
			break
		}
	}
	if boxed {
		if o, _ := optionsIn(clean(content)); o != 0 {
			return content, "boxed", true
		}
		for c := range lastAnchored(content) {
			if t, ok := leadingChoice(c.text); ok {
				return t, "boxed", true
			}
			break
		}
		return "", "", false
	}
	if h, found := afterHash(s); found {
		if o, _ := optionsIn(clean(h)); o != 0 {
			return h, "hash", true
		}
	}
	if truncated {
		return "", "", false
	}
	if t := clean(s); len(t) <= 400 {
		if o, text := optionsIn(t); o != 0 && !strings.Contains(text, "\n") && !disclaimed(text) {
			return t, "whole", true
		}
	}
	if l := lastOption(s); l != "" {
		return l, "last", true
	}
	return "", "", false
}

// leadingChoice reads the option with which a statement begins: C, C because ..., (B), because (A) and (C) fail.
func leadingChoice(s string) (string, bool) {
	s = strings.TrimLeft(s, " *$\"")
	if t := clean(s); t != "" {
		if o, text := optionsIn(t); o != 0 {
			if o.several() || !disclaimed(text) {
				return t, true
			}
			return "", false
		}
	}
	for _, p := range [...]string{"option ", "Option ", "choice ", "Choice ", "选项", "选"} {
		s = strings.TrimPrefix(s, p)
	}
	s = strings.TrimLeft(s, " *")
	bracket := strings.HasPrefix(s, "(") || strings.HasPrefix(s, "\\text{(") || strings.HasPrefix(s, "\\textbf{(")
	t := s
	if i := strings.IndexByte(s, '('); bracket && i >= 0 {
		t = s[i+1:]
	}
	if t == "" || !optionByte(t[0]) {
		return "", false
	}
	rest := t[1:]
	if bracket {
		if !strings.HasPrefix(rest, ")") {
			return "", false
		}
		rest = rest[1:]
	}
	rest = strings.TrimLeft(rest, " *}$")
	low := strings.ToLower(rest)
	switch {
	case rest == "":
		return t[:1], true
	case continuesOptions(rest) || strings.HasPrefix(rest, "/") || disclaimed(low):
		return "", false
	case strings.HasPrefix(low, ",") || strings.HasPrefix(low, ".") || strings.HasPrefix(low, ";"), bracket:
		return t[:1], true
	}
	for _, w := range [...]string{"because", "since", "as ", "for ", "which", "due", "given", "(", "with"} {
		if strings.HasPrefix(low, w) {
			return t[:1], true
		}
	}
	return "", false
}

// disclaimed reports text that takes back what stands before it.
func disclaimed(s string) bool {
	low := strings.TrimLeft(strings.ToLower(s), " ,.*)")
	for _, w := range [...]string{"or ", "and ", "is not", "is wrong", "is incorrect", "isn't", "is false", "fails",
		"cannot", "can't", "does not", "doesn't",
		"was wrong", "is ruled out", "is impossible", "won't", "is too"} {
		if strings.HasPrefix(low, w) {
			return true
		}
	}
	return false
}

// lastOption finds the last (X) or **X** of a text and returns it as (X). In a list of the options it finds none.
func lastOption(s string) string {
	for i := len(s) - 2; i > 0; i-- {
		if !optionByte(s[i]) {
			continue
		}
		if s[i-1] == '(' && s[i+1] == ')' || strings.HasSuffix(s[:i], "**") && strings.HasPrefix(s[i+1:], "**") {
			if disclaimed(s[i+2:]) || ruledOut(s[:i-1]) || listed(s[:i-1], s[i]) {
				return ""
			}
			return "(" + s[i:i+1] + ")"
		}
	}
	return ""
}

// ruledOut reports text that rules out the option behind it: "rule out (B)", "it is not **B**".
func ruledOut(before string) bool {
	low := strings.TrimRight(strings.ToLower(before[max(0, len(before)-40):]), " *(")
	for _, option := range [...]string{" option", " choice"} {
		low = strings.TrimSuffix(low, option)
	}
	for _, w := range [...]string{"not", "n't", "rule out", "ruled out", "ruling out", "cross out", "crossed out", "eliminate", "eliminated",
		"eliminating", "exclude", "excluded", "excluding", "discard", "discarded", "reject", "rejected", "never"} {
		if head, ok := strings.CutSuffix(low, w); ok && (w == "n't" || head == "" || !letter(head[len(head)-1])) {
			return true
		}
	}
	return false
}

// listed reports an option that the one before it in the alphabet stands before, as in a list of all options: (A) 1 (B) 2 (C) 3.
func listed(before string, c byte) bool {
	if c == 'A' {
		return false
	}
	for i := len(before) - 2; i > 0; i-- {
		if before[i-1] == '(' && before[i+1] == ')' && optionByte(before[i]) {
			return before[i] == c-1 && (c-1 == 'A' || listed(before[:i-1], c-1))
		}
	}
	return false
}
