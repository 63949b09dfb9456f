package transformer

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/safetensors"
	"github.com/millrace/millrace/schemas/setting"
)

// adapted is a model with adapters that do something, and the directory its base was saved to.
func adapted(t *testing.T, c Config, lora LoRA, scalar bool) (*Model, string) {
	t.Helper()
	m, err := New(c, 13, scalar)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "base")
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	digest, err := models.Digest(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddLoRA(lora, 5, models.Ref{Path: dir, Digest: digest}); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(2, 2))
	for i := range m.adapters.params {
		m.adapters.params[i] += 0.1 * float32(rng.NormFloat64())
	}
	return m, dir
}

// run is a forward and a backward pass with a fixed gradient.
func run(t *testing.T, tr *Trainer, sequences []models.Sequence) []float32 {
	t.Helper()
	h, err := tr.Forward(models.Pack(sequences))
	if err != nil {
		t.Fatal(err)
	}
	h = slices.Clone(h)
	dh := make([]float32, len(h))
	for i := range dh {
		dh[i] = float32(math.Sin(float64(i)))
	}
	if err := tr.Backward(dh); err != nil {
		t.Fatal(err)
	}
	return h
}

// The adapters' gradients follow from the gradient of the merged matrix: dA = s Bᵀ dW, dB = s dW Aᵀ.
func TestLoRAGradients(t *testing.T) {
	sequences := groups(3, 2)
	for _, lora := range []LoRA{{Rank: 3, Alpha: 6}, {Rank: 2, Alpha: 1, Targets: []string{"v_proj", "q_proj", "down_proj"}}} {
		for _, options := range []TrainOptions{{}, {Recompute: true}, {SharePrefixes: true}} {
			m, dir := adapted(t, tiny("qwen3"), lora, false)
			frozen := slices.Clone(m.params)
			tr := NewTrainer(m, options)
			h := run(t, tr, sequences)
			if w, dw := tr.Head(); w == nil || dw != nil {
				t.Error("the LM head is not frozen")
			}
			merged, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			merged.allocateAdapters(lora, models.Ref{})
			copy(merged.adapters.params, m.adapters.params)
			merged.Merge()
			full := NewTrainer(merged, TrainOptions{})
			want := run(t, full, sequences)
			near := func(what string, got, want []float32) {
				t.Helper()
				for i := range got {
					if d := math.Abs(float64(got[i] - want[i])); !(d <= 1e-4*max(1, math.Abs(float64(want[i])))) {
						t.Fatalf("%s[%d] = %v, want %v", what, i, got[i], want[i])
					}
				}
			}
			near("hidden", h, want)
			if !slices.Equal(m.params, frozen) {
				t.Error("frozen weights changed")
			}
			dw := map[string][]float32{}
			for _, tensor := range full.Tensors() {
				dw[tensor.Name] = tensor.Grad
			}
			scale := float32(lora.Alpha) / float32(lora.Rank)
			for i := 0; i < len(tr.Tensors()); i += 2 {
				a, b := tr.Tensors()[i], tr.Tensors()[i+1]
				name := strings.TrimSuffix(strings.TrimPrefix(a.Name, "base_model.model."), ".lora_A.weight") + ".weight"
				r, in, out := a.Shape[0], a.Shape[1], b.Shape[0]
				da, db := make([]float32, r*in), make([]float32, out*r)
				kernels.MatMulTN(da, b.Param, dw[name], r, in, out, 0)
				kernels.Scale(scale, da)
				kernels.MatMulNT(db, dw[name], a.Param, out, r, in, 0)
				kernels.Scale(scale, db)
				near(a.Name, a.Grad, da)
				near(b.Name, b.Grad, db)
			}
		}
	}
}

