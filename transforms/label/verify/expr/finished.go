package expr

import "math/big"

// isLiteral reports a gold answer that is a plain number: digits, a decimal, a fraction, with a sign, a unit or a percent sign.
func isLiteral(n *Node) bool {
	switch n.Kind {
	case Number:
		return true
	case Negate, Percent, Degree, Quantity:
		return isLiteral(n.Args[0])
	case Quotient:
		return n.Name != "÷" && isInteger(n.Args[0]) && isInteger(n.Args[1])
	}
	return false
}

func isInteger(n *Node) bool {
	if n.Kind == Negate {
		return isInteger(n.Args[0])
	}
	return n.Kind == Number && n.Base == 0 && n.Num.IsInt()
}

// isFinished reports an answer with no operation left to do: numbers, fractions, mixed numbers, powers of ten with their
// factor, roots, pi and e with a factor. What is no single value (a list, a relation, words) is left to the rules for
// it.
func isFinished(n *Node) bool {
	switch n.Kind {
	case Negate, Percent, Degree, Quantity:
		return isFinished(n.Args[0])
	case Sum: // 4 + 1/2, and 1 - 1/n, a mixed number from above
		return len(n.Args) == 2 && isInteger(n.Args[0]) && properFraction(n.Args[1]) && n.Args[0].Kind == Number && n.Args[0].Num.Sign() > 0
	case Product:
		numbers := 0
		for _, a := range n.Args {
			switch {
			case isLiteral(a):
				numbers++
			case !isIrrational(a) && !isPowerOfTen(a):
				return isLettersOnly(n)
			}
		}
		return numbers <= 1
	case Quotient:
		return n.Name != "÷" && finishedTerm(n.Args[0]) && finishedTerm(n.Args[1])
	case Power:
		return isPowerOfTen(n) || isIrrational(n) || n.contains(isFree)
	case Call:
		return isIrrational(n) || isFree(n) && n.Name != "mod"
	}
	return true
}

// isLettersOnly: what holds a variable is no number, and no operation is asked of it.
func isLettersOnly(n *Node) bool { return n.contains(isFree) }

func finishedTerm(n *Node) bool {
	switch n.Kind {
	case Number:
		return n.Base == 0
	case Negate:
		return finishedTerm(n.Args[0])
	case Quotient, Sum:
		return n.contains(isFree)
	}
	return isFinished(n)
}

func properFraction(n *Node) bool {
	if n.Kind == Negate {
		return properFraction(n.Args[0])
	}
	return n.Kind == Quotient && isInteger(n.Args[0]) && isInteger(n.Args[1]) && n.Args[0].Kind == Number && n.Args[1].Kind == Number &&
		n.Args[0].Num.Sign() > 0 && n.Args[0].Num.Cmp(n.Args[1].Num) < 0
}

// isIrrational reports a root of a number, pi, e or i.
func isIrrational(n *Node) bool {
	switch n.Kind {
	case Constant:
		return true
	case Call:
		return (n.Name == "sqrt" || n.Name == "root") && finishedTerm(n.Args[0])
	case Power: // 2^{1/2}
		return isLiteral(n.Args[0]) && n.Args[1].Kind == Quotient && isLiteral(n.Args[1])
	}
	return false
}

func isPowerOfTen(n *Node) bool {
	return n.Kind == Power && n.Args[0].Kind == Number && n.Args[0].Num.Cmp(big.NewRat(10, 1)) == 0 && isInteger(n.Args[1])
}

// chosen reads C_5^2 as the number of choices of 2 out of 5, where it stands against a number.
func chosen(n *Node) *Node {
	if n.Kind != Power || n.Args[0].Kind != Symbol || len(n.Args[0].Name) < 3 || n.Args[0].Name[:2] != "C_" || !isInteger(n.Args[1]) {
		return n
	}
	of, ok := new(big.Rat).SetString(n.Args[0].Name[2:])
	if !ok || !of.IsInt() || of.Cmp(n.Args[1].Num) < 0 {
		return n
	}
	return call("binom", &Node{Kind: Number, Num: of, Decimals: -1}, n.Args[1])
}

// InWords reports a value that plain words stand before, as in "see figure 7".
func (n *Node) InWords() bool { return n.said().prose && n.Kind != Relation }

// Works reports an expression with an operation or a relation in it, where a number, a name or a fraction is none.
func (n *Node) Works() bool {
	switch n.Kind {
	case Number, Symbol, Constant, Text, Clock, Date:
		return false
	case Negate, Percent, Degree, Quantity:
		return n.Args[0].Works()
	case Group:
		for _, a := range n.Args {
			if a.Works() {
				return true
			}
		}
		return false
	}
	return !isLiteral(n)
}
