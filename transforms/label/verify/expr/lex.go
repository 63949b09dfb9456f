package expr

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tEnd      tokenKind = iota
	tNumber             // digits, point, exponent
	tLetter             // one variable: a letter, or a Greek command's name
	tWord               // a run of letters in plain text that is no product of variables
	tCall               // a named function
	tText               // the content of \text{...}
	tOp                 // one operator, bracket or separator; relations are spelt = != < <= > >= ~ in
	tBegin              // \begin{text}
	tFinish             // \end{text}
	tCurrency           // the sign of a currency before an amount
)

type token struct {
	kind  tokenKind
	text  string
	space bool // white space stood before it
}

// lexer turns LaTeX or plain mathematics into tokens. Layout commands vanish, synonyms become one spelling.
type lexer struct {
	src       string
	pos       int
	b         *budget
	out       []token
	brackets  int  // nesting of ( [ \{, where 1,234 is two elements
	matrices  int  // nesting of \begin{..matrix}, where a stray backslash ends a row
	thousands bool // 1,234 is one number
	merged    bool // a comma was read as a thousands separator
}

func (l *lexer) emit(k tokenKind, text string, space bool) {
	l.b.spend(8)
	l.out = append(l.out, token{k, text, space})
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// run reads the whole source.
func (l *lexer) run() []token {
	l.out = make([]token, 0, len(l.src)/2+4)
	space := false
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		switch {
		case c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '~' && !strings.HasPrefix(l.src[l.pos:], "~="):
			l.pos++
			space = true
			continue
		case isDigit(c), c == '.' && l.pos+1 < len(l.src) && isDigit(l.src[l.pos+1]):
			l.number(space)
		case strings.HasPrefix(l.src[l.pos:], "\\ "):
			l.pos += 2
			space = true
			continue
		case c == '\\':
			if l.command(space) {
				continue // layout: leaves space as it was
			}
		case isLetter(c):
			l.letters(space)
		case c >= utf8.RuneSelf:
			l.unicode(space)
		default:
			l.ascii(c, space)
		}
		space = false
	}
	return l.out
}

// number reads digits with separators of thousands, a fraction part and an exponent.
func (l *lexer) number(space bool) {
	s := l.src
	i := afterDigits(s, l.pos)
	text := s[l.pos:i]
	if n := len(text); n >= 1 && n <= 3 && text[0] != '0' {
		text, i = l.groups(text, i)
	}
	switch {
	case i+1 < len(s) && s[i] == '.' && isDigit(s[i+1]):
		j := afterDigits(s, i+1)
		text += s[i:j]
		i = j
	case strings.HasPrefix(s[i:], ".\\overline"), strings.HasPrefix(s[i:], ".\\bar"):
		text += "."
		i++
	case strings.HasPrefix(s[i:], ".("): // 0.(3)
		if j := afterDigits(s, i+2); j > i+2 && j < len(s) && s[j] == ')' {
			l.emit(tNumber, text+".", space)
			l.emit(tCall, "overline", false)
			l.emit(tNumber, s[i+2:j], false)
			l.pos = j + 1
			return
		}
	case strings.HasPrefix(s[i:], "{,}"): // 1{,}5, whose comma is no separator of thousands
		if j := afterDigits(s, i+3); j > i+3 && j-i-3 != 3 {
			text += "." + s[i+3:j]
			i = j
		}
	}
	if i == len(s) || s[i] != '.' && s[i] != '\\' && s[i] != 0xE2 {
		// no dots
	} else if period := recurringDigits(text, s[i:]); period > 0 {
		l.emit(tNumber, text[:len(text)-period], space)
		l.emit(tCall, "overline", false)
		l.emit(tNumber, text[len(text)-period:], false)
		l.pos = i + ellipsis(s[i:])
		return
	} else if n := ellipsis(s[i:]); n > 0 && strings.Contains(text, ".") { // 3.14159...
		l.pos = i + n
		l.emit(tNumber, text, space)
		l.emit(tOp, furtherDigits, false)
		return
	}
	if k := afterExponent(s, i); k > i {
		text += s[i:k]
		i = k
	}
	l.pos = i
	l.emit(tNumber, text, space)
}

// groups appends the groups of three digits that separators of thousands set apart.
func (l *lexer) groups(head string, i int) (text string, end int) {
	var sb strings.Builder
	sb.WriteString(head)
	for {
		w, explicit := separator(l.src[i:])
		if w == 0 || !threeDigits(l.src[i+w:]) || !explicit && (!l.thousands || l.brackets > 0) {
			return sb.String(), i
		}
		if !explicit {
			l.merged = true
		}
		sb.WriteString(l.src[i+w : i+w+3])
		i += w + 3
	}
}

