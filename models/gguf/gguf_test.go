package gguf

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/models/safetensors"
	"github.com/millrace/millrace/models/transformer/family"
)

// builder writes GGUF files, sound or not.
type builder struct {
	version   uint32
	keys      []keyValue
	tensors   []stored
	alignment int
}

type keyValue struct {
	key   string
	value any // []byte is written as it is, type number included
}

type stored struct {
	name   string
	kind   Type
	shape  []int // row-major
	data   []byte
	offset int // -1: after the tensor before
}

func u32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
func text(s string) []byte {
	return append(u64(uint64(len(s))), s...)
}

func encode(v any) []byte {
	array := func(kind uint32, n int) []byte {
		return slices.Concat(u32(typeArray), u32(kind), u64(uint64(n)))
	}
	switch v := v.(type) {
	case []byte:
		return v
	case string:
		return append(u32(typeString), text(v)...)
	case int:
		return append(u32(typeUint32), u32(uint32(v))...)
	case int64:
		return append(u32(typeInt64), u64(uint64(v))...)
	case uint64:
		return append(u32(typeUint64), u64(v)...)
	case float32:
		return append(u32(typeFloat32), u32(math.Float32bits(v))...)
	case bool:
		return append(u32(typeBool), map[bool]byte{true: 1}[v])
	case []string:
		b := array(typeString, len(v))
		for _, s := range v {
			b = append(b, text(s)...)
		}
		return b
	case []int:
		b := array(typeInt32, len(v))
		for _, i := range v {
			b = append(b, u32(uint32(i))...)
		}
		return b
	case []float32:
		b := array(typeFloat32, len(v))
		for _, f := range v {
			b = append(b, u32(math.Float32bits(f))...)
		}
		return b
	}
	panic(fmt.Sprintf("%T", v))
}

func (b builder) bytes() []byte {
	version, align := b.version, b.alignment
	if version == 0 {
		version = 3
	}
	if align == 0 {
		align = 32
	}
	out := slices.Concat([]byte("GGUF"), u32(version), u64(uint64(len(b.tensors))), u64(uint64(len(b.keys))))
	for _, kv := range b.keys {
		out = slices.Concat(out, text(kv.key), encode(kv.value))
	}
	var body []byte
	for _, t := range b.tensors {
		offset := t.offset
		if offset < 0 {
			for len(body)%align != 0 {
				body = append(body, 0)
			}
			offset = len(body)
		}
		out = slices.Concat(out, text(t.name), u32(uint32(len(t.shape))))
		for _, d := range slices.Backward(t.shape) {
			out = append(out, u64(uint64(d))...)
		}
		out = slices.Concat(out, u32(uint32(t.kind)), u64(uint64(offset)))
		if t.offset < 0 {
			body = append(body, t.data...)
		}
	}
	for len(out)%align != 0 {
		out = append(out, 0)
	}
	return append(out, body...)
}

func floats(values ...float32) []byte {
	var b []byte
	for _, v := range values {
		b = append(b, u32(math.Float32bits(v))...)
	}
	return b
}

func one(name string, kind Type, shape []int, data []byte) stored {
	return stored{name, kind, shape, data, -1}
}

// The blocks of quants.json were decoded by the gguf package 0.19 of Python.
func TestBlocksDecodeBitForBit(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "quants.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Type Type     `json:"type"`
		Name string   `json:"name"`
		Data []byte   `json:"data"`
		Bits []uint32 `json:"bits"`
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) != len(layouts) {
		t.Errorf("%d types are tested, %d are supported", len(cases), len(layouts))
	}
	for _, c := range cases {
		if c.Type.String() != c.Name {
			t.Errorf("type %d is called %s, want %s", c.Type, c.Type, c.Name)
		}
		got := make([]float32, len(c.Bits))
		Tensor{Type: c.Type}.float32s(got, c.Data)
		for i, bits := range c.Bits {
			if math.Float32bits(got[i]) != bits {
				t.Errorf("%s[%d] = %v, want %v", c.Name, i, got[i], math.Float32frombits(bits))
				break
			}
		}
	}
}

