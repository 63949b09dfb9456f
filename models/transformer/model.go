// Package transformer is a decoder-only transformer of the Llama, Qwen2 and Qwen3 families in float32: reading and writing
// Hugging Face directories, the forward and backward passes over packed sequences, and one-token steps on a key/value
// cache.
//
// The value of a hidden row depends on its own sequence alone: not on the other sequences of the batch, not on the number
// of threads, and not on whether it was computed by the training forward, by Prefill or by Decode. All of them give the
// same bits.
package transformer

import (
	"fmt"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
)

// Model is the weights. Its methods only read, so it may be shared by goroutines that each have a Workspace; a Trainer
// owns the model it changes.
type Model struct {
	config  Config
	tensors []models.Tensor // in layout order
	params  []float32       // all weights, one allocation
	grads   []float32       // as params; nil until a Trainer asks

	embed, dEmbed   []float32 // [V,D]
	layers          []layer
	norm            norm
	head, dHead     []float32       // [V,D]; the embedding when tied
	scalar, dScalar []float32       // [D]; nil without a scalar head
	packedHead      *kernels.Packed // holds head instead of head when the model is frozen
	invFreq         []float64

	adapters *adapters // nil without LoRA

	precision kernels.Precision // of the products

	files map[string][]byte // tokenizer and other files of the directory it was read from, written again by Save
}

// ScalarHeadName is the tensor of a scalar head [1,D] in a checkpoint.
const ScalarHeadName = "value_head.weight"

// Config returns the shape of the model.
func (m *Model) Config() Config { return m.config }

// Precision is that of the model's products, Float32 unless SetPrecision was called.
func (m *Model) Precision() kernels.Precision { return m.precision }

// SetPrecision says in what the products of the linear layers, of attention and of the head are computed, in every
// pass: a model that trains in bfloat16 is to be sampled from and scored with in bfloat16, which gives the same
// log-probs. Weights stay in float32. It panics on a frozen model, whose weights are laid out for one precision.
func (m *Model) SetPrecision(p kernels.Precision) {
	if m.frozen() {
		panic("transformer: the precision of a frozen model is fixed")
	}
	m.precision = p
	m.bind()
}

// HiddenSize and VocabSize are D and V.
func (m *Model) HiddenSize() int { return m.config.Hidden }
func (m *Model) VocabSize() int  { return m.config.Vocab }

// MaxPositions is the longest sequence the model takes.
func (m *Model) MaxPositions() int { return m.config.maxPositions() }

// LMHead is the weight [V,D] of the LM head: logits = H Wᵀ. It is nil in a frozen model.
func (m *Model) LMHead() []float32 { return m.head }

// Scalar is the weight [D] of the scalar head, nil when the model has none.
func (m *Model) Scalar() []float32 { return m.scalar }

// shapes lists the checkpoint's tensors in layout order.
func shapes(c Config, scalar bool) []models.Tensor {
	var out []models.Tensor
	add := func(name string, shape ...int) { out = append(out, models.Tensor{Name: name, Shape: shape}) }
	linear := func(name string, bias bool, o, i int) {
		add(name+".weight", o, i)
		if bias {
			add(name+".bias", o)
		}
	}
	qDim, kvDim := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	add("model.embed_tokens.weight", c.Vocab, c.Hidden)
	for l := range c.Layers {
		p := fmt.Sprintf("model.layers.%d.", l)
		add(p+"input_layernorm.weight", c.Hidden)
		linear(p+"self_attn.q_proj", c.QKVBias, qDim, c.Hidden)
		linear(p+"self_attn.k_proj", c.QKVBias, kvDim, c.Hidden)
		linear(p+"self_attn.v_proj", c.QKVBias, kvDim, c.Hidden)
		if c.QKNorm {
			add(p+"self_attn.q_norm.weight", c.HeadDim)
			add(p+"self_attn.k_norm.weight", c.HeadDim)
		}
		linear(p+"self_attn.o_proj", c.OutBias, c.Hidden, qDim)
		add(p+"post_attention_layernorm.weight", c.Hidden)
		linear(p+"mlp.gate_proj", c.MLPBias, c.Intermediate, c.Hidden)
		linear(p+"mlp.up_proj", c.MLPBias, c.Intermediate, c.Hidden)
		linear(p+"mlp.down_proj", c.MLPBias, c.Hidden, c.Intermediate)
	}
	add("model.norm.weight", c.Hidden)
	if !c.Tied {
		add("lm_head.weight", c.Vocab, c.Hidden)
	}
	if scalar {
		add(ScalarHeadName, 1, c.Hidden)
	}
	return out
}

// allocate makes a model with zero weights.
func allocate(c Config, scalar bool) *Model {
	m := &Model{config: c, tensors: shapes(c, scalar)}
	n := 0
	for _, t := range m.tensors {
		n += size(t)
	}
	m.params = kernels.Make[float32](n)
	m.bind()
	return m
}

func size(t models.Tensor) int {
	n := 1
	for _, s := range t.Shape {
		n *= s
	}
	return n
}