// furtherDigits follows a decimal that ends in dots.
const furtherDigits = "digits…"

// ellipsis is the length of the dots that s starts with, which say that something goes on.
func ellipsis(s string) int {
	if s == "" || s[0] != '.' && s[0] != '\\' && s[0] != 0xE2 {
		return 0
	}
	for _, e := range [...]string{"...", "…", "\\ldots", "\\dots", "\\cdots"} {
		if strings.HasPrefix(s, e) {
			return len(e)
		}
	}
	return 0
}

// recurringDigits is how many of a decimal's last digits recur, where what follows it are dots: one in 0.333..., two in 0.1818...
func recurringDigits(text, rest string) int {
	if ellipsis(rest) == 0 {
		return 0
	}
	point := strings.IndexByte(text, '.')
	if point < 0 || len(text) > 60 || strings.ContainsAny(text, "eE") {
		return 0
	}
	for n := 1; n <= 6; n++ {
		times := 2
		if n == 1 {
			times = 3
		}
		if len(text)-point-1 < n*times {
			continue
		}
		period := text[len(text)-n:]
		if strings.HasSuffix(text, strings.Repeat(period, times)) {
			return n
		}
	}
	return 0
}

func afterDigits(s string, i int) int {
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}

// afterExponent is where an exponent at i ends, which no letter may follow; i when there is none.
func afterExponent(s string, i int) int {
	if i >= len(s) || s[i] != 'e' && s[i] != 'E' {
		return i
	}
	j := i + 1
	if j < len(s) && (s[j] == '-' || s[j] == '+') {
		j++
	}
	if k := afterDigits(s, j); k > j && (k == len(s) || !isLetter(s[k])) {
		return k
	}
	return i
}

// separator returns the length of a thousands separator at the start of s and whether it can be nothing else.
func separator(s string) (n int, explicit bool) {
	switch {
	case strings.HasPrefix(s, "{,}\\!"):
		return 5, true
	case strings.HasPrefix(s, "{,}"):
		return 3, true
	case strings.HasPrefix(s, ",\\!"):
		n := 3
		for n < len(s) && s[n] == ' ' {
			n++
		}
		return n, true
	case strings.HasPrefix(s, ","):
		return 1, false
	case strings.HasPrefix(s, "\\,"):
		return 2, true
	case strings.HasPrefix(s, "\\ "):
		return 2, true
	case strings.HasPrefix(s, "\u202f"), strings.HasPrefix(s, "\u2009"):
		return 3, true
	case strings.HasPrefix(s, "\u00a0"):
		return 2, true
	case strings.HasPrefix(s, "{ , }"):
		return 5, true
	case strings.HasPrefix(s, " {, }"), strings.HasPrefix(s, " { ,}"):
		return 5, true
	case strings.HasPrefix(s, "{, }"), strings.HasPrefix(s, "{ ,}"), strings.HasPrefix(s, " {,}"):
		return 4, true
	case strings.HasPrefix(s, " "):
		return 1, true
	}
	return 0, false
}

func threeDigits(s string) bool {
	return len(s) >= 3 && isDigit(s[0]) && isDigit(s[1]) && isDigit(s[2]) && (len(s) == 3 || !isDigit(s[3]))
}

func (l *lexer) ascii(c byte, space bool) {
	s := l.src[l.pos:]
	op, n := string(c), 1
	switch c {
	case '<':
		if strings.HasPrefix(s, "<=") {
			op, n = "<=", 2
		}
	case '>':
		if strings.HasPrefix(s, ">=") {
			op, n = ">=", 2
		}
	case '!':
		if strings.HasPrefix(s, "!=") && !strings.HasPrefix(s, "!==") {
			op, n = "!=", 2
		}
	case '=':
		if strings.HasPrefix(s, "==") {
			op, n = "=", 2
		} else if strings.HasPrefix(s, "=<") {
			op, n = "<=", 2
		} else if strings.HasPrefix(s, "=>") {
			op, n = ">=", 2
		}
	case '~':
		op, n = "~", 2
	case '*':
		if strings.HasPrefix(s, "**") {
			op, n = "^", 2
		}
	case '.':
		if n := ellipsis(s); n > 0 {
			l.pos += n
			l.emit(tOp, "…", space)
			return
		}
	case '$':
		// before an amount and nothing else it is money, elsewhere a stray delimiter
		l.pos++
		if amount(s[1:]) && strings.Trim(l.src[:l.pos-1], " -(") == "" {
			l.emit(tCurrency, "$", space)
		}
		return
	case '"', '`':
		l.pos++
		if k := len(l.out); c == '"' && k > 2 && l.out[k-1].kind == tNumber && l.out[k-2].text == "'" { // 5'6"
			l.emit(tOp, "'", false)
			l.emit(tOp, "'", false)
		}
		return
	case '(', '[':
		l.brackets++
	case ')', ']':
		l.brackets--
	}
	l.pos += n
	l.emit(tOp, op, space)
}