func TestMetadata(t *testing.T) {
	f, err := parse("f", builder{keys: []keyValue{
		{"s", "héllo"}, {"i", 7}, {"n", int64(-3)}, {"u", uint64(math.MaxUint64)}, {"f", float32(1e-5)}, {"b", true},
		{"ss", []string{"a", "", "b"}}, {"is", []int{3, -1}}, {"fs", []float32{0.5}},
		{"i8", append(u32(typeInt8), 0xff)}, {"u8", append(u32(typeUint8), 0xff)}, {"i16", append(u32(typeInt16), 0xfe, 0xff)},
	}}.bytes())
	if err != nil {
		t.Fatal(err)
	}
	s, _ := f.Text("s")
	i, _ := f.Int("i")
	n, _ := f.Int("n")
	x, _ := f.Float("f")
	b, _ := f.Flag("b")
	ss, _ := f.Texts("ss")
	is, _ := f.Ints("is")
	i8, _ := f.Int("i8")
	u8, _ := f.Int("u8")
	i16, _ := f.Int("i16")
	if s != "héllo" || i != 7 || n != -3 || float32(x) != 1e-5 || !b || !slices.Equal(ss, []string{"a", "", "b"}) ||
		!slices.Equal(is, []int64{3, -1}) || i8 != -1 || u8 != 255 || i16 != -2 {
		t.Errorf("%q %d %d %v %v %q %v %d %d %d", s, i, n, x, b, ss, is, i8, u8, i16)
	}
	if _, ok := f.Int("u"); ok {
		t.Error("2^64-1 is an int64")
	}
	if _, ok := f.Text("i"); ok {
		t.Error("a number is a text")
	}
	if _, ok := f.Int("none"); ok {
		t.Error("a missing key has a value")
	}
}

