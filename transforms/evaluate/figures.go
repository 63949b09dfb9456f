package evaluate

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/millrace/millrace/transforms/series"
)

// Resamples is how often prompts are drawn again, with replacement, for standard errors and intervals (the bootstrap of
// Efron 1979, with the prompt as its unit: responses to one prompt are not independent).
const Resamples = 1000

// figures are numbers computed together from prompts, prompt i counting w[i] times. NaN is a number that the prompts do
// not have, such as an area under the curve with one class.
type figures struct {
	names []string
	at    func(w []float64) []float64 // at least one number a name
}

// lowerIsBetter names the figures that are errors.
var lowerIsBetter = []string{"ece", "brier", "truth_ece", "truth_brier"}

// laid is an evaluation laid out for figures: prompts in the order of their ids.
type laid struct {
	c       Config
	prompts []PromptResult
	items   []placedItem
	steps   []*sweep // one a rule
	truth   []truthPoint
}

// placedItem is an item with the place of its prompt.
type placedItem struct {
	Item
	prompt int
}

// layOut sorts what was summed up and scores the items. Items are in the order of prompts and responses, so that halves do
// not depend on the order of records.
func (c Config) layOut(s Sums) *laid {
	l := &laid{c: c, prompts: slices.SortedFunc(slices.Values(s.Prompts), byID)}
	at := map[[16]byte]int{}
	for i, p := range l.prompts {
		at[p.ID] = i
	}
	for _, item := range s.Items {
		if i, ok := at[item.PromptID]; ok {
			l.items = append(l.items, placedItem{item, i})
		}
	}
	slices.SortFunc(l.items, func(a, b placedItem) int {
		return cmp.Or(cmp.Compare(a.prompt, b.prompt), slices.Compare(a.ID[:], b.ID[:]), cmp.Compare(len(a.StepEnds), len(b.StepEnds)))
	})
	labels := make([]int, len(l.items))
	for i, item := range l.items {
		labels[i] = item.FirstError
	}
	if c.Steps {
		for _, rule := range c.Rules {
			scores := make([][]float64, len(l.items))
			for i, item := range l.items {
				scores[i] = item.scores(rule)
			}
			l.steps = append(l.steps, newSweep(scores, labels, ReleasedGrid))
		}
	}
	for _, item := range l.items {
		for k, x := range item.Truth {
			l.truth = append(l.truth, truthPoint{item.prompt, item.P[k], x, item.Outcome})
		}
	}
	return l
}

// itemWeights are the weights of items whose prompts have weights w: all of them, and the two halves of the held-out
// threshold, which take every other prompt that has items.
func (l *laid) itemWeights(w []float64) (all, even, odd []float64) {
	all, even, odd = make([]float64, len(l.items)), make([]float64, len(l.items)), make([]float64, len(l.items))
	rank, last := -1, -1
	for i, item := range l.items {
		if item.prompt != last {
			rank, last = rank+1, item.prompt
		}
		all[i] = w[item.prompt]
		if rank%2 == 0 {
			even[i] = w[item.prompt]
		} else {
			odd[i] = w[item.prompt]
		}
	}
	return all, even, odd
}

func (l *laid) ones() []float64 {
	w := make([]float64, len(l.prompts))
	for i := range w {
		w[i] = 1
	}
	return w
}

// compared are the figures by which two reward models are compared.
func (l *laid) compared() []figures {
	var out []figures
	for _, k := range l.c.K {
		out = append(out, l.perPrompt(fmt.Sprintf("best_of_%d", k), func(p PromptResult) (float64, bool) { return p.bestOf(l.c.Score, k) }))
	}
	out = append(out, l.perPrompt("auc_within_prompts", func(p PromptResult) (float64, bool) { return p.auc(l.c.Score) }),
		l.finalAUC(), l.calibration(-1))
	if l.c.Steps {
		for k, rule := range l.c.Rules {
			f := l.stepFigures(k)
			f.names = []string{"f1_" + rule + "_best", "f1_" + rule + "_held_out"}
			out = append(out, f)
		}
	}
	if l.c.Truth {
		f := l.truthFigures()
		f.names = f.names[:len(f.names)-1] // the last is the truth's own
		out = append(out, f)
	}
	return out
}

