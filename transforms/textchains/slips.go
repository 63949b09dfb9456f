package textchains

import (
	"slices"
	"strconv"
)

// Slips are the plausible wrong results of a step on a running value, in order: what people and models write who know what to do.
//
//   - a carry or a borrow is forgotten: digit by digit, each difference of the larger less the smaller
//   - the product beside it in the table: one factor is one more or one less
//   - off by ten
//   - two neighbouring digits of the result are swapped
//   - another operation: the sum where the difference was asked for and the other way round, the sum in the place of the product
//
// All are from 0 on and none is the true result; there is always at least one, the result ten too large.
func Slips(v int, s Step) []int {
	right := s.Apply(v)
	out := []int{right + 10, right - 10, byDigits(v, s)}
	switch s.Op {
	case '*':
		out = append(out, right+v, right-v, right+s.Operand, right-s.Operand, v+s.Operand)
	case '+':
		out = append(out, max(v, s.Operand)-min(v, s.Operand))
	case '-':
		out = append(out, v+s.Operand)
	}
	digits := []byte(strconv.Itoa(right))
	for i := 1; i < len(digits); i++ {
		swapped := slices.Clone(digits)
		swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
		if n, err := strconv.Atoi(string(swapped)); err == nil && swapped[0] != '0' {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(r int) bool { return r < 0 || r == right })
}

// byDigits is the result digit by digit, without what is carried or borrowed; the first digits of a sum or a product are written out.
func byDigits(v int, s Step) int {
	out := 0
	for unit := 1; ; unit *= 10 {
		a, b := v%10, s.Operand%10
		v /= 10
		d := 0
		switch s.Op {
		case '+':
			s.Operand /= 10
			d = a + b
		case '-':
			s.Operand /= 10
			d = max(a, b) - min(a, b)
		case '*': // by one digit
			d = a * b
		}
		if v == 0 && (s.Op == '*' || s.Operand == 0) {
			return out + d*unit
		}
		out += d % 10 * unit
	}
}

func splitmix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
