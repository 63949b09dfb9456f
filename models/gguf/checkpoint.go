package gguf

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/models/transformer/family"
)

// Checkpoint is a file seen as a Hugging Face checkpoint: its names of tensors, its order of rows, its config.json.
type Checkpoint struct {
	file    *File
	config  []byte
	stored  map[string]string // Hugging Face name: the file's
	heads   map[string]int    // tensors whose rows are stored in another order: the number of heads
	tensors []string
}

// topNames and layerNames translate the file's names. Weights and biases both exist under the names without an ending.
var (
	topNames = map[string]string{
		"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight",
	}
	layerNames = map[string]string{
		"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
		"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
		"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
		"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
	}
)

// ropeFactors is the tensor of factors that inverse frequencies are divided by (Llama 3.1 and later).
const ropeFactors = "rope_freqs.weight"

// Checkpoint translates the file. Architectures of no known family, and what these cannot do, are errors that name the
// metadata key or the tensor.
func (f *File) Checkpoint() (*Checkpoint, error) {
	arch, ok := f.Text("general.architecture")
	if !ok {
		return nil, &Error{f.path, "general.architecture", "is missing"}
	}
	fam, known, ok := family.OfGGUF(arch)
	if !ok {
		return nil, &Error{f.path, "general.architecture", fmt.Sprintf("%q is not supported; %s are", arch, known)}
	}
	c := &Checkpoint{file: f, stored: map[string]string{}, heads: map[string]int{}}
	if err := c.setConfig(fam); err != nil {
		return nil, err
	}
	heads, _ := f.Int(arch + ".attention.head_count")
	kvHeads, ok := f.Int(arch + ".attention.head_count_kv")
	if !ok {
		kvHeads = heads
	}
	for _, name := range f.names {
		if name == ropeFactors {
			continue
		}
		hf, ok := topNames[name]
		if rest, isLayer := strings.CutPrefix(name, "blk."); isLayer {
			number, part, _ := strings.Cut(rest, ".")
			base, kind, _ := strings.Cut(part, ".")
			layer, err := strconv.Atoi(number)
			translated, known := layerNames[base]
			ok = known && err == nil && layer >= 0 && (kind == "weight" || kind == "bias")
			hf = fmt.Sprintf("model.layers.%d.%s.%s", layer, translated, kind)
			if fam.RotatedPairs && base == "attn_q" {
				c.heads[hf] = int(heads)
			} else if fam.RotatedPairs && base == "attn_k" {
				c.heads[hf] = int(kvHeads)
			}
		}
		if !ok {
			return nil, &Error{f.path, name, "a tensor that models of this architecture are not known to have"}
		}
		if other, twice := c.stored[hf]; twice {
			return nil, &Error{f.path, name, fmt.Sprintf("is the same tensor as %s", other)}
		}
		c.stored[hf] = name
		c.tensors = append(c.tensors, hf)
		if n := c.heads[hf]; n != 0 && (n < 0 || f.tensors[name].Shape[0]%(2*n) != 0) {
			return nil, &Error{f.path, name, fmt.Sprintf("%d rows are not an even number for each of %d heads", f.tensors[name].Shape[0], n)}
		}
	}
	slices.Sort(c.tensors)
	return c, nil
}

// Config is the config.json of the model.
func (c *Checkpoint) Config() []byte { return c.config }

// Names are the tensors' Hugging Face names, sorted.
func (c *Checkpoint) Names() []string { return slices.Clone(c.tensors) }

// Has reports whether there is a tensor of that Hugging Face name.
func (c *Checkpoint) Has(name string) bool { _, ok := c.stored[name]; return ok }

// Shape returns the shape of a tensor.
func (c *Checkpoint) Shape(name string) ([]int, error) {
	t, err := c.tensor(name)
	return t.Shape, err
}

func (c *Checkpoint) tensor(name string) (Tensor, error) {
	stored, ok := c.stored[name]
	if !ok {
		return Tensor{}, &Error{c.file.path, name, "not in the file"}
	}
	return c.file.Tensor(stored)
}

// Float32Into writes the values of a tensor, whose number of elements must be that of dst.
func (c *Checkpoint) Float32Into(dst []float32, name string) error {
	t, err := c.tensor(name)
	if err != nil {
		return err
	}
	l := layouts[t.Type]
	if n := len(t.Data) / l.bytes * l.block; n != len(dst) {
		return &Error{c.file.path, t.Name, fmt.Sprintf("shape %v has %d elements, %d wanted", t.Shape, n, len(dst))}
	}
	heads := c.heads[name]
	if heads == 0 {
		t.float32s(dst, t.Data)
		return nil
	}
	// Row 2i+h of a head in the file is row i of half h in the checkpoint.
	rows := t.Shape[0]
	width, bytes := len(dst)/rows, len(t.Data)/rows
	dim := rows / heads
	for row := range rows {
		head, at := row/dim, row%dim
		from := head*dim + at%(dim/2)*2 + at/(dim/2)
		t.float32s(dst[row*width:(row+1)*width], t.Data[from*bytes:(from+1)*bytes])
	}
	return nil
}

