package expr

import (
	"math/big"
	"strings"
)

// The base dimensions. Currencies do not convert into each other, nor months into days, nor degrees Celsius into Fahrenheit.
const (
	dLength = iota
	dMass
	dTime
	dMonth
	dCurrent
	dAmount
	dData
	dKelvin
	dCelsius
	dFahrenheit
	dAngle
	dDollar
	dEuro
	dYen
	dSterling
	dRupee
	dYuan
	dimensions
)

// unit is a unit of measurement: the powers of its base dimensions, and its size in metres, grams, seconds and so on.
type unit struct {
	powers [dimensions]int8
	size   *big.Rat
}

var units = map[string]unit{}

// prefixes of units, as signs and as words.
var prefixes = []struct {
	sign, word string
	num, den   int64
}{
	{"n", "nano", 1, 1e9}, {"µ", "micro", 1, 1e6}, {"μ", "micro", 1, 1e6}, {"m", "milli", 1, 1000}, {"c", "centi", 1, 100},
	{"d", "deci", 1, 10}, {"k", "kilo", 1000, 1}, {"M", "mega", 1e6, 1}, {"G", "giga", 1e9, 1}, {"T", "tera", 1e12, 1},
}

func init() {
	type powers map[int]int8
	one := func(d int) powers { return powers{d: 1} }
	add := func(p powers, size *big.Rat, names string) {
		u := unit{size: size}
		for d, k := range p {
			u.powers[d] = k
		}
		for name := range strings.FieldsSeq(names) {
			units[name] = u
		}
	}
	// with prefixes: signs takes those of one or two letters, words those spelt out
	scaled := func(p powers, num, den int64, signs, words string) {
		add(p, big.NewRat(num, den), signs+" "+words)
		for _, f := range prefixes {
			size := new(big.Rat).Mul(big.NewRat(num, den), big.NewRat(f.num, f.den))
			for s := range strings.FieldsSeq(signs) {
				add(p, size, f.sign+s)
			}
			for w := range strings.FieldsSeq(words) {
				add(p, size, f.word+w)
			}
		}
	}
	scaled(one(dLength), 1, 1, "m", "meter meters metre metres")
	scaled(one(dMass), 1, 1, "g", "gram grams")
	scaled(one(dTime), 1, 1, "s", "second seconds")
	scaled(powers{dLength: 3}, 1, 1000, "L l", "liter liters litre litres")
	scaled(powers{dTime: -1}, 1, 1, "Hz", "hertz")
	scaled(powers{dMass: 1, dLength: 1, dTime: -2}, 1000, 1, "N", "newton newtons")
	scaled(powers{dMass: 1, dLength: 2, dTime: -2}, 1000, 1, "J", "joule joules")
	scaled(powers{dMass: 1, dLength: 2, dTime: -2}, 4184, 1, "cal", "calorie calories")
	scaled(powers{dMass: 1, dLength: 2, dTime: -2}, 3600*1000, 1, "Wh", "")
	scaled(powers{dMass: 1, dLength: 2, dTime: -3}, 1000, 1, "W", "watt watts")
	scaled(powers{dMass: 1, dLength: -1, dTime: -2}, 1000, 1, "Pa", "pascal pascals")
	scaled(powers{dMass: 1, dLength: 2, dTime: -3, dCurrent: -1}, 1000, 1, "V", "volt volts")
	scaled(powers{dMass: 1, dLength: 2, dTime: -3, dCurrent: -2}, 1000, 1, "Ω", "ohm ohms")
	scaled(powers{dCurrent: 1, dTime: 1}, 1, 1, "C", "coulomb coulombs")
	scaled(one(dCurrent), 1, 1, "A", "ampere amperes amp amps")
	scaled(one(dAmount), 1, 1, "mol", "mole moles")
	scaled(one(dData), 8, 1, "B", "byte bytes")
	scaled(one(dData), 1, 1, "bit bits", "")
	scaled(one(dKelvin), 1, 1, "K", "kelvin kelvins")
	scaled(one(dAngle), 1, 1, "rad", "radian radians")
	delete(units, "ns") // what these letters mean in an answer is not a unit
	delete(units, "cd")
	delete(units, "mbit")
	length := func(num, den int64, names string) { add(one(dLength), big.NewRat(num, den), names) }
	length(254, 10000, "in inch inches")
	length(3048, 10000, "ft foot feet")
	length(9144, 10000, "yd yds yard yards")
	length(1609344, 1000, "mi mile miles")
	add(one(dMass), big.NewRat(1, 1), "gm gms")
	add(one(dMass), big.NewRat(1000, 1), "kgs kilo kilos")
	add(one(dMass), big.NewRat(45359237, 100000), "lb lbs pound pounds")
	add(one(dMass), big.NewRat(45359237, 1600000), "oz ounce ounces")
	add(one(dMass), big.NewRat(1000000, 1), "ton tons tonne tonnes")
	for _, t := range []struct {
		size  int64
		names string
	}{{1, "sec secs"}, {60, "min mins minute minutes"}, {3600, "h hr hrs hour hours"}, {86400, "day days"}, {604800, "week weeks wk wks"}} {
		add(one(dTime), big.NewRat(t.size, 1), t.names)
	}
	add(one(dMonth), big.NewRat(1, 1), "month months")
	add(one(dMonth), big.NewRat(12, 1), "year years yr yrs")
	add(one(dMonth), big.NewRat(120, 1), "decade decades")
	add(one(dMonth), big.NewRat(1200, 1), "century centuries")
	add(one(dDollar), big.NewRat(1, 1), "$ US$ dollar dollars usd buck bucks")
	add(one(dDollar), big.NewRat(1, 100), "cent cents ¢")
	add(one(dEuro), big.NewRat(1, 1), "€ euro euros eur")
	add(one(dYen), big.NewRat(1, 1), "¥ yen jpy")
	add(one(dSterling), big.NewRat(1, 1), "£ gbp")
	add(one(dSterling), big.NewRat(1, 100), "pence")
	add(one(dRupee), big.NewRat(1, 1), "₹ rupee rupees rs inr")
	add(one(dYuan), big.NewRat(1, 1), "yuan rmb cny 元")
	add(one(dCelsius), big.NewRat(1, 1), "°C celsius")
	add(one(dFahrenheit), big.NewRat(1, 1), "°F fahrenheit")
	// a gallon is 231 cubic inches
	gallon := new(big.Rat).SetFrac64(231*254*254*254, 1e12)
	for _, v := range []struct {
		share int64
		names string
	}{{1, "gallon gallons gal"}, {4, "quart quarts qt qts"}, {8, "pint pints pt pts"}, {16, "cup cups"}} {
		add(powers{dLength: 3}, new(big.Rat).Quo(gallon, big.NewRat(v.share, 1)), v.names)
	}
	speed := powers{dLength: 1, dTime: -1}
	add(speed, big.NewRat(1609344, 3600000), "mph")
	add(speed, big.NewRat(1000, 3600), "kmh kph kmph")
	add(powers{}, big.NewRat(1, 1), "unit units")
	chinese := func(p powers, num, den int64, names string) { add(p, big.NewRat(num, den), names) }
	chinese(one(dLength), 1, 1, "米")
	chinese(one(dLength), 1, 10, "分米")
	chinese(one(dLength), 1, 100, "厘米 公分")
	chinese(one(dLength), 1, 1000, "毫米")
	chinese(one(dLength), 1000, 1, "千米 公里")
	chinese(powers{dLength: 2}, 1, 1, "平方米")
	chinese(powers{dLength: 2}, 1, 100, "平方分米")
	chinese(powers{dLength: 2}, 1, 10000, "平方厘米")
	chinese(powers{dLength: 3}, 1, 1, "立方米")
	chinese(powers{dLength: 3}, 1, 1000, "立方分米 升")
	chinese(powers{dLength: 3}, 1, 1000000, "立方厘米 毫升")
	chinese(one(dMass), 1, 1, "克")
	chinese(one(dMass), 1000, 1, "千克 公斤")
	chinese(one(dMass), 1000000, 1, "吨")
	chinese(one(dTime), 1, 1, "秒")
	chinese(one(dTime), 60, 1, "分钟")
	chinese(one(dTime), 3600, 1, "小时")
	chinese(one(dTime), 86400, 1, "天")
	chinese(one(dMonth), 12, 1, "年")
	chinese(one(dMonth), 1, 1, "个月")
}

