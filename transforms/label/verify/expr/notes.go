package expr

import (
	"slices"
	"strings"
)

// A note is what an answer says in words beside its value: a name before it, a noun or a direction after it. Most words leave the value
// alone. Those that turn it round, order it or point somewhere do not, and names tell the values of a list apart.

// noted is n with words beside it.
func noted(n *Node, words string) *Node {
	words = strings.Join(strings.FieldsFunc(strings.ToLower(words), func(r rune) bool {
		return strings.ContainsRune(" \n\t.,;:!?_*\"\\()[]{}/-~", r)
	}), " ")
	if words == "" {
		return n
	}
	if n.said().note != "" {
		words = n.said().note + " " + words
	}
	return n.saying(func(b *beside) { b.note = words })
}

// pole is one of the ends of a scale on which words contradict each other. A strict one must be said on both sides once the reference
// answer says it.
type pole struct {
	scale, end string
	strict     bool
}

var poles = map[string]pole{}

func init() {
	add := func(scale string, strict bool, ends ...string) {
		for _, end := range ends {
			words := strings.Fields(end)
			for _, w := range words {
				poles[w] = pole{scale, words[0], strict}
			}
		}
	}
	add("side", true, "left leftward leftwards", "right rightward rightwards")
	add("compass", true, "north northward northern", "south southward southern", "east eastward eastern", "west westward western",
		"northeast", "northwest", "southeast", "southwest")
	add("height", true, "up upward upwards", "down downward downwards")
	add("change", true, "increase increased increases increasing rise rises gain gained grew", "decrease decreased decreases decreasing "+
		"fall falls drop dropped lost reduction")
	add("profit", true, "profit", "loss")
	add("amount", false, "more greater larger", "less fewer smaller")
	add("order", true, "before earlier ago", "after later")
	add("level", true, "above", "below under")
	add("turn", true, "clockwise", "counterclockwise anticlockwise")
	add("half", true, "am", "pm")
	add("parity", true, "odd", "even")
	add("sign", true, "positive", "negative")
	add("extreme", false, "maximum max", "minimum min")
	add("era", true, "bc bce", "ad ce")
	add("where", true, "inside", "outside")
	add("share", true, "won win wins", "lose loses")
	add("truth", true, "true", "false")
}

// turning are the words that make an answer another one; both sides must say the same of them.
var turning = set("not no never neither nor cannot cant isnt doesnt dont without except non than least most between but wrong incorrect " +
	"none if unless almost nearly anything other another besides excluding twice half double triple thrice squared cubed root square " +
	"factorial plus minus opposite reciprocal inverse multiples halves tenths hundredths thousandths hardly " +
	"sum product difference divided multiplied 不 没 没有 不是 至少 至多 大于 小于 以上 以下 不到 超过")

// owed are the words that make an answer another one where the reference answer does not say them: what is lost or missing, and what
// counts in another measure. Those with a sign before them stand for phrases; see phrases.
var owed = set("loss debt deficit shortfall beyond +short +pairs +approx +times")

// phrases after a value that make it another one, and the word that a note has for each.
var phrases = []struct{ words, note string }{{"short", "+short"}, {"pair", "+pairs"}, {"pairs", "+pairs"}, {"couple", "+pairs"},
	{"couples", "+pairs"}, {"or so", "+approx"}, {"give or take", "+approx"}, {"times larger", "+times"}, {"times greater", "+times"},
	{"times bigger", "+times"}, {"times more", "+times"}, {"times smaller", "+times"}, {"times less", "+times"}, {"times higher", "+times"},
	{"times longer", "+times"}}

// phrased puts the word for a phrase in its place.
func phrased(words string) string {
	low := strings.ToLower(words)
	for _, p := range phrases {
		if low == p.words || strings.HasPrefix(low, p.words+" ") && p.note != "+short" {
			return p.note + words[len(p.words):]
		}
	}
	return words
}

// notesAgree decides whether what is said beside two values may stand for one answer.
func notesAgree(gold, pred string) bool {
	if gold == pred {
		return true
	}
	if turns(gold) != turns(pred) {
		return false
	}
	for w := range strings.FieldsSeq(pred) {
		if owed[w] && !slices.Contains(strings.Fields(gold), w) {
			return false
		}
	}
	g, p := polesOf(gold), polesOf(pred)
	for scale, end := range g {
		other, said := p[scale]
		if said && other.end != end.end || !said && end.strict {
			return false
		}
	}
	return true
}

func turns(note string) string {
	var out []string
	for w := range strings.FieldsSeq(strings.ReplaceAll(strings.ReplaceAll(note, "'", ""), "’", "")) {
		if turning[w] {
			out = append(out, w)
		}
	}
	return strings.Join(out, " ")
}