// setConfig writes the config.json from the metadata.
func (c *Checkpoint) setConfig(fam family.Family) error {
	f, arch := c.file, fam.GGUF
	var failed error
	fail := func(key, format string, args ...any) {
		if failed == nil {
			failed = &Error{f.path, key, fmt.Sprintf(format, args...)}
		}
	}
	size := func(key string) int64 {
		v, ok := f.Int(arch + "." + key)
		if !ok {
			fail(arch+"."+key, "is missing or not an integer")
		} else if v < 1 || v > 1<<30 {
			fail(arch+"."+key, "%d is out of range", v)
		}
		return v
	}
	number := func(key string) json.Number {
		v, ok := f.Float(arch + "." + key)
		if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
			fail(arch+"."+key, "is missing or not a finite number")
			return "0"
		}
		// The file holds float32; the shortest decimal that gives it again is what the number was meant to be.
		return json.Number(strconv.FormatFloat(v, 'g', -1, 32))
	}
	config := map[string]any{
		"model_type":              fam.ModelType,
		"hidden_size":             size("embedding_length"),
		"num_hidden_layers":       size("block_count"),
		"intermediate_size":       size("feed_forward_length"),
		"num_attention_heads":     size("attention.head_count"),
		"max_position_embeddings": size("context_length"),
		"rms_norm_eps":            number("attention.layer_norm_rms_epsilon"),
		"hidden_act":              "silu",
		"torch_dtype":             "float32",
		"use_sliding_window":      false,
	}
	config["num_key_value_heads"] = config["num_attention_heads"]
	if _, ok := f.values[arch+".attention.head_count_kv"]; ok {
		config["num_key_value_heads"] = size("attention.head_count_kv")
	}
	if failed != nil {
		return failed
	}
	dim := config["hidden_size"].(int64) / config["num_attention_heads"].(int64)
	if _, ok := f.values[arch+".attention.key_length"]; ok {
		dim = size("attention.key_length")
	}
	config["head_dim"] = dim
	if v, ok := f.Int(arch + ".rope.dimension_count"); ok && v != dim {
		fail(arch+".rope.dimension_count", "%d of %d dimensions rotated is not supported", v, dim)
	}
	if _, ok := f.values[arch+".rope.freq_base"]; ok {
		config["rope_theta"] = number("rope.freq_base")
	}
	if kind, ok := f.Text(arch + ".rope.scaling.type"); ok && kind != "none" {
		if kind != "linear" {
			fail(arch+".rope.scaling.type", "%q is not supported; linear is", kind)
		}
		config["rope_scaling"] = map[string]any{"rope_type": "linear", "factor": number("rope.scaling.factor")}
	}
	for _, key := range []string{".expert_count", ".attention.sliding_window"} {
		if v, ok := f.Int(arch + key); ok && v > 0 {
			fail(arch+key, "mixtures of experts and sliding windows are not supported")
		}
	}
	embedding, ok := f.tensors["token_embd.weight"]
	if !ok {
		fail("token_embd.weight", "is missing")
	} else {
		config["vocab_size"] = embedding.Shape[0]
	}
	_, untied := f.tensors["output.weight"]
	config["tie_word_embeddings"] = !untied
	if fam.AttentionBias {
		_, config["attention_bias"] = f.tensors["blk.0.attn_q.bias"]
	}
	if fam.MLPBias {
		_, config["mlp_bias"] = f.tensors["blk.0.ffn_up.bias"]
	}
	for name, key := range map[string]string{"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"} {
		key = "tokenizer.ggml." + key + "_token_id"
		if v, ok := f.Int(key); ok {
			config[name] = v
		}
	}
	if _, ok := f.tensors[ropeFactors]; ok && failed == nil {
		scaling, err := c.ropeScaling(config)
		if err != nil {
			return err
		}
		config["rope_scaling"] = scaling
	}
	if failed != nil {
		return failed
	}
	text, err := json.MarshalIndent(config, "", "  ")
	c.config = text
	return err
}

// ropeScaling finds the settings of Llama 3's rotary scaling whose factors a file holds: low and high frequency factors 1
// and 4 and an original context of 8,192 are common to all of that family.
func (c *Checkpoint) ropeScaling(config map[string]any) (map[string]any, error) {
	const low, high, original = 1, 4, 8192
	bad := func(problem string) (map[string]any, error) {
		return nil, &Error{c.file.path, ropeFactors, problem}
	}
	t := c.file.tensors[ropeFactors]
	dim := int(config["head_dim"].(int64))
	if t.Type != F32 || len(t.Shape) != 1 || t.Shape[0] != dim/2 {
		return bad(fmt.Sprintf("is not a vector of %d F32", dim/2))
	}
	factors := make([]float32, dim/2)
	t.float32s(factors, t.Data)
	theta := 10000.0
	if n, ok := config["rope_theta"].(json.Number); ok {
		theta, _ = n.Float64()
	}
	factor := float64(slices.Max(factors))
	for j, got := range factors {
		turns := original * math.Pow(theta, -2*float64(j)/float64(dim)) / (2 * math.Pi)
		want := 1.0
		if turns < low {
			want = factor
		} else if turns <= high {
			smooth := (turns - low) / (high - low)
			want = 1 / ((1-smooth)/factor + smooth)
		}
		if !(math.Abs(float64(got)-want) <= 1e-3*want) {
			return bad("scales the rotary embedding in a way that is not supported; Llama 3's is")
		}
	}
	return map[string]any{"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
		"original_max_position_embeddings": original}, nil
}
