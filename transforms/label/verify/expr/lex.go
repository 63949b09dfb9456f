package expr

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tEnd    tokenKind = iota
	tNumber           // digits, point, exponent
	tLetter           // one variable: a letter, or a Greek command's name
	tWord             // a run of letters in plain text that is no product of variables
	tCall             // a named function
	tText             // the content of \text{...}
	tOp               // one operator, bracket or separator; relations are spelt = != < <= > >= ~ in
	tBegin            // \begin{text}
	tFinish           // \end{text}
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

// words of plain text and the commands they mean
var wordFunctions = map[string]bool{
	"sin": true, "cos": true, "tan": true, "cot": true, "sec": true, "csc": true,
	"arcsin": true, "arccos": true, "arctan": true, "arccot": true, "asin": true, "acos": true, "atan": true,
	"sinh": true, "cosh": true, "tanh": true, "coth": true,
	"log": true, "ln": true, "lg": true, "exp": true, "sqrt": true, "cbrt": true, "abs": true,
	"max": true, "min": true, "gcd": true, "lcm": true, "det": true, "deg": true, "arg": true,
	"Re": true, "Im": true, "sgn": true, "sign": true, "binom": true, "floor": true, "ceil": true, "gamma": false,
	"cis": true, "arctg": true, "tg": true, "ctg": true,
}

var sameFunction = map[string]string{
	"asin": "arcsin", "acos": "arccos", "atan": "arctan", "arctg": "arctan", "tg": "tan", "ctg": "cot", "sign": "sgn",
	"lg": "lg",
}

