package advantage

import "github.com/millrace/millrace/transforms/series"

// Totals are the sums over all responses of a batch from which the constants of its advantages follow. All of them are
// exact, so they are the same whatever the number of records, shards or workers; they merge, and marshal to JSON.
type Totals struct {
	Value series.Moments  // prefix values V_1..V_T: sigma_V
	TD    series.Moments  // TD advantages of the sampled tokens: the mean of `batch` GAE
	Path  series.Residual // their discounted sums, against those of a constant 1: the whitening of `batch` GAE
	// Moments are those of whatever else an estimator adds, by a name of its own.
	Moments map[string]series.Moments `json:",omitempty"`
}

// Add takes numbers into the moments of that name.
func (m *Totals) Add(name string, xs []float64) {
	if m.Moments == nil {
		m.Moments = map[string]series.Moments{}
	}
	sums := m.Moments[name]
	for _, x := range xs {
		sums.Add(x)
	}
	m.Moments[name] = sums
}

// scale is the standard deviation of that name, and the mean where it is to be subtracted.
func (m *Totals) scale(name string, centre bool) (mean, std float64) {
	moments := m.Moments[name]
	if centre {
		mean = moments.Mean()
	}
	return mean, moments.Std()
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
	for name, sums := range o.Moments {
		if m.Moments == nil {
			m.Moments = map[string]series.Moments{}
		}
		own := m.Moments[name]
		own.Merge(sums)
		m.Moments[name] = own
	}
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