// unitNamed finds a unit by its sign, or by a word in any case.
func unitNamed(name string) (unit, bool) {
	if u, ok := units[name]; ok {
		return u, true
	}
	if len(name) < 2 {
		return unit{}, false
	}
	low := strings.ToLower(name)
	switch low { // of data, whatever the case
	case "kb", "mb", "gb", "tb":
		return units[strings.ToUpper(low[:1])+"B"], low != "kb" && strings.ToUpper(name) == name || low != name
	}
	u, ok := units[low]
	return u, ok
}

// isUnit reports a word that is a unit where it follows a number.
func isUnit(name string) bool {
	if scaleWords[strings.ToLower(name)] != 0 || powerWords[strings.ToLower(name)] != 0 {
		return true
	}
	_, ok := unitNamed(name)
	return ok
}

var (
	scaleWords = map[string]int64{"ten": 10, "dozen": 12, "score": 20, "hundred": 100, "thousand": 1000, "million": 1e6, "billion": 1e9,
		"trillion": 1e12}
	powerWords = map[string]int8{"square": 2, "sq": 2, "cubic": 3, "cu": 3}
)

// unitOf reads the unit that a run of words and signs begins with, as m / s ^ 2 or square feet per hour, and returns how many of them it
// took.
func unitOf(words []string) (u unit, used int) {
	u.size = big.NewRat(1, 1)
	sign, power := int8(1), int8(1)
	for i := 0; i < len(words); i++ {
		w := strings.Trim(words[i], ".,")
		low := strings.ToLower(w)
		switch {
		case low == "/" || low == "per":
			sign = -1
			continue
		case low == "*" || low == "":
			continue
		case powerWords[low] != 0:
			power = powerWords[low]
			continue
		}
		one, ok := unitNamed(w)
		if !ok {
			return u, used
		}
		if i+1 < len(words) {
			switch next := strings.ToLower(words[i+1]); {
			case next == "squared":
				power, i = 2, i+1
			case next == "cubed":
				power, i = 3, i+1
			case strings.HasPrefix(next, "^"):
				k, neg := next[1:], false
				if k, neg = strings.CutPrefix(k, "-"); len(k) == 1 && isDigit(k[0]) {
					power, i = int8(k[0]-'0'), i+1
					if neg {
						power = -power
					}
				}
			}
		}
		power *= sign
		for d, k := range one.powers {
			u.powers[d] += k * power
		}
		for range max(power, -power) {
			if power > 0 {
				u.size = new(big.Rat).Mul(u.size, one.size)
			} else {
				u.size = new(big.Rat).Quo(u.size, one.size)
			}
		}
		sign, power = 1, 1
		used = i + 1
		if used > 16 {
			break
		}
	}
	return u, used
}