// commands that stand for a token of their own
var commandTokens = map[string]token{
	"cdot": {kind: tOp, text: "*"}, "times": {kind: tOp, text: "*"}, "ast": {kind: tOp, text: "*"}, "star": {kind: tOp, text: "*"},
	"cross": {kind: tOp, text: "*"}, "bullet": {kind: tOp, text: "*"}, "div": {kind: tOp, text: "/"},
	"pm": {kind: tOp, text: "±"}, "mp": {kind: tOp, text: "∓"},
	"le": {kind: tOp, text: "<="}, "leq": {kind: tOp, text: "<="}, "leqslant": {kind: tOp, text: "<="}, "leqq": {kind: tOp, text: "<="},
	"ge": {kind: tOp, text: ">="}, "geq": {kind: tOp, text: ">="}, "geqslant": {kind: tOp, text: ">="}, "geqq": {kind: tOp, text: ">="},
	"lt": {kind: tOp, text: "<"}, "gt": {kind: tOp, text: ">"}, "ne": {kind: tOp, text: "!="}, "neq": {kind: tOp, text: "!="},
	"approx": {kind: tOp, text: "~"}, "simeq": {kind: tOp, text: "~"}, "thickapprox": {kind: tOp, text: "~"}, "sim": {kind: tOp, text: "~"}, "cong": {kind: tOp, text: "~"},
	"equiv": {kind: tOp, text: "="}, "triangleq": {kind: tOp, text: "="}, "coloneqq": {kind: tOp, text: "="},
	"in": {kind: tOp, text: "in"}, "notin": {kind: tOp, text: "notin"}, "subset": {kind: tOp, text: "subset"}, "subseteq": {kind: tOp, text: "subset"},
	"cup": {kind: tOp, text: "∪"}, "cap": {kind: tOp, text: "∩"}, "setminus": {kind: tOp, text: "∖"}, "backslash": {kind: tOp, text: "∖"},
	"bigcup": {kind: tOp, text: "∪"}, "bigcap": {kind: tOp, text: "∩"},
	"infty": {kind: tOp, text: "∞"}, "infinity": {kind: tOp, text: "∞"}, "degree": {kind: tOp, text: "°"}, "prime": {kind: tOp, text: "'"},
	"circ": {kind: tOp, text: "°"}, "emptyset": {kind: tOp, text: "∅"}, "varnothing": {kind: tOp, text: "∅"},
	"lvert": {kind: tOp, text: "|"}, "rvert": {kind: tOp, text: "|"}, "vert": {kind: tOp, text: "|"}, "mid": {kind: tOp, text: "|"},
	"lVert": {kind: tOp, text: "‖"}, "rVert": {kind: tOp, text: "‖"}, "Vert": {kind: tOp, text: "‖"},
	"lfloor": {kind: tOp, text: "⌊"}, "rfloor": {kind: tOp, text: "⌋"}, "lceil": {kind: tOp, text: "⌈"}, "rceil": {kind: tOp, text: "⌉"},
	"langle": {kind: tOp, text: "("}, "rangle": {kind: tOp, text: ")"}, "lbrace": {kind: tOp, text: "\\{"}, "rbrace": {kind: tOp, text: "\\}"},
	"lbrack": {kind: tOp, text: "["}, "rbrack": {kind: tOp, text: "]"}, "colon": {kind: tOp, text: ":"},
	"choose": {kind: tOp, text: "choose"}, "over": {kind: tOp, text: "over"},
	"bmod": {kind: tOp, text: "mod"}, "mod": {kind: tOp, text: "mod"}, "pmod": {kind: tOp, text: "pmod"},
	"land": {kind: tOp, text: ","}, "lor": {kind: tOp, text: ","}, "wedge": {kind: tOp, text: ","}, "vee": {kind: tOp, text: ","},
	"quad": {kind: tOp, text: "␣"}, "qquad": {kind: tOp, text: "␣"}, "newline": {kind: tOp, text: "\\\\"}, "cr": {kind: tOp, text: "\\\\"},
	"frac": {kind: tCall, text: "frac"}, "dfrac": {kind: tCall, text: "frac"}, "tfrac": {kind: tCall, text: "frac"}, "cfrac": {kind: tCall, text: "frac"},
	"binom": {kind: tCall, text: "binom"}, "dbinom": {kind: tCall, text: "binom"}, "tbinom": {kind: tCall, text: "binom"},
	"sqrt": {kind: tCall, text: "sqrt"}, "sum": {kind: tCall, text: "sum"}, "prod": {kind: tCall, text: "prod"},
	"int": {kind: tCall, text: "int"}, "iint": {kind: tCall, text: "int"}, "oint": {kind: tCall, text: "int"}, "lim": {kind: tCall, text: "lim"},
	"overline": {kind: tCall, text: "overline"}, "bar": {kind: tCall, text: "overline"},
	"Gamma": {kind: tCall, text: "gamma"}, "angle": {kind: tLetter, text: "∠"}, "triangle": {kind: tLetter, text: "△"},
	"ell": {kind: tLetter, text: "ℓ"}, "hbar": {kind: tLetter, text: "ħ"}, "imath": {kind: tLetter, text: "i"}, "jmath": {kind: tLetter, text: "j"},
	"pounds": {kind: tText, text: "£"}, "euro": {kind: tText, text: "€"}, "dots": {kind: tOp, text: "…"}, "ldots": {kind: tOp, text: "…"}, "cdots": {kind: tOp, text: "…"},
	"to": {kind: tOp, text: "→"}, "rightarrow": {kind: tOp, text: "→"}, "infin": {kind: tOp, text: "∞"}, "ldotp": {kind: tOp, text: "."},
	"mapsto": {kind: tOp, text: "→"}, "perp": {kind: tOp, text: "⟂"}, "parallel": {kind: tOp, text: "∥"},
	"operatorname": {kind: tCall, text: "operatorname"},
}

var greek = map[string]bool{
	"alpha": true, "beta": true, "gamma": true, "delta": true, "epsilon": true, "varepsilon": true, "zeta": true, "eta": true,
	"theta": true, "vartheta": true, "iota": true, "kappa": true, "lambda": true, "mu": true, "nu": true, "xi": true, "pi": true,
	"rho": true, "sigma": true, "tau": true, "upsilon": true, "phi": true, "varphi": true, "chi": true, "psi": true, "omega": true,
	"Delta": true, "Theta": true, "Lambda": true, "Xi": true, "Pi": true, "Sigma": true, "Phi": true, "Psi": true, "Omega": true,
}

