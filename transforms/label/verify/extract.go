package verify

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// window is how much of a response's end is searched: the answer stands there, and a ten-megabyte response costs no more
// than a long one.
const window = 128 << 10

// candidate is a part of a response that may be its answer.
type candidate struct {
	text string
	from string // boxed, hash, answer, whole, last
	soft bool   // taken from running text: words in it mean that it is not an answer

	denied bool // the text says that this is not the answer: there is none
}

// tail cuts the searched part off a response.
func tail(s string) string {
	if len(s) <= window {
		return s
	}
	s = s[len(s)-window:]
	for i := 0; i < len(s) && i < utf8.UTFMax; i++ {
		if utf8.RuneStart(s[i]) {
			return s[i:]
		}
	}
	return s
}

// afterThinking drops a response's <think> part, and all but what its last <answer> part holds. open reports thinking that never ends.
func afterThinking(s string) (rest string, open bool) {
	if i := lastIndex(s, "</think>"); i >= 0 {
		return inAnswer(s[i+len("</think>"):]), false
	}
	return inAnswer(s), strings.Contains(s, "<think>")
}

func inAnswer(s string) string {
	end := lastIndex(s, "</answer>")
	if end < 0 {
		return s
	}
	start := strings.LastIndex(s[:end], "<answer>")
	if start < 0 || strings.TrimSpace(s[start+len("<answer>"):end]) == "" {
		return s
	}
	return s[start+len("<answer>") : end]
}

// candidates yields what may be the answer of a text, the likeliest first: boxed, after ####, after "answer", the whole of
// a short text, the last mathematics. A box ends the search: whoever boxes an answer means it. cut says that the text was cut off.
func candidates(s string, cut bool) iter.Seq[candidate] {
	return func(yield func(candidate) bool) {
		if boxed, end, ok := lastBoxed(s, cut); ok {
			// a final answer that is stated after the last box overrules it
			if i := statedAfter(s[end:]); i >= 0 && !statement(s[end+i:], yield) {
				return
			}
			yield(candidate{text: boxed, from: "boxed", denied: corrects(boxed, s[end:])})
			return
		} else if end < 0 {
			return // a box that never ends earns nothing
		}
		if h, ok := afterHash(s); ok && !yield(candidate{text: h, from: "hash"}) {
			return
		}
		if !anchored(s, yield) {
			return
		}
		if t := strings.TrimSpace(s); len(t) <= 400 && !yield(candidate{text: t, from: "whole", soft: true}) {
			return
		}
		lastMathematics(s, "last", yield)
	}
}

// statedAfter finds "final answer is", or a line that begins with "Answer:", in what follows a box: the index of what it says, or -1.
func statedAfter(s string) int {
	if i := lastIndex(s, "inal answer is"); i >= 0 {
		return i + len("inal answer")
	}
	at := -1
	for i := 0; ; {
		k, n := nextAnchor(s[i:])
		if k < 0 {
			return at
		}
		line := s[strings.LastIndexByte(s[:i+k], '\n')+1 : i+k]
		rest := strings.TrimLeft(s[i+k+n:], "* ")
		lead := strings.ToLower(strings.Trim(line, "*#> \t✅"))
		if (lead == "" || lead == "final" || lead == "the" || lead == "the final" || lead == "my") &&
			strings.HasPrefix(rest, ":") && strings.IndexByte(s[:i+k], '\n') >= 0 {
			at = i + k + n
		}
		i += k + n
	}
}

// nextAnchor finds the first "answer", whatever its case.
func nextAnchor(s string) (start, n int) {
	best := -1
	for _, w := range [...]string{"answer", "Answer", "ANSWER"} {
		if i := strings.Index(s, w); i >= 0 && (best < 0 || i < best) {
			best = i
		}
	}
	return best, len("answer")
}