// amount reports a number that nothing but words follow.
func amount(s string) bool {
	s = strings.TrimLeft(s, " -")
	if s == "" || !isDigit(s[0]) && s[0] != '.' {
		return false
	}
	s = strings.TrimLeft(s, "0123456789.,{}!\\ ")
	for i := 0; i < len(s); i++ {
		if !isLetter(s[i]) && s[i] != ' ' && s[i] != '.' {
			return false
		}
	}
	return true
}

func (l *lexer) unicode(space bool) {
	r, n := utf8.DecodeRuneInString(l.src[l.pos:])
	l.pos += n
	if t, ok := unicodeTokens[r]; ok {
		switch t.text {
		case "(":
			l.brackets++
		case ")":
			l.brackets--
		}
		l.emit(t.kind, t.text, space)
		return
	}
	if f, ok := vulgarFractions[r]; ok {
		l.emit(tCall, "frac", space)
		l.emit(tNumber, f[0], false)
		l.emit(tNumber, f[1], false)
		return
	}
	if _, ok := superscripts[r]; ok {
		l.script("^", superscripts, r)
		return
	}
	if _, ok := subscripts[r]; ok {
		l.script("_", subscripts, r)
		return
	}
	if name, ok := greekLetters[r]; ok {
		l.emit(tLetter, name, space)
		return
	}
	switch {
	case unicode.IsSpace(r) || r == '\u200b' || r == '\ufeff':
		return
	case unicode.IsLetter(r):
		start := l.pos - n
		for l.pos < len(l.src) {
			r, n := utf8.DecodeRuneInString(l.src[l.pos:])
			if !unicode.IsLetter(r) {
				break
			}
			l.pos += n
		}
		l.emit(tWord, l.src[start:l.pos], space)
	default:
		l.emit(tOp, string(r), space)
	}
}

// script writes a run of raised or lowered characters as ^{...} or _{...}.
func (l *lexer) script(op string, table map[rune]rune, r rune) {
	l.emit(tOp, op, false)
	l.emit(tOp, "{", false)
	digits := ""
	for {
		switch c := table[r]; {
		case c >= '0' && c <= '9':
			digits += string(c)
		case c == '-':
			l.emit(tOp, "-", false)
		default:
			l.emit(tLetter, string(c), false)
		}
		next, n := utf8.DecodeRuneInString(l.src[l.pos:])
		if _, ok := table[next]; !ok || l.pos >= len(l.src) {
			break
		}
		r = next
		l.pos += n
	}
	if digits != "" {
		l.emit(tNumber, digits, false)
	}
	l.emit(tOp, "}", false)
}

// letters reads a run of plain letters: a function, a word, or a product of variables.
func (l *lexer) letters(space bool) {
	start := l.pos
	for l.pos < len(l.src) && isLetter(l.src[l.pos]) {
		l.pos++
	}
	run := l.src[start:l.pos]
	if start > 0 && !isLetter(l.src[start-1]) && l.src[start-1] != ' ' { // "7or11", "x)orW"
		for _, w := range [...]string{"or", "and"} {
			if len(run) > len(w) && len(run) <= len(w)+2 && strings.HasPrefix(run, w) &&
				strings.IndexByte(")}]0123456789", l.src[start-1]) >= 0 {
				l.emit(tOp, w, space)
				l.pos = start + len(w)
				return
			}
		}
	}
	if len(run) == 1 {
		l.emit(tLetter, run, space)
		return
	}
	l.word(run, space)
}

