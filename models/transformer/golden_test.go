package transformer

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/half"
	"github.com/millrace/millrace/models/safetensors"
)

// goldenModels are the whole-model vectors: transformer_<name>.json over the directory tiny_<name>.
var goldenModels = []string{"llama", "llama3_rope", "qwen2", "qwen3"}

// tolerance of single precision against the vectors' double precision.
const tolerance = 1e-4

// goldenCase is one case, as a packed batch.
type goldenCase struct {
	dir       string
	sequences [][]int32
	prompts   []int
	batch     models.Packed
	out       golden.Values
}

func loadCases(t *testing.T, name string) []goldenCase {
	t.Helper()
	var cases []goldenCase
	for _, c := range golden.Load(t, "transformer_"+name+".json").Cases {
		g := goldenCase{out: c.Out, prompts: golden.Get[[]int](t, c.In, "prompt_lengths")}
		g.dir = golden.Path(t, "golden", golden.Get[string](t, c.Params, "model_dir"))
		g.sequences = golden.Get[[][]int32](t, c.In, "sequences")
		var packed []models.Sequence
		for _, s := range g.sequences {
			packed = append(packed, models.Sequence{Prompt: s})
		}
		g.batch = models.Pack(packed)
		cases = append(cases, g)
	}
	return cases
}

// nll runs forward and backward of the mean negative log-likelihood of the response tokens through a dense head. It returns
// the loss and leaves the gradients in tr.
func nll(t *testing.T, tr *Trainer, g goldenCase) float64 {
	t.Helper()
	h, err := tr.Forward(g.batch)
	if err != nil {
		t.Fatal(err)
	}
	v, d, rows := tr.VocabSize(), tr.HiddenSize(), len(g.batch.Tokens)
	z := make([]float32, rows*v)
	tr.Logits(z, h, rows)
	n := 0
	for s, seq := range g.sequences {
		n += len(seq) - g.prompts[s]
	}
	loss := 0.0
	dz := make([]float32, rows*v)
	for s, seq := range g.sequences {
		for i := g.prompts[s]; i < len(seq); i++ {
			r := g.batch.Starts[s] + i - 1
			row := z[r*v : (r+1)*v]
			logZ := kernels.LogSumExp(row)
			loss -= float64(row[seq[i]]-logZ) / float64(n)
			copy(dz[r*v:(r+1)*v], row)
			kernels.RowGrad(dz[r*v:(r+1)*v], logZ, 1/float32(n), 0, 0, nil, 0, 0, []int32{seq[i]}, []float32{-1 / float32(n)})
		}
	}
	w, dw := tr.Head()
	dh := make([]float32, rows*d)
	kernels.MatMulNN(dh, dz, w, rows, d, v, 0)
	kernels.MatMulTN(dw, dz, h, v, d, rows, 1)
	if err := tr.Backward(dh); err != nil {
		t.Fatal(err)
	}
	return loss
}