// quantity attaches words to a value: a unit that is known gives a Quantity, words of number scale it, other words are kept as a note.
func quantity(n *Node, words []string) *Node {
	if n.Kind == Relation {
		last := len(n.Args) - 1
		args := append([]*Node{}, n.Args...)
		args[last] = quantity(args[last], words)
		c := *n
		c.Args, c.text = args, ""
		return &c
	}
	for len(words) > 0 {
		low := strings.ToLower(strings.Trim(words[0], ".,"))
		switch low {
		case "":
			words = words[1:]
			continue
		case "percent", "percents", "pct", "percentage":
			n, words = &Node{Kind: Percent, Args: []*Node{n}}, words[1:]
			continue
		case "degrees", "degree":
			n, words = degree(n, words[1:])
			continue
		case "basis":
			if len(words) > 1 && strings.HasPrefix(strings.ToLower(words[1]), "point") {
				n, words = &Node{Kind: Percent, Args: []*Node{hundredth(n)}}, words[2:]
				continue
			}
		case "below", "under":
			if len(words) > 1 && strings.ToLower(strings.Trim(words[1], ".,")) == "zero" && n.Kind != Group {
				n, words = belowZero(n), words[2:]
				continue
			}
		}
		if low == "ft" && len(words) > 1 && strings.ToLower(words[1]) == "in" {
			return noted(n, strings.Join(words, " "))
		}
		k, ok := scaleWords[strings.TrimSuffix(low, "s")]
		if !ok || n.Kind == Group || n.Kind == Matrix || n.Kind == SetOp {
			break
		}
		n, words = scale(n, k), words[1:]
	}
	if len(words) == 0 {
		return n
	}
	if n.Kind == Group || n.Kind == SetOp || n.Kind == Matrix || n.Kind == Text || n.Kind == Quantity {
		return noted(n, strings.Join(words, " "))
	}
	u, used := unitOf(words)
	if used > 0 && u.powers != (unit{}).powers {
		n = &Node{Kind: Quantity, Args: []*Node{n}, Name: strings.ReplaceAll(strings.Join(words[:used], " "), " ^", "^"),
			beside: &beside{unit: &u}}
	}
	said := phrased(strings.Join(words[used:], " "))
	m := noted(n, said)
	if m != n && used == 0 && !strings.HasPrefix(said, "+") {
		return m.saying(func(b *beside) { b.thing = true })
	}
	return m
}