func (l *lexer) word(run string, space bool) {
	if t, ok := wordTokens[run]; ok {
		l.emit(t.kind, t.text, space)
		return
	}
	if timeWords[run] && l.afterNumber() && l.endsUnit() { // "20 min", "2 min 5 sec"
		l.emit(tWord, run, space)
		return
	}
	if currencyWords[run] != "" && startsAmount(l.src[l.pos:]) { // "Rs. 500"
		l.pos += len(l.src[l.pos:]) - len(strings.TrimPrefix(l.src[l.pos:], "."))
		l.emit(tCurrency, currencyWords[run], space)
		return
	}
	if run == "sqrt" {
		l.emit(tCall, "√", space)
		return
	}
	if wordFunctions[run] {
		l.named(run, space)
		return
	}
	// "sinx", "xsin", "tanx": a known name with single variables around it.
	for _, name := range [...]string{"arcsin", "arccos", "arctan", "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "ln"} {
		if i := strings.Index(run, name); i >= 0 && len(run) <= len(name)+2 && i <= 1 {
			if i > 0 {
				l.emit(tLetter, run[:i], space)
			}
			l.emit(tCall, name, false)
			for _, c := range run[i+len(name):] {
				l.emit(tLetter, string(c), false)
			}
			return
		}
	}
	l.emit(tWord, run, space)
}

// command reads a backslash; it returns true when nothing but layout was read.
func (l *lexer) command(space bool) bool {
	start := l.pos + 1
	if start >= len(l.src) {
		l.pos = start
		return true
	}
	if !isLetter(l.src[start]) {
		return l.escaped(l.src[start], space)
	}
	name := commandName(l.src[start:], l.matrices > 0)
	if name == "" {
		l.pos = start
		l.emit(tOp, "\\\\", space)
		return false
	}
	l.pos = start + len(name)
	switch {
	case name == "not":
		return l.negated(space)
	case accents[name] && l.beforeNumber():
		l.emit(tLetter, "\\"+name, space) // a mark on a number makes it another thing
		return false
	case layoutWithArgument[name]:
		l.skipBraced()
		return true
	case layout[name]:
		if (name == "left" || name == "right") && l.pos < len(l.src) && l.src[l.pos] == '.' {
			l.pos++
		}
		return true
	case textCommands[name]:
		return l.textCommand(name, space)
	case name == "begin" || name == "end":
		return l.environment(name, space)
	case greek[name]:
		l.emit(tLetter, strings.TrimPrefix(name, "var"), space)
		return false
	}
	if t, ok := commandTokens[name]; ok {
		l.meant(t, space)
		return false
	}
	if wordFunctions[name] {
		l.named(name, space)
		return false
	}
	// An unknown command is a name of its own.
	l.emit(tLetter, "\\"+name, space)
	return false
}

// commandName is the name of the command that s begins with: of an unknown one, as "\tanx", the longest known command that
// it starts with, the rest are letters. It is empty for what in a matrix is a row break that lost one of its two backslashes.
func commandName(s string, inMatrix bool) string {
	name := leadingLetters(s)
	if !knownCommand(name) {
		cut := 0
		for j := min(len(name)-1, 16); j >= max(2, len(name)-2) && cut == 0; j-- {
			if knownCommand(name[:j]) && !layout[name[:j]] {
				cut = j
			}
		}
		switch {
		case cut > 0:
			name = name[:cut]
		case inMatrix:
			return ""
		}
	}
	if inMatrix && len(name) == 1 {
		return ""
	}
	return name
}

// escaped reads a backslash before something else than a letter, as command does.
func (l *lexer) escaped(c byte, space bool) bool {
	s, i := l.src, l.pos+1
	l.pos = i + 1
	switch c {
	case '\\':
		// A doubled backslash ends a row in a matrix and is an escaping accident before a command elsewhere.
		if l.matrices == 0 {
			if i+1 < len(s) && (isLetter(s[i+1]) || strings.IndexByte("{}[]()%$,!;", s[i+1]) >= 0) {
				l.pos = i
			}
			return true
		}
		if name := leadingLetters(s[i+1:]); len(name) > 1 && knownCommand(name) {
			l.pos = i // read the command next
		}
		l.emit(tOp, "\\\\", space)
		return false
	case '{', '}':
		if c == '{' {
			l.brackets++
		} else {
			l.brackets--
		}
		l.emit(tOp, "\\"+string(c), space)
		return false
	case '%':
		l.emit(tOp, "%", space)
		return false
	case '|':
		l.emit(tOp, "‖", space)
		return false
	case '$':
		if startsAmount(s[i+1:]) {
			l.emit(tCurrency, "$", space)
			return false
		}
		return true
	case ',', ';', ':', '!', ' ', '>', '&', '#', '\n', '_', '/':
		return true
	case '(', ')', '[', ']':
		if l.matrices == 0 {
			return true
		}
	}
	l.pos = i
	if l.matrices > 0 { // a row break that lost one of its two backslashes
		l.emit(tOp, "\\\\", space)
		return false
	}
	return true
}