// bind points the named views into the flat parameters and gradients.
func (m *Model) bind() {
	c := m.config
	at := 0
	index := make(map[string]int, len(m.tensors))
	for i := range m.tensors {
		t := &m.tensors[i]
		end := at + size(*t)
		t.Param = m.params[at:end:end]
		if m.grads != nil {
			t.Grad = m.grads[at:end:end]
		}
		index[t.Name] = i
		at = end
	}
	view := func(name string) (w, dw []float32) {
		if i, ok := index[name]; ok {
			return m.tensors[i].Param, m.tensors[i].Grad
		}
		return nil, nil
	}
	linearAt := func(name string, out, in int) linear {
		l := linear{in: in, out: out, precision: m.precision}
		l.w, l.dw = view(name + ".weight")
		l.b, l.db = view(name + ".bias")
		return l
	}
	normAt := func(name string, d int) norm {
		n := norm{d: d, eps: float32(c.NormEps)}
		n.w, n.dw = view(name + ".weight")
		return n
	}

	m.invFreq = c.Rope.InvFreq(c.HeadDim)
	m.embed, m.dEmbed = view("model.embed_tokens.weight")
	m.layers = make([]layer, c.Layers)
	qDim, kvDim := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	for i := range m.layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		l := &m.layers[i]
		*l = layer{
			heads: c.Heads, groups: c.KVHeads, dim: c.HeadDim, invFreq: m.invFreq,
			hidden: c.Hidden, intermediate: c.Intermediate,
			norm1: normAt(p+"input_layernorm", c.Hidden),
			norm2: normAt(p+"post_attention_layernorm", c.Hidden),
			q:     linearAt(p+"self_attn.q_proj", qDim, c.Hidden),
			k:     linearAt(p+"self_attn.k_proj", kvDim, c.Hidden),
			v:     linearAt(p+"self_attn.v_proj", kvDim, c.Hidden),
			o:     linearAt(p+"self_attn.o_proj", c.Hidden, qDim),
			gate:  linearAt(p+"mlp.gate_proj", c.Intermediate, c.Hidden),
			up:    linearAt(p+"mlp.up_proj", c.Intermediate, c.Hidden),
			down:  linearAt(p+"mlp.down_proj", c.Hidden, c.Intermediate),
		}
		if c.QKNorm {
			qn, kn := normAt(p+"self_attn.q_norm", c.HeadDim), normAt(p+"self_attn.k_norm", c.HeadDim)
			l.qNorm, l.kNorm = &qn, &kn
		}
	}
	m.norm = normAt("model.norm", c.Hidden)
	m.head, m.dHead = m.embed, m.dEmbed
	if !c.Tied {
		m.head, m.dHead = view("lm_head.weight")
	}
	m.scalar, m.dScalar = view(ScalarHeadName)
	if m.adapters != nil {
		m.bindAdapters()
	}
}

// SequenceError says which sequence of a batch cannot be run, and why.
type SequenceError struct {
	Index int
	Msg   string
}

func (e *SequenceError) Error() string { return fmt.Sprintf("sequence %d: %s", e.Index, e.Msg) }

// Check reports whether the tokens can be run as one sequence; a nil error means yes.
func (m *Model) Check(tokens []int32) error {
	if len(tokens) == 0 {
		return fmt.Errorf("no tokens")
	}
	if limit := m.config.maxPositions(); len(tokens) > limit {
		return fmt.Errorf("%d tokens, the model takes at most %d", len(tokens), limit)
	}
	for i, id := range tokens {
		if id < 0 || int(id) >= m.config.Vocab {
			return fmt.Errorf("token %d is %d, not in the vocabulary [0, %d)", i, id, m.config.Vocab)
		}
	}
	return nil
}

// check validates a packed batch.
func (m *Model) check(b models.Packed) error {
	if len(b.Starts) < 1 || b.Starts[0] != 0 || b.Starts[len(b.Starts)-1] != len(b.Tokens) {
		return fmt.Errorf("transformer: starts do not cover the %d tokens", len(b.Tokens))
	}
	for s := range len(b.Starts) - 1 {
		lo, hi := b.Starts[s], b.Starts[s+1]
		if hi < lo || hi > len(b.Tokens) {
			return fmt.Errorf("transformer: starts[%d] = %d, starts[%d] = %d", s, lo, s+1, hi)
		}
		if err := m.Check(b.Tokens[lo:hi]); err != nil {
			return &SequenceError{s, err.Error()}
		}
	}
	return nil
}

// lookup overwrites x [T,D] with the tokens' embeddings.
func (m *Model) lookup(x []float32, tokens []int32) {
	d := m.config.Hidden
	for i, id := range tokens {
		copy(x[i*d:(i+1)*d], m.embed[int(id)*d:(int(id)+1)*d])
	}
}

// Logits overwrites z [rows,V] with H Wᵀ of the LM head, h [rows,D].
func (m *Model) Logits(z, h []float32, rows int) {
	if m.packedHead != nil {
		kernels.MatMulPacked(z, h, m.packedHead, rows, 0)
		return
	}
	m.precision.MatMulNT(z, h, m.head, rows, m.config.Vocab, m.config.Hidden, 0)
}
