// Package show makes rollouts and dead letters readable: as tables for people, as JSON lines for programs.
package show

import (
	"math"
	"slices"
	"strings"
)

// Rollout is one response with what the chain of stages knows of it. Figures that are not known are NaN.
type Rollout struct {
	Name       string  `json:"name,omitempty"` // what tells it from others, such as its response id
	Prompt     string  `json:"prompt"`
	Answer     string  `json:"answer"`              // the right one
	Outcome    *bool   `json:"outcome"`             // nil: the verifier abstained
	Undecided  string  `json:"undecided,omitempty"` // why, where that is known
	FirstError *int    `json:"first_error"`         // first wrong step, from 0; -1: every step is right; nil: not known
	Tokens     []Token `json:"tokens"`
}

// Token is a response token. Value is the prefix value V_t in nats, PCorrect the probability σ(V_t/t) of a correct outcome
// it stands for, Advantage the token's TD advantage, LogP its log-probability under the policy that sampled it.
type Token struct {
	Text                             string
	LogP, Value, PCorrect, Advantage float64
	Candidates                       []Candidate // the listed tokens of this position; the first is the sampled one
}

// Candidate is a token that could have been sampled.
type Candidate struct {
	Text            string
	LogP, Advantage float64
}

// Response is the text of the tokens.
func (r Rollout) Response() string {
	var text strings.Builder
	for _, t := range r.Tokens {
		text.WriteString(t.Text)
	}
	return text.String()
}

// Steps gives the step, from 0, of every token. A step is a line that is not blank, with its line break; blank lines belong
// to the step after them.
func (r Rollout) Steps() []int {
	steps := make([]int, len(r.Tokens))
	step, blank := 0, true
	for i, t := range r.Tokens {
		steps[i] = step
		blank = blank && strings.TrimSpace(t.Text) == ""
		if !blank && strings.Contains(t.Text, "\n") {
			step, blank = step+1, true
		}
	}
	return steps
}

// Scale maps p_correct and advantages to tints of a diverging colour scale. A short chain's prefix values all lie near 0, so
// the scale spans what occurs, evenly around the neutral point: a tint always shows the right side of it.
type Scale struct {
	PCorrect  float64 // distance from 0.5 that gets the strongest tint
	Advantage float64 // distance from 0 that gets it
}

// Tints is the number of tints on either side of neutral.
const Tints = 4

// NewScale fits a scale to the rollouts: all but the most extreme hundredth of the tokens lie within.
func NewScale(rollouts []Rollout) Scale {
	var ps, as []float64
	for _, r := range rollouts {
		for _, t := range r.Tokens {
			ps, as = appendFinite(ps, math.Abs(t.PCorrect-0.5)), appendFinite(as, math.Abs(t.Advantage))
		}
	}
	return Scale{PCorrect: span(ps, 0.02), Advantage: span(as, 1e-6)}
}

// Value is the tint of a p_correct: -Tints (surely wrong) … 0 (even) … Tints (surely right).
func (s Scale) Value(pCorrect float64) int { return tint((pCorrect - 0.5) / s.PCorrect) }

// AdvantageTint is the tint of an advantage: -Tints … Tints.
func (s Scale) AdvantageTint(advantage float64) int { return tint(advantage / s.Advantage) }

func tint(x float64) int {
	if math.IsNaN(x) {
		return 0
	}
	return int(math.Round(Tints * min(max(x, -1), 1)))
}

func appendFinite(xs []float64, x float64) []float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return xs
	}
	return append(xs, x)
}

// span is the 99th percentile of distances, at least the given floor.
func span(distances []float64, floor float64) float64 {
	if len(distances) == 0 {
		return floor
	}
	slices.Sort(distances)
	return max(distances[(len(distances)-1)*99/100], floor)
}
