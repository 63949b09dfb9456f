package run

import (
	"math"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// mismatch sums up how far the log-probs of an engine that sampled are from the trainer's own of the same tokens (algorithms.md 4.9).
type mismatch struct {
	tokens         int
	sum, most      float64 // of |log-ratios|
	weighed        int
	weights, left  float64
	heaviest       float64
	oldest, newest float64 // version of the engine's weights
	versions       bool
}

func (m *mismatch) add(b stage.Batch) {
	sampler, err := schemas.SamplerLogP.Find(b)
	if err != nil {
		return
	}
	column := schemas.OldLogP
	if d, ok := schemas.LogPOf(b, schemas.SamplerLogP); ok && d.Temperature != 1 && b.Has(schemas.TemperedOldLogP) {
		column = schemas.TemperedOldLogP
	}
	own, err := column.Find(b)
	if err != nil {
		return
	}
	weight, weightErr := schemas.ImportanceWeight.Find(b)
	version, versionErr := schemas.PolicyVersion.Find(b)
	ownOf := stage.OwnOf(b)
	for i := range b.NumRows() {
		a, s := own.Row(i), sampler.Row(i)
		if len(a) != len(s) {
			continue
		}
		at := ownOf(i, len(a))
		s = stage.Pick(at, s)
		for k, x := range stage.Pick(at, a) {
			d := math.Abs(float64(x) - float64(s[k]))
			m.tokens++
			m.sum += d
			m.most = max(m.most, d)
		}
		if weightErr == nil && weight.Valid(i) {
			for _, w := range stage.Pick(at, weight.Row(i)) {
				m.weighed++
				m.weights += float64(w)
				m.heaviest = max(m.heaviest, float64(w))
				if w == 0 {
					m.left++
				}
			}
		}
		if versionErr == nil {
			v, _ := version.At(i)
			if !m.versions || float64(v) < m.oldest {
				m.oldest = float64(v)
			}
			m.newest, m.versions = max(m.newest, float64(v)), true
		}
	}
}

func (m *mismatch) into(metrics map[string]float64) {
	if m.tokens == 0 {
		return
	}
	metrics["mismatch"], metrics["mismatch_max"] = m.sum/float64(m.tokens), m.most
	if m.weighed > 0 {
		metrics["importance/mean"], metrics["importance/max"] = m.weights/float64(m.weighed), m.heaviest
		metrics["importance/zero_share"] = m.left / float64(m.weighed)
	}
	if m.versions {
		metrics["policy_version"] = m.oldest
	}
}