// environment reads what follows \begin or \end, as command does.
func (l *lexer) environment(name string, space bool) bool {
	env, ok := l.braced()
	if !ok {
		return true
	}
	env = strings.TrimSuffix(env, "*")
	tabular := strings.HasSuffix(env, "matrix") || env == "array" || env == "cases"
	if name == "end" {
		if tabular {
			l.matrices--
		}
		l.emit(tFinish, env, space)
		return false
	}
	if env == "array" {
		l.skipBraced()
	}
	if tabular {
		l.matrices++
	}
	l.emit(tBegin, env, space)
	return false
}

// meant emits what a command stands for.
func (l *lexer) meant(t token, space bool) {
	switch t.text {
	case "(", "\\{", "[":
		l.brackets++
	case ")", "\\}", "]":
		l.brackets--
	case "operatorname":
		if arg, ok := l.braced(); ok && !l.signs(arg) {
			l.named(strings.TrimSpace(arg), space)
		}
		return
	}
	l.emit(t.kind, t.text, space)
}

// named emits a function name, or text where the name is no function.
func (l *lexer) named(name string, space bool) {
	if wordFunctions[name] {
		if s, ok := sameFunction[name]; ok {
			name = s
		}
		l.emit(tCall, name, space)
		return
	}
	l.emit(tText, name, space)
}

// textCommand reads \text{...}: words, or what is mathematics in text clothes (\mathrm{e}, \text{and}, \mathrm{sin}).
func (l *lexer) textCommand(name string, space bool) bool {
	content, ok := l.braced()
	if !ok {
		// \mathrm x, or \text at the end
		return true
	}
	content = strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(content, "$", " "), "~", " "))
	content = strings.TrimRight(content, "\\ ")
	switch {
	case content == "":
		return true
	case len(content) == 1 && isLetter(content[0]):
		if name == "mathrm" || content == "e" || content == "i" {
			l.emit(tLetter, content, space)
		} else {
			l.emit(tText, content, space)
		}
		return false
	case timeWords[content] && l.afterNumber() && l.endsUnit():
		l.emit(tText, content, space)
		return false
	case wordFunctions[content]:
		l.named(content, space)
		return false
	case currencyWords[strings.TrimSuffix(content, ".")] != "" && startsAmount(l.src[l.pos:]):
		l.emit(tCurrency, currencyWords[strings.TrimSuffix(content, ".")], space)
		return false
	case content == "£" || content == "€" || content == "¥" || content == "₹" || content == "\\$" || content == "$":
		l.emit(tCurrency, strings.TrimPrefix(content, "\\"), space)
		return false
	case strings.HasPrefix(content, "\\"):
		inner := &lexer{src: content, b: l.b}
		inner.brackets = 1
		l.out = append(l.out, inner.run()...)
		return false
	}
	if isDigit(content[0]) && strings.Trim(content, "0123456789.,") == "" { // \text{13} is a number in text clothes
		inner := &lexer{src: content, b: l.b, thousands: l.thousands}
		l.out = append(l.out, inner.run()...)
		return false
	}
	if l.signs(content) {
		return false
	}
	if startsWithValue(content) { // \text{5 apples}
		inner := &lexer{src: content, b: l.b, thousands: l.thousands}
		l.out = append(l.out, inner.run()...)
		return false
	}
	low := strings.ToLower(strings.Trim(content, ", "))
	switch low {
	case "and", "or":
		l.emit(tOp, low, space)
		return false
	case "":
		l.emit(tOp, ",", space)
		return false
	case "percent", "pct", "percentage", "%":
		l.emit(tOp, "%", space)
		return false
	case "degrees", "degree", "°", "deg":
		l.emit(tOp, "°", space)
		return false
	case "pi":
		l.emit(tLetter, "pi", space)
		return false
	case "infinity":
		l.emit(tOp, "∞", space)
		return false
	}
	l.emit(tText, content, space)
	return false
}

