package tokenizer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Split patterns are regular expressions of the Oniguruma dialect with one thing beyond regular languages, a look-ahead of
// one character such as (?!\S). They are compiled to a deterministic automaton that keeps the alternatives in order of
// preference, so a backtracking engine's matches are found in time linear in the text. The look-ahead is decided when the
// next character is known: a transition says whether a match ends before the character it consumes.

// Limits on a pattern: published ones have below 1,000 bytes, 300 instructions, 30 classes and 100 states.
const (
	maxPattern      = 8 << 10
	maxInstructions = 1 << 10
	maxClasses      = 250
	maxStates       = 1 << 10
	maxWork         = 1 << 24 // steps of building the automaton; published ones need a thousandth
)

// errBudget says that a pattern looks too far ahead, again and again, for its matches to be found in linear time.
var errBudget = errors.New("the split pattern takes more than 64 steps a byte on this text")

// pattern is a compiled split pattern. It is immutable.
type pattern struct {
	class   []uint8 // of the characters of the basic plane
	ranges  []classRange
	classes int     // character classes; class number `classes` is the end of the text
	next    []int32 // [states, classes+1]: 2·state (-2: no way on), +1 when a match ends before this character
}

type classRange struct {
	from  rune // up to the next range's
	class uint8
}

const dead = -2

// match returns the end of the leftmost-first match that starts at the start of text, 0 when there is none or it is empty.
// steps counts down with the characters looked at.
func (p *pattern) match(text string, steps *int) int {
	end, state, width := 0, int32(0), int32(p.classes+1)
	for i := 0; i < len(text); {
		*steps--
		var c uint8
		n := 1
		if b := text[i]; b < utf8.RuneSelf {
			c = p.class[b]
		} else {
			var r rune
			r, n = utf8.DecodeRuneInString(text[i:])
			c = p.classOf(r)
		}
		t := p.next[state*width+int32(c)]
		if t&1 == 1 {
			end = i
		}
		if t &^= 1; t == dead {
			return end
		}
		state = t >> 1
		i += n
	}
	if p.next[state*width+int32(p.classes)]&1 == 1 {
		end = len(text)
	}
	return end
}

// each calls f for the pieces of text in order: matches, and between them what matches nothing.
func (p *pattern) each(text string, f func(piece string, matched bool) error) error {
	steps := 64*len(text) + 1024
	gap := 0
	for at := 0; at < len(text); {
		n := p.match(text[at:], &steps)
		if steps < 0 {
			return errBudget
		}
		if n == 0 {
			_, n = utf8.DecodeRuneInString(text[at:])
			at += n
			continue
		}
		if gap < at {
			if err := f(text[gap:at], false); err != nil {
				return err
			}
		}
		if err := f(text[at:at+n], true); err != nil {
			return err
		}
		at += n
		gap = at
	}
	if gap < len(text) {
		return f(text[gap:], false)
	}
	return nil
}

func (p *pattern) classOf(r rune) uint8 {
	if int(r) < len(p.class) {
		return p.class[r]
	}
	i, found := slices.BinarySearchFunc(p.ranges, r, func(c classRange, r rune) int { return cmp.Compare(c.from, r) })
	if !found {
		i--
	}
	return p.ranges[i].class
}

