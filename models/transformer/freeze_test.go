package transformer

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/safetensors"
)

// A frozen model gives the bits of the plain one: over packed sequences, from caches, with float32 and bfloat16 weights, with
// adapters, at every level of the kernels.
func TestFreeze(t *testing.T) {
	sequences := groups(4, 3)
	for _, name := range []string{"llama", "qwen2", "qwen3", "bf16", "lora", "llama in bfloat16", "qwen3 in bfloat16", "lora in bfloat16",
		"llama in bfloat16-tiles", "qwen3 in bfloat16-tiles", "lora in bfloat16-tiles"} {
		modelType, precision, _ := strings.Cut(name, " in ")
		for _, level := range []string{"generic", kernels.Level()} {
			restore := kernels.Force(level)
			load := func() *Model {
				c := tiny("llama")
				if modelType[:2] == "qw" {
					c = tiny(modelType)
				}
				m, err := New(c, 17, true)
				if err != nil {
					t.Fatal(err)
				}
				fillNormal(m.scalar, 1, 3, "scalar")
				if modelType == "bf16" {
					dir := filepath.Join(t.TempDir(), "m")
					if err := m.SaveAs(dir, safetensors.BF16); err != nil {
						t.Fatal(err)
					}
					if m, err = Load(dir); err != nil {
						t.Fatal(err)
					}
				}
				if modelType == "lora" {
					if err := m.AddLoRA(LoRA{Rank: 3, Alpha: 2}, 1, models.Ref{}); err != nil {
						t.Fatal(err)
					}
					fillNormal(m.adapters.params, 0.1, 1, "adapters")
				}
				var p kernels.Precision
				if err := p.UnmarshalText([]byte(precision)); err != nil {
					t.Fatal(err)
				}
				m.SetPrecision(p)
				return m
			}
			plain, frozen := load(), load()
			frozen.Freeze()
			frozen.Freeze()
			var w, f Workspace
			batch := models.Pack(sequences)
			want, err := plain.Forward(&w, batch)
			if err != nil {
				t.Fatal(err)
			}
			got, err := frozen.Forward(&f, batch)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %s: %v, or other hidden rows", name, level, err)
			}
			if !slices.Equal(frozen.Scalar(), plain.Scalar()) {
				t.Errorf("%s: another scalar head", name)
			}
			n := len(batch.Tokens)
			za, zb := make([]float32, n*29), make([]float32, n*29)
			plain.Logits(za, want, n)
			frozen.Logits(zb, got, n)
			if !slices.Equal(za, zb) {
				t.Errorf("%s, %s: other logits", name, level)
			}

			// All but the last token from the prompt, the last one decoded.
			var heads []models.Sequence
			var last []int32
			var caches []*KV
			for _, s := range sequences {
				all := slices.Concat(s.Prompt, s.Response)
				heads = append(heads, models.Sequence{Prompt: all[:len(all)-1]})
				last = append(last, all[len(all)-1])
				caches = append(caches, frozen.NewKV(len(all)))
			}
			if _, err := frozen.Prefill(&f, models.Pack(heads), caches); err != nil {
				t.Fatal(err)
			}
			h, err := frozen.Decode(&f, last, caches)
			if err != nil {
				t.Fatal(err)
			}
			d := frozen.HiddenSize()
			for b := range sequences {
				end := batch.Starts[b+1]
				if !slices.Equal(h[b*d:(b+1)*d], want[(end-1)*d:end*d]) {
					t.Errorf("%s, %s: decoding gives another hidden row", name, level)
				}
			}
			if frozen.Save(t.TempDir()) == nil {
				t.Error("a frozen model was saved")
			}
			restore()
		}
	}
}

// A frozen copy gives the same rows, and the model it was made of trains as if there were none.
func TestFrozenCopy(t *testing.T) {
	sequences := groups(3, 2)
	for _, modelType := range []string{"llama", "qwen3"} {
		m, err := New(tiny(modelType), 17, false)
		if err != nil {
			t.Fatal(err)
		}
		tr := NewTrainer(m, TrainOptions{})
		batch := models.Pack(sequences)
		step := func() []float32 {
			tr.ZeroGrads()
			h, err := tr.Forward(batch)
			if err != nil {
				t.Fatal(err)
			}
			h = slices.Clone(h)
			if err := tr.Backward(slices.Clone(h)); err != nil {
				t.Fatal(err)
			}
			return h
		}
		want := step()
		grads := slices.Clone(tr.Grads())
		var w Workspace
		got, err := m.Frozen().Forward(&w, batch)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, or other hidden rows", modelType, err)
		}
		step()
		if !slices.Equal(tr.Grads(), grads) {
			t.Errorf("%s: other gradients after a frozen copy was made", modelType)
		}
	}
}