func float64s(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

func TestGolden(t *testing.T) {
	for _, name := range goldenModels {
		for _, recompute := range []bool{false, true} {
			t.Run(name+map[bool]string{true: "/recompute"}[recompute], func(t *testing.T) {
				for _, g := range loadCases(t, name) {
					m, err := Load(g.dir)
					if err != nil {
						t.Fatal(err)
					}
					checkForward(t, m, g)
					tr := NewTrainer(m, TrainOptions{Recompute: recompute})
					golden.CloseTo(t, "nll", nll(t, tr, g), golden.Get[float64](t, g.out, "nll"), tolerance)
					grads := golden.Get[map[string]golden.Tensor](t, g.out, "grads")
					if len(grads) != len(tr.Tensors()) {
						t.Errorf("%d tensors, want %d", len(tr.Tensors()), len(grads))
					}
					for _, tensor := range tr.Tensors() {
						want, ok := grads[tensor.Name]
						if !ok || !slices.Equal(want.Shape, tensor.Shape) {
							t.Errorf("%s has shape %v, want %v", tensor.Name, tensor.Shape, want.Shape)
							continue
						}
						golden.Close(t, "gradient of "+tensor.Name, float64s(tensor.Grad), want.Data, tolerance)
					}
					// A second pass adds the same again.
					first := slices.Clone(tr.Grads())
					nll(t, tr, g)
					for i, v := range tr.Grads() {
						if d := v - 2*first[i]; d > 1e-5 || d < -1e-5 {
							t.Fatalf("gradient %d is %v after two passes, %v after one", i, v, first[i])
						}
					}
				}
			})
		}
	}
}

// checkForward compares hidden states, layer by layer, and logits.
func checkForward(t *testing.T, m *Model, g goldenCase) {
	t.Helper()
	tr := NewTrainer(m, TrainOptions{})
	h, err := tr.Forward(g.batch)
	if err != nil {
		t.Fatal(err)
	}
	v, d := m.VocabSize(), m.HiddenSize()
	logits := golden.Get[[]golden.Tensor](t, g.out, "logits")
	states := golden.Get[[]golden.Tensor](t, g.out, "hidden_states")
	for s := range g.sequences {
		lo, hi := g.batch.Starts[s], g.batch.Starts[s+1]
		z := make([]float32, (hi-lo)*v)
		m.Logits(z, h[lo*d:hi*d], hi-lo)
		golden.Close(t, "logits", float64s(z), logits[s].Data, tolerance)
		for l := range tr.x {
			n := (hi - lo) * d
			golden.Close(t, "hidden state", float64s(tr.x[l][lo*d:hi*d]), states[s].Data[l*n:(l+1)*n], tolerance)
		}
	}
}

// Both forms of config.json mean the same model, as do the float32 and bfloat16 files of the same weights.
func TestForms(t *testing.T) {
	for _, name := range goldenModels {
		dir := filepath.Dir(golden.Path(t, "golden", "tiny_"+name, "config.json"))
		var configs []Config
		for _, file := range []string{"config.json", "config_v5.json"} {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			c, err := ParseConfig(text)
			if err != nil {
				t.Fatal(file, err)
			}
			c.raw = nil
			configs = append(configs, c)
		}
		if a, b := mustJSON(t, configs[0]), mustJSON(t, configs[1]); a != b {
			t.Errorf("%s: the two forms differ:\n%s\n%s", name, a, b)
		}
	}
	wide, err := Load(filepath.Dir(golden.Path(t, "golden", "tiny_qwen3", "config.json")))
	if err != nil {
		t.Fatal(err)
	}
	narrow, err := Load(filepath.Dir(golden.Path(t, "golden", "tiny_qwen3_bf16", "config.json")))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(wide.params, narrow.params) {
		t.Error("float32 and bfloat16 files give different weights")
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A model read, saved and read again is the same model, and saving twice gives the same bytes.
func TestSave(t *testing.T) {
	for _, name := range goldenModels {
		m, err := Load(filepath.Dir(golden.Path(t, "golden", "tiny_"+name, "config.json")))
		if err != nil {
			t.Fatal(err)
		}
		checkSave(t, m)
	}
	for _, c := range []Config{tiny("llama"), tiny("qwen2"), tiny("qwen3")} {
		m, err := New(c, 7, true)
		if err != nil {
			t.Fatal(err)
		}
		fillNormal(m.scalar, 1, 3, "scalar")
		checkSave(t, m)
	}
}

// Weights that are bfloat16 numbers are stored as such, and one that is none has the whole model stored in float32.
func TestSaveKeepsThePrecisionOfWeights(t *testing.T) {
	m, err := New(tiny("llama"), 7, true)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range m.params {
		m.params[i] = half.FromBFloat16(half.ToBFloat16(x))
	}
	for _, want := range []safetensors.DType{safetensors.BF16, safetensors.F32} {
		dir := t.TempDir()
		if err := m.Save(dir); err != nil {
			t.Fatal(err)
		}
		f, err := safetensors.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range f.Names() {
			if info, err := f.Tensor(name); err != nil || info.DType != want {
				t.Errorf("%s is stored as %s, want %s", name, info.DType, want)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		checkSave(t, m)
		last := &m.params[len(m.params)-1]
		*last = math.Float32frombits(math.Float32bits(*last) | 1)
	}
}

func checkSave(t *testing.T, m *Model) {
	t.Helper()
	a, b := filepath.Join(t.TempDir(), "new", "a"), t.TempDir()
	if err := m.Save(a); err != nil {
		t.Fatal(err)
	}
	again, err := Load(a)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.params, m.params) || (again.scalar == nil) != (m.scalar == nil) {
		t.Error("weights changed on the way")
	}
	if err := again.Save(b); err != nil {
		t.Fatal(err)
	}
	da, err := models.Digest(a)
	if err != nil {
		t.Fatal(err)
	}
	db, err := models.Digest(b)
	if err != nil {
		t.Fatal(err)
	}
	if da != db {
		t.Errorf("saved twice: digests %s and %s", da, db)
	}
}

// tiny is a small configuration of that family, with grouped heads.
func tiny(modelType string) Config {
	c := Config{ModelType: modelType, Vocab: 29, Hidden: 24, Intermediate: 40, Layers: 2, Heads: 6, KVHeads: 2, HeadDim: 4,
		MaxPositions: 96, NormEps: 1e-6, Rope: Rope{Theta: 10000, Type: "default"}, EOS: []int32{1}}
	switch modelType {
	case "llama":
		c.QKVBias, c.OutBias, c.MLPBias = true, true, true
	case "qwen2":
		c.QKVBias, c.Tied = true, true
	case "qwen3":
		c.QKNorm, c.HeadDim = true, 8
	}
	return c
}

func TestConfigErrors(t *testing.T) {
	good := strings.TrimSpace(mustJSON(t, tiny("qwen3")))
	if _, err := ParseConfig([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ field, value string }{
		{"model_type", `"mixtral"`}, {"model_type", `null`}, {"model_type", `3`},
		{"hidden_size", `0`}, {"hidden_size", `1e30`}, {"hidden_size", `null`}, {"hidden_size", `"64"`},
		{"vocab_size", `-5`}, {"num_hidden_layers", `1000000000`}, {"num_key_value_heads", `4`}, {"head_dim", `7`},
		{"rms_norm_eps", `-1`}, {"rope_theta", `0`}, {"hidden_act", `"gelu"`},
		{"use_sliding_window", `true`}, {"sliding_window", `4096`}, {"num_experts", `8`},
		{"partial_rotary_factor", `0.5`}, {"quantization_config", `{"bits":4}`}, {"eos_token_id", `"x"`},
		{"layer_types", `["full_attention","sliding_attention"]`},
		{"rope_scaling", `{"rope_type":"yarn","factor":4}`}, {"rope_scaling", `{"type":"linear","factor":0}`},
		{"rope_scaling", `{"rope_type":"dynamic","factor":2}`}, {"rope_scaling", `{"rope_type":"llama3","factor":8}`},
		{"rope_scaling", `7`},
	} {
		var raw map[string]json.RawMessage
		if err := json.Unmarshal([]byte(good), &raw); err != nil {
			t.Fatal(err)
		}
		raw[c.field] = json.RawMessage(c.value)
		_, err := ParseConfig([]byte(mustJSON(t, raw)))
		if ce, ok := err.(*ConfigError); !ok || !strings.HasPrefix(ce.Field, c.field) {
			t.Errorf("%s: %s gives %v, want an error about that field", c.field, c.value, err)
		}
	}
	for _, text := range []string{"", "null", "[]", "{", "7"} {
		if _, err := ParseConfig([]byte(text)); err == nil {
			t.Errorf("%q is taken for a configuration", text)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	c := tiny("qwen3")
	text, err := json.Marshal(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"model_type":"llama","rope_scaling":{"type":"linear"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig(text)
		if err != nil {
			return
		}
		again, err := ParseConfig([]byte(mustJSON(t, c)))
		if err != nil {
			t.Fatalf("%s\nwritten again it does not parse: %v", text, err)
		}
		if a, b := mustJSON(t, c), mustJSON(t, again); a != b {
			t.Fatalf("changed on the way:\n%s\n%s", a, b)
		}
	})
}