// compilePattern compiles a split pattern.
func compilePattern(expr string) (*pattern, error) {
	if len(expr) > maxPattern {
		return nil, fmt.Errorf("pattern of %d bytes is longer than the limit of %d", len(expr), maxPattern)
	}
	translated, err := translate(expr)
	if err != nil {
		return nil, err
	}
	tree, err := syntax.Parse(translated, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	if err := checkPossessive(tree, nil); err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	if len(prog.Inst) > maxInstructions {
		return nil, fmt.Errorf("pattern: %d instructions are more than the limit of %d", len(prog.Inst), maxInstructions)
	}
	c := &compiler{prog: prog, names: tree.CapNames(), p: &pattern{}}
	if err := c.partition(); err != nil {
		return nil, err
	}
	if err := c.determinise(); err != nil {
		return nil, err
	}
	return c.p, nil
}

// Names of the groups that stand for what the parser of regexp/syntax does not know.
const (
	groupNot        = "not"        // (?!x)
	groupAhead      = "ahead"      // (?=x)
	groupPossessive = "possessive" // x++
)

// Character sets of the Oniguruma dialect, as the inside of a bracket expression. (\s of regexp/syntax is ASCII only.)
const (
	spaces    = `\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}`
	notSpaces = `\x{0}-\x{8}\x{e}-\x{1f}!-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}` +
		`\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff}`
	wordChars = `\p{L}\p{M}\p{Nd}\p{Pc}`
)

// translate rewrites a pattern for regexp/syntax: Unicode \s, \d and \w, look-aheads and possessive quantifiers as named
// groups. What has no translation is refused.
func translate(expr string) (string, error) {
	var out strings.Builder
	var open []int // where in out the groups that are open begin
	atom := -1     // where in out the last complete atom begins
	inClass, classStart := 0, 0
	for i := 0; i < len(expr); {
		c := expr[i]
		if c == '\\' {
			if i+1 == len(expr) {
				return "", errors.New("pattern ends in a backslash")
			}
			e := expr[i+1]
			start := out.Len()
			n := 2
			switch set := map[byte]string{'s': spaces, 'S': notSpaces, 'd': `\p{Nd}`, 'w': wordChars}[e]; {
			case set != "" && inClass > 0:
				out.WriteString(set)
			case set != "":
				out.WriteString("[" + set + "]")
			case e == 'p' || e == 'P':
				end := strings.IndexByte(expr[i:], '}')
				if i+2 < len(expr) && expr[i+2] != '{' {
					end = 2
				}
				if end < 0 {
					return "", errors.New(`pattern: \p without its end`)
				}
				n = end + 1
				out.WriteString(expr[i:min(i+n, len(expr))])
			case e == 'u' && i+6 <= len(expr):
				n = 6
				out.WriteString(`\x{` + expr[i+2:i+6] + `}`)
			case e == 'x':
				if n = 4; strings.HasPrefix(expr[i+2:], "{") {
					n = 3 + strings.IndexByte(expr[i+2:], '}')
				}
				if n < 4 || i+n > len(expr) {
					return "", errors.New(`pattern: \x without its digits`)
				}
				out.WriteString(expr[i : i+n])
			case strings.IndexByte("rntfv", e) >= 0 || e < utf8.RuneSelf && !isWordByte(e):
				out.WriteString(expr[i : i+2])
			case e >= utf8.RuneSelf:
				n = 1 // an escaped character is that character
			default:
				return "", fmt.Errorf(`pattern: \%c is not supported`, e)
			}
			if inClass == 0 {
				atom = start
			}
			i += n
			continue
		}
		if inClass > 0 {
			switch {
			case strings.HasPrefix(expr[i:], "&&"):
				return "", errors.New("pattern: && in a character set is not supported")
			case c == '[' && strings.HasPrefix(expr[i:], "[:"):
				end := strings.Index(expr[i:], ":]")
				if end < 0 {
					return "", errors.New("pattern: [: without :]")
				}
				return "", fmt.Errorf("pattern: %s is not supported", expr[i:i+end+2])
			case c == '[':
				return "", errors.New("pattern: a character set within a character set is not supported")
			case c == ']' && i > classStart:
				inClass = 0
			}
			out.WriteByte(c)
			i++
			continue
		}
		switch c {
		case '[':
			atom, inClass, classStart = out.Len(), 1, i+1
			out.WriteByte(c)
			i++
			if i < len(expr) && expr[i] == '^' {
				out.WriteByte('^')
				i++
				classStart = i
			}
			continue
		case '(':
			open = append(open, out.Len())
			atom = -1
			switch rest := expr[i:]; {
			case strings.HasPrefix(rest, "(?!"):
				out.WriteString("(?P<" + groupNot + fmt.Sprint(i) + ">")
				i += 3
			case strings.HasPrefix(rest, "(?="):
				out.WriteString("(?P<" + groupAhead + fmt.Sprint(i) + ">")
				i += 3
			case strings.HasPrefix(rest, "(?<") || strings.HasPrefix(rest, "(?P"):
				return "", fmt.Errorf("pattern: %.4s is not supported", rest)
			case strings.HasPrefix(rest, "(?"):
				end := strings.IndexAny(rest, ":)")
				if end < 0 || strings.Trim(rest[2:end], "i") != "" || rest[end] == ')' {
					return "", fmt.Errorf("pattern: %.6s is not supported", rest)
				}
				out.WriteString(rest[:end+1])
				i += end + 1
			default:
				out.WriteString("(?:")
				i++
			}
			continue
		case ')':
			if len(open) == 0 {
				return "", errors.New("pattern: ) without (")
			}
			atom = open[len(open)-1]
			open = open[:len(open)-1]
		case '*', '+', '?', '{':
			if atom < 0 {
				return "", fmt.Errorf("pattern: %c repeats nothing", c)
			}
			n := 1
			if c == '{' {
				if n = strings.IndexByte(expr[i:], '}') + 1; n == 0 {
					return "", errors.New("pattern: { without }")
				}
			}
			out.WriteString(expr[i : i+n])
			i += n
			if i < len(expr) && expr[i] == '+' {
				rest := out.String()
				out.Reset()
				if c == '{' { // after an interval, + is a second quantifier in this dialect
					out.WriteString(rest[:atom] + "(?:" + rest[atom:] + ")+")
				} else {
					out.WriteString(rest[:atom] + "(?P<" + groupPossessive + fmt.Sprint(i) + ">" + rest[atom:] + ")")
				}
				i++
			} else if i < len(expr) && expr[i] == '?' && c != '{' {
				out.WriteByte('?')
				i++
			}
			atom = -1
			continue
		case '|':
			atom = -1
			out.WriteByte(c)
			i++
			continue
		case '^', '$', '.':
			return "", fmt.Errorf("pattern: %c is not supported", c)
		default:
			atom = out.Len()
		}
		_, n := utf8.DecodeRuneInString(expr[i:])
		out.WriteString(expr[i : i+n])
		i += n
	}
	if inClass > 0 {
		return "", errors.New("pattern: [ without ]")
	}
	return out.String(), nil
}

func isWordByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// checkPossessive refuses a possessive quantifier unless an ordinary one matches the same: when what follows cannot begin
// with a character that the quantifier could give back, or can be empty to the end of the pattern.
func checkPossessive(re *syntax.Regexp, after []*syntax.Regexp) error {
	if re.Op == syntax.OpCapture && strings.HasPrefix(re.Name, groupPossessive) {
		var set []rune
		single := false
		if body := re.Sub[0]; len(body.Sub) == 1 {
			set, single = classSet(body.Sub[0])
		}
		if !single {
			return errors.New("pattern: a possessive quantifier of more than one character is not supported")
		}
		for _, f := range after {
			first, nullable := firstSet(f)
			if overlap(set, first) {
				return errors.New("pattern: a possessive quantifier whose end is not unambiguous is not supported")
			}
			if !nullable {
				return nil
			}
		}
		return nil
	}
	for i, sub := range re.Sub {
		rest := after
		switch re.Op {
		case syntax.OpConcat:
			rest = append(slices.Clone(re.Sub[i+1:]), after...)
		case syntax.OpStar, syntax.OpPlus, syntax.OpRepeat:
			rest = append([]*syntax.Regexp{re}, after...)
		}
		if err := checkPossessive(sub, rest); err != nil {
			return err
		}
	}
	return nil
}

// classSet returns the ranges of a node that matches exactly one character.
func classSet(re *syntax.Regexp) ([]rune, bool) {
	switch re.Op {
	case syntax.OpCharClass:
		return re.Rune, true
	case syntax.OpLiteral:
		if len(re.Rune) == 1 {
			return literalSet(re, 0), true
		}
	case syntax.OpAnyChar:
		return []rune{0, unicode.MaxRune}, true
	}
	return nil, false
}

func literalSet(re *syntax.Regexp, i int) []rune {
	r := re.Rune[i]
	set := []rune{r, r}
	if re.Flags&syntax.FoldCase != 0 {
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			set = append(set, f, f)
		}
	}
	return set
}

