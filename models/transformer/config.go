package transformer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"github.com/millrace/millrace/models/regular"
	"github.com/millrace/millrace/models/transformer/family"
)

// Config is the shape of a decoder-only transformer, as in a Hugging Face config.json.
type Config struct {
	ModelType    string // of one of family.Families
	Vocab        int    // V
	Hidden       int    // D
	Intermediate int    // F, the width of the MLP
	Layers       int    // L
	Heads        int    // H, query heads
	KVHeads      int    // key/value heads; query head h reads key/value head h / (H / KVHeads)
	HeadDim      int    // d
	MaxPositions int    // longest sequence; 0 means no limit

	NormEps float64
	Rope    Rope

	QKVBias bool // biases on the query, key and value projections
	OutBias bool // bias on the attention's output projection
	MLPBias bool // biases on the three MLP projections
	QKNorm  bool // RMS norm of every query and key head before the rotation
	Tied    bool // the LM head is the embedding

	EOS []int32 // ids that end a text, from eos_token_id

	dtype string                     // torch_dtype to write, float32 when empty
	raw   map[string]json.RawMessage // the file it was read from, so that saving keeps what is not understood here
}

// Rope is a rotary position embedding: its base, and how its frequencies are scaled for longer contexts.
type Rope struct {
	Theta float64
	Type  string // default, linear or llama3

	Factor              float64 // linear, llama3
	LowFreqFactor       float64 // llama3
	HighFreqFactor      float64 // llama3
	OriginalMaxPosition float64 // llama3
}

// InvFreq returns the d/2 inverse frequencies for heads of size d. Dimension j and j + d/2 of a head are rotated by
// position · InvFreq[j] = position · theta^(-2j/d), scaled:
//
//   - linear: divided by Factor (Chen et al. 2023, arXiv 2306.15595).
//   - llama3: divided by Factor where the wavelength is above OriginalMaxPosition/LowFreqFactor, kept where it is below
//     OriginalMaxPosition/HighFreqFactor, and blended linearly in OriginalMaxPosition/wavelength in between (Llama 3.1).
func (r Rope) InvFreq(d int) []float64 {
	inv := make([]float64, d/2)
	for j := range inv {
		f := math.Pow(r.Theta, -2*float64(j)/float64(d))
		switch r.Type {
		case "linear":
			f /= r.Factor
		case "llama3":
			turns := r.OriginalMaxPosition * f / (2 * math.Pi) // OriginalMaxPosition / wavelength
			switch {
			case turns < r.LowFreqFactor:
				f /= r.Factor
			case turns <= r.HighFreqFactor:
				s := (turns - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
				f = (1-s)*f/r.Factor + s*f
			}
		}
		inv[j] = f
	}
	return inv
}

// ConfigError says which field of a configuration cannot be used, and what would be right.
type ConfigError struct {
	Path  string // the file; empty when the configuration was made in the program
	Field string
	Msg   string
}

func (e *ConfigError) Error() string {
	where := e.Path
	if where == "" {
		where = "model configuration"
	}
	return fmt.Sprintf("%s: %s: %s", where, e.Field, e.Msg)
}

// Limits on what a config.json may ask for; far above any real model of these families, and low enough that sizes computed
// from them do not overflow.
const (
	maxConfigBytes = 1 << 20
	maxWidth       = 1 << 20
	maxVocab       = 1 << 22
	maxLayers      = 1 << 12
)

func readConfigFile(path string) ([]byte, error) {
	text, err := regular.Read(path, maxConfigBytes)
	if long := (*regular.TooLongError)(nil); errors.As(err, &long) {
		err = &ConfigError{path, "(file)", fmt.Sprintf("more than %d bytes, which is the most that is read", maxConfigBytes)}
	}
	return text, err
}

// ReadConfig reads dir/config.json.
func ReadConfig(dir string) (Config, error) {
	path := filepath.Join(dir, "config.json")
	text, err := readConfigFile(path)
	if err != nil {
		return Config{}, err
	}
	c, err := ParseConfig(text)
	if ce := (*ConfigError)(nil); errors.As(err, &ce) {
		ce.Path = path
	}
	return c, err
}

// ParseConfig reads the text of a config.json, in the widespread form (rope_theta, rope_scaling and torch_dtype at the top
// level) or the newer one (rope_parameters, dtype). What would change the computation and is not supported is an error
// that names the field.
func ParseConfig(text []byte) (Config, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return Config{}, &ConfigError{Field: "(file)", Msg: "not a JSON object: " + err.Error()}
	}
	if raw == nil {
		return Config{}, &ConfigError{Field: "(file)", Msg: "not a JSON object"}
	}
	r := reader{raw: raw}
	c := Config{raw: raw}

	c.ModelType = r.text("model_type", "")
	f, err := familyOf(c.ModelType)
	if r.err == nil {
		r.err = err // first: other architectures name their sizes otherwise
	}
	c.Vocab = r.size("vocab_size", 0, maxVocab)
	c.Hidden = r.size("hidden_size", 0, maxWidth)
	c.Intermediate = r.size("intermediate_size", 0, maxWidth)
	c.Layers = r.size("num_hidden_layers", 0, maxLayers)
	c.Heads = r.size("num_attention_heads", 0, maxWidth)
	dim := 0
	if c.Heads > 0 {
		dim = c.Hidden / c.Heads
	}
	c.KVHeads = r.size("num_key_value_heads", cmp.Or(f.KVHeads, c.Heads), maxWidth)
	c.HeadDim = r.size("head_dim", cmp.Or(f.HeadDim, dim), maxWidth)
	c.MaxPositions = r.size("max_position_embeddings", math.MaxInt32, math.MaxInt32)
	c.NormEps = r.number("rms_norm_eps", 1e-6)
	c.Tied = r.flag("tie_word_embeddings", f.Tied)
	c.Rope = r.rope()
	c.EOS = r.ids("eos_token_id")

	c.OutBias = r.flag("attention_bias", false) && f.AttentionBias
	c.QKVBias = c.OutBias || f.QKVBias
	if f.MLPBias {
		c.MLPBias = r.flag("mlp_bias", false)
	}
	c.QKNorm = f.QKNorm
	r.refuse()
	if r.err != nil {
		return Config{}, r.err
	}
	return c, c.Validate()
}