// perPrompt is the mean of a number a prompt, over the prompts that have it.
func (l *laid) perPrompt(name string, of func(PromptResult) (float64, bool)) figures {
	values, has := make([]float64, len(l.prompts)), make([]bool, len(l.prompts))
	for i, p := range l.prompts {
		values[i], has[i] = of(p)
	}
	return figures{names: []string{name}, at: func(w []float64) []float64 {
		sum, n := 0.0, 0.0
		for i, x := range values {
			if has[i] {
				sum += w[i] * x
				n += w[i]
			}
		}
		return []float64{sum / n}
	}}
}

// point is a probability or score with the outcome it foretells.
type point struct {
	prompt    int
	x, y      float64
	weight    float64
	newTie    bool // x is above that of the point before
	ofBin     int
	gap, gap2 float64 // y - x, and its square
}

func sortPoints(points []point) []point {
	slices.SortStableFunc(points, func(a, b point) int { return cmp.Compare(a.x, b.x) })
	for i := range points {
		points[i].newTie = i == 0 || points[i].x > points[i-1].x
	}
	return points
}

// weightedAUC is the area under the curve of sorted points.
func weightedAUC(points []point, w []float64) float64 {
	var below, right, won, tieRight, tieWrong float64
	for _, p := range points {
		if p.newTie {
			won += tieRight * (below + tieWrong/2)
			below += tieWrong
			right += tieRight
			tieRight, tieWrong = 0, 0
		}
		if p.y > 0.5 {
			tieRight += w[p.prompt] * p.weight
		} else {
			tieWrong += w[p.prompt] * p.weight
		}
	}
	won += tieRight * (below + tieWrong/2)
	below += tieWrong
	right += tieRight
	return won / (right * below) // NaN with one class
}

// finalAUC is the area under the curve of the score of whole responses, over all prompts.
func (l *laid) finalAUC() figures {
	var points []point
	for i, p := range l.prompts {
		for _, r := range p.Responses {
			points = append(points, point{prompt: i, x: r.score(l.c.Score), y: r.Outcome, weight: 1})
		}
	}
	points = sortPoints(points)
	return figures{names: []string{"auc"}, at: func(w []float64) []float64 { return []float64{weightedAUC(points, w)} }}
}

// calibration gives ECE, Brier score and area under the curve of prefixes: of one tenth of the responses, or of all (-1).
// Responses longer than 10 x keptOfDecile tokens take part with evenly spaced prefixes.
func (l *laid) calibration(decile int) figures {
	var points []point
	for i, p := range l.prompts {
		for _, r := range p.Responses {
			for d, kept := range r.Deciles {
				if decile >= 0 && d != decile || len(kept) == 0 {
					continue
				}
				weight := float64(decileLen(d, r.Tokens)) / float64(len(kept))
				for _, x32 := range kept {
					x := float64(x32)
					points = append(points, point{prompt: i, x: x, y: r.Outcome, weight: weight, ofBin: bin(x, l.c.Bins), gap: r.Outcome - x,
						gap2: (r.Outcome - x) * (r.Outcome - x)})
				}
			}
		}
	}
	points = sortPoints(points)
	gaps := make([]float64, l.c.Bins)
	return figures{names: []string{"ece", "brier", "prefix_auc"}, at: func(w []float64) []float64 {
		clear(gaps)
		brier, n := 0.0, 0.0
		for _, p := range points {
			x := w[p.prompt] * p.weight
			gaps[p.ofBin] += x * p.gap
			brier += x * p.gap2
			n += x
		}
		ece := 0.0
		for _, g := range gaps {
			ece += math.Abs(g)
		}
		return []float64{ece / n, brier / n, weightedAUC(points, w)}
	}}
}

