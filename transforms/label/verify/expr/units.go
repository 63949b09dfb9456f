package expr

import (
	"math/big"
	"strings"
)

// unit is a unit of measurement: its dimension, and its size in that dimension's reference unit.
type unit struct {
	dimension string
	size      *big.Rat
}

var units = map[string]unit{}

func init() {
	add := func(dimension string, num, den int64, names ...string) {
		for _, n := range names {
			units[n] = unit{dimension, big.NewRat(num, den)}
		}
	}
	add("length", 1, 1000, "mm", "millimeter", "millimeters", "millimetre", "millimetres")
	add("length", 1, 100, "cm", "centimeter", "centimeters", "centimetre", "centimetres")
	add("length", 1, 10, "dm", "decimeter", "decimeters")
	add("length", 1, 1, "m", "meter", "meters", "metre", "metres")
	add("length", 1000, 1, "km", "kilometer", "kilometers", "kilometre", "kilometres")
	add("length", 254, 10000, "inch", "inches", "in")
	add("length", 3048, 10000, "ft", "foot", "feet")
	add("length", 9144, 10000, "yd", "yard", "yards")
	add("length", 1609344, 1000, "mi", "mile", "miles")
	add("mass", 1, 1000, "mg", "milligram", "milligrams")
	add("mass", 1, 1, "g", "gram", "grams", "gm")
	add("mass", 1000, 1, "kg", "kilogram", "kilograms", "kilo", "kilos")
	add("mass", 45359237, 100000, "lb", "lbs", "pound", "pounds")
	add("mass", 45359237, 1600000, "oz", "ounce", "ounces")
	add("time", 1, 1000, "ms", "millisecond", "milliseconds")
	add("time", 1, 1, "s", "sec", "secs", "second", "seconds")
	add("time", 60, 1, "min", "mins", "minute", "minutes")
	add("time", 3600, 1, "h", "hr", "hrs", "hour", "hours")
	add("time", 86400, 1, "day", "days")
	add("time", 604800, 1, "week", "weeks")
	add("calendar", 1, 1, "month", "months")
	add("calendar", 12, 1, "year", "years", "yr", "yrs")
	add("money", 1, 1, "dollar", "dollars", "usd")
	add("money", 1, 100, "cent", "cents", "¢")
	add("euro", 1, 1, "€", "euro", "euros", "eur")
	add("yen", 1, 1, "¥", "yen")
	add("sterling", 1, 1, "£", "gbp")
	add("rupee", 1, 1, "₹", "rupee", "rupees", "rs")
	add("volume", 1, 1000, "ml", "milliliter", "milliliters", "millilitre", "millilitres")
	add("volume", 1, 1, "l", "liter", "liters", "litre", "litres")
	add("volume-us", 4, 1, "gallon", "gallons", "gal")
	add("volume-us", 1, 1, "quart", "quarts", "qt")
	add("volume-us", 1, 2, "pint", "pints")
	add("volume-us", 1, 4, "cup", "cups")
	add("speed", 1609344, 3600000, "mph", "milesperhour", "miles/hour", "mi/h", "miles/hr")
	add("speed", 1000, 3600, "kmh", "km/h", "kph", "kmperhour", "kilometersperhour", "km/hr")
	add("speed", 1, 1, "m/s", "meterspersecond", "metersper second")
	add("none", 1, 1, "unit", "units")
}

func isUnit(name string) bool {
	_, ok := units[strings.ToLower(name)]
	return ok
}

// quantity attaches words to a value: a unit that is known gives a Quantity, other words are a remark and are dropped.
func quantity(n *Node, words string, power int) *Node {
	key := strings.ToLower(strings.TrimSpace(strings.Trim(words, " .,\\")))
	key = strings.ReplaceAll(key, " / ", "/")
	for _, p := range [...]string{"square ", "sq ", "sq. ", "cubic "} {
		if strings.HasPrefix(key, p) {
			key = strings.TrimPrefix(key, p)
			power = 2
			if p == "cubic " {
				power = 3
			}
		}
	}
	if key == "percent" || key == "percents" || key == "pct" || key == "percentage" {
		return &Node{Kind: Percent, Args: []*Node{n}}
	}
	if key == "degrees" || key == "degree" {
		return &Node{Kind: Degree, Args: []*Node{n}}
	}
	if key == "million" || key == "billion" || key == "thousand" || key == "hundred" || key == "trillion" {
		scale := map[string]int64{"hundred": 100, "thousand": 1000, "million": 1e6, "billion": 1e9, "trillion": 1e12}[key]
		return binary(Product, n, integer(scale))
	}
	if n.Kind == Relation {
		last := len(n.Args) - 1
		args := append([]*Node{}, n.Args...)
		args[last] = quantity(args[last], words, power)
		return &Node{Kind: Relation, Ops: n.Ops, Args: args}
	}
	if units[key].dimension == "none" || n.Kind == Group || n.Kind == SetOp || n.Kind == Matrix || n.Kind == Text {
		return n
	}
	if _, ok := units[key]; !ok {
		if i := strings.IndexByte(key, ' '); i > 0 {
			first := key[:i]
			if _, ok := units[first]; ok && !strings.Contains(key, " per ") && !strings.Contains(key, "/") {
				return &Node{Kind: Quantity, Args: []*Node{n}, Name: first, Rows: power}
			}
		}
		return n
	}
	return &Node{Kind: Quantity, Args: []*Node{n}, Name: key, Rows: power}
}

// unitsAgree tells what two units mean for the comparison of their numbers: the factor that takes the second to the
// first, or that they contradict each other. Powers are left to the numbers: cm for cm^2 is a slip of notation.
func unitsAgree(a, b *Node) (factor *big.Rat, ok bool) {
	if a.Name == b.Name {
		return nil, true
	}
	ua, ub := units[a.Name], units[b.Name]
	if ua.dimension == "none" || ub.dimension == "none" {
		return nil, true
	}
	if ua.dimension != ub.dimension {
		return nil, false
	}
	f := new(big.Rat).Quo(ub.size, ua.size)
	out := big.NewRat(1, 1)
	for i := 0; i < max(a.Rows, 1) && i < 4; i++ {
		out.Mul(out, f)
	}
	return out, true
}