// maxPositions is MaxPositions with 0 resolved; rotary angles take positions as int32.
func (c *Config) maxPositions() int {
	if c.MaxPositions == 0 {
		return math.MaxInt32
	}
	return c.MaxPositions
}

func familyOf(modelType string) (family.Family, error) {
	f, known, ok := family.Of(modelType)
	if !ok {
		return f, &ConfigError{Field: "model_type", Msg: fmt.Sprintf("%q is not supported; %s are", modelType, known)}
	}
	return f, nil
}

// Validate names the first field that does not describe a model of this package.
func (c *Config) Validate() error {
	bad := func(field, format string, args ...any) error {
		return &ConfigError{Field: field, Msg: fmt.Sprintf(format, args...)}
	}
	if _, err := familyOf(c.ModelType); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		v    int
		max  int
	}{
		{"vocab_size", c.Vocab, maxVocab}, {"hidden_size", c.Hidden, maxWidth}, {"intermediate_size", c.Intermediate, maxWidth},
		{"num_hidden_layers", c.Layers, maxLayers}, {"num_attention_heads", c.Heads, maxWidth},
		{"num_key_value_heads", c.KVHeads, maxWidth}, {"head_dim", c.HeadDim, maxWidth},
	} {
		if f.v < 1 || f.v > f.max {
			return bad(f.name, "%d is not in [1, %d]", f.v, f.max)
		}
	}
	switch {
	case c.Heads%c.KVHeads != 0:
		return bad("num_key_value_heads", "%d does not divide num_attention_heads = %d", c.KVHeads, c.Heads)
	case c.HeadDim%2 != 0:
		return bad("head_dim", "%d is odd; the rotary embedding needs two halves", c.HeadDim)
	case c.Heads*c.HeadDim > maxWidth:
		return bad("head_dim", "num_attention_heads × head_dim = %d × %d is more than %d", c.Heads, c.HeadDim, maxWidth)
	case c.MaxPositions < 0:
		return bad("max_position_embeddings", "%d is negative", c.MaxPositions)
	case !(c.NormEps >= 0) || math.IsInf(c.NormEps, 0):
		return bad("rms_norm_eps", "%v is not a finite number >= 0", c.NormEps)
	case !(c.Rope.Theta > 0) || math.IsInf(c.Rope.Theta, 0):
		return bad("rope_theta", "%v is not a finite number > 0", c.Rope.Theta)
	}
	positive := func(field string, v float64) error {
		if !(v > 0) || math.IsInf(v, 0) {
			return bad("rope_scaling."+field, "%v is not a finite number > 0", v)
		}
		return nil
	}
	switch r := c.Rope; r.Type {
	case "default":
	case "linear":
		return positive("factor", r.Factor)
	case "llama3":
		for _, f := range []struct {
			name string
			v    float64
		}{{"factor", r.Factor}, {"low_freq_factor", r.LowFreqFactor}, {"high_freq_factor", r.HighFreqFactor},
			{"original_max_position_embeddings", r.OriginalMaxPosition}} {
			if err := positive(f.name, f.v); err != nil {
				return err
			}
		}
		if r.HighFreqFactor <= r.LowFreqFactor {
			return bad("rope_scaling.high_freq_factor", "%v is not above low_freq_factor = %v", r.HighFreqFactor, r.LowFreqFactor)
		}
	default:
		return bad("rope_scaling.rope_type", "%q is not supported; default, linear and llama3 are", r.Type)
	}
	return nil
}

