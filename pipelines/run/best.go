package run

import (
	"context"
	"strings"

	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/transforms/files"
)

// BestName is the file of a run that names its best iteration. It follows from the metrics, and is no part of what is committed.
const BestName = "best.json"

// Best is the iteration whose policy was the best on a set.
type Best struct {
	Iteration int     `json:"iteration"` // -1: what the run started from
	Metric    string  `json:"metric"`
	Value     float64 `json:"value"`
	StdErr    float64 `json:"std_err"`
	Measured  int     `json:"measured"` // evaluations that it is the best of
}

// BestOf finds the first of the iterations with the largest accuracy on a set, "" for the held-out prompts; false where none was
// measured.
func BestOf(all []Measurement, set string) (best Best, ok bool) {
	for _, m := range all {
		best.add(m, set)
	}
	return best, best.Measured > 0
}

// add takes in a measurement.
func (b *Best) add(m Measurement, set string) {
	name := m.AccuracyName()
	if set != "" && set != recipe.HeldOutName {
		name = ""
		for key := range m.Metrics {
			if strings.HasPrefix(key, SetMetric+set+"/"+avgAt) && !strings.HasSuffix(key, stdErrAfter) {
				name = key
			}
		}
	}
	x, there := m.Metrics[name]
	if !there {
		return
	}
	n := b.Measured + 1
	if name != b.Metric { // accuracies over other numbers of samples do not compare: a run may go on with another
		n = 1
	}
	if n == 1 || x > b.Value {
		*b = Best{Iteration: m.Iterations - 1, Metric: name, Value: x, StdErr: m.Metrics[name+stdErrAfter]}
	}
	b.Measured = n
}

// writeBest names the best iteration so far.
func (all *iterations) writeBest(ctx context.Context) error {
	if all.best.Measured == 0 {
		return nil
	}
	return writeState(ctx, files.Join(all.Path, BestName), all.best, false)
}
