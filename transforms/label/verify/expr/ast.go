package expr

import (
	"math/big"
	"strconv"
	"strings"
)

// Kind says what a Node is.
type Kind uint8

const (
	Number    Kind = iota // Num; Decimals digits were written after the point (-1: none); Base as written (0: ten)
	Symbol                // Name: a variable, with subscript and primes
	Constant              // Name: pi, e, i, inf, nan
	Sum                   // Args
	Product               // Args
	Quotient              // Args[0] / Args[1]
	Power                 // Args[0] ^ Args[1]
	Negate                // -Args[0]
	PlusMinus             // Args[0] ± Args[1]; Name "-+" for ∓
	Call                  // Name(Args...)
	Percent               // Args[0] %
	Degree                // Args[0] °
	Quantity              // Args[0] in the unit Name
	Group                 // Args between Open and Close; Open 0 is a bare list, '{' a set; Name: and, or, ∧, ∨ where they say something
	Matrix                // Rows × Cols entries, row by row
	Relation              // Args joined by Ops
	SetOp                 // Name: union, intersection, difference
	Builder               // the set of Args[0] for which Args[1] holds
	Ratio                 // Args[0] : Args[1] : ...
	Text                  // Name: words
	Clock                 // Num: minutes after midnight
	Date                  // Name: yyyy-mm-dd with 0000 for a missing year
)

// Node is one node of an answer's tree. Trees are immutable once parsed.
type Node struct {
	Kind     Kind
	Name     string
	Num      *big.Rat
	Args     []*Node
	Ops      []string
	Decimals int
	Base     int
	Rows     int
	Cols     int
	Open     byte
	Close    byte

	beside *beside // nil: nothing

	text string // memo of String
}

// beside is what stands beside a node's value.
type beside struct {
	unit  *unit  // of a Quantity
	note  string // words, in lower case
	thing bool   // the words begin with what is counted, or a unit that is not known
	prose bool   // plain words stand before it

	endless bool // a decimal with further digits, which are not written
}

var nothing beside

// said is what stands beside a value; it is read only.
func (n *Node) said() *beside {
	if n.beside == nil {
		return &nothing
	}
	return n.beside
}

// saying is the node with something else beside it.
func (n *Node) saying(change func(*beside)) *Node {
	c, b := *n, *n.said()
	change(&b)
	c.beside = &b
	return &c
}

// String is the canonical print of the tree: two trees with the same print are the same answer. It is not LaTeX.
func (n *Node) String() string {
	if n.text == "" {
		var sb strings.Builder
		n.print(&sb)
		return sb.String()
	}
	return n.text
}

func (n *Node) print(sb *strings.Builder) {
	if n.text != "" {
		sb.WriteString(n.text)
		return
	}
	list := func(sep string) {
		for i, a := range n.Args {
			if i > 0 {
				sb.WriteString(sep)
			}
			a.print(sb)
		}
	}
	if f := forms[n.Kind]; f != (form{}) {
		sb.WriteString(f.open)
		list(f.between)
		sb.WriteString(f.close)
		return
	}
	switch n.Kind {
	case Number:
		switch {
		case n.Base != 0:
			sb.WriteString(n.Name + "_" + strconv.Itoa(n.Base))
		case n.Num.IsInt():
			sb.WriteString(n.Num.Num().String())
		default:
			sb.WriteString(n.Num.String())
		}
	case Symbol, Constant, Text, Date:
		sb.WriteString(n.Name)
	case PlusMinus:
		sb.WriteByte('(')
		if n.Name == "-+" {
			list(" ∓ ")
		} else {
			list(" ± ")
		}
		sb.WriteByte(')')
	case Call:
		sb.WriteString(n.Name)
		sb.WriteByte('(')
		list(", ")
		sb.WriteByte(')')
	case Quantity:
		list("")
		sb.WriteByte(' ')
		sb.WriteString(n.Name)
	case Group:
		if n.Open != 0 {
			sb.WriteByte(n.Open)
		}
		if n.Name != "" {
			list(" " + n.Name + " ")
		} else {
			list(", ")
		}
		if n.Close != 0 {
			sb.WriteByte(n.Close)
		}
	case Matrix:
		n.printRows(sb)
	case Relation:
		for i, a := range n.Args {
			if i > 0 {
				sb.WriteString(" " + n.Ops[i-1] + " ")
			}
			a.print(sb)
		}
	case SetOp:
		list(" " + n.Name + " ")
	case Clock:
		sb.WriteString("clock " + n.Num.Num().String())
	}
}

// form is what is written around and between the parts of a kind.
type form struct{ open, between, close string }

var forms = [...]form{
	Sum: {"(", " + ", ")"}, Product: {"(", "*", ")"}, Quotient: {"(", "/", ")"}, Power: {"(", "^", ")"}, Negate: {open: "-"},
	Percent: {close: "%"}, Degree: {close: "°"}, Builder: {"{", " | ", "}"}, Ratio: {between: ":"}, Date: {},
}

func (n *Node) printRows(sb *strings.Builder) {
	sb.WriteByte('[')
	for i, a := range n.Args {
		switch {
		case i > 0 && i%n.Cols == 0:
			sb.WriteString("; ")
		case i > 0:
			sb.WriteString(", ")
		}
		a.print(sb)
	}
	sb.WriteByte(']')
}

func integer(v int64) *Node {
	return &Node{Kind: Number, Num: new(big.Rat).SetInt64(v), Decimals: -1}
}

func negate(n *Node) *Node {
	if n.Kind == Quantity {
		c := *n
		c.Args, c.text = []*Node{negate(n.Args[0])}, ""
		return &c
	}
	if n.Kind == Number && n.Base == 0 {
		return &Node{Kind: Number, Num: new(big.Rat).Neg(n.Num), Decimals: n.Decimals}
	}
	return &Node{Kind: Negate, Args: []*Node{n}}
}

func binary(k Kind, a, b *Node) *Node { return &Node{Kind: k, Args: []*Node{a, b}} }

func call(name string, args ...*Node) *Node { return &Node{Kind: Call, Name: name, Args: args} }

func group(open, close byte, args []*Node) *Node {
	return &Node{Kind: Group, Open: open, Close: close, Args: args}
}

// walk visits the tree in order until f says no.
func (n *Node) walk(f func(*Node) bool) bool {
	if !f(n) {
		return false
	}
	for _, a := range n.Args {
		if !a.walk(f) {
			return false
		}
	}
	return true
}

// height is the number of levels of the tree.
func (n *Node) height() int {
	h := 0
	for _, a := range n.Args {
		h = max(h, a.height())
	}
	return h + 1
}

// contains reports whether any node of the tree satisfies f.
func (n *Node) contains(f func(*Node) bool) bool {
	return !n.walk(func(m *Node) bool { return !f(m) })
}

// rewrite returns the tree with f applied to every node, children first. f returns its argument to leave it alone.
func (n *Node) rewrite(f func(*Node) *Node) *Node {
	var args []*Node
	for i, a := range n.Args {
		r := a.rewrite(f)
		if r != a && args == nil {
			args = append([]*Node{}, n.Args...)
		}
		if args != nil {
			args[i] = r
		}
	}
	if args != nil {
		c := *n
		c.Args, c.text = args, ""
		n = &c
	}
	return f(n)
}