// MarshalJSON writes config.json in the widespread form. Fields of the file the configuration came from are kept.
func (c Config) MarshalJSON() ([]byte, error) {
	out := map[string]any{}
	for k, v := range c.raw {
		out[k] = v
	}
	f, err := familyOf(c.ModelType)
	if err != nil {
		return nil, err
	}
	out["architectures"] = []string{f.Architecture}
	out["model_type"] = c.ModelType
	out["vocab_size"] = c.Vocab
	out["hidden_size"] = c.Hidden
	out["intermediate_size"] = c.Intermediate
	out["num_hidden_layers"] = c.Layers
	out["num_attention_heads"] = c.Heads
	out["num_key_value_heads"] = c.KVHeads
	out["head_dim"] = c.HeadDim
	if c.MaxPositions > 0 {
		out["max_position_embeddings"] = c.MaxPositions
	}
	out["rms_norm_eps"] = c.NormEps
	out["tie_word_embeddings"] = c.Tied
	out["hidden_act"] = "silu"
	if f.AttentionBias {
		out["attention_bias"] = c.QKVBias
	}
	if f.MLPBias {
		out["mlp_bias"] = c.MLPBias
	}
	delete(out, "dtype")
	out["torch_dtype"] = cmp.Or(c.dtype, "float32")
	// One of the two forms: a file with both could contradict itself.
	delete(out, "rope_parameters")
	out["rope_theta"] = c.Rope.Theta
	switch c.Rope.Type {
	case "default":
		delete(out, "rope_scaling")
	case "linear":
		out["rope_scaling"] = map[string]any{"rope_type": "linear", "factor": c.Rope.Factor}
	case "llama3":
		out["rope_scaling"] = map[string]any{
			"rope_type": "llama3", "factor": c.Rope.Factor,
			"low_freq_factor": c.Rope.LowFreqFactor, "high_freq_factor": c.Rope.HighFreqFactor,
			"original_max_position_embeddings": c.Rope.OriginalMaxPosition,
		}
	}
	if len(c.EOS) == 1 {
		out["eos_token_id"] = c.EOS[0]
	} else if len(c.EOS) > 1 {
		out["eos_token_id"] = c.EOS
	}
	return json.Marshal(out) // sorts the keys
}

// reader takes typed fields out of a JSON object and keeps the first error.
type reader struct {
	raw map[string]json.RawMessage
	err error
}

func (r *reader) fail(field, format string, args ...any) {
	if r.err == nil {
		r.err = &ConfigError{Field: field, Msg: fmt.Sprintf(format, args...)}
	}
}

