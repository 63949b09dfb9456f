package expr

import (
	"strings"
	"unicode/utf8"
)

// What commands, words and characters mean. The tables list what stands for one meaning beside it.

// meaning is a token and the names that stand for it, with spaces between.
type meaning struct {
	kind  tokenKind
	text  string
	names string
}

func byName(table []meaning) map[string]token {
	out := map[string]token{}
	for _, m := range table {
		for name := range strings.FieldsSeq(m.names) {
			out[name] = token{kind: m.kind, text: m.text}
		}
	}
	return out
}

func byRune(table []meaning) map[rune]token {
	out := map[rune]token{}
	for name, t := range byName(table) {
		r, _ := utf8.DecodeRuneInString(name)
		out[r] = t
	}
	return out
}

func set(names string) map[string]bool {
	out := map[string]bool{}
	for name := range strings.FieldsSeq(names) {
		out[name] = true
	}
	return out
}

// commandTokens are commands that stand for a token of their own.
var commandTokens = byName([]meaning{
	{tOp, "*", "cdot times ast star cross bullet"},
	{tOp, "÷", "div"},
	{tOp, "±", "pm"},
	{tOp, "∓", "mp"},
	{tOp, "<=", "le leq leqslant leqq"},
	{tOp, ">=", "ge geq geqslant geqq"},
	{tOp, "<", "lt"},
	{tOp, ">", "gt"},
	{tOp, "!=", "ne neq"},
	{tOp, "~", "approx simeq thickapprox approxeq"},
	{tOp, "∼", "sim"},
	{tOp, "≅", "cong"},
	{tOp, "∣", "mid"},
	{tOp, "∤", "nmid"},
	{tOp, "=", "triangleq coloneqq"},
	{tOp, "≡", "equiv"},
	{tOp, "in", "in"},
	{tOp, "notin", "notin"},
	{tOp, "subset", "subset subsetneq"},
	{tOp, "⊆", "subseteq"},
	{tOp, "∪", "cup bigcup"},
	{tOp, "∩", "cap bigcap"},
	{tOp, "∖", "setminus backslash"},
	{tOp, "∞", "infty infinity infin"},
	{tOp, "°", "degree circ"},
	{tOp, "'", "prime"},
	{tOp, "∅", "emptyset varnothing"},
	{tOp, "|", "lvert rvert vert"},
	{tOp, "‖", "lVert rVert Vert"},
	{tOp, "⌊", "lfloor"},
	{tOp, "⌋", "rfloor"},
	{tOp, "⌈", "lceil"},
	{tOp, "⌉", "rceil"},
	{tOp, "(", "langle"},
	{tOp, ")", "rangle"},
	{tOp, "\\{", "lbrace"},
	{tOp, "\\}", "rbrace"},
	{tOp, "[", "lbrack"},
	{tOp, "]", "rbrack"},
	{tOp, ":", "colon"},
	{tOp, "choose", "choose"},
	{tOp, "over", "over"},
	{tOp, "mod", "bmod mod"},
	{tOp, "pmod", "pmod"},
	{tOp, "∧", "land wedge"},
	{tOp, "∨", "lor vee"},
	{tOp, "␣", "quad qquad"},
	{tOp, "\\\\", "newline cr"},
	{tCall, "frac", "frac dfrac tfrac cfrac"},
	{tCall, "binom", "binom dbinom tbinom"},
	{tCall, "sqrt", "sqrt"},
	{tCall, "sum", "sum"},
	{tCall, "prod", "prod"},
	{tCall, "int", "int iint oint"},
	{tCall, "lim", "lim"},
	{tCall, "overline", "overline bar"},
	{tCall, "gamma", "Gamma"},
	{tLetter, "∠", "angle"},
	{tLetter, "△", "triangle"},
	{tLetter, "ℓ", "ell"},
	{tLetter, "ħ", "hbar"},
	{tLetter, "i", "imath"},
	{tLetter, "j", "jmath"},
	{tCurrency, "£", "pounds"},
	{tCurrency, "€", "euro"},
	{tOp, "…", "dots ldots cdots"},
	{tOp, "→", "to rightarrow mapsto longrightarrow"},
	{tOp, "←", "leftarrow gets longleftarrow"},
	{tOp, "↔", "leftrightarrow longleftrightarrow"},
	{tOp, "⇒", "Rightarrow implies Longrightarrow"},
	{tOp, "⇐", "Leftarrow impliedby Longleftarrow"},
	{tOp, "⇔", "Leftrightarrow iff Longleftrightarrow"},
	{tOp, "↑", "uparrow"},
	{tOp, "↓", "downarrow"},
	{tOp, ".", "ldotp"},
	{tOp, "⟂", "perp"},
	{tOp, "∥", "parallel"},
	{tCall, "operatorname", "operatorname"},
})

