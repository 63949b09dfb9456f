package transformer

import (
	"errors"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
)

// Workspace is the memory of one goroutine's passes over a shared Model. The zero value is ready; it grows to the largest
// batch it has seen.
type Workspace struct {
	// Stop, when set, is asked before every layer of Forward and Prefill whether to give the pass up, which then ends with ErrStopped.
	Stop func() bool

	rows   rowMap
	keys   keyRows
	x      []float32 // [U,D]
	inv    []float32 // [U]
	hidden []float32 // [U,D]
	all    []float32 // [T,D]
	a      activations
	s      scratch
	caches []kernels.Cache // of a layer, for each sequence
}

// ErrStopped is how a pass ends that was given up.
var ErrStopped = errors.New("transformer: the pass was given up")

// attendFor is the attention of layer l.
type attendFor func(l int) attend

// run overwrites w.hidden from the tokens at the positions pos. It returns nil when the pass was given up.
func (m *Model) run(w *Workspace, tokens, pos []int32, attention attendFor) []float32 {
	rows := len(tokens)
	fit(&w.x, rows*m.config.Hidden)
	fit(&w.inv, rows)
	fit(&w.hidden, rows*m.config.Hidden)
	m.lookup(w.x, tokens)
	for l := range m.layers {
		if w.Stop != nil && w.Stop() {
			return nil
		}
		m.layers[l].forward(w.x, w.x, pos, &w.a, &w.s, attention(l))
	}
	m.norm.forward(w.hidden, w.inv, w.x, rows)
	return w.hidden
}

// Forward returns the hidden rows [T,D] of the packed sequences, valid until the workspace is used again. What
// sequences have in common at their beginning is computed once. A sequence that cannot be run is a *SequenceError.
func (m *Model) Forward(w *Workspace, batch models.Packed) ([]float32, error) {
	if err := m.check(batch); err != nil {
		return nil, err
	}
	w.rows.set(batch, true)
	h := m.run(w, w.rows.tokens, w.rows.pos, func(int) attend {
		return func(a *activations) { w.rows.attention(m.shape(), &w.keys, a) }
	})
	if h == nil {
		return nil, ErrStopped
	}
	return w.rows.spread(&w.all, h, m.config.Hidden), nil
}