// stepFigures are the F1 of one rule at the best and at the held-out threshold.
func (l *laid) stepFigures(rule int) figures {
	s := l.steps[rule]
	return figures{names: []string{"best", "held_out"}, at: func(w []float64) []float64 {
		all, even, odd := l.itemWeights(w)
		best, chosen := s.best(all), s.best(even)
		held := s.at(chosen.at, odd)
		out := []float64{best.harmonic(), held.harmonic()}
		if best.err == 0 || best.ok == 0 {
			out[0] = math.NaN()
		}
		if chosen.err == 0 || chosen.ok == 0 || held.err == 0 || held.ok == 0 {
			out[1] = math.NaN()
		}
		return out
	}}
}

// truthPoint is a step end: what the model says, and what continuations say.
type truthPoint struct {
	prompt           int
	p, truth, result float64
}

// truthFigures hold p_correct at step ends against the share of right continuations: correlation, ECE, mean squared error,
// and the areas under the curve of both against the response's outcome.
func (l *laid) truthFigures() figures {
	model, truth := make([]point, 0, len(l.truth)), make([]point, 0, len(l.truth))
	for _, t := range l.truth {
		model = append(model, point{prompt: t.prompt, x: t.p, y: t.result, weight: 1})
		truth = append(truth, point{prompt: t.prompt, x: t.truth, y: t.result, weight: 1})
	}
	model, truth = sortPoints(model), sortPoints(truth)
	return figures{names: []string{"truth_r", "truth_ece", "truth_brier", "truth_step_auc", "truth_best_auc"},
		at: func(w []float64) []float64 {
			var n, sx, sy, sxx, sxy, syy, mse float64
			gaps := make([]float64, l.c.Bins)
			for _, t := range l.truth {
				x := w[t.prompt]
				n += x
				sx, sy = sx+x*t.p, sy+x*t.truth
				mse += x * (t.p - t.truth) * (t.p - t.truth)
				gaps[bin(t.p, l.c.Bins)] += x * (t.truth - t.p)
			}
			mx, my := sx/n, sy/n
			ece := 0.0
			for _, g := range gaps {
				ece += math.Abs(g) / n
			}
			for _, t := range l.truth {
				x, dx, dy := w[t.prompt], t.p-mx, t.truth-my
				sxx, sxy, syy = sxx+x*dx*dx, sxy+x*dx*dy, syy+x*dy*dy
			}
			return []float64{sxy / math.Sqrt(sxx*syy), ece, mse / n, weightedAUC(model, w), weightedAUC(truth, w)}
		}}
}

func bin(p float64, bins int) int { return min(int(math.Floor(float64(bins)*p)), bins-1) }

// resample draws n prompts of n with replacement, Resamples times; always the same draws for the same n.
func resample(n int, f func(w []float64)) {
	r := rand.New(rand.NewPCG(uint64(n), Resamples))
	w := make([]float64, n)
	for range Resamples {
		clear(w)
		for range n {
			w[r.IntN(n)]++
		}
		f(w)
	}
}

// stdErrs are the standard deviations of figures over resampled prompts; nil where fewer than two prompts or half of the
// resamples have the figure.
func stdErrs(n int, all []figures) [][]*float64 {
	spread := make([][]series.Moments, len(all))
	out := make([][]*float64, len(all))
	for k, f := range all {
		spread[k], out[k] = make([]series.Moments, len(f.names)), make([]*float64, len(f.names))
	}
	if n < 2 {
		return out
	}
	resample(n, func(w []float64) {
		for k, f := range all {
			values := f.at(w)
			for j := range f.names {
				if x := values[j]; series.AllFinite(x) {
					spread[k][j].Add(x)
				}
			}
		}
	})
	for k := range all {
		for j, m := range spread[k] {
			if m.N > Resamples/2 {
				x := m.SampleStd()
				out[k][j] = &x
			}
		}
	}
	return out
}

// Figure is a number with its error.
type Figure struct {
	Value  *float64 `json:"value"`   // nil: the rows do not have it
	StdErr *float64 `json:"std_err"` // over resampled prompts; nil where it cannot be told
	N      int      `json:"n"`       // what it was counted over
}

func figure(x float64, stdErr *float64, n int) Figure {
	f := Figure{StdErr: stdErr, N: n}
	if series.AllFinite(x) {
		f.Value = &x
	}
	return f
}