// layout commands vanish; those marked 1 take their braced argument with them
var layout = map[string]int{
	"left": 0, "right": 0, "mleft": 0, "mright": 0, "middle": 0, "big": 0, "Big": 0, "bigg": 0, "Bigg": 0, "bigl": 0, "bigr": 0, "Bigl": 0, "Bigr": 0,
	"biggl": 0, "biggr": 0, "Biggl": 0, "Biggr": 0, "displaystyle": 0, "textstyle": 0, "scriptstyle": 0, "limits": 0, "nolimits": 0, "rm": 0, "bf": 0, "it": 0,
	"mathbf": 0, "mathit": 0, "mathbb": 0, "mathcal": 0, "mathfrak": 0, "mathsf": 0, "boldsymbol": 0, "bm": 0, "vec": 0, "hat": 0, "widehat": 0, "tilde": 0,
	"overrightarrow": 0, "overleftarrow": 0, "underline": 0, "mathring": 0, "dot": 0, "boxed": 0, "fbox": 0, "color": 1, "phantom": 1, "hspace": 1, "vspace": 1,
	"hline": 0, "noindent": 0, "centering": 0, "label": 1, "tag": 1, "thinspace": 0, "negthinspace": 0, "nonumber": 0, "bold": 0, "therefore": 0, "because": 0, "smash": 0,
	"underbrace": 0, "overbrace": 0, "mathop": 0, "mathrel": 0, "mathbin": 0, "mathord": 0, "par": 0, "Large": 0, "large": 0, "small": 0, "Longrightarrow": 0, "implies": 0, "Rightarrow": 0,
}

var textCommands = map[string]bool{
	"text": true, "textbf": true, "textit": true, "textrm": true, "textnormal": true, "textsf": true, "texttt": true, "textup": true, "mbox": true, "hbox": true, "mathrm": true, "mathtt": true, "emph": true,
}

var unicodeTokens = map[rune]token{
	'×': {kind: tOp, text: "*"}, '·': {kind: tOp, text: "*"}, '⋅': {kind: tOp, text: "*"}, '∗': {kind: tOp, text: "*"}, '÷': {kind: tOp, text: "/"}, '⁄': {kind: tOp, text: "/"}, '∕': {kind: tOp, text: "/"},
	'−': {kind: tOp, text: "-"}, '–': {kind: tOp, text: "-"}, '—': {kind: tOp, text: "-"}, '‐': {kind: tOp, text: "-"}, '±': {kind: tOp, text: "±"}, '∓': {kind: tOp, text: "∓"},
	'≤': {kind: tOp, text: "<="}, '⩽': {kind: tOp, text: "<="}, '≥': {kind: tOp, text: ">="}, '⩾': {kind: tOp, text: ">="}, '≠': {kind: tOp, text: "!="}, '≈': {kind: tOp, text: "~"}, '≡': {kind: tOp, text: "="}, '＝': {kind: tOp, text: "="},
	'∈': {kind: tOp, text: "in"}, '∉': {kind: tOp, text: "notin"}, '∪': {kind: tOp, text: "∪"}, '∩': {kind: tOp, text: "∩"}, '∖': {kind: tOp, text: "∖"},
	'∞': {kind: tOp, text: "∞"}, '°': {kind: tOp, text: "°"}, 'º': {kind: tOp, text: "°"}, '∅': {kind: tOp, text: "∅"}, '√': {kind: tCall, text: "sqrt"},
	'⌊': {kind: tOp, text: "⌊"}, '⌋': {kind: tOp, text: "⌋"}, '⌈': {kind: tOp, text: "⌈"}, '⌉': {kind: tOp, text: "⌉"}, '⟨': {kind: tOp, text: "("}, '⟩': {kind: tOp, text: ")"}, '‖': {kind: tOp, text: "‖"},
	'，': {kind: tOp, text: ","}, '；': {kind: tOp, text: ";"}, '：': {kind: tOp, text: ":"}, '（': {kind: tOp, text: "("}, '）': {kind: tOp, text: ")"}, '％': {kind: tOp, text: "%"},
	'′': {kind: tOp, text: "'"}, '’': {kind: tOp, text: "'"}, '…': {kind: tOp, text: "…"}, '∠': {kind: tLetter, text: "∠"}, '△': {kind: tLetter, text: "△"}, '→': {kind: tOp, text: "→"},
	'€': {kind: tText, text: "€"}, '£': {kind: tText, text: "£"}, '¥': {kind: tText, text: "¥"}, '₹': {kind: tText, text: "₹"}, '¢': {kind: tText, text: "cents"},
	'∑': {kind: tCall, text: "sum"}, '∏': {kind: tCall, text: "prod"}, '∫': {kind: tCall, text: "int"},
}