// firstSet returns ranges that hold every character a match can begin with, and whether it can be empty.
func firstSet(re *syntax.Regexp) (set []rune, nullable bool) {
	switch re.Op {
	case syntax.OpLiteral:
		return literalSet(re, 0), false
	case syntax.OpCharClass, syntax.OpAnyChar:
		set, _ = classSet(re)
		return set, false
	case syntax.OpEmptyMatch:
		return nil, true
	case syntax.OpCapture:
		if strings.HasPrefix(re.Name, groupNot) || strings.HasPrefix(re.Name, groupAhead) {
			// A look-ahead can reject what the ordinary quantifier would then retry shorter.
			return []rune{0, unicode.MaxRune}, false
		}
		return firstSet(re.Sub[0])
	case syntax.OpStar, syntax.OpQuest:
		set, _ = firstSet(re.Sub[0])
		return set, true
	case syntax.OpPlus:
		return firstSet(re.Sub[0])
	case syntax.OpRepeat:
		set, nullable = firstSet(re.Sub[0])
		return set, nullable || re.Min == 0
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			s, n := firstSet(sub)
			set = append(set, s...)
			if !n {
				return set, false
			}
		}
		return set, true
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			s, n := firstSet(sub)
			set = append(set, s...)
			nullable = nullable || n
		}
		return set, nullable
	}
	return []rune{0, unicode.MaxRune}, false
}