var unicodeTokens = byRune([]meaning{
	{tOp, "*", "× · ⋅ ∗"},
	{tOp, "/", "⁄ ∕"},
	{tOp, "÷", "÷"},
	{tOp, "-", "− – — ‐"},
	{tOp, "±", "±"},
	{tOp, "∓", "∓"},
	{tOp, "<=", "≤ ⩽"},
	{tOp, ">=", "≥ ⩾"},
	{tOp, "!=", "≠"},
	{tOp, "~", "≈"},
	{tOp, "=", "＝"},
	{tOp, "≡", "≡"},
	{tOp, "∼", "∼ ∽"},
	{tOp, "≅", "≅ ≌"},
	{tOp, "∣", "∣"},
	{tOp, "∤", "∤"},
	{tOp, "∧", "∧"},
	{tOp, "∨", "∨"},
	{tOp, "in", "∈"},
	{tOp, "notin", "∉"},
	{tOp, "∪", "∪"},
	{tOp, "∩", "∩"},
	{tOp, "∖", "∖"},
	{tOp, "∞", "∞"},
	{tOp, "°", "° º"},
	{tOp, "∅", "∅"},
	{tCall, "√", "√"},
	{tOp, "⌊", "⌊"},
	{tOp, "⌋", "⌋"},
	{tOp, "⌈", "⌈"},
	{tOp, "⌉", "⌉"},
	{tOp, "(", "⟨ （"},
	{tOp, ")", "⟩ ）"},
	{tOp, "‖", "‖"},
	{tOp, ",", "， 、"},
	{tOp, ";", "；"},
	{tOp, ":", "："},
	{tOp, "%", "％"},
	{tOp, "'", "′ ’"},
	{tOp, "…", "…"},
	{tLetter, "∠", "∠"},
	{tLetter, "△", "△"},
	{tOp, "→", "→"},
	{tOp, "←", "←"},
	{tOp, "↔", "↔"},
	{tOp, "⇒", "⇒"},
	{tOp, "⇐", "⇐"},
	{tOp, "⇔", "⇔"},
	{tOp, "↑", "↑"},
	{tOp, "↓", "↓"},
	{tCurrency, "€", "€"},
	{tCurrency, "£", "£"},
	{tCurrency, "¥", "¥ ￥"},
	{tCurrency, "₹", "₹"},
	{tText, "cents", "¢"},
	{tCall, "sum", "∑"},
	{tCall, "prod", "∏"},
	{tCall, "int", "∫"},
})

// wordTokens are words of plain text that stand for a token of their own.
var wordTokens = byName([]meaning{
	{tOp, "and", "and And AND"},
	{tOp, "or", "or Or OR"},
	{tLetter, "pi", "pi Pi PI"},
	{tLetter, "theta", "theta"}, {tLetter, "alpha", "alpha"}, {tLetter, "beta", "beta"},
	{tLetter, "lambda", "lambda"}, {tLetter, "phi", "phi"}, {tLetter, "omega", "omega"},
	{tOp, "∞", "inf infty infinity Infinity Inf oo"},
	{tOp, "%", "percent pct percentage Percent percents"},
	{tOp, "°", "degrees degree"},
	{tOp, "∪", "union cup"},
	{tOp, "choose", "choose"},
	{tOp, "mod", "mod"},
})

var comparisons = set("= < > <= >=")

// wordFunctions are functions as words of plain text and as commands.
var wordFunctions = set("sin cos tan cot sec csc arcsin arccos arctan arccot asin acos atan sinh cosh tanh coth log ln lg exp sqrt cbrt " +
	"abs max min gcd lcm det deg arg Re Im sgn sign binom floor ceil cis arctg tg ctg")

// sameFunction has the one name of a function that has several.
var sameFunction = map[string]string{
	"asin": "arcsin", "acos": "arccos", "atan": "arctan", "arctg": "arctan", "tg": "tan", "ctg": "cot", "sign": "sgn",
}

var greek = set("alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho sigma tau " +
	"upsilon phi varphi chi psi omega Delta Theta Lambda Xi Pi Sigma Phi Psi Omega")

// layout commands vanish; those of layoutWithArgument take their braced argument with them.
var (
	layout = set("left right mleft mright middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle " +
		"textstyle scriptstyle limits nolimits rm bf it mathbf mathit mathbb mathcal mathfrak mathsf boldsymbol bm vec " +
		"hat widehat tilde overrightarrow overleftarrow underline mathring dot boxed fbox hline noindent centering " +
		"thinspace negthinspace nonumber bold therefore because smash underbrace overbrace mathop mathrel mathbin " +
		"mathord par Large large small")
	layoutWithArgument = set("color phantom hspace vspace label tag")
)

// accents are layout over a letter, which they are part of the name of; a number has no such name.
var accents = set("hat widehat tilde vec dot mathring overrightarrow overleftarrow")

var textCommands = set("text textbf textit textrm textnormal textsf texttt textup mbox hbox mathrm mathtt emph")

var superscripts = map[rune]rune{'⁰': '0', '¹': '1', '²': '2', '³': '3', '⁴': '4', '⁵': '5', '⁶': '6', '⁷': '7', '⁸': '8', '⁹': '9',
	'⁻': '-', 'ⁿ': 'n'}

var subscripts = map[rune]rune{'₀': '0', '₁': '1', '₂': '2', '₃': '3', '₄': '4', '₅': '5', '₆': '6', '₇': '7', '₈': '8', '₉': '9', 'ₙ': 'n'}

var vulgarFractions = map[rune][2]string{
	'½': {"1", "2"}, '⅓': {"1", "3"}, '⅔': {"2", "3"}, '¼': {"1", "4"}, '¾': {"3", "4"}, '⅕': {"1", "5"}, '⅖': {"2", "5"},
	'⅗': {"3", "5"}, '⅘': {"4", "5"}, '⅙': {"1", "6"}, '⅚': {"5", "6"}, '⅛': {"1", "8"}, '⅜': {"3", "8"}, '⅝': {"5", "8"},
	'⅞': {"7", "8"},
}

var greekLetters = map[rune]string{
	'α': "alpha", 'β': "beta", 'γ': "gamma", 'δ': "delta", 'ε': "epsilon", 'θ': "theta", 'λ': "lambda", 'μ': "mu",
	'π': "pi", 'ρ': "rho", 'σ': "sigma", 'τ': "tau", 'φ': "phi", 'ω': "omega", 'Δ': "Delta", 'Ω': "Omega",
}
