package losses

import "sort"

// Grad collects what losses say about a microbatch. Losses write through the methods, which apply the weight that Sum
// gave them; heads read the fields.
type Grad struct {
	A, B   []float64 // per row: factors of the model's and the target row's softmax
	E      []float64 // per row: factor of π ∘ (log π + H)
	Listed []float64 // per listed token: d
	Value  []float64 // per row: dL/dv of the scalar head

	Metrics Metrics

	scale float64
}

// NewGrad returns a zero Grad for the microbatch.
func NewGrad(mb *Microbatch) *Grad {
	g := &Grad{}
	g.Reset(mb)
	return g
}

// Reset makes g a zero Grad for the microbatch, reusing its memory. Metrics are kept.
func (g *Grad) Reset(mb *Microbatch) {
	n := mb.N()
	g.A, g.B, g.E, g.Value = zeros(g.A, n), zeros(g.B, n), zeros(g.E, n), zeros(g.Value, n)
	g.Listed = zeros(g.Listed, mb.List[n])
	g.scale = 1
}

func zeros(s []float64, n int) []float64 {
	if cap(s) < n {
		return make([]float64, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// LogP adds d·∂log π(id_i)/∂z to row t: d at the listed token i, and −d times the softmax row.
func (g *Grad) LogP(t, i int, d float64) {
	d *= g.scale
	g.Listed[i] += d
	g.A[t] -= d
}

// Logit adds d to the gradient of the logit of listed token i.
func (g *Grad) Logit(i int, d float64) { g.Listed[i] += g.scale * d }

// Softmax adds a times the model's softmax row to row t.
func (g *Grad) Softmax(t int, a float64) { g.A[t] += g.scale * a }

// Entropy adds −e·∂H/∂z to row t: e times π ∘ (log π + H).
func (g *Grad) Entropy(t int, e float64) { g.E[t] += g.scale * e }

// Target adds b times the target row's softmax to row t.
func (g *Grad) Target(t int, b float64) { g.B[t] += g.scale * b }

// Scalar adds d to the gradient of the scalar head's output at row t.
func (g *Grad) Scalar(t int, d float64) { g.Value[t] += g.scale * d }

// Metric is a mean that is not yet divided, so that parts of a batch can be merged.
type Metric struct {
	Name       string
	Sum, Count float64
}

// Mean is Sum/Count, 0 for an empty metric.
func (m Metric) Mean() float64 {
	if m.Count == 0 {
		return 0
	}
	return m.Sum / m.Count
}

// Metrics are named means, sorted by name. Losses name theirs "loss/quantity".
type Metrics []Metric

// Add adds to the metric of that name.
func (m *Metrics) Add(name string, sum, count float64) {
	i := sort.Search(len(*m), func(i int) bool { return (*m)[i].Name >= name })
	if i == len(*m) || (*m)[i].Name != name {
		*m = append(*m, Metric{})
		copy((*m)[i+1:], (*m)[i:])
		(*m)[i] = Metric{Name: name}
	}
	(*m)[i].Sum += sum
	(*m)[i].Count += count
}

// Merge adds the metrics of another part of the batch. Parts must be merged in a fixed order.
func (m *Metrics) Merge(o Metrics) {
	for _, x := range o {
		m.Add(x.Name, x.Sum, x.Count)
	}
}

// Get returns the metric of that name, empty if there is none.
func (m Metrics) Get(name string) Metric {
	i := sort.Search(len(m), func(i int) bool { return m[i].Name >= name })
	if i < len(m) && m[i].Name == name {
		return m[i]
	}
	return Metric{Name: name}
}