// lastBoxed returns the content of the last \boxed or \fbox that holds something, joined with boxes just before it that
// belong to the same answer: \boxed{1} and \boxed{2}. boxEnd is where the last one ends, -1 where it never does: in a
// text that was cut off such a box gives way to the one before it.
func lastBoxed(s string, cut bool) (content string, boxEnd int, ok bool) {
	end := len(s)
	var parts []string
	start := -1 // of the box that follows
	for len(parts) < 64 {
		i, open := boxBefore(s[:end])
		if i < 0 {
			break
		}
		limit := len(s)
		if start >= 0 {
			limit = start
		}
		content, after, closed := braceContent(s[:limit], open)
		if !closed {
			if start < 0 && !cut && strings.TrimSpace(s[open:]) != "" {
				return "", -1, false
			}
			if start >= 0 {
				break
			}
		}
		content = strings.TrimSpace(content)
		if start < 0 && strings.Trim(content, ".,;:") == "" || start < 0 && !closed { // \boxed{} is a mention of a box
			end = i
			continue
		}
		if start >= 0 {
			between := s[after:start]
			if !sameAnswer(between) || strings.Trim(between, " $") == "" && len(content) == 1 && letter(content[0]) { // the last option counts
				break
			}
			if content == parts[len(parts)-1] {
				start, end = i, i
				continue
			}
		} else {
			if !strings.HasSuffix(content, "%") {
				content += percentAfter(s[after:])
			}
			boxEnd = after
		}
		parts = append(parts, content)
		start, end = i, i
	}
	if len(parts) == 0 {
		return "", 0, false
	}
	if len(parts) == 1 {
		return parts[0], boxEnd, true
	}
	var sb strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		sb.WriteString(parts[i])
		if i > 0 {
			sb.WriteString(" , ")
		}
	}
	return sb.String(), boxEnd, true
}

// boxBefore finds the last box command in s and its opening brace, or the place where its content starts without one.
func boxBefore(s string) (start, open int) {
	for end := len(s); ; {
		i := lastIndex(s[:end], "box")
		if i < 0 {
			return -1, 0
		}
		switch {
		case strings.HasSuffix(s[:i], "\\f"):
			return i - 2, i + len("box")
		case strings.HasPrefix(s[i:], "boxed") && strings.HasSuffix(s[:i], "\\"):
			return i - 1, i + len("boxed")
		}
		end = i
	}
}

// braceContent returns what stands between the brace at or after open and its partner; without a brace, the next word.
func braceContent(s string, open int) (content string, after int, closed bool) {
	i := open
	for i < len(s) && (s[i] == ' ' || s[i] == '\n') {
		i++
	}
	if i >= len(s) {
		return "", len(s), false
	}
	if s[i] != '{' {
		j := i
		for j < len(s) && s[j] != ' ' && s[j] != '\n' && s[j] != '$' {
			j++
		}
		return s[i:j], j, true
	}
	depth := 0
	for j := i; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++ // \{ and \} do not nest
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return s[i+1 : j], j + 1, true
			}
		}
	}
	return s[i+1:], len(s), false
}

// sameAnswer decides whether two boxes with this text between them are parts of one answer: a comma, "and" or "or"
// stands between them, and nothing else.
func sameAnswer(between string) bool {
	if len(between) >= 70 || strings.Contains(between, "\n\n") || strings.ContainsAny(between, "0123456789=.+") {
		return false
	}
	if strings.TrimSpace(strings.Trim(between, "$")) == "" && strings.Contains(between, "\n") {
		return false // another line is another try
	}
	for _, drop := range [...]string{"\\text", "\\quad", "\\qquad", "\\(", "\\)", "\\[", "\\]", "\\,", "\\;", "\\ "} {
		between = strings.ReplaceAll(between, drop, " ")
	}
	between = strings.Join(strings.FieldsFunc(between, func(r rune) bool { return strings.ContainsRune(" \n\t$*~{}", r) }), " ")
	switch strings.ToLower(between) {
	case "", ",", "and", "or", ", and", ", or", "&", "和", "或", "与":
		return true
	}
	return false
}

// lastIndex is strings.LastIndex, which looks at byte after byte, for what is mostly not there: strings.Contains is ten times
// as fast.
func lastIndex(s, what string) int {
	if !strings.Contains(s, what) {
		return -1
	}
	return strings.LastIndex(s, what)
}

// percentAfter returns "%" when a percent sign or word follows: \boxed{28}\%, $\boxed{28}$ percent.
func percentAfter(s string) string {
	s = strings.TrimLeft(s, " $\\)")
	low := strings.ToLower(s[:min(len(s), 10)])
	if strings.HasPrefix(low, "%") || strings.HasPrefix(low, "percent") || strings.HasPrefix(low, "pct") {
		return "%"
	}
	return ""
}

