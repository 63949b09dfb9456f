package transformer

import (
	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
)

// Workspace is the memory of one goroutine's passes over a shared Model. The zero value is ready; it grows to the largest
// batch it has seen.
type Workspace struct {
	pos    []int32
	x      []float32 // [T,D]
	inv    []float32 // [T]
	hidden []float32 // [T,D]
	a      activations
	s      scratch
}

// attendFor is the attention of layer l.
type attendFor func(l int) attend

// run overwrites w.hidden from the tokens at w.pos.
func (m *Model) run(w *Workspace, tokens []int32, attention attendFor) []float32 {
	rows := len(tokens)
	fit(&w.x, rows*m.config.Hidden)
	fit(&w.inv, rows)
	fit(&w.hidden, rows*m.config.Hidden)
	m.lookup(w.x, tokens)
	for l := range m.layers {
		m.layers[l].forward(w.x, w.x, w.pos, &w.a, &w.s, attention(l))
	}
	m.norm.forward(w.hidden, w.inv, w.x, rows)
	return w.hidden
}

// packed is causal attention within each of the packed sequences.
func (m *Model) packed(starts []int) attend {
	c := m.config
	return func(a *activations) {
		kernels.Attention(a.y, a.q, a.k, a.v, starts, c.Heads, c.KVHeads, c.HeadDim, a.lse)
	}
}

// Forward returns the hidden rows [T,D] of the packed sequences, valid until the workspace is used again. A sequence that
// cannot be run is a *SequenceError.
func (m *Model) Forward(w *Workspace, batch models.Packed) ([]float32, error) {
	if err := m.check(batch, &w.pos); err != nil {
		return nil, err
	}
	attention := m.packed(batch.Starts)
	return m.run(w, batch.Tokens, func(int) attend { return attention }), nil
}
