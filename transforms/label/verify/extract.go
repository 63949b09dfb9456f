package verify

import (
	"iter"
	"strings"
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

// afterThinking drops a response's <think> part. open reports one that never ends.
func afterThinking(s string) (rest string, open bool) {
	if i := lastIndex(s, "</think>"); i >= 0 {
		return s[i+len("</think>"):], false
	}
	return s, strings.Contains(s, "<think>")
}

// candidates yields what may be the answer of a text, the likeliest first: boxed, after ####, after "answer", the whole of
// a short text, the last mathematics. A box ends the search: whoever boxes an answer means it.
func candidates(s string) iter.Seq[candidate] {
	return func(yield func(candidate) bool) {
		if boxed, end, ok := lastBoxed(s); ok {
			// a final answer that is stated after the last box overrules it
			if i := lastIndex(s[end:], "inal answer is"); i >= 0 && !statement(s[end+i+len("inal answer"):], yield) {
				return
			}
			yield(candidate{text: boxed, from: "boxed"})
			return
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

// lastBoxed returns the content of the last \boxed or \fbox, joined with boxes just before it that belong to the same
// answer: \boxed{1} and \boxed{2}.
func lastBoxed(s string) (content string, boxEnd int, ok bool) {
	end := len(s)
	var parts []string
	start := -1 // of the box that follows
	cut := false
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
		if !closed && start >= 0 {
			break
		}
		if !closed && !cut {
			// a box that was cut off gives way to a complete one before it
			if j, _ := boxBefore(s[:i]); j >= 0 {
				cut, end = true, i
				continue
			}
		}
		content = strings.TrimSpace(content)
		if start >= 0 {
			if !sameAnswer(s[after:start]) {
				break
			}
			if content == parts[len(parts)-1] {
				start, end = i, i
				continue
			}
		} else {
			content += percentAfter(s[after:])
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

// sameAnswer decides whether two boxes with this text between them are parts of one answer.
func sameAnswer(between string) bool {
	if len(between) >= 70 {
		return false
	}
	if strings.Contains(between, ". ") || strings.Contains(between, ".\n") || strings.Contains(between, "\n\n") ||
		strings.Contains(between, ".$") && len(between) > 12 {
		return false
	}
	if len(between) < 10 {
		return true
	}
	low := strings.ToLower(between)
	for _, w := range [...]string{"answer", "therefore", "thus", "hence", "so ", "wait", "="} {
		if strings.Contains(low, w) && !(w == "=" && strings.Contains(low, "and")) {
			return false
		}
	}
	return strings.ContainsAny(between, ",;") || hasWord(low, "and") || hasWord(low, "or")
}

func hasWord(s, w string) bool {
	for i := 0; ; {
		k := strings.Index(s[i:], w)
		if k < 0 {
			return false
		}
		a, b := i+k, i+k+len(w)
		if (a == 0 || !letter(s[a-1])) && (b == len(s) || !letter(s[b])) {
			return true
		}
		i = b
	}
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

func words(s string) int {
	n := 0
	for _, f := range strings.Fields(s) {
		if letter(f[0]) && len(f) > 2 {
			n++
		}
	}
	return n
}

// anchored yields what stands after the last mentions of the word "answer"; like every yielding function it returns
// false when no more is wanted.
func anchored(s string, yield func(candidate) bool) bool {
	end := len(s)
	for tries := 0; tries < 3; tries++ {
		i := strings.LastIndex(s[:end], "nswer")
		if i < 0 {
			return true
		}
		end = i
		if i == 0 || s[i-1] != 'a' && s[i-1] != 'A' {
			continue
		}
		if !statement(s[i+len("nswer"):], yield) {
			return false
		}
	}
	return true
}

// statement reads what follows "answer": " is X.", ": X", " to the question is X".
func statement(rest string, yield func(candidate) bool) bool {
	rest = strings.TrimLeft(rest, "s")
	rest = strings.TrimLeft(rest, "*: \t\n\"")
	body := firstSentence(rest)
	if i := lastIs(body); i >= 0 {
		body = body[i:]
	}
	body = strings.TrimLeft(body, "*: \t\n\"")
	if t := strings.TrimSpace(body); t != "" && !yield(candidate{text: t, from: "answer", soft: true}) {
		return false
	}
	return lastMathematics(body, "answer", yield)
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
		case s[i] == 'i' && strings.HasPrefix(s[i:], "is") && boundary(s, i, i+2):
			best = i + 2
		case s[i] == 'a' && strings.HasPrefix(s[i:], "are") && boundary(s, i, i+3):
			best = i + 3
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
			if display <= 0 && (i+1 == len(s) || s[i+1] == ' ' || s[i+1] == '\n' || s[i+1] == '<' || s[i+1] == '*') {
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
		}
		if !yield(c) {
			return false
		}
	}
	return true
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
		if start > 0 && (letter(s[start-1]) || s[start-1] == '_' || s[start-1] >= 0x80 && !currencyBefore(s[:start])) {
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