// afterHash returns the rest of the last line that starts with ####, GSM8K's mark of the answer.
func afterHash(s string) (string, bool) {
	i := lastIndex(s, "####")
	if i < 0 {
		return "", false
	}
	rest := strings.TrimLeft(s[i:], "#")
	if j := strings.IndexByte(rest, '\n'); j >= 0 && corrects(rest[:j], rest[j+1:]) {
		return "", false
	}
	if j := strings.IndexByte(rest, '\n'); j >= 0 {
		// a heading has text after it that the answer's line has not
		if words(rest[:j]) > 1 {
			return "", false
		}
		rest = rest[:j]
	}
	rest = strings.TrimSpace(rest)
	return rest, rest != ""
}

// corrects reports a text that begins with taking back the answer before it, and has another value: "Actually 13."
func corrects(answer, after string) bool {
	low := strings.ToLower(strings.TrimLeft(after[:min(len(after), 120)], " .\n*$\\)]"))
	for _, w := range [...]string{"actually", "correction", "wait", "sorry", "oops", "i made a mistake", "i made an error", "no, ",
		"scratch that", "on second thought"} {
		if !strings.HasPrefix(low, w) {
			continue
		}
		for _, number := range strings.FieldsFunc(low, func(c rune) bool { return c < '0' || c > '9' }) {
			if !strings.Contains(answer, number) {
				return true
			}
		}
	}
	return false
}

func words(s string) int {
	n := 0
	for _, f := range strings.Fields(s) {
		if letter(f[0]) && len(f) > 2 {
			n++
		}
	}
	return n
}

// anchors are words before an answer, without their first letter, which may be a capital. The text after them is its statement.
var anchors = [...]struct {
	first, rest string
	length      int // of what does not belong to the statement
}{{"aA", "nswer", 5}, {"A", "NSWER", 5}, {"", "答案", len("答案")}, {"", "故选", len("故选")}, {"", "应选", len("应选")}, {"", "答:", len("答:")},
	{"", "答：", len("答：")}, {"oO", "ption is", 5}, {"cC", "hoice is", 5}, {"oO", "ption:", 5}, {"cC", "hoice:", 5}}

// anchored yields what stands after the last mentions of the word "answer"; like every yielding function it returns
// false when no more is wanted.
func anchored(s string, yield func(candidate) bool) bool {
	end := len(s)
	for tries := 0; tries < 3; tries++ {
		i, n := lastAnchor(s[:end])
		if i < 0 {
			return true
		}
		end = i
		if deniedBefore(s[:i]) {
			yield(candidate{from: "answer", denied: true})
			return false
		}
		if said := firstSentence(strings.TrimLeft(s[i+n:], ": \n*")); tries == 0 && said != "" {
			if k := strings.Index(s[i+n:], said); corrects(said, s[i+n+k+len(said):]) {
				yield(candidate{from: "answer", denied: true})
				return false
			}
		}
		if !statement(s[i+n:], yield) {
			return false
		}
	}
	return true
}

// deniedBefore reports a sentence that denies the answer before it names it: "it is false that the answer is".
func deniedBefore(s string) bool {
	s = s[max(0, len(s)-60):]
	if i := strings.LastIndexAny(s, ".!?\n;:"); i >= 0 {
		s = s[i+1:]
	}
	low := strings.Trim(strings.ToLower(s[:strings.LastIndexByte(s, ' ')+1]), " *")
	for _, article := range [...]string{" the correct", " the final", " the", " my"} {
		low = strings.TrimSuffix(low, article)
	}
	for _, w := range [...]string{"it is false that", "it is not true that", "it is not the case that", "it's not true that",
		"wrong to say", "wrong to say that", "wrong to conclude that", "incorrect to say", "incorrect to say that", "no way",
		"i doubt that", "it cannot be that"} {
		if strings.HasSuffix(low, w) {
			return true
		}
	}
	return false
}

// lastAnchor finds the last word before an answer: where it stands, and how long it is.
func lastAnchor(s string) (start, n int) {
	best, length := -1, 0
	for _, a := range anchors {
		for end := len(s); ; {
			i := lastIndex(s[:end], a.rest)
			if i < 0 || i <= best {
				break
			}
			if a.first != "" && (i == 0 || strings.IndexByte(a.first, s[i-1]) < 0 || i > 1 && letter(s[i-2])) {
				end = i
				continue
			}
			best, length = i, a.length
			break
		}
	}
	return best, length
}

