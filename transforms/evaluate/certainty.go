package evaluate

import (
	"math"

	"github.com/google/uuid"
)

// UnsureBelow parts errors by the least probability that the policy gave to a token of the first wrong step: below it the policy was
// unsure of what it wrote, and its own log-probs tell where the error is; from it on it was confident of the error.
const UnsureBelow = 0.5

// ErrorRecall is the share of erroneous responses whose first wrong step is found at the held-out threshold of a rule, of the errors
// that the policy was unsure of and of those that it made with confidence.
type ErrorRecall struct {
	Rule      string `json:"rule"`
	Unsure    Figure `json:"unsure"`
	Confident Figure `json:"confident"`
}

// Certainty is, of each erroneous response, the least probability of a token of its first wrong step, where s is what the policy's own
// log-probs measured (value kind policy_logp).
func (c Config) Certainty(s Sums) map[uuid.UUID]float64 {
	out := map[uuid.UUID]float64{}
	for _, item := range s.Items {
		if item.FirstError >= 0 && item.FirstError < len(item.Least) {
			out[item.ID] = math.Exp(item.Least[item.FirstError] * c.Beta)
		}
	}
	return out
}

// ErrorsByCertainty parts the recall of every rule by how sure the policy was; responses whose certainty is not known count nowhere.
func (c Config) ErrorsByCertainty(s Sums, certain map[uuid.UUID]float64) []ErrorRecall {
	l := c.layOut(s)
	var all []figures
	for k := range l.steps {
		all = append(all, l.recallByCertainty(k, certain))
	}
	errs := stdErrs(len(l.prompts), all)
	_, _, odd := l.itemWeights(l.ones())
	var n [2]int
	for i, item := range l.items {
		if p, ok := certain[item.ID]; ok && odd[i] > 0 {
			n[half(p)]++
		}
	}
	var out []ErrorRecall
	for k, f := range all {
		x := f.at(l.ones())
		out = append(out, ErrorRecall{Rule: l.c.Rules[k], Unsure: figure(x[0], errs[k][0], n[0]), Confident: figure(x[1], errs[k][1], n[1])})
	}
	return out
}

// half is 0 of an error that the policy was unsure of.
func half(p float64) int {
	if p < UnsureBelow {
		return 0
	}
	return 1
}

// recallByCertainty chooses the threshold on one half of the prompts, as step F1 does, and counts on the other.
func (l *laid) recallByCertainty(rule int, certain map[uuid.UUID]float64) figures {
	s := l.steps[rule]
	return figures{names: []string{"unsure", "confident"}, at: func(w []float64) []float64 {
		_, even, odd := l.itemWeights(w)
		chosen := s.best(even)
		var found, of [2]float64
		for i, item := range l.items {
			p, ok := certain[item.ID]
			if !ok {
				continue
			}
			of[half(p)] += odd[i]
			if s.lo[i] <= chosen.at && chosen.at < s.hi[i] {
				found[half(p)] += odd[i]
			}
		}
		out := []float64{found[0] / of[0], found[1] / of[1]}
		if chosen.err == 0 || chosen.ok == 0 {
			out[0], out[1] = math.NaN(), math.NaN()
		}
		return out
	}}
}
