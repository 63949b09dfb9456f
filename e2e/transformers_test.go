package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/safetensors"
	"github.com/millrace/millrace/models/transformer"
)

// TestTransformersLoadsOurs writes models of every family and loads them with Hugging Face transformers: no tensor missing
// or left over, equal logits. It runs where $MILLRACE_PYTHON names a Python that has torch and transformers.
func TestTransformersLoadsOurs(t *testing.T) {
	python := os.Getenv("MILLRACE_PYTHON")
	if python == "" {
		t.Skip("MILLRACE_PYTHON does not name a Python with torch and transformers")
	}
	base := transformer.Config{Vocab: 211, Hidden: 48, Intermediate: 80, Layers: 3, Heads: 6, KVHeads: 2, HeadDim: 8,
		MaxPositions: 256, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}, EOS: []int32{2}}
	configs := map[string]func(c *transformer.Config){
		"llama":        func(c *transformer.Config) { c.ModelType = "llama" },
		"llama-biases": func(c *transformer.Config) { c.ModelType, c.QKVBias, c.OutBias, c.MLPBias = "llama", true, true, true },
		"llama-tied":   func(c *transformer.Config) { c.ModelType, c.Tied, c.NormEps = "llama", true, 1e-5 },
		"llama-linear": func(c *transformer.Config) {
			c.ModelType, c.Rope.Type, c.Rope.Factor = "llama", "linear", 4
		},
		"llama-llama3": func(c *transformer.Config) {
			c.ModelType, c.Rope = "llama", transformer.Rope{Theta: 500000, Type: "llama3", Factor: 8, LowFreqFactor: 1,
				HighFreqFactor: 4, OriginalMaxPosition: 64}
		},
		"qwen2": func(c *transformer.Config) { c.ModelType, c.QKVBias, c.EOS = "qwen2", true, []int32{2, 7} },
		"qwen3": func(c *transformer.Config) { c.ModelType, c.QKNorm, c.HeadDim, c.Tied = "qwen3", true, 16, true },
	}
	root := t.TempDir()
	args := []string{filepath.Join("transformers", "check.py")}
	for name, change := range configs {
		for _, dtype := range []safetensors.DType{safetensors.F32, safetensors.BF16} {
			c := base
			change(&c)
			m, err := transformer.New(c, 9, name == "qwen2")
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(3, 3))
			params := transformer.NewTrainer(m, transformer.TrainOptions{}).Params()
			for i := range params { // biases and norms start at 0 and 1, which would hide a mistake
				params[i] += 0.05 * float32(rng.NormFloat64())
			}
			dir := filepath.Join(root, name+"-"+string(dtype))
			if err := m.SaveAs(dir, dtype); err != nil {
				t.Fatal(err)
			}
			if m, err = transformer.Load(dir); err != nil { // bfloat16: with the rounded weights
				t.Fatal(err)
			}
			writeLogits(t, m, dir)
			args = append(args, dir)
			if dtype == safetensors.F32 && name != "qwen2" { // adapters through PEFT; not beside a tensor it would not know
				args = append(args, writeAdapters(t, dir))
			}
		}
	}
	out, err := exec.Command(python, args...).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// writeAdapters trains nothing but leaves adapters that do something, over the model in dir.
func writeAdapters(t *testing.T, base string) string {
	t.Helper()
	m, err := transformer.Load(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddLoRA(transformer.LoRA{Rank: 4, Alpha: 6, Targets: []string{"q_proj", "o_proj", "gate_proj", "down_proj"}}, 1,
		models.Ref{Path: base}); err != nil {
		t.Fatal(err)
	}
	params := transformer.NewTrainer(m, transformer.TrainOptions{}).Params()
	for i := range params {
		params[i] += 0.1 * float32(i%7-3) / 3
	}
	dir := base + "-lora"
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	writeLogits(t, m, dir)
	return dir
}

// writeLogits leaves what the script compares with.
func writeLogits(t *testing.T, m *transformer.Model, dir string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	tokens := make([]int32, 100)
	for i := range tokens {
		tokens[i] = int32(rng.IntN(m.VocabSize()))
	}
	var w transformer.Workspace
	h, err := m.Forward(&w, models.Pack([]models.Sequence{{Prompt: tokens}}))
	if err != nil {
		t.Fatal(err)
	}
	z := make([]float32, len(tokens)*m.VocabSize())
	m.Logits(z, h, len(tokens))
	var rows [][]float32
	for i := range tokens {
		rows = append(rows, z[i*m.VocabSize():(i+1)*m.VocabSize()])
	}
	text, err := json.Marshal(map[string]any{"tokens": tokens, "logits": rows, "tolerance": 1e-4,
		"extra_tensors": []string{transformer.ScalarHeadName}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "logits.json"), text, 0o666); err != nil {
		t.Fatal(err)
	}
}
