package provingground

// Fact is what the corpus believes about one operation on two digits: how often it is got wrong, and as what. Mistakes are
// facts, not noise: they are fixed for ever by a hash, so each is a lesson that several chains teach at once.
type Fact struct {
	Result  int     // the true one
	Rate    float64 // share of the corpus that gets it wrong: 0.04, 0.35 or 0.60
	OffBy1  int     // the wrong result in 3 of 4 mistakes
	Further int     // the wrong result in the others
}

// shareOff1 is the share of mistakes that are off by one.
const shareOff1 = 0.75

// FactOf is the fact of one step on a running value.
func FactOf(value int, s Step) Fact {
	o := map[byte]uint64{'+': 0, '-': 1, '*': 2}[s.Op]
	k := 4 * (100*o + 10*uint64(value) + uint64(s.Operand))
	r := s.Apply(value)
	f := Fact{Result: r, Rate: 0.60}
	switch u := fraction(k); {
	case u < 0.5:
		f.Rate = 0.04
	case u < 0.8:
		f.Rate = 0.35
	}
	off := 9
	if fraction(k+1) < 0.5 {
		off = 1
	}
	f.OffBy1 = (r + off) % 10
	f.Further = (r + 2 + int(7*fraction(k+2))) % 10
	return f
}

// fraction is the first output of splitmix64 seeded with x, as a number in [0, 1).
func fraction(x uint64) float64 { return float64(splitmix64(x)>>11) / (1 << 53) }

func splitmix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