// Fresh adapters change no bit; saved ones come back with their base, and a base that changed is noticed.
func TestLoRASave(t *testing.T) {
	sequences := groups(2, 2)
	c := tiny("llama")
	plain, err := New(c, 13, false)
	if err != nil {
		t.Fatal(err)
	}
	var w Workspace
	before, err := plain.Forward(&w, models.Pack(sequences))
	if err != nil {
		t.Fatal(err)
	}
	before = slices.Clone(before)
	if err := plain.AddLoRA(LoRA{Rank: 2, Alpha: 4}, 1, models.Ref{}); err != nil {
		t.Fatal(err)
	}
	if after, err := plain.Forward(&w, models.Pack(sequences)); err != nil || !slices.Equal(after, before) {
		t.Errorf("%v, or fresh adapters change the model", err)
	}
	if err := plain.Save(t.TempDir()); err == nil {
		t.Error("adapters are saved without saying what they adapt")
	}

	for _, scalar := range []bool{false, true} {
		m, base := adapted(t, c, LoRA{Rank: 3, Alpha: 5, Targets: []string{"o_proj", "up_proj"}}, scalar)
		dir := filepath.Join(t.TempDir(), "adapter")
		if err := m.Save(dir); err != nil {
			t.Fatal(err)
		}
		again, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(again.adapters.params, m.adapters.params) || !slices.Equal(again.params, m.params) ||
			!slices.Equal(again.scalar, m.scalar) {
			t.Error("weights changed on the way")
		}
		a, b := run(t, NewTrainer(m, TrainOptions{}), sequences), run(t, NewTrainer(again, TrainOptions{}), sequences)
		if !slices.Equal(a, b) {
			t.Error("the loaded model gives other hidden rows")
		}
		again.Merge()
		whole := t.TempDir()
		if err := again.Save(whole); err != nil {
			t.Fatal(err)
		}
		if again, err = Load(whole); err != nil || !slices.Equal(again.scalar, m.scalar) {
			t.Errorf("merged: %v, or another scalar head", err)
		}

		if err := os.WriteFile(filepath.Join(base, "generation_config.json"), []byte("{}"), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil {
			t.Error("a base model that changed is taken")
		}
	}
}

// A scalar head that is added to a model with adapters is trained, saved, loaded and merged with them, in the precision that the model had.
func TestScalarHeadBesideAdapters(t *testing.T) {
	sequences := groups(2, 2)
	for _, late := range []bool{false, true} { // the precision is said before or after
		m, base := adapted(t, tiny("llama"), LoRA{Rank: 3, Alpha: 5}, false)
		before := run(t, NewTrainer(m, TrainOptions{}), sequences)
		m, _ = adapted(t, tiny("llama"), LoRA{Rank: 3, Alpha: 5}, false)
		m.adapters.base.Path = base
		if !late {
			m.SetPrecision(kernels.BFloat16)
		}
		m.AddScalarHead()
		m.AddScalarHead() // one is enough
		if late {
			if !slices.Equal(run(t, NewTrainer(m, TrainOptions{}), sequences), before) {
				t.Error("a scalar head changes hidden rows")
			}
			m.SetPrecision(kernels.BFloat16)
		}
		if len(m.Scalar()) != m.config.Hidden || m.Precision() != kernels.BFloat16 {
			t.Fatalf("late %v: a head of %d weights, precision %v", late, len(m.Scalar()), m.Precision())
		}
		tr := NewTrainer(m, TrainOptions{})
		w, dw := tr.ScalarHead()
		if len(w) != m.config.Hidden || len(dw) != len(w) {
			t.Fatalf("late %v: the trainer has a head of %d weights and %d gradients", late, len(w), len(dw))
		}
		for i := range w {
			w[i] = float32(i + 1)
		}
		dir := filepath.Join(t.TempDir(), "adapter")
		if err := m.Save(dir); err != nil {
			t.Fatal(err)
		}
		again, err := Load(dir)
		if err != nil || !slices.Equal(again.Scalar(), w) {
			t.Fatalf("late %v: loaded: %v, or another head", late, err)
		}
		again.Merge()
		if !slices.Equal(again.Scalar(), w) {
			t.Errorf("late %v: merging loses the head of a loaded model", late)
		}
		if m.Merge(); !slices.Equal(m.Scalar(), w) || m.Precision() != kernels.BFloat16 {
			t.Errorf("late %v: merging loses the head, or the precision", late)
		}
	}
}

func TestLoRAErrors(t *testing.T) {
	for _, c := range []LoRA{{Alpha: 1}, {Rank: 2}, {Rank: 2, Alpha: math.NaN()}, {Rank: 2, Alpha: 1, Targets: []string{"lm_head"}}} {
		if setting.Check(c) == nil {
			t.Errorf("%+v is valid", c)
		}
	}
	m, _ := adapted(t, tiny("llama"), LoRA{Rank: 2, Alpha: 4}, false)
	dir := t.TempDir()
	if err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, adapterConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, field string }{
		{`"use_dora": false`, `"use_dora": true`, "use_dora"},
		{`"rank_pattern": {}`, `"rank_pattern": {"q": 3}`, "rank_pattern"},
		{`"peft_type": "LORA"`, `"peft_type": "IA3"`, "peft_type"},
		{`"q_proj"`, `"lm_head"`, "lm_head"},
		{`"r": 2`, `"r": 3`, "lora_A"},
		{`"r": 2`, `"r": -1`, "rank"},
		{`"r": 2`, `"r": "x"`, "adapter_config.json"},
	} {
		text := strings.Replace(string(good), c.old, c.new, 1)
		if text == string(good) {
			t.Fatalf("%s is not in the file", c.old)
		}
		if err := os.WriteFile(filepath.Join(dir, adapterConfigFile), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s gives %v", c.new, err)
		}
	}
	// What the configuration does not ask for would be lost.
	if err := os.WriteFile(filepath.Join(dir, adapterConfigFile), good, 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(filepath.Join(dir, AdapterWeights))
	if err != nil {
		t.Fatal(err)
	}
	const surplus = "base_model.model.value_head.weight"
	all := []safetensors.NamedTensor{{Name: surplus, Shape: []int{1, 2}, Values: []float32{1, 2}}}
	for _, name := range f.Names() {
		data, shape, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, safetensors.NamedTensor{Name: name, Shape: shape, Values: data})
	}
	if err := errors.Join(f.Close(), safetensors.Write(filepath.Join(dir, AdapterWeights), all, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), surplus) {
		t.Errorf("a tensor that nothing asks for gives %v", err)
	}
}
