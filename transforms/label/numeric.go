package label

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// NumericConfig compares numbers within a tolerance: |x - answer| <= absolute + relative·|answer|.
type NumericConfig struct {
	After    string  `json:"after"` // look only behind the last occurrence of this, on its line; "": the last number of the response
	Absolute float64 `json:"absolute"`
	Relative float64 `json:"relative"`
}

type numeric struct{ NumericConfig }

func newNumeric(c NumericConfig) (Verifier, error) {
	for _, f := range []struct {
		name string
		v    float64
	}{{"absolute", c.Absolute}, {"relative", c.Relative}} {
		if !(f.v >= 0) || math.IsInf(f.v, 0) {
			return nil, fmt.Errorf("%s: %v is not a finite number >= 0", f.name, f.v)
		}
	}
	return numeric{c}, nil
}

func (v numeric) Version() string { return version("numeric", 1, v.NumericConfig) }

// number is a decimal number: groups of three between commas or plain digits, a fraction, an exponent, a per cent sign.
var number = regexp.MustCompile(`[-+\x{2212}]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?%?`)

// maxNumberBytes bounds how far back a number is looked for.
const maxNumberBytes = 1 << 16

func (v numeric) Verify(_ context.Context, q Question) (Judgement, error) {
	want, err := parseNumber(strings.TrimSpace(q.Answer))
	if !q.HasAnswer || err != nil {
		return Judgement{Verdict: UnparsableAnswer, Rule: "the answer is not a number"}, nil
	}
	text, ok := after(q.Response, v.After)
	if ok && len(text) > maxNumberBytes {
		text = text[len(text)-maxNumberBytes:]
	}
	all := number.FindAllString(text, -1)
	if !ok || len(all) == 0 {
		return Judgement{Verdict: UnparsableResponse, Rule: "no number"}, nil
	}
	last := all[len(all)-1]
	if v.After != "" {
		last = all[0]
	}
	got, err := parseNumber(last)
	if err != nil {
		return Judgement{Verdict: UnparsableResponse, Extracted: last, Found: true, Rule: "a number out of range"}, nil
	}
	return decide(math.Abs(got-want) <= v.Absolute+v.Relative*math.Abs(want), last, "numbers within tolerance"), nil
}

func parseNumber(s string) (float64, error) {
	if loc := number.FindStringIndex(s); loc == nil || loc[0] != 0 || loc[1] != len(s) {
		return 0, fmt.Errorf("%.40q is not a number", s)
	}
	s = strings.NewReplacer(",", "", "\u2212", "-").Replace(s)
	plain, percent := strings.CutSuffix(s, "%")
	x, err := strconv.ParseFloat(plain, 64)
	if percent {
		x /= 100
	}
	return x, err
}