// lastAnchored yields the statements after the last word "answer" alone.
func lastAnchored(s string) iter.Seq[candidate] {
	return func(yield func(candidate) bool) {
		if i, n := lastAnchor(s); i >= 0 {
			statement(s[i+n:], yield)
		}
	}
}

// statement reads what follows "answer": " is X.", ": X", " to the question is X".
func statement(rest string, yield func(candidate) bool) bool {
	rest = strings.TrimLeft(rest, "sS")
	rest = strings.TrimLeft(rest, "*: \t\n\"")
	body := firstSentence(rest)
	if i := reason(body); i >= 0 {
		body = body[:i]
	}
	i := lastIs(body)
	if i >= 0 && deniedVerb(body[:i]) {
		yield(candidate{from: "answer", denied: true})
		return false
	}
	if i >= 0 && !(strings.HasPrefix(body[i:], " not") && strings.ContainsAny(body[:i], "0123456789")) {
		body = body[i:]
	}
	for {
		t := strings.TrimLeft(body, "*: \t\n\"")
		for _, w := range [...]string{"是", "为", "选"} {
			t = strings.TrimPrefix(t, w)
		}
		if t == body {
			break
		}
		body = t
	}
	t := strings.TrimSpace(body)
	if low := strings.ToLower(t); strings.HasPrefix(low, "not ") || strings.HasPrefix(low, "n't ") || strings.HasPrefix(low, "neither ") {
		yield(candidate{from: "answer", denied: true})
		return false
	}
	if t != "" && !yield(candidate{text: t, from: "answer", soft: true}) {
		return false
	}
	return lastMathematics(body, "answer", yield)
}

// deniedVerb reports words that end in a verb which is denied: "cannot be", "could never be".
func deniedVerb(s string) bool {
	head, ok := strings.CutSuffix(strings.ToLower(s), " be")
	if !ok {
		return false
	}
	head = head[strings.LastIndexAny(head, " \n")+1:]
	return head == "not" || head == "never" || head == "cannot" || strings.HasSuffix(head, "n't") || strings.HasSuffix(head, "n’t")
}

// lastIs returns the index after the last " is " (or "are", "equals") outside mathematics.
func lastIs(s string) int {
	best := -1
	math := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$':
			math = !math
		case math:
		case (s[i] == 'i' || s[i] == 'I') && (strings.HasPrefix(s[i:], "is") || strings.HasPrefix(s[i:], "IS")) && boundary(s, i, i+2):
			best = i + 2
		case s[i] == 'b' && strings.HasPrefix(s[i:], "be ") && boundary(s, i, i+2):
			best = i + 2
		case s[i] == 'a' && strings.HasPrefix(s[i:], "are") && boundary(s, i, i+3):
			best = i + 3
		}
	}
	return best
}

// reason is where a sentence goes on with its reason or an aside, which is not the answer; -1 where it does not.
func reason(s string) int {
	best := -1
	for _, w := range [...]string{" because ", " since ", ", which ", ", as ", ", while ", ", so ", ", not ",
		" rather than ", " instead of "} {
		if i := strings.Index(s, w); i > 0 && (best < 0 || i < best) {
			best = i
		}
	}
	return best
}

func boundary(s string, a, b int) bool {
	return (a == 0 || !letter(s[a-1])) && (b >= len(s) || s[b] == ' ' || s[b] == ':' || s[b] == '\n' || s[b] == '*')
}

// firstSentence cuts at the first full stop that ends a sentence, or at a blank line, outside mathematics.
func firstSentence(s string) string {
	if len(s) > 2000 {
		s = s[:2000]
	}
	display := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i+1 < len(s) {
				switch s[i+1] {
				case '[', '(':
					display++
				case ']', ')':
					display--
				}
			}
			i++
		case '$':
			if display == 0 {
				if j := strings.IndexByte(s[i+1:], '$'); j >= 0 && mathLike(s[i+1:i+1+j]) {
					i += j + 1
				}
			}
		case '.':
			if display <= 0 && !abbreviated(s[:i]) && (i+1 == len(s) || s[i+1] == ' ' || s[i+1] == '\n' || s[i+1] == '<' || s[i+1] == '*') {
				return s[:i]
			}
		case '\n':
			if display <= 0 && i > 0 && strings.TrimSpace(s[:i]) != "" {
				return s[:i]
			}
		case '<':
			if strings.HasPrefix(s[i:], "<|") {
				return s[:i]
			}
		}
	}
	return s
}