// signs reads what is mathematics in text clothes though no word is in it: \text{-}45, \operatorname{-}, 45\text{!}, \text{1/}45. It
// reports whether it was.
func (l *lexer) signs(content string) bool {
	if !strings.ContainsAny(content, "+-–—−*/÷×±^=≠<>≤≥!√%") || strings.ContainsFunc(content, unicode.IsLetter) {
		return false
	}
	dash := strings.NewReplacer("---", "-", "--", "-").Replace(content) // which in text are one sign, no minus of a minus
	inner := &lexer{src: dash, b: l.b, thousands: l.thousands}
	l.out = append(l.out, inner.run()...)
	return true
}

// negated reads what follows \not, as command does.
func (l *lexer) negated(space bool) bool {
	l.pos = len(l.src) - len(strings.TrimLeft(l.src[l.pos:], " "))
	for _, n := range [...]struct{ sign, denied string }{{"=", "!="}, {"\\in", "notin"}, {"\\mid", "∤"}} {
		if rest, ok := strings.CutPrefix(l.src[l.pos:], n.sign); ok && (n.sign == "=" || rest == "" || !isLetter(rest[0])) {
			l.pos += len(n.sign)
			l.emit(tOp, n.denied, space)
			return false
		}
	}
	l.emit(tText, "not", space)
	return false
}

// beforeNumber reports that a command's argument is a number, and that none ends before it: 0.\dot{3} is a decimal.
func (l *lexer) beforeNumber() bool {
	s := strings.TrimLeft(l.src[l.pos:], " {-")
	if s == "" || !isDigit(s[0]) {
		return false
	}
	before := l.src[:strings.LastIndexByte(l.src[:l.pos], '\\')]
	return before == "" || before[len(before)-1] != '.' && !isDigit(before[len(before)-1])
}

// startsWithValue reports words in which a number comes first and stands for itself: 5 apples, but not 3rd or 2-digit.
func startsWithValue(s string) bool {
	rest := strings.TrimLeft(s, "-+0123456789.,/")
	if len(rest) < 2 || rest[0] != ' ' || !isLetter(rest[1]) {
		return false
	}
	return strings.ContainsAny(s[:len(s)-len(rest)], "0123456789")
}

// timeWords are units that functions are called as well.
var timeWords = set("min sec")

// currencyWords are words and abbreviations before an amount.
var currencyWords = map[string]string{"Rs": "₹", "INR": "₹", "USD": "$", "US": "$", "EUR": "€", "GBP": "£", "RMB": "元",
	"CNY": "元", "JPY": "¥"}

// startsAmount reports that a number follows.
func startsAmount(s string) bool {
	s = strings.TrimLeft(s, " .-$\\~}")
	return s != "" && isDigit(s[0])
}

func (l *lexer) afterNumber() bool {
	return len(l.out) > 0 && (l.out[len(l.out)-1].kind == tNumber || l.out[len(l.out)-1].text == "}")
}

// endsUnit reports that nothing follows which a function could be applied to.
func (l *lexer) endsUnit() bool {
	s := strings.TrimLeft(l.src[l.pos:], " ~")
	if s == "" || strings.IndexByte(".,;)}]$!?/", s[0]) >= 0 || strings.HasPrefix(s, "and ") {
		return true
	}
	if isDigit(s[0]) {
		s = strings.TrimLeft(s, "0123456789 ~")
		return s != "" && (isLetter(s[0]) || strings.HasPrefix(s, "\\text"))
	}
	return strings.HasPrefix(s, "\\text")
}

// braced reads {...} and returns its content; the position is unchanged when there is none.
func (l *lexer) braced() (string, bool) {
	i := l.pos
	for i < len(l.src) && l.src[i] == ' ' {
		i++
	}
	if i >= len(l.src) || l.src[i] != '{' {
		return "", false
	}
	depth := 0
	for j := i; j < len(l.src); j++ {
		switch l.src[j] {
		case '{':
			depth++
		case '}':
			depth--
			if depth == 0 {
				l.pos = j + 1
				l.b.spend((j - i) / 4)
				return l.src[i+1 : j], true
			}
		}
	}
	content := l.src[i+1:]
	l.pos = len(l.src)
	l.b.spend(len(content) / 4)
	return content, true
}

func (l *lexer) skipBraced() { l.braced() }

func leadingLetters(s string) string {
	i := 0
	for i < len(s) && isLetter(s[i]) {
		i++
	}
	return s[:i]
}

func knownCommand(name string) bool {
	if _, ok := commandTokens[name]; ok {
		return true
	}
	return layout[name] || layoutWithArgument[name] || greek[name] || wordFunctions[name] || textCommands[name] ||
		name == "begin" || name == "end"
}