// Qualifies reports words that keep the number beside them from being an answer by itself: not, less than, at least.
func Qualifies(words string) bool { return turns(strings.ToLower(words)) != "" }

func polesOf(note string) map[string]pole {
	var out map[string]pole
	for w := range strings.FieldsSeq(note) {
		if p, ok := poles[w]; ok {
			if out == nil {
				out = map[string]pole{}
			}
			if old, said := out[p.scale]; said && old.end != p.end {
				p.end = old.end + " " + p.end
			}
			out[p.scale] = p
		}
	}
	return out
}

// namesOf are the notes of a list's elements where each has one of its own, so that they tell its values apart.
func namesOf(ns []*Node) []string {
	if len(ns) < 2 {
		return nil
	}
	seen := map[string]bool{}
	out := make([]string, len(ns))
	for i, n := range ns {
		note := n.said().note
		if n.Kind == Quantity && note == "" {
			return nil
		}
		if note == "" || seen[note] {
			return nil
		}
		seen[note] = true
		out[i] = note
	}
	return out
}

// generalWords are of whatever is counted.
var generalWords = set("piece pieces pcs item items object objects thing things unit units element elements people persons total one " +
	"ones of in the all")

func general(note string) bool {
	for w := range strings.FieldsSeq(note) {
		if !generalWords[w] {
			return false
		}
	}
	return true
}

// sameThings compares what is counted: with no word in common, apples and oranges, it is another thing.
func sameThings(gold, pred string) bool {
	if general(gold) || general(pred) {
		return true
	}
	for a := range strings.FieldsSeq(gold) {
		for b := range strings.FieldsSeq(pred) {
			if n := min(len(a), len(b), 4); a[:n] == b[:n] {
				return true
			}
		}
	}
	return false
}

// sameName compares two names: one word more or an s at the end is no other name.
func sameName(a, b string) bool {
	if a == b {
		return true
	}
	short, long := strings.Fields(a), strings.Fields(b)
	if len(short) > len(long) {
		short, long = long, short
	}
	for _, w := range short {
		found := false
		for _, v := range long {
			found = found || strings.TrimSuffix(w, "s") == strings.TrimSuffix(v, "s")
		}
		if !found {
			return false
		}
	}
	return true
}

// bounds are phrases before a number that make it the bound of an inequality.
var bounds = []struct{ phrase, op string }{
	{"at least", ">="}, {"no less than", ">="}, {"not less than", ">="}, {"no fewer than", ">="}, {"minimum of", ">="},
	{"at most", "<="}, {"no more than", "<="}, {"not more than", "<="}, {"no greater than", "<="}, {"up to", "<="}, {"maximum of", "<="},
	{"less than", "<"}, {"fewer than", "<"}, {"smaller than", "<"}, {"more than", ">"}, {"greater than", ">"}, {"larger than", ">"},
	{"below", "<"}, {"under", "<"}, {"beyond", ">"}, {"over", ">"}, {"above", ">"}, {"exceeds", ">"}, {"exceeding", ">"},
	{"至少", ">="}, {"至多", "<="}, {"大于", ">"}, {"小于", "<"},
}

// bounded are phrases after a number that do the same.
var bounded = map[string]string{"or more": ">=", "or greater": ">=", "or above": ">=", "and above": ">=", "or higher": ">=",
	"or less": "<=", "or fewer": "<=", "or below": "<=", "and below": "<=", "or lower": "<="}

// boundOf reads a label that ends in such a phrase.
func boundOf(label string) (op string, ok bool) {
	label = strings.TrimSpace(strings.ToLower(label))
	for _, b := range bounds {
		if strings.HasSuffix(label, b.phrase) {
			return b.op, true
		}
	}
	return "", false
}

// labelled is a value with what stands before it in words.
func labelled(label string, n *Node) *Node {
	if op, ok := boundOf(label); ok && n.Kind != Relation {
		return &Node{Kind: Relation, Ops: []string{op}, Args: []*Node{unnamed(), n}}
	}
	if rest, ok := minusBefore(label); ok && n.Kind != Relation {
		return noted(negate(n), rest)
	}
	return noted(n, label)
}

// minusBefore cuts the word off a label's end that says minus of the number behind it.
func minusBefore(label string) (rest string, ok bool) {
	label = strings.TrimRight(strings.ToLower(label), " .,")
	for _, w := range [...]string{"minus", "negative", "neg"} {
		if rest, ok := strings.CutSuffix(label, w); ok && (rest == "" || rest[len(rest)-1] == ' ') {
			return rest, true
		}
	}
	return label, false
}

// unnamed is the left side of an inequality that has none: >= 3.
func unnamed() *Node { return &Node{Kind: Symbol, Name: "□"} }