// abbreviated reports a word whose full stop does not end a sentence: Rs. 500.
func abbreviated(s string) bool {
	w := s[strings.LastIndexAny(s, " $\n(")+1:]
	switch w {
	case "Rs", "approx", "sq", "cu", "No", "ca", "vs", "i.e", "e.g", "Mr", "Mrs", "Ms", "Dr", "St":
		return true
	}
	return false
}

// mathLike tells $x + 1$ from two prices in a sentence.
func mathLike(s string) bool {
	return len(s) > 0 && words(s) < 3 && !strings.Contains(s, "\n\n")
}

// lastMathematics yields the last formula or number of a text, whichever ends later, then those before it.
func lastMathematics(s string, from string, yield func(candidate) bool) bool {
	end := len(s)
	for tries := 0; tries < 3 && end > 0; tries++ {
		f, fStart, fEnd := lastFormula(s[:end])
		n, nStart, nEnd := lastNumber(s[:end])
		if fEnd < 0 && nEnd < 0 {
			break
		}
		c := candidate{from: from}
		if fEnd >= nEnd {
			f += percentAfter(s[fEnd:])
			c.text, end = joinFormulas(s, f, fStart)
		} else {
			c.text, end = n+percentAfter(s[nEnd:]), nStart
			if left, currency := qualifier(s[:nStart]); left != "" {
				c.text = left + " " + c.text
			} else if currency != "" {
				c.text = currency + c.text
			}
			c.text += centsAfter(s[nEnd:])
		}
		if restated(s[max(fEnd, nEnd):]) || denies(s[max(fEnd, nEnd):]) {
			return yield(candidate{from: from, denied: true}) && false
		}
		if !yield(c) {
			return false
		}
	}
	return true
}

// qualifier returns the words before a number that make it something else, as "less than" and "not", or else the sign of its currency.
func qualifier(before string) (words, currency string) {
	b := strings.TrimRight(before, " *$\\(")
	for _, c := range [...]string{"€", "£", "¥", "₹"} {
		if strings.HasSuffix(b, c) {
			return "", c
		}
	}
	if strings.HasSuffix(before, "$") && !strings.HasSuffix(before, "$$") && strings.Count(before, "$")%2 == 1 {
		currency = "$"
	}
	b = b[max(0, len(b)-40):]
	if i := strings.LastIndexAny(b, ".,;:!?\n=+"); i >= 0 {
		b = b[i+1:]
	}
	f := strings.Fields(b)
	for _, w := range f {
		switch strings.ToLower(w) {
		case "nobody", "noone", "none", "nothing", "neither":
			return "not", ""
		}
	}
	if strings.Contains(strings.ToLower(strings.Join(f, " ")), "no one") {
		return "not", ""
	}
	for n := min(3, len(f)); n >= 1; n-- {
		phrase := strings.ToLower(strings.Join(f[len(f)-n:], " "))
		switch phrase {
		case "not", "isn't", "isnt", "never", "other than", "neither", "nor", "except", "without", "不是", "not equal",
			"not equal to", "cannot be", "can't be",
			"not be", "different from", "differs from", "far from", "anything but", "hardly", "ain't", "wasn't", "aren't",
			"double", "twice", "half", "half of", "square of", "opposite of", "reciprocal of", "inverse of":
			return "not", ""
		case "minus", "negative":
			return "minus", ""
		case "at least", "no less than", "not less than", "at most", "no more than", "not more than", "less than", "fewer than", "more than",
			"greater than", "larger than", "smaller than":
			return phrase, ""
		}
	}
	return "", currency
}

// centsAfter is the unit after a number that is not the one it is usually said in.
func centsAfter(s string) string {
	for _, w := range [...]string{" cents", " cent", "¢"} {
		if strings.HasPrefix(s, w) {
			return w
		}
	}
	return ""
}

// restated reports an equals sign with nothing behind it: the question once more.
func restated(after string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(after, " $*)\\]"), "=")
	return ok && strings.Trim(rest, " \n$*?._)\\]") == ""
}

