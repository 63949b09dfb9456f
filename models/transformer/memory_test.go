package transformer

import (
	"runtime"
	"testing"

	"github.com/millrace/millrace/models"
)

// TestTrainingMemory holds the estimate against what a trainer was given by the runtime.
func TestTrainingMemory(t *testing.T) {
	c := Config{ModelType: "qwen3", Vocab: 300, Hidden: 64, Intermediate: 160, Layers: 6, Heads: 4, KVHeads: 2, HeadDim: 16,
		MaxPositions: 4096, NormEps: 1e-6,
		Rope: Rope{Theta: 10000, Type: "default"}, QKNorm: true}
	const tokens = 2048
	for _, test := range []struct {
		name      string
		lora      *LoRA
		recompute bool
	}{{"all weights", nil, false}, {"recompute", nil, true}, {"adapters", &LoRA{Rank: 4, Alpha: 8, Targets: []string{"q_proj", "down_proj"}},
		false}} {
		t.Run(test.name, func(t *testing.T) {
			m, err := New(c, 1, false)
			if err != nil {
				t.Fatal(err)
			}
			if test.lora != nil {
				if err := m.AddLoRA(*test.lora, 1, models.Ref{}); err != nil {
					t.Fatal(err)
				}
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			trainer := NewTrainer(m, TrainOptions{Recompute: test.recompute})
			want := TrainingMemory(c, false, test.lora, test.recompute, tokens)
			if n := int64(len(trainer.Params())); n != want.Trained {
				t.Errorf("%d trained parameters, estimated %d", n, want.Trained)
			}
			batch := models.Packed{Tokens: make([]int32, tokens), Starts: []int{0, tokens / 2, tokens}}
			h, err := trainer.Forward(batch)
			if err != nil {
				t.Fatal(err)
			}
			if err := trainer.Backward(make([]float32, len(h))); err != nil {
				t.Fatal(err)
			}
			runtime.GC()
			runtime.GC() // the second frees what pools hold
			runtime.ReadMemStats(&after)
			got := int64(after.HeapAlloc) - int64(before.HeapAlloc)
			runtime.KeepAlive(trainer)
			if estimate := want.Gradients + want.Activations; got > estimate*11/10 || got < estimate*6/10 {
				t.Errorf("%d bytes, estimated %d", got, estimate)
			}
		})
	}
}

// TestFrozenBytes holds the estimate against what the runtime gave, with a vocabulary that makes a large part of it.
func TestFrozenBytes(t *testing.T) {
	for _, tied := range []bool{false, true} {
		c := Config{ModelType: "llama", Vocab: 20000, Hidden: 64, Intermediate: 160, Layers: 6, Heads: 4, KVHeads: 2, HeadDim: 16,
			MaxPositions: 64, NormEps: 1e-6, Rope: Rope{Theta: 10000, Type: "default"}, Tied: tied}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m, err := New(c, 1, false)
		if err != nil {
			t.Fatal(err)
		}
		m.Freeze()
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		got, want := int64(after.HeapAlloc)-int64(before.HeapAlloc), FrozenBytes(c, m.Precision())
		runtime.KeepAlive(m)
		if got > want*11/10 || got < want*9/10 {
			t.Errorf("tied %v: %d bytes, estimated %d", tied, got, want)
		}
	}
}
