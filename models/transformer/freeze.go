package transformer

import (
	"math"
	"slices"

	"github.com/millrace/millrace/kernels"
)

// Freeze lays the matrices out for forward passes, in half the memory where all their values are bfloat16 numbers or the model's
// precision makes them such, and lets go of the plain weights: what the model computes keeps its bits, but it can no longer be trained,
// merged or saved.
func (m *Model) Freeze() {
	if m.frozen() {
		return
	}
	weights := []kernels.Weight{m.weight(m.head, m.config.Vocab, m.config.Hidden)}
	var matrices []*linear
	for i := range m.layers {
		for _, target := range loraTargets { // all the matrices of a layer
			l := m.linearsOf(i)[target]
			matrices = append(matrices, l)
			weights = append(weights, m.weight(l.w, l.out, l.in))
		}
	}
	packed := kernels.Pack(weights...)
	m.packedHead = packed[0]
	for i, l := range matrices {
		l.packed = packed[1+i]
		l.w, l.dw, l.b, l.db = nil, nil, slices.Clone(l.b), nil
	}
	m.head, m.embed = nil, slices.Clone(m.embed)
	for i := range m.layers {
		for _, n := range m.layers[i].norms() {
			n.w, n.dw = slices.Clone(n.w), nil
		}
	}
	m.norm.w, m.norm.dw = slices.Clone(m.norm.w), nil
	m.scalar = slices.Clone(m.scalar)
	m.dEmbed, m.dHead, m.dScalar = nil, nil, nil
	m.params, m.grads, m.tensors = nil, nil, nil
}

func (m *Model) frozen() bool { return m.packedHead != nil }

// Frozen returns a frozen copy; the model itself stays as it is. Adapters are shared: train them on, and the copy changes.
func (m *Model) Frozen() *Model {
	f := *m
	f.layers = slices.Clone(m.layers)
	for i := range f.layers {
		l := &f.layers[i]
		if l.qNorm != nil {
			qNorm, kNorm := *l.qNorm, *l.kNorm
			l.qNorm, l.kNorm = &qNorm, &kNorm
		}
	}
	f.Freeze()
	return &f
}

// weight is a weight [n,k] as it is to be packed.
func (m *Model) weight(w []float32, n, k int) kernels.Weight {
	half := m.precision.Rounds() || exactInBFloat16(w)
	return kernels.Weight{W: w, N: n, K: k, Precision: m.precision, Half: half}
}

// exactInBFloat16 reports whether the lower halves of all numbers are zero.
func exactInBFloat16(w []float32) bool {
	var lower uint32
	for _, v := range w {
		if lower |= math.Float32bits(v) & 0xffff; lower != 0 {
			return false
		}
	}
	return true
}
