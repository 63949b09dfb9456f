package advantage

import "github.com/millrace/millrace/transforms/series"

// Totals are the sums over all responses of a batch from which the constants of its advantages follow. All of them are
// exact, so they are the same whatever the number of records, shards or workers; they merge, and marshal to JSON.
type Totals struct {
	Value series.Moments  // prefix values V_1..V_T: sigma_V
	TD    series.Moments  // TD advantages of the sampled tokens: the mean of `batch` GAE
	Path  series.Residual // their discounted sums, against those of a constant 1: the whitening of `batch` GAE
	GAE   series.Moments  // advantages from a value head: the whitening of PPO
	Score series.Moments  // Q-RM's token scores Z
	Head  series.Moments  // values of a value head
}

// AddTD takes in the TD advantages of the sampled tokens of one response (last one zeroed where that is wanted).
func (m *Totals) AddTD(td []float64, rate float64) {
	v, ones := make([]float64, len(td)), make([]float64, len(td))
	series.Running(v, td)
	for t, x := range v {
		m.Value.Add(x)
		m.TD.Add(td[t])
		ones[t] = 1
	}
	series.Discounted(v, td, rate)
	series.Discounted(ones, ones, rate)
	for t := range v {
		m.Path.Add(v[t], ones[t])
	}
}

// Merge takes in all of o. o is unchanged.
func (m *Totals) Merge(o Totals) {
	m.Value.Merge(o.Value)
	m.TD.Merge(o.TD)
	m.Path.Merge(o.Path)
	m.GAE.Merge(o.GAE)
	m.Score.Merge(o.Score)
	m.Head.Merge(o.Head)
}

// BatchGAE returns the mean of TD and sigma_V that `batch` GAE normalises with.
func (m *Totals) BatchGAE() (mean, sigmaV float64) { return m.TD.Mean(), SigmaV(m.Value) }

// Whitening returns mean and sample variance of the batch's `batch` GAE. No second pass is needed: the estimate is linear
// in the mean that is subtracted, a_t = (D_t - mean·C_t) / (sigmaV + eps), with D and C the discounted sums of TD and of 1.
func (m *Totals) Whitening(eps float64) (mean, sampleVar float64) {
	td, sigmaV := m.BatchGAE()
	mean, sampleVar = m.Path.At(td)
	scale := sigmaV + eps
	return mean / scale, sampleVar / (scale * scale)
}

// constants are the numbers that advantages are computed with.
type constants struct {
	sigmaV              float64
	tdMean              float64
	whiteMean, whiteVar float64 // of the GAE that is whitened: over TD advantages, or over a value head
	scoreMean, scoreStd float64
	headMean, headStd   float64
}

// constants reads what the kind needs off the sums.
func (m *Totals) constants(c *Config) constants {
	k := constants{sigmaV: SigmaV(m.Value)}
	switch c.Kind {
	case Combined:
		k.tdMean, _ = m.BatchGAE()
		k.whiteMean, k.whiteVar = m.Whitening(c.Eps)
	case PPO:
		k.whiteMean, k.whiteVar = m.GAE.Mean(), m.GAE.SampleVar()
	case QRM, QRMPPO:
		k.scoreStd, k.headStd = m.Score.Std(), m.Head.Std()
		if c.Centre {
			k.scoreMean, k.headMean = m.Score.Mean(), m.Head.Mean()
		}
	}
	return k
}
