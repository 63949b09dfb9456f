package doctor

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"unicode/utf8"
)

// Lengths are those of responses.
type Lengths struct {
	Unit      string  `json:"unit"`
	Mean      float64 `json:"mean"`
	Median    int     `json:"median"`
	P95       int     `json:"p95"`
	Max       int     `json:"max"`
	Right     float64 `json:"right,omitzero"` // mean of right responses
	Wrong     float64 `json:"wrong,omitzero"` // mean of wrong ones
	Truncated int     `json:"truncated"`
	// Correlation is Pearson's, of the score (or of the verifier's outcome) with the length.
	Correlation *float64 `json:"correlation,omitempty"`
}

// A correlation above this is a finding, where there are so many responses.
const (
	correlated     = 0.3
	correlatedRows = 30
)

// lengths looks at how long responses are, and whether they were cut off.
type lengths struct {
	nothing
	tokens    bool
	all, sum  int
	of        map[int]int
	unsaid    int // why they ended
	truncated counted
	longest   counted // responses of the greatest length that do not say why they ended
	max       int
	right     [2]struct{ n, sum int } // wrong, right
	pearson   pearson
}

func (l *lengths) response(r *response) {
	n := len(r.given.Tokens)
	if !l.tokens {
		n = utf8.RuneCountInString(r.given.Text)
	}
	if l.of == nil {
		l.of = map[int]int{}
	}
	l.all++
	l.of[n]++
	l.sum += n
	example := func() Example {
		return Example{Row: r.where, Text: tail(r.given.Text), Why: fmt.Sprintf("%d %s", n, l.unit())}
	}
	switch r.given.Finish {
	case "length":
		l.truncated.add(example)
	case "":
		l.unsaid++
		if n > l.max {
			l.longest = counted{}
		}
		if n >= l.max {
			l.longest.add(example)
		}
	}
	l.max = max(l.max, n)
	if right := r.best(); right != nil {
		x, k := 0.0, 0
		if *right {
			x, k = 1, 1
		}
		l.right[k].n++
		l.right[k].sum += n
		if r.score != nil {
			x = *r.score
		}
		l.pearson.add(float64(n), x)
	}
}

func (l *lengths) unit() string {
	if l.tokens {
		return "tokens"
	}
	return "characters"
}

func (l *lengths) findings(out *Report) (found []Finding) {
	if l.all == 0 {
		return nil
	}
	sum := &Lengths{Unit: l.unit(), Mean: float64(l.sum) / float64(l.all), Median: l.quantile(0.5), P95: l.quantile(0.95), Max: l.max,
		Truncated: l.truncated.n}
	for k, into := range []*float64{&sum.Wrong, &sum.Right} {
		if of := l.right[k]; of.n > 0 {
			*into = float64(of.sum) / float64(of.n)
		}
	}
	if r, ok := l.pearson.correlation(); ok {
		sum.Correlation = &r
		if math.Abs(r) >= correlated && l.pearson.n >= correlatedRows {
			longer := "Longer"
			if r < 0 {
				longer = "Shorter"
			}
			found = append(found, Finding{Kind: "length_correlation", Severity: Warning, Count: int(l.pearson.n), Of: l.all, Unit: "responses",
				Meaning: fmt.Sprintf("%s responses have higher scores (correlation %.2f): a policy may learn the length in the place of the reasoning.",
					longer, r),
				Advice: "Compare responses of like length, or bound what length can bring (a length penalty, dr-grpo's denominators); look at " +
					"truncated ones first."})
		}
	}
	out.Lengths = sum
	severity := Note
	if 10*l.truncated.n >= l.all {
		severity = Warning
	}
	found = append(found, Finding{Kind: "truncated", Severity: severity, Count: l.truncated.n, Of: l.all, Unit: "responses",
		Meaning:  "The response was cut off at its length limit, mostly before its answer: it counts as wrong, whatever its reasoning was.",
		Advice:   "Raise the limit, or leave such responses out of the loss; many of them teach a policy to be short.",
		Examples: l.truncated.examples})
	if n := l.longest.n; l.tokens && l.unsaid == l.all && n >= 3 && 50*n >= l.all {
		found = append(found, Finding{Kind: "same_longest", Severity: Warning, Count: n, Of: l.all, Unit: "responses",
			Meaning: fmt.Sprintf("As many responses have exactly %d tokens, more than which none has, and no column says why they ended: they "+
				"look cut off.", l.max),
			Advice:   "Name the column that says it (--field finish_reason=...), or the limit (label.max_tokens) when they are labelled.",
			Examples: l.longest.examples})
	} else if l.unsaid == l.all {
		found = append(found, Finding{Kind: "finish_unknown", Severity: Note, Count: l.unsaid, Of: l.all, Unit: "responses",
			Meaning: "No column says why responses ended, so it is not known which were cut off.",
			Advice:  "Name the column (--field finish_reason=...), or have the engine write it."})
	}
	return found
}

// quantile is a length that this share of responses does not pass.
func (l *lengths) quantile(q float64) int {
	left := q * float64(l.all)
	for _, n := range slices.Sorted(maps.Keys(l.of)) {
		if left -= float64(l.of[n]); left <= 0 {
			return n
		}
	}
	return l.max
}

// pearson is a correlation in one pass (Welford).
type pearson struct{ n, mx, my, xx, yy, xy float64 }

func (p *pearson) add(x, y float64) {
	p.n++
	dx, dy := x-p.mx, y-p.my
	p.mx += dx / p.n
	p.my += dy / p.n
	p.xx += dx * (x - p.mx)
	p.yy += dy * (y - p.my)
	p.xy += dx * (y - p.my)
}

func (p *pearson) correlation() (float64, bool) {
	if p.n < 2 || p.xx <= 0 || p.yy <= 0 {
		return 0, false
	}
	r := p.xy / math.Sqrt(p.xx*p.yy)
	return r, !math.IsNaN(r)
}