func overlap(a, b []rune) bool {
	for i := 0; i < len(a); i += 2 {
		for j := 0; j < len(b); j += 2 {
			if a[i] <= b[j+1] && b[j] <= a[i+1] {
				return true
			}
		}
	}
	return false
}

// compiler turns a program into a pattern.
type compiler struct {
	prog  *syntax.Prog
	names []string // of the groups
	p     *pattern
	work  int
	match [][]bool // [instruction][class]: whether the instruction consumes the class; nil for other instructions
}

// partition divides all characters into classes that no instruction tells apart.
func (c *compiler) partition() error {
	var insts []*syntax.Inst
	var at []int
	bounds := []rune{0, unicode.MaxRune + 1}
	for i := range c.prog.Inst {
		inst := &c.prog.Inst[i]
		switch inst.Op {
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			insts, at = append(insts, inst), append(at, i)
			bounds = append(bounds, '\n', '\n'+1)
			for j, r := range inst.Rune {
				if len(inst.Rune) == 1 { // a literal, perhaps with its foldings
					bounds = append(bounds, r, r+1)
					for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
						bounds = append(bounds, f, f+1)
					}
				} else {
					bounds = append(bounds, r+rune(j%2))
				}
			}
		case syntax.InstEmptyWidth:
			return errors.New("pattern: an anchor or word boundary is not supported")
		}
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	c.match = make([][]bool, len(c.prog.Inst))
	numbers := map[string]uint8{}
	signature := make([]byte, len(insts))
	for _, from := range bounds[:len(bounds)-1] {
		for i, inst := range insts {
			signature[i] = 0
			if inst.MatchRune(from) {
				signature[i] = 1
			}
		}
		number, ok := numbers[string(signature)]
		if !ok {
			if len(numbers) == maxClasses {
				return fmt.Errorf("pattern: more than %d kinds of characters", maxClasses)
			}
			number = uint8(len(numbers))
			numbers[string(signature)] = number
			for i := range insts {
				c.match[at[i]] = append(c.match[at[i]], signature[i] == 1)
			}
		}
		c.p.ranges = append(c.p.ranges, classRange{from, number})
	}
	c.p.classes = len(numbers)
	c.p.class = make([]uint8, 1<<16)
	i := 0
	for r := range c.p.class {
		for i+1 < len(c.p.ranges) && int(c.p.ranges[i+1].from) <= r {
			i++
		}
		c.p.class[r] = c.p.ranges[i].class
	}
	return nil
}