// denies reports that the sentence takes back the value before it: "3 is not the answer".
func denies(after string) bool {
	after = strings.TrimLeft(after, " $*)\\}")
	if len(after) > 60 {
		after = after[:60]
	}
	low := strings.ToLower(after)
	if answer, asks := strings.CutPrefix(low, "?"); asks {
		if no, ok := strings.CutPrefix(strings.TrimLeft(answer, " *\n"), "no"); ok && (no == "" || !letter(no[0])) {
			return true
		}
	}
	for _, w := range [...]string{"is not", "isn't", "is wrong", "is incorrect", "is false", "was wrong", "was incorrect",
		"does not work", "doesn't work", "fails",
		"cannot be", "can't be", "is impossible", "is too ", "or so", "give or take", "不对", "是错"} {
		if strings.HasPrefix(low, w) {
			return true
		}
	}
	return false
}

// joinFormulas prepends formulas that "and", "or" or a comma joins to the one at start.
func joinFormulas(s, f string, start int) (string, int) {
	for range 8 {
		before := strings.TrimRight(s[:start], " \n")
		sep := ""
		for _, w := range [...]string{"and", "or", ","} {
			if strings.HasSuffix(before, w) {
				sep = w
				before = strings.TrimRight(strings.TrimSuffix(before, w), " ,\n")
				break
			}
		}
		if sep == "" || !strings.HasSuffix(before, "$") && !strings.HasSuffix(before, "\\)") && !strings.HasSuffix(before, "\\]") {
			return f, start
		}
		g, gStart, gEnd := lastFormula(before)
		if gEnd != len(before) || strings.TrimSpace(g) == "" {
			return f, start
		}
		f, start = g+" , "+f, gStart
	}
	return f, start
}

// lastFormula finds the last $...$, $$...$$, \(...\) or \[...\] of s.
func lastFormula(s string) (content string, start, end int) {
	end = -1
	if j := strings.LastIndex(s, "\\)"); j >= 0 {
		if i := strings.LastIndex(s[:j], "\\("); i >= 0 && j > end {
			content, start, end = s[i+2:j], i, j+2
		}
	}
	if j := strings.LastIndex(s, "\\]"); j >= 0 && j+2 > end {
		if i := strings.LastIndex(s[:j], "\\["); i >= 0 {
			content, start, end = s[i+2:j], i, j+2
		}
	}
	if j := strings.LastIndexByte(s, '$'); j >= 0 && j+1 > end && (j == 0 || s[j-1] != '\\') {
		width := 1
		if j > 0 && s[j-1] == '$' {
			width = 2
		}
		for i := j - width; i >= 0; {
			k := strings.LastIndexByte(s[:i+1], '$')
			if k < 0 {
				break
			}
			if k > 0 && s[k-1] == '\\' {
				i = k - 1
				continue
			}
			inner := s[k+1 : j-width+1]
			from := k
			if width == 2 && k > 0 && s[k-1] == '$' {
				from = k - 1
			}
			if strings.TrimSpace(inner) != "" && mathLike(inner) && (width == 2 || !strings.Contains(inner, "\n")) {
				content, start, end = inner, from, j+1
			}
			break
		}
	}
	return content, start, end
}

func digit(c byte) bool  { return c >= '0' && c <= '9' }
func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// lastNumber finds the last number of s that no letter touches on its left, with the plain arithmetic it is part of:
// in "is 2/3." the fraction, in "3 + 4 = 7" the seven.
func lastNumber(s string) (text string, start, end int) {
	start, end = lastDigits(s)
	if end < 0 {
		return "", 0, -1
	}
	if from, to := bareTuple(s, end); to > 0 {
		return s[from:to], from, to
	}
	if from, to := bareFraction(s, start, end); to > 0 {
		return s[from:to], from, to
	}
	if e, from := arithmetic(s, start, end); e != "" {
		return e, from, end
	}
	switch {
	case start > 0 && s[start-1] == '-' && (start == 1 || !digit(s[start-2]) && !letter(s[start-2]) && s[start-2] != ')'):
		start--
	case start > 1 && s[start-1] == '$' && s[start-2] == '-':
		return "-" + s[start:end], start - 2, end
	}
	return s[start:end], start, end
}