func (r *reader) has(field string) bool {
	v, ok := r.raw[field]
	return ok && string(v) != "null"
}

// read decodes a field that is present and not null.
func (r *reader) read(field string, into any, want string) bool {
	if !r.has(field) {
		return false
	}
	if err := json.Unmarshal(r.raw[field], into); err != nil {
		r.fail(field, "%.60s is not %s", r.raw[field], want)
		return false
	}
	return true
}

func (r *reader) text(field, fallback string) string {
	r.read(field, &fallback, "a string")
	return fallback
}

func (r *reader) flag(field string, fallback bool) bool {
	r.read(field, &fallback, "true or false")
	return fallback
}

func (r *reader) number(field string, fallback float64) float64 {
	r.read(field, &fallback, "a number")
	return fallback
}

// size reads a positive integer; a fallback of 0 means that the field is required.
func (r *reader) size(field string, fallback, max int) int {
	v := fallback
	if !r.read(field, &v, "an integer") && fallback == 0 {
		r.fail(field, "is missing")
		return 0
	}
	if v < 1 || v > max {
		r.fail(field, "%d is not in [1, %d]", v, max)
	}
	return v
}

// ids reads a token id or a list of them.
func (r *reader) ids(field string) []int32 {
	if !r.has(field) {
		return nil
	}
	var one int32
	if json.Unmarshal(r.raw[field], &one) == nil {
		return []int32{one}
	}
	var many []int32
	r.read(field, &many, "a token id or a list of them")
	return many
}

func (r *reader) rope() Rope {
	rope := Rope{Theta: r.number("rope_theta", 10000), Type: "default"}
	field := "rope_parameters"
	if !r.has(field) {
		field = "rope_scaling"
	}
	var raw map[string]json.RawMessage
	if !r.read(field, &raw, "an object") {
		return rope
	}
	s := reader{raw: raw}
	rope.Theta = s.number("rope_theta", rope.Theta)
	rope.Type = s.text("rope_type", s.text("type", "default"))
	rope.Factor = s.number("factor", 1)
	rope.LowFreqFactor = s.number("low_freq_factor", 1)
	rope.HighFreqFactor = s.number("high_freq_factor", 4)
	rope.OriginalMaxPosition = s.number("original_max_position_embeddings", 0)
	if partial := s.number("partial_rotary_factor", 1); partial != 1 {
		s.fail("partial_rotary_factor", "%v is not supported, only 1 is", partial)
	}
	if ce := (*ConfigError)(nil); errors.As(s.err, &ce) {
		r.fail(field+"."+ce.Field, "%s", ce.Msg)
	}
	return rope
}

// refuse fails on fields that would change the computation in a way this package does not follow.
func (r *reader) refuse() {
	if act := r.text("hidden_act", "silu"); act != "silu" && act != "swish" {
		r.fail("hidden_act", "%q is not supported, only silu is", act)
	}
	if r.flag("use_sliding_window", false) {
		r.fail("use_sliding_window", "sliding windows are not supported")
	}
	var layers []string
	r.read("layer_types", &layers, "a list of strings")
	for i, kind := range layers {
		if kind != "full_attention" {
			r.fail(fmt.Sprintf("layer_types[%d]", i), "%q is not supported, only full_attention is", kind)
		}
	}
	for _, field := range []string{"num_experts", "num_local_experts", "n_routed_experts"} {
		if n := r.number(field, 0); n > 0 {
			r.fail(field, "mixtures of experts are not supported")
		}
	}
	if partial := r.number("partial_rotary_factor", 1); partial != 1 {
		r.fail("partial_rotary_factor", "%v is not supported, only 1 is", partial)
	}
	if r.has("quantization_config") {
		r.fail("quantization_config", "quantised checkpoints are not supported; use float32, bfloat16 or float16 weights")
	}
	// A window that the flag above switches off is common in Qwen's files; without the flag a window is in force.
	if r.has("sliding_window") && !r.has("use_sliding_window") {
		r.fail("sliding_window", "sliding windows are not supported")
	}
}