// determinise builds the automaton. A state is the list of instructions to go on with, the preferred first, before the
// steps that consume nothing: those may depend on the next character.
func (c *compiler) determinise() error {
	ids := map[string]int32{}
	var states [][]uint32
	number := func(list []uint32) (int32, error) {
		key := make([]byte, 0, 4*len(list))
		for _, pc := range list {
			key = binary.LittleEndian.AppendUint32(key, pc)
		}
		id, ok := ids[string(key)]
		if !ok {
			if len(states) == maxStates {
				return 0, fmt.Errorf("pattern: more than %d states", maxStates)
			}
			id = int32(len(states))
			ids[string(key)] = id
			states = append(states, list)
		}
		return id, nil
	}
	if _, err := number([]uint32{uint32(c.prog.Start)}); err != nil {
		return err
	}
	seen := make([]bool, len(c.prog.Inst))
	for s := 0; s < len(states); s++ {
		for class := 0; class <= c.p.classes; class++ {
			clear(seen)
			var list []uint32
			matched := false
			for _, pc := range states[s] {
				done, err := c.follow(pc, class, seen, &list)
				if err != nil {
					return err
				}
				if done { // what comes after a match is preferred less
					matched = true
					break
				}
			}
			t := int32(dead)
			if len(list) > 0 {
				id, err := number(list)
				if err != nil {
					return err
				}
				t = id << 1
			}
			if matched {
				t |= 1
			}
			c.p.next = append(c.p.next, t)
		}
	}
	return nil
}

// follow takes the steps from pc that consume nothing, in order of preference, and adds to list where the instructions
// that consume the class lead. It reports whether a match was reached, at which it stops.
func (c *compiler) follow(pc uint32, class int, seen []bool, list *[]uint32) (bool, error) {
	for !seen[pc] {
		seen[pc] = true
		if c.work++; c.work > maxWork {
			return false, errors.New("pattern: too complex")
		}
		inst := &c.prog.Inst[pc]
		switch inst.Op {
		case syntax.InstMatch:
			return true, nil
		case syntax.InstFail:
			return false, nil
		case syntax.InstAlt, syntax.InstAltMatch:
			done, err := c.follow(inst.Out, class, seen, list)
			if done || err != nil {
				return done, err
			}
			pc = inst.Arg
		case syntax.InstNop:
			pc = inst.Out
		case syntax.InstCapture:
			name := c.names[inst.Arg/2]
			negative := strings.HasPrefix(name, groupNot)
			if !negative && !strings.HasPrefix(name, groupAhead) {
				pc = inst.Out
				continue
			}
			end := c.prog.Inst[inst.Out].Out
			last := &c.prog.Inst[end]
			if c.match[inst.Out] == nil || last.Op != syntax.InstCapture || last.Arg != inst.Arg+1 {
				return false, errors.New("pattern: a look-ahead of more than one character is not supported")
			}
			if (class < c.p.classes && c.match[inst.Out][class]) == negative {
				return false, nil
			}
			pc = last.Out
		default:
			if class < c.p.classes && c.match[pc][class] {
				if !slices.Contains(*list, inst.Out) {
					*list = append(*list, inst.Out)
				}
			}
			return false, nil
		}
	}
	return false, nil
}
