package transformer

import "github.com/millrace/millrace/kernels"

// Memory is what training holds, in bytes, from the shapes alone.
type Memory struct {
	Weights     int64 `json:"weights"`     // float32, all of the model
	Gradients   int64 `json:"gradients"`   // of what is trained
	Activations int64 `json:"activations"` // of a microbatch, with the scratch memory of its passes
	Trained     int64 `json:"trained"`     // number of trained parameters
}

// TrainingMemory estimates what a Trainer of a model of this shape holds for microbatches of so many tokens. lora is nil where
// all weights are trained. Rows that sequences share are counted once in activations, and attention's copies of them are not
// counted, so with shared prefixes it may be somewhat more.
func TrainingMemory(c Config, scalar bool, lora *LoRA, recompute bool, tokens int) Memory {
	const float = 4
	var m Memory
	parameters := int64(0)
	for _, t := range shapes(c, scalar) {
		parameters += int64(size(t))
	}
	m.Trained = parameters
	qDim, kvDim := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	if lora != nil {
		widths := map[string]int{"q_proj": c.Hidden + qDim, "k_proj": c.Hidden + kvDim, "v_proj": c.Hidden + kvDim, "o_proj": qDim + c.Hidden,
			"gate_proj": c.Hidden + c.Intermediate, "up_proj": c.Hidden + c.Intermediate, "down_proj": c.Intermediate + c.Hidden}
		m.Trained = 0
		for _, target := range lora.targets() {
			m.Trained += int64(c.Layers) * int64(lora.Rank) * int64(widths[target])
		}
		if scalar {
			m.Trained += int64(c.Hidden)
		}
		parameters += m.Trained
	}
	m.Weights, m.Gradients = float*parameters, float*m.Trained

	// As fitForward and fitBackward of a layer.
	kept := 2 + 2*qDim + 2*kvDim + c.Heads + c.Hidden + 2*c.Intermediate
	scratch := 2*c.Hidden + 2*qDim + 2*kvDim + 3*c.Intermediate
	if c.QKNorm {
		kept += qDim + kvDim + c.Heads + c.KVHeads
		scratch += qDim + kvDim
	}
	layers := c.Layers
	if recompute {
		layers = 1
	}
	// The residual stream at every layer; hidden rows, their gradients, and the rows and gradients that the heads see.
	row := layers*kept + scratch + (c.Layers+1)*c.Hidden + 7*c.Hidden
	m.Activations = float * int64(row) * int64(tokens)
	return m
}

// FrozenBytes estimates what a frozen model of this shape holds. Weights that are bfloat16 numbers take half of it in any precision,
// which only the file can tell.
func FrozenBytes(c Config, p kernels.Precision) int64 {
	table := int64(c.Vocab) * int64(c.Hidden)
	matrices, rest := table, table // the head, tied to the embedding or not, is laid out like the layers' matrices
	for _, t := range shapes(c, false) {
		switch n := int64(size(t)); {
		case len(t.Shape) != 2:
			rest += n
		case t.Shape[0] != c.Vocab || t.Shape[1] != c.Hidden:
			matrices += n
		}
	}
	if p.Rounds() {
		return 2*matrices + 4*rest
	}
	return 4 * (matrices + rest)
}

// ForwardBytes estimates the workspace of a forward pass over so many tokens.
func ForwardBytes(c Config, tokens int) int64 {
	qDim, kvDim := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	row := 4*c.Hidden + 2*qDim + 2*kvDim + 3*c.Intermediate + c.Heads + 3
	return 4 * int64(row) * int64(tokens)
}

// CacheBytes is the memory of a cache of keys and values for so many tokens of one sequence.
func CacheBytes(c Config, p kernels.Precision, tokens int) int64 {
	keys, values := p.CacheSize(tokens, c.KVHeads, c.HeadDim)
	return 4 * int64(c.Layers) * int64(keys+values)
}