// lastDigits finds the last digits of s, with points, commas and spaces between them, that no letter touches on their left;
// end is -1 when there are none.
func lastDigits(s string) (start, end int) {
	for end = len(s); end > 0; end = start {
		for end > 0 && !digit(s[end-1]) {
			end--
		}
		if end == 0 {
			break
		}
		start = end
		for start > 0 && (digit(s[start-1]) || s[start-1] == '.' || s[start-1] == ',' && start > 1 && digit(s[start-2])) {
			start--
		}
		if start > 0 && (letter(s[start-1]) || s[start-1] == '_' || s[start-1] >= 0x80 && !currencyBefore(s[:start]) && !hanBefore(s[:start])) {
			continue
		}
		return thousandsBefore(s, start, end), end
	}
	return 0, -1
}

// thousandsBefore is where the number that ends at end begins, if spaces set its thousands apart.
func thousandsBefore(s string, start, end int) int {
	for start >= 2 && end-start >= 3 && s[start-1] == ' ' && digit(s[start-2]) && spaced(s[start:end]) {
		k := start - 1
		for k > 0 && digit(s[k-1]) {
			k--
		}
		if start-1-k > 3 || k > 0 && letter(s[k-1]) {
			break
		}
		start = k
		if start-1 > 0 && s[start-1] != ' ' {
			break
		}
	}
	return start
}

// arithmetic finds the plain arithmetic that ends in the number at number; it is empty when there is none.
func arithmetic(s string, number, end int) (text string, start int) {
	start = number
	for start > 0 && strings.IndexByte("0123456789.+-*/^() ", s[start-1]) >= 0 {
		start--
	}
	e := strings.TrimSpace(s[start:end])
	if start == number || !strings.ContainsAny(e, "+*/^-(") || !balanced(e) || start > 0 && letter(s[start-1]) && s[start] != ' ' {
		return "", 0
	}
	if strings.IndexByte("0123456789.(-", e[0]) < 0 || !strings.ContainsAny(strings.TrimLeft(e, "-( "), "+*/^-") {
		return "", 0
	}
	return e, start
}

// bareTuple finds the (a, b) outside formulas whose last number ends at end.
func bareTuple(s string, end int) (from, to int) {
	if end >= len(s) || s[end] != ')' && s[end] != ']' {
		return 0, 0
	}
	comma := false
	for i := end - 1; i >= 0 && end-i < 100; i-- {
		switch c := s[i]; {
		case c == '(' || c == '[':
			if !comma || i > 0 && (letter(s[i-1]) || digit(s[i-1])) {
				return 0, 0
			}
			return i, end + 1
		case c == ',':
			comma = true
		case !digit(c) && strings.IndexByte(" .-+/", c) < 0:
			return 0, 0
		}
	}
	return 0, 0
}

// bareFraction finds the \frac{a}{b} outside formulas whose denominator stands at start and end.
func bareFraction(s string, start, end int) (from, to int) {
	if !strings.HasSuffix(s[:start], "}{") || end >= len(s) || s[end] != '}' {
		return 0, 0
	}
	from = strings.LastIndexByte(s[:start], '\\')
	if from < 0 || start-from > 40 {
		return 0, 0
	}
	for _, c := range [...]string{"\\frac{", "\\dfrac{", "\\tfrac{"} {
		if num, ok := strings.CutPrefix(s[from:start-2], c); ok && num != "" && strings.Trim(num, "-0123456789.") == "" {
			if from > 0 && s[from-1] == '-' {
				from--
			}
			return from, end + 1
		}
	}
	return 0, 0
}

func spaced(s string) bool {
	return len(s) >= 3 && digit(s[0]) && digit(s[1]) && digit(s[2]) && (len(s) == 3 || !digit(s[3]))
}

// hanBefore reports a Chinese character or mark at the end of s.
func hanBefore(s string) bool {
	r, _ := utf8.DecodeLastRuneInString(s)
	return unicode.Is(unicode.Han, r) || r >= 0x3000 && r <= 0x303f
}

func currencyBefore(s string) bool {
	for _, c := range [...]string{"€", "£", "¥", "₹", "−", "–", "≈", "×", "÷", "≥", "≤", "√"} {
		if strings.HasSuffix(s, c) {
			return true
		}
	}
	return false
}

func balanced(s string) bool {
	d := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			d++
		case ')':
			if d--; d < 0 {
				return false
			}
		}
	}
	return d == 0
}