// belowZero is the value with its sign turned, within its unit.
func belowZero(n *Node) *Node {
	if n.Kind != Degree && n.Kind != Quantity {
		return negate(n)
	}
	c := *n
	c.Args, c.text = []*Node{negate(n.Args[0])}, ""
	return &c
}

// degree reads what follows the word or sign for degrees: of which scale they are.
func degree(n *Node, words []string) (*Node, []string) {
	if len(words) > 0 {
		switch strings.ToLower(strings.Trim(words[0], ".,")) {
		case "c", "celsius", "centigrade":
			return inUnit(n, "°C"), words[1:]
		case "f", "fahrenheit":
			return inUnit(n, "°F"), words[1:]
		}
	}
	return &Node{Kind: Degree, Args: []*Node{n}}, words
}

func inUnit(n *Node, name string) *Node {
	u := units[name]
	return &Node{Kind: Quantity, Args: []*Node{n}, Name: name, beside: &beside{unit: &u}}
}

// scale multiplies a value by a word of number: 2 million, $2 million.
func scale(n *Node, k int64) *Node {
	switch {
	case n.Kind == Quantity:
		c := *n
		c.Args, c.text = []*Node{scale(n.Args[0], k)}, ""
		return &c
	case n.Kind == Number && n.Base == 0:
		return &Node{Kind: Number, Num: new(big.Rat).Mul(n.Num, big.NewRat(k, 1)), Decimals: -1}
	}
	return binary(Product, n, integer(k))
}

// unitsAgree tells what two units mean for the comparison of their numbers: the factor that takes the second to the first, or that they
// contradict each other.
func unitsAgree(a, b *Node) (factor *big.Rat, ok bool) {
	if a.said().unit.powers != b.said().unit.powers {
		return nil, pounds(a, b) || pounds(b, a)
	}
	if a.said().unit.size.Cmp(b.said().unit.size) == 0 {
		return nil, true
	}
	return new(big.Rat).Quo(b.said().unit.size, a.said().unit.size), true
}

// pounds: the word is a weight and money.
func pounds(word, sign *Node) bool {
	return strings.HasPrefix(strings.ToLower(word.Name), "pound") && sign.said().unit.powers == units["£"].powers &&
		sign.said().unit.size.IsInt()
}

// compound adds the smaller part of a value that is said in two units, as 2 hours 30 minutes; nil when b is no such part.
func compound(a, b *Node) *Node {
	if a.Kind != Quantity || b.Kind != Quantity || a.said().unit.powers != b.said().unit.powers ||
		a.said().unit.size.Cmp(b.said().unit.size) <= 0 {
		return nil
	}
	x, y := a.Args[0], b.Args[0]
	if x.Kind != Number || y.Kind != Number || y.Num.Sign() < 0 || !x.Num.IsInt() {
		return nil
	}
	part := new(big.Rat).Quo(b.said().unit.size, a.said().unit.size)
	if part.Mul(part, y.Num); part.Cmp(big.NewRat(1, 1)) >= 0 {
		return nil
	}
	sum := new(big.Rat)
	if x.Num.Sign() < 0 {
		sum.Sub(x.Num, part)
	} else {
		sum.Add(x.Num, part)
	}
	return &Node{Kind: Quantity, Args: []*Node{{Kind: Number, Num: sum, Decimals: -1}}, Name: a.Name,
		beside: &beside{unit: a.said().unit, note: b.said().note}}
}