var superscripts = map[rune]rune{'⁰': '0', '¹': '1', '²': '2', '³': '3', '⁴': '4', '⁵': '5', '⁶': '6', '⁷': '7', '⁸': '8', '⁹': '9', '⁻': '-', 'ⁿ': 'n'}
var subscripts = map[rune]rune{'₀': '0', '₁': '1', '₂': '2', '₃': '3', '₄': '4', '₅': '5', '₆': '6', '₇': '7', '₈': '8', '₉': '9', 'ₙ': 'n'}
var vulgarFractions = map[rune][2]string{'½': {"1", "2"}, '⅓': {"1", "3"}, '⅔': {"2", "3"}, '¼': {"1", "4"}, '¾': {"3", "4"}, '⅕': {"1", "5"}, '⅖': {"2", "5"}, '⅗': {"3", "5"}, '⅘': {"4", "5"}, '⅙': {"1", "6"}, '⅚': {"5", "6"}, '⅛': {"1", "8"}, '⅜': {"3", "8"}, '⅝': {"5", "8"}, '⅞': {"7", "8"}}

var greekLetters = map[rune]string{'α': "alpha", 'β': "beta", 'γ': "gamma", 'δ': "delta", 'ε': "epsilon", 'θ': "theta", 'λ': "lambda", 'μ': "mu", 'π': "pi", 'ρ': "rho", 'σ': "sigma", 'τ': "tau", 'φ': "phi", 'ω': "omega", 'Δ': "Delta", 'Ω': "Omega"}

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
	s, i := l.src, l.pos
	var sb strings.Builder
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	head := s[l.pos:i]
	whole := head
	if n := len(head); n >= 1 && n <= 3 && head[0] != '0' {
		sb.WriteString(head)
		for {
			w, explicit := separator(s[i:])
			if w == 0 || !threeDigits(s[i+w:]) || !explicit && (!l.thousands || l.brackets > 0) {
				break
			}
			if !explicit {
				l.merged = true
			}
			sb.WriteString(s[i+w : i+w+3])
			i += w + 3
		}
		whole = sb.String()
	}
	text := whole
	if i+1 < len(s) && s[i] == '.' && isDigit(s[i+1]) {
		j := i + 1
		for j < len(s) && isDigit(s[j]) {
			j++
		}
		text += s[i:j]
		i = j
	} else if i < len(s) && s[i] == '.' && strings.HasPrefix(s[i:], ".\\overline") {
		text += "."
		i++
	} else if i < len(s) && s[i] == '.' && strings.HasPrefix(s[i:], ".\\bar") {
		text += "."
		i++
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		j := i + 1
		if j < len(s) && (s[j] == '-' || s[j] == '+') {
			j++
		}
		k := j
		for k < len(s) && isDigit(s[k]) {
			k++
		}
		if k > j && (k == len(s) || !isLetter(s[k])) {
			text += s[i:k]
			i = k
		}
	}
	l.pos = i
	l.emit(tNumber, text, space)
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
	case '$':
		// A dollar sign that is left inside an answer is currency or stray delimiters: neither changes the value.
		l.pos++
		return
	case '"', '`':
		l.pos++
		return
	case '(', '[':
		l.brackets++
	case ')', ']':
		l.brackets--
	}
	l.pos += n
	l.emit(tOp, op, space)
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
			if len(run) > len(w) && len(run) <= len(w)+2 && strings.HasPrefix(run, w) && strings.ContainsRune(")}]0123456789", rune(l.src[start-1])) {
				l.emit(tOp, ",", space)
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
	switch run {
	case "and", "or", "And", "Or", "AND", "OR":
		l.emit(tOp, ",", space)
		return
	case "pi", "Pi", "PI":
		l.emit(tLetter, "pi", space)
		return
	case "inf", "infty", "infinity", "Infinity", "Inf", "oo":
		l.emit(tOp, "∞", space)
		return
	case "percent", "pct", "percentage", "Percent", "percents":
		l.emit(tOp, "%", space)
		return
	case "degrees", "degree":
		l.emit(tOp, "°", space)
		return
	case "theta", "alpha", "beta", "lambda", "phi", "omega":
		l.emit(tLetter, run, space)
		return
	case "choose", "mod":
		l.emit(tOp, run, space)
		return
	case "union", "cup":
		l.emit(tOp, "∪", space)
		return
	}
	if wordFunctions[run] {
		if s, ok := sameFunction[run]; ok {
			run = s
		}
		l.emit(tCall, run, space)
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
	s := l.src
	i := l.pos + 1
	if i >= len(s) {
		l.pos = i
		return true
	}
	c := s[i]
	if !isLetter(c) {
		l.pos = i + 1
		switch c {
		case '\\':
			// A doubled backslash ends a row in a matrix and is an escaping accident before a command elsewhere.
			if l.matrices == 0 && i+1 < len(s) && (isLetter(s[i+1]) || strings.IndexByte("{}[]()%$,!;", s[i+1]) >= 0) {
				l.pos = i
				return true
			}
			if l.matrices > 0 {
				rest := s[i+1:]
				if name := leadingLetters(rest); name != "" && knownCommand(name) && len(name) > 1 {
					l.emit(tOp, "\\\\", space)
					l.pos = i // read the command next
					return false
				}
				l.emit(tOp, "\\\\", space)
				return false
			}
			return true
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
		case '$', ',', ';', ':', '!', ' ', '>', '&', '#', '\n', '_', '/':
			return true
		case '(', ')', '[', ']':
			if l.matrices == 0 {
				return true
			}
		}
		if l.matrices > 0 { // a row break that lost one of its two backslashes
			l.pos = i
			l.emit(tOp, "\\\\", space)
			return false
		}
		l.pos = i
		return true
	}
	name := leadingLetters(s[i:])
	if !knownCommand(name) {
		// "\tanx": the longest known command that it starts with, the rest are letters.
		cut := 0
		for j := min(len(name)-1, 16); j >= 2; j-- {
			if knownCommand(name[:j]) {
				cut = j
				break
			}
		}
		switch {
		case cut > 0:
			name = name[:cut]
		case l.matrices > 0:
			l.pos = i
			l.emit(tOp, "\\\\", space)
			return false
		}
	}
	if l.matrices > 0 && len(name) == 1 {
		l.pos = i
		l.emit(tOp, "\\\\", space)
		return false
	}
	l.pos = i + len(name)
	if args, ok := layout[name]; ok {
		if args > 0 {
			l.skipBraced()
		}
		if name == "left" || name == "right" {
			if l.pos < len(s) && s[l.pos] == '.' {
				l.pos++
			}
		}
		return true
	}
	if textCommands[name] {
		return l.textCommand(name, space)
	}
	if name == "begin" || name == "end" {
		env, ok := l.braced()
		if !ok {
			return true
		}
		env = strings.TrimSuffix(env, "*")
		if env == "array" && name == "begin" {
			l.skipBraced()
		}
		tabular := strings.HasSuffix(env, "matrix") || env == "array" || env == "cases"
		if name == "begin" {
			if tabular {
				l.matrices++
			}
			l.emit(tBegin, env, space)
		} else {
			if tabular {
				l.matrices--
			}
			l.emit(tFinish, env, space)
		}
		return false
	}
	if t, ok := commandTokens[name]; ok {
		switch t.text {
		case "(", "\\{", "[":
			l.brackets++
		case ")", "\\}", "]":
			l.brackets--
		}
		if t.text == "operatorname" {
			if arg, ok := l.braced(); ok {
				l.named(strings.TrimSpace(arg), space)
			}
			return false
		}
		l.emit(t.kind, t.text, space)
		return false
	}
	if greek[name] {
		l.emit(tLetter, strings.TrimPrefix(name, "var"), space)
		return false
	}
	if wordFunctions[name] {
		if s, ok := sameFunction[name]; ok {
			name = s
		}
		l.emit(tCall, name, space)
		return false
	}
	// An unknown command is a name of its own.
	l.emit(tLetter, "\\"+name, space)
	return false
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
	case wordFunctions[content]:
		l.named(content, space)
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
	low := strings.ToLower(strings.Trim(content, ", "))
	switch low {
	case "and", "or", "":
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
	if _, ok := layout[name]; ok {
		return true
	}
	return greek[name] || wordFunctions[name] || textCommands[name] || name == "begin" || name == "end"
}
