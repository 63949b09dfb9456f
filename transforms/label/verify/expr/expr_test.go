package expr

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

func parse(t testing.TB, s string) *Node {
	t.Helper()
	n, _, err := Parse(s, DefaultLimits(), Options{})
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return n
}

// TestElementary holds the elementary functions against known digits.
func TestElementary(t *testing.T) {
	for s, want := range map[string]string{
		"\\pi":                 "3.14159265358979323846264338327950288419716939937510",
		"e":                    "2.71828182845904523536028747135266249775724709369995",
		"\\ln 2":               "0.69314718055994530941723212145817656807550013436025",
		"\\sin 1":              "0.84147098480789650665250232163029899962256306079837",
		"\\cos 1":              "0.54030230586813971740093660744297660373231042061792",
		"\\tan 1":              "1.55740772465490223050697480745836017308725077238152",
		"\\arctan 2":           "1.10714871779409050301706546017853704007004764540143",
		"e^{10}":               "22026.4657948067165169579006452842443663535126185567810",
		"\\ln 10":              "2.30258509299404568401799145468436420760110148862877",
		"\\sqrt{2}":            "1.41421356237309504880168872420969807856967187537694",
		"\\sinh 1":             "1.17520119364380145688238185059560081515571798133409",
		"\\log_{10} 2":         "0.30102999566398119521373889472449302676818988146210",
		"2^{1/3}":              "1.25992104989487316476721060727822835057025146470150",
		"\\sin(1000)":          "0.82687954053200256025588742910921814121272496784778",
		"\\arcsin\\frac{1}{3}": "0.33983690945412193709639251339176406638824469033245",
	} {
		v, ok, err := Real(parse(t, s), DefaultLimits())
		if err != nil || !ok {
			t.Errorf("%s: %v %v", s, ok, err)
			continue
		}
		w, _, err := big.ParseFloat(want, 10, precision, big.ToNearestEven)
		if err != nil {
			t.Fatal(err)
		}
		d := newFloat().Sub(v, w)
		if d.Sign() != 0 && d.MantExp(nil) > w.MantExp(nil)-155 {
			t.Errorf("%s = %s, want %s", s, v.Text('f', 50), want)
		}
	}
}

// writer prints a random expression twice: the second time with sums and products in another order, powers spelt out.
type writer struct{ r *rand.Rand }

func (w writer) expression(depth int) (a, b string) {
	if depth == 0 {
		switch w.r.IntN(4) {
		case 0:
			s := fmt.Sprint(w.r.IntN(9) + 1)
			return s, s
		case 1:
			s := string("xyz"[w.r.IntN(3)])
			return s, s
		case 2:
			n := w.r.IntN(5) + 2
			return fmt.Sprintf("\\sqrt{%d}", 4*n), fmt.Sprintf("2\\sqrt{%d}", n)
		default:
			n := w.r.IntN(9) + 1
			return fmt.Sprintf("\\frac{%d}{7}", n), fmt.Sprintf("(%d/14)", 2*n)
		}
	}
	a1, b1 := w.expression(depth - 1)
	a2, b2 := w.expression(w.r.IntN(depth))
	switch w.r.IntN(6) {
	case 0, 1:
		return "(" + a1 + "+" + a2 + ")", "(" + b2 + "+" + b1 + ")"
	case 2:
		return "(" + a1 + "-" + a2 + ")", "(-(" + b2 + ")+" + b1 + ")"
	case 3:
		return a1 + "\\cdot " + a2, "(" + b2 + ")(" + b1 + ")"
	case 4:
		return "(" + a1 + ")^2", "(" + b1 + ")\\cdot(" + b1 + ")"
	}
	return "\\frac{" + a1 + "}{1+(" + a2 + ")^2}", "(" + b1 + ")\\div(1+(" + b2 + ")^2)"
}

// TestRearranged compares random expressions with themselves written otherwise, and with a neighbour.
func TestRearranged(t *testing.T) {
	undecided := 0
	const n = 600
	for seed := uint64(0); seed < n; seed++ {
		w := writer{rand.New(rand.NewPCG(seed, 7))}
		a, b := w.expression(1 + int(seed%4))
		x, y := parse(t, a), parse(t, b)
		c, err := Compare(x, y, DefaultLimits(), Options{})
		if err != nil {
			undecided++
			continue
		}
		if !c.Equal {
			t.Errorf("%s and %s differ (%s)", a, b, c.Rule)
		}
		c, err = Compare(x, parse(t, b+"+\\frac{1}{1000}"), DefaultLimits(), Options{})
		if err == nil && c.Equal {
			t.Errorf("%s and %s + 1/1000 are the same (%s)", a, b, c.Rule)
		}
		if c, err := Compare(x, parse(t, "-("+b+")"), DefaultLimits(), Options{}); err == nil && c.Equal {
			if z, ok, _ := Real(x, DefaultLimits()); !ok || z.Sign() != 0 {
				if zero, err := Compare(x, integer(0), DefaultLimits(), Options{}); err != nil || !zero.Equal {
					t.Errorf("%s and -(%s) are the same (%s)", a, b, c.Rule)
				}
			}
		}
	}
	if undecided > n/20 {
		t.Errorf("%d of %d comparisons ran out of budget", undecided, n)
	}
}

// TestLimits: every kind of limit ends in ErrBudget or a verdict, never in anything else.
func TestLimits(t *testing.T) {
	for _, l := range []Limits{{Bytes: 10}, {Depth: 3}, {Nodes: 5}, {Bits: 16}, {Terms: 2}, {Steps: 100}} {
		d := DefaultLimits()
		for _, f := range []struct{ v, d *int }{{&l.Bytes, &d.Bytes}, {&l.Depth, &d.Depth}, {&l.Nodes, &d.Nodes}, {&l.Bits, &d.Bits},
			{&l.Terms, &d.Terms}, {&l.Steps, &d.Steps}} {
			if *f.v == 0 {
				*f.v = *f.d
			}
		}
		s := "((x+y+1)^5+12345^{17}+\\sqrt{2})\\cdot 3"
		n, _, err := Parse(s, l, Options{})
		if err != nil {
			if err != ErrBudget {
				t.Errorf("%+v: %v", l, err)
			}
			continue
		}
		if _, err := Compare(n, parse(t, "x+1"), l, Options{}); err != nil && err != ErrBudget {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

func TestCanonical(t *testing.T) {
	for s, want := range map[string]string{
		"\\dfrac12":                         "(1/2)",
		"1\\frac{1}{4}":                     "5/4",
		"\\left[0, 1\\right)":               "[0, 1)",
		"x \\le 5":                          "x <= 5",
		"\\text{ Evelyn }":                  "evelyn",
		"4210_{7}":                          "4210_7",
		"3:30 \\text{ pm}":                  "clock 930",
		"12\\text{ cm}^2":                   "12 cm^2",
		"\\{1, 2\\}":                        "{1, 2}",
		"\\begin{bmatrix}1&2\\end{bmatrix}": "[1, 2]",
		"\\frac1e3{2}":                      "(1000/2)", // an exponent is no argument of its own
	} {
		if got := parse(t, s).String(); got != want {
			t.Errorf("%s: %s, want %s", s, got, want)
		}
	}
	for _, bad := range []string{"", "(1", "1)", "\\frac{1}", "x=", "^2", "\\begin{matrix}1", "1 2", strings.Repeat("(", 50)} {
		if n, _, err := Parse(bad, DefaultLimits(), Options{}); err == nil {
			t.Errorf("%q: read as %s", bad, n)
		}
	}
}
