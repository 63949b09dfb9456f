package transformer

import (
	"fmt"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
)

// Trainer is a model with gradients and the activations of its last forward pass.
type Trainer struct {
	*Model
	options TrainOptions

	rows   rowMap        // of the last Forward
	x      [][]float32   // [L+1][U,D] residual stream into every layer and out of the last
	acts   []activations // one a layer, or one for all when they are recomputed
	inv    []float32     // [U] of the final norm
	hidden []float32     // [U,D]
	all    []float32     // [T,D]
	dx     []float32     // [U,D]
	s      scratch
	keys   keyRows
	sums   []float32 // [U,D] gradient of hidden, where rows are shared
}

var _ models.Trainable = (*Trainer)(nil)

// TrainOptions are the choices of a Trainer.
type TrainOptions struct {
	// Recompute keeps only the residual stream of every layer and runs the layer again in the backward pass: a third more
	// arithmetic for roughly a tenth of the memory. The gradients are the same bits.
	Recompute bool `json:"recompute"`

	// SharePrefixes computes what sequences of a batch have in common at their beginning once, as the prompt of a group. Hidden
	// rows are the same bits; gradients are the same sums in another order.
	SharePrefixes bool `json:"share_prefixes"`
}

// NewTrainer takes over the model. With LoRA the adapters are what is trained. It panics on a frozen model.
func NewTrainer(m *Model, o TrainOptions) *Trainer {
	if m.frozen() {
		panic("transformer: a frozen model cannot be trained")
	}
	if m.adapters != nil {
		m.adapters.grads = make([]float32, len(m.adapters.params))
	} else {
		m.grads = kernels.Make[float32](len(m.params))
	}
	m.bind()
	t := &Trainer{Model: m, options: o, x: make([][]float32, len(m.layers)+1)}
	if o.Recompute {
		t.acts = make([]activations, 1)
	} else {
		t.acts = make([]activations, len(m.layers))
	}
	return t
}

// trained is what the optimizer moves: the adapters, or all weights.
func (t *Trainer) trained() (params, grads []float32, tensors []models.Tensor) {
	if ad := t.adapters; ad != nil {
		return ad.params, ad.grads, ad.tensors
	}
	return t.params, t.grads, t.tensors
}

// Params are the flat weights that are trained.
func (t *Trainer) Params() []float32 {
	params, _, _ := t.trained()
	return params
}

// Grads are the gradients of Params, to be asked for again after ZeroGrads.
func (t *Trainer) Grads() []float32 {
	t.settle()
	_, grads, _ := t.trained()
	return grads
}

// Tensors names the parts of Params and Grads.
func (t *Trainer) Tensors() []models.Tensor {
	t.settle()
	_, _, tensors := t.trained()
	return tensors
}

// ZeroGrads clears the gradients. Those of the layers' matrices, which are most of them, are left for the next Backward to overwrite.
func (t *Trainer) ZeroGrads() {
	if t.adapters != nil {
		clear(t.adapters.grads)
		return
	}
	kernels.Zero(t.dEmbed)
	if !t.config.Tied {
		kernels.Zero(t.dHead)
	}
	clear(t.norm.dw)
	clear(t.dScalar)
	for i := range t.layers {
		for _, n := range t.layers[i].norms() {
			clear(n.dw)
		}
		for _, l := range t.linearsOf(i) {
			clear(l.db)
			l.summed = false
		}
	}
}

// settle clears the gradients that ZeroGrads has left for a Backward that did not come.
func (t *Trainer) settle() {
	for i := range t.layers {
		for _, l := range t.linearsOf(i) {
			if !l.summed {
				kernels.Zero(l.dw)
				l.summed = true
			}
		}
	}
}

// Head is the LM head's weight [V,D] and its gradient.
func (t *Trainer) Head() (w, dw []float32) { return t.head, t.dHead }

// ScalarHead is the scalar head's weight [D] and its gradient, nil when there is none.
func (t *Trainer) ScalarHead() (w, dw []float32) { return t.scalar, t.dScalar }

func (t *Trainer) activations(l int) *activations {
	if t.options.Recompute {
		return &t.acts[0]
	}
	return &t.acts[l]
}

// Forward returns the hidden rows [T,D] of the packed sequences, valid until the next call. A sequence that cannot be run
// is a *SequenceError.
func (t *Trainer) Forward(batch models.Packed) ([]float32, error) {
	if err := t.check(batch); err != nil {
		t.rows.set(models.Packed{Starts: []int{0}}, false)
		return nil, err
	}
	t.rows.set(batch, t.options.SharePrefixes)
	rows, d := t.rows.rows(), t.config.Hidden
	for l := range t.x {
		fit(&t.x[l], rows*d)
	}
	fit(&t.inv, rows)
	fit(&t.hidden, rows*d)

	t.lookup(t.x[0], t.rows.tokens)
	for l := range t.layers {
		t.layers[l].forward(t.x[l+1], t.x[l], t.rows.pos, t.activations(l), &t.s, t.attention)
	}
	t.norm.forward(t.hidden, t.inv, t.x[len(t.layers)], rows)
	return t.rows.spread(&t.all, t.hidden, d), nil
}

func (t *Trainer) attention(a *activations) { t.rows.attention(t.shape(), &t.keys, a) }

func (t *Trainer) attentionBackward(a *activations, s *scratch) {
	t.rows.attentionBackward(t.shape(), &t.keys, a, s)
}

// Backward takes dL/dH of the rows of the last Forward and adds to the gradients.
func (t *Trainer) Backward(dh []float32) error {
	rows, d := t.rows.rows(), t.config.Hidden
	if len(dh) != len(t.rows.unique)*d {
		return fmt.Errorf("transformer: gradient of %d values for %d hidden rows of %d", len(dh), len(t.rows.unique), d)
	}
	dh = t.rows.sum(&t.sums, dh, d)
	fit(&t.dx, rows*d)
	clear(t.dx)
	fit(&t.s.unused, max(d, t.config.HeadDim))
	t.norm.backward(t.dx, dh, t.x[len(t.layers)], t.inv, rows, t.s.unused)
	for l := len(t.layers) - 1; l >= 0; l-- {
		a := t.activations(l)
		if t.options.Recompute && l < len(t.layers)-1 { // the last has left its activations
			t.layers[l].forward(nil, t.x[l], t.rows.pos, a, &t.s, t.attention)
		}
		t.layers[l].backward(t.dx, t.x[l], t.rows.pos, a, &t.s, t.attentionBackward)
	}
	if t.dEmbed != nil {
		for i, id := range t.rows.tokens {
			kernels.Add(t.dEmbed[int(id)*d:(int(id)+1)*d], t.dx[i*d:(i+1)*d])
		}
	}
	return nil
}
