package transformer

import (
	"hash/fnv"
	"math"
	"strings"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models/keyed"
)

// New makes a model with random weights: matrices N(0, 1/fan_in), the output and down projections divided by √(2L),
// embeddings N(0, 0.05²), the LM head N(0, 1/D), norms 1, biases and the scalar head 0. Each weight is drawn from the
// seed, its tensor's name and its place in the tensor alone.
func New(c Config, seed uint64, scalarHead bool) (*Model, error) {
	if c.MaxPositions == 0 {
		c.MaxPositions = 1 << 15
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := allocate(c, scalarHead)
	for _, t := range m.tensors {
		std := 0.0
		switch {
		case t.Name == "model.embed_tokens.weight":
			std = 0.05
		case strings.HasSuffix(t.Name, "norm.weight"):
			for i := range t.Param {
				t.Param[i] = 1
			}
		case len(t.Shape) == 2 && t.Name != ScalarHeadName:
			std = 1 / math.Sqrt(float64(t.Shape[1]))
			if strings.HasSuffix(t.Name, "o_proj.weight") || strings.HasSuffix(t.Name, "down_proj.weight") {
				std /= math.Sqrt(2 * float64(c.Layers))
			}
		}
		if std != 0 {
			fillNormal(t.Param, std, seed, t.Name)
		}
	}
	return m, nil
}

func hashName(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

// fillNormal draws N(0, std²).
func fillNormal(w []float32, std float64, seed uint64, name string) {
	key := keyed.New(seed).With(hashName(name))
	kernels.Parallel(len(w), 1<<12, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			w[i] = float32(std * key.With(uint64(i)).Normal())
		}
	})
}

// AddScalarHead gives a model without one a scalar head of zeros; its output is then 0 until it is trained. A model with adapters gets
// it beside them, and Save writes it with them. It comes before a Trainer.
func (m *Model) AddScalarHead() {
	if m.scalar != nil {
		return
	}
	if m.grads != nil || m.adapters != nil && m.adapters.grads != nil || m.frozen() {
		panic("transformer: the scalar head must be added before the model is trained or frozen")
	}
	if m.adapters != nil {
		m.addAdaptedHead()
		return
	}
	old := m.params
	*m = Model{config: m.config, precision: m.precision, files: m.files, tensors: shapes(m.config, true)}
	m.params = make([]float32, len(old)+m.config.Hidden)
	copy(m.params, old) // the scalar head is last in the layout
	m.bind()
}