func TestRejectedFiles(t *testing.T) {
	two := builder{tensors: []stored{one("a", F32, []int{4}, floats(1, 2, 3, 4)), one("b", F32, []int{8}, floats(1, 2, 3, 4, 5, 6, 7, 8))}}
	good := two.bytes()
	if _, err := parse("f", good); err != nil {
		t.Fatal(err)
	}
	at := func(offset int, name string) []byte {
		b := two
		b.tensors = append(slices.Clone(b.tensors), stored{name, F32, []int{1}, nil, offset})
		return b.bytes()
	}
	meta := func(key string, value any) []byte { return builder{keys: []keyValue{{key, value}}}.bytes() }
	tensor := func(kind Type, shape ...int) []byte {
		return builder{tensors: []stored{{"x", kind, shape, nil, 0}}}.bytes()
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":                {nil, "does not begin"},
		"other magic":          {[]byte("GGML12345678"), "does not begin"},
		"version 1":            {builder{version: 1}.bytes(), "version 1"},
		"big endian":           {builder{version: 3 << 24}.bytes(), "version"},
		"header only":          {[]byte("GGUF\x03\x00\x00\x00"), "truncated"},
		"many tensors":         {slices.Concat([]byte("GGUF"), u32(3), u64(math.MaxUint64), u64(0)), "limit"},
		"tensors without any":  {slices.Concat([]byte("GGUF"), u32(3), u64(100), u64(0)), "truncated"},
		"many keys":            {slices.Concat([]byte("GGUF"), u32(3), u64(0), u64(1<<40)), "limit"},
		"key twice":            {builder{keys: []keyValue{{"a", 1}, {"a", 1}}}.bytes(), "twice"},
		"empty key":            {meta("", 1), "empty"},
		"key not UTF-8":        {meta("\xff", 1), "UTF-8"},
		"long key":             {meta(strings.Repeat("k", 2000), 1), "limit"},
		"value type":           {meta("a", u32(99)), "value type 99"},
		"array of arrays":      {meta("a", slices.Concat(u32(typeArray), u32(typeArray), u64(1))), "not supported"},
		"huge array":           {meta("a", slices.Concat(u32(typeArray), u32(typeInt8), u64(math.MaxUint64))), "limit"},
		"array truncated":      {meta("a", slices.Concat(u32(typeArray), u32(typeUint64), u64(1000))), "truncated"},
		"string truncated":     {meta("a", slices.Concat(u32(typeString), u64(1000))), "truncated"},
		"string beyond int":    {meta("a", slices.Concat(u32(typeString), u64(1<<63))), "limit"},
		"boolean 2":            {meta("a", append(u32(typeBool), 2)), "boolean"},
		"alignment 0":          {meta("general.alignment", 0), "power of two"},
		"alignment 48":         {meta("general.alignment", 48), "power of two"},
		"alignment huge":       {meta("general.alignment", 1<<30), "power of two"},
		"alignment text":       {meta("general.alignment", "32"), "power of two"},
		"body truncated":       {good[:len(good)-1], "truncated"},
		"body missing":         {good[:len(good)-64], "truncated"},
		"overlap":              {at(0, "c"), "overlap"},
		"overlap within":       {at(32, "c"), "overlap"},
		"beyond the end":       {at(1<<20, "c"), "not within"},
		"offset overflows":     {at(math.MaxInt64-31, "c"), "not within"},
		"offset not aligned":   {at(68, "c"), "alignment"},
		"tensor twice":         {at(1<<20, "a"), "twice"},
		"unknown tensor type":  {tensor(77, 1), "not supported"},
		"repacked tensor type": {tensor(31, 32), "not supported"},
		"no dimension":         {tensor(F32), "dimensions"},
		"five dimensions":      {tensor(F32, 1, 1, 1, 1, 1), "dimensions"},
		"zero dimension":       {tensor(F32, 0), "out of range"},
		"shape overflows":      {tensor(F32, 1<<30, 1<<30, 1<<30), "out of range"},
		"negative dimension":   {tensor(F32, -1), "out of range"},
		"part of a block":      {tensor(Q4_1, 32, 33), "whole blocks"},
	} {
		_, err := parse("f", c.data)
		var typed *Error
		if !errors.As(err, &typed) || typed.Path != "f" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an Error that says %q", name, err, c.want)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.gguf")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func llama() []keyValue {
	return []keyValue{
		{"general.architecture", "llama"}, {"llama.embedding_length", 16}, {"llama.block_count", 1}, {"llama.feed_forward_length", 24},
		{"llama.attention.head_count", 4}, {"llama.attention.head_count_kv", 2}, {"llama.context_length", 64},
		{"llama.attention.layer_norm_rms_epsilon", float32(1e-5)}, {"llama.rope.freq_base", float32(100000)},
	}
}

func TestRejectedModels(t *testing.T) {
	embedding := one("token_embd.weight", F32, []int{2, 2}, floats(1, 2, 3, 4))
	with := func(key string, value any) []byte {
		keys := llama()
		found := false
		for i := range keys {
			if keys[i].key == key {
				keys[i].value, found = value, true
			}
		}
		if !found {
			keys = append(keys, keyValue{key, value})
		}
		return builder{keys: keys, tensors: []stored{embedding}}.bytes()
	}
	more := func(t stored) []byte {
		return builder{keys: llama(), tensors: []stored{embedding, t}}.bytes()
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"no architecture":  {builder{}.bytes(), "general.architecture"},
		"mamba":            {with("general.architecture", "mamba"), "llama, qwen2 and qwen3"},
		"no layers":        {with("llama.block_count", 0), "llama.block_count"},
		"layers as text":   {with("llama.block_count", "1"), "llama.block_count"},
		"no heads":         {with("llama.attention.head_count", 0), "head_count"},
		"epsilon NaN":      {with("llama.attention.layer_norm_rms_epsilon", float32(math.NaN())), "epsilon"},
		"experts":          {with("llama.expert_count", 8), "llama.expert_count"},
		"sliding window":   {with("llama.attention.sliding_window", 512), "sliding_window"},
		"partial rotation": {with("llama.rope.dimension_count", 2), "rope.dimension_count"},
		"yarn":             {with("llama.rope.scaling.type", "yarn"), "rope.scaling.type"},
		"no embedding":     {builder{keys: llama()}.bytes(), "token_embd.weight"},
		"strange tensor":   {more(one("blk.0.ffn_gate_exps.weight", F32, []int{1}, floats(1))), "ffn_gate_exps"},
		"strange layer":    {more(one("blk.x.attn_q.weight", F32, []int{8, 1}, floats(1, 2, 3, 4, 5, 6, 7, 8))), "blk.x"},
		"strange part":     {more(one("blk.0.attn_q.scale", F32, []int{1}, floats(1))), "attn_q.scale"},
		"same tensor": {builder{keys: llama(), tensors: []stored{embedding, one("blk.0.ffn_norm.weight", F32, []int{1}, floats(1)),
			one("blk.00.ffn_norm.weight", F32, []int{1}, floats(1))}}.bytes(), "same tensor"},
		"rows of heads": {more(one("blk.0.attn_q.weight", F32, []int{6, 1}, floats(1, 2, 3, 4, 5, 6))), "heads"},
		"rope factors":  {more(one("rope_freqs.weight", F32, []int{2}, floats(3, 5))), "rope_freqs"},
	} {
		f, err := parse("f", c.data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, err = f.Checkpoint()
		var typed *Error
		if !errors.As(err, &typed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an Error that says %q", name, err, c.want)
		}
	}
}

// A family is found by the name that GGUF files have for it.
func TestFamilyOfAnotherName(t *testing.T) {
	known := family.Families
	defer func() { family.Families = known }()
	family.Families = append(known[:len(known):len(known)], family.Family{ModelType: "rill", GGUF: "rivulet", MLPBias: true})
	var keys []keyValue
	for _, kv := range llama() {
		if rest, ok := strings.CutPrefix(kv.key, "llama."); ok {
			kv.key = "rivulet." + rest
		} else {
			kv.value = "rivulet"
		}
		keys = append(keys, kv)
	}
	rows := floats(1, 2, 3, 4, 5, 6, 7, 8)
	f, err := parse("f", builder{keys: keys, tensors: []stored{one("token_embd.weight", F32, []int{2, 2}, floats(1, 2, 3, 4)),
		one("blk.0.attn_q.weight", F32, []int{8, 1}, rows), one("blk.0.ffn_up.bias", F32, []int{1}, floats(1))}}.bytes())
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(c.Config(), &config); err != nil {
		t.Fatal(err)
	}
	if _, asks := config["attention_bias"]; config["model_type"] != "rill" || config["mlp_bias"] != true || asks {
		t.Errorf("config.json is %s", c.Config())
	}
	got := make([]float32, 8)
	if err := c.Float32Into(got, "model.layers.0.self_attn.q_proj.weight"); err != nil ||
		!slices.Equal(got, []float32{1, 2, 3, 4, 5, 6, 7, 8}) {
		t.Errorf("rows %v, %v; this family's are in order", got, err)
	}
}

// A Hugging Face checkpoint written as GGUF, with rows in the order that format has them, reads back bit for bit.
func TestCheckpointReadsLikeTheOriginal(t *testing.T) {
	for _, model := range []string{"tiny_llama", "tiny_qwen2", "tiny_qwen3"} {
		t.Run(model, func(t *testing.T) {
			dir := filepath.Dir(golden.Path(t, "golden", model, safetensors.FileName))
			hf, err := safetensors.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer hf.Close()
			raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			var config map[string]any
			if err := json.Unmarshal(raw, &config); err != nil {
				t.Fatal(err)
			}
			arch := config["model_type"].(string)
			num := func(key string) int { return int(config[key].(float64)) }
			heads, kv := num("num_attention_heads"), num("num_key_value_heads")
			dim := num("hidden_size") / heads
			if d, ok := config["head_dim"].(float64); ok {
				dim = int(d)
			}
			b := builder{keys: []keyValue{
				{"general.architecture", arch}, {arch + ".embedding_length", num("hidden_size")}, {arch + ".block_count", num("num_hidden_layers")},
				{arch + ".feed_forward_length", num("intermediate_size")}, {arch + ".attention.head_count", heads}, {arch + ".attention.head_count_kv",
					kv},
				{arch + ".attention.key_length", dim}, {arch + ".context_length", num("max_position_embeddings")},
				{arch + ".attention.layer_norm_rms_epsilon", float32(config["rms_norm_eps"].(float64))}, {arch + ".rope.freq_base",
					float32(config["rope_theta"].(float64))},
			}}
			for _, name := range hf.Names() {
				values, shape, err := hf.Float32(name)
				if err != nil {
					t.Fatal(err)
				}
				renamed := name
				for _, pair := range [][2]string{{"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"},
					{"model.layers.", "blk."},
					{"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"}, {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj",
						"attn_k"},
					{"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm",
						"attn_k_norm"},
					{"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"}} {
					renamed = strings.Replace(renamed, pair[0], pair[1], 1)
				}
				n := map[bool]int{strings.Contains(name, "q_proj"): heads, strings.Contains(name, "k_proj"): kv}[true]
				if arch == "llama" && n > 0 {
					// reshape [n, 2, dim/2, columns], swap the middle two, flatten
					turned := make([]float32, 0, len(values))
					columns := len(values) / shape[0]
					for h := range n {
						for i := range dim / 2 {
							for half := range 2 {
								row := h*dim + half*dim/2 + i
								turned = append(turned, values[row*columns:(row+1)*columns]...)
							}
						}
					}
					values = turned
				}
				b.tensors = append(b.tensors, one(renamed, F32, shape, floats(values...)))
			}
			f, err := parse("f", b.bytes())
			if err != nil {
				t.Fatal(err)
			}
			c, err := f.Checkpoint()
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(c.Names(), hf.Names()) {
				t.Fatalf("tensors %v, want %v", c.Names(), hf.Names())
			}
			for _, name := range c.Names() {
				want, shape, _ := hf.Float32(name)
				got := make([]float32, len(want))
				if err := c.Float32Into(got, name); err != nil {
					t.Fatal(err)
				}
				if have, _ := c.Shape(name); !slices.Equal(have, shape) || !slices.Equal(got, want) {
					t.Errorf("%s differs", name)
				}
			}
			var made map[string]any
			if err := json.Unmarshal(c.Config(), &made); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads",
				"num_key_value_heads",
				"rms_norm_eps", "rope_theta", "vocab_size", "tie_word_embeddings", "max_position_embeddings"} {
				if want, ok := config[key]; ok && made[key] != want {
					t.Errorf("%s is %v, want %v", key, made[key], want)
				}
			}
		})
	}
}

func TestLlama3RotaryScalingIsRecognised(t *testing.T) {
	keys := slices.DeleteFunc(llama(), func(kv keyValue) bool {
		return kv.key == "llama.embedding_length" ||
			kv.key == "llama.rope.freq_base"
	})
	keys = append(keys, keyValue{"llama.embedding_length", 256}, keyValue{"llama.rope.freq_base", float32(500000)})
	factors := make([]float32, 32)
	for j := range factors {
		wavelength := 2 * math.Pi * math.Pow(500000, 2*float64(j)/64)
		switch {
		case wavelength < 8192.0/4:
			factors[j] = 1
		case wavelength > 8192:
			factors[j] = 32
		default:
			smooth := (8192/wavelength - 1) / (4 - 1)
			factors[j] = float32(1 / ((1-smooth)/32 + smooth))
		}
	}
	f, err := parse("f", builder{keys: keys, tensors: []stored{one("token_embd.weight", F32, []int{1, 1}, floats(1)),
		one("rope_freqs.weight", F32, []int{32}, floats(factors...))}}.bytes())
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Scaling map[string]any `json:"rope_scaling"`
	}
	if err := json.Unmarshal(c.Config(), &config); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
		"original_max_position_embeddings": 8192.0}
	if !maps.Equal(config.Scaling, want) {
		t.Errorf("scaling %v, want %v", config.Scaling, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(builder{}.bytes())
	f.Add(builder{keys: append(llama(), keyValue{"tokenizer.ggml.tokens", []string{"a", "b"}}, keyValue{"x", []int{1}}),
		tensors: []stored{one("token_embd.weight", Q4_1, []int{1, 32}, make([]byte, 20)),
			one("blk.0.attn_q.weight", F32, []int{8, 1}, make([]byte, 32))}}.bytes())
	f.Add(builder{keys: []keyValue{{"general.alignment", 64}}, alignment: 64,
		tensors: []stored{one("a", F16, []int{3}, make([]byte, 6))}}.bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parse("f", data)
		if err != nil {
			return
		}
		for _, name := range file.Names() {
			tensor, err := file.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			count := 1
			for _, d := range tensor.Shape {
				count *= d
			}
			l := layouts[tensor.Type]
			if len(tensor.Data) != count/l.block*l.bytes {
				t.Fatalf("%s: shape %v of %s with %d bytes", name, tensor.Shape, tensor.Type, len(tensor.Data))
			}
		}
		c, err := file.Checkpoint()
		if err != nil {
			return
		}
		for _, name := range c.Names() {
			tensor, _ := c.tensor(name)
			l := layouts[tensor.Type]
			if err := c.Float32Into(make([]float32, len(tensor.Data)/l.bytes*l.block), name); err != nil {
				t.Fatal(err)
			}
		}
	})
}
