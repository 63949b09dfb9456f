package transformer

import (
	"fmt"
	"math"
	"testing"

	"github.com/millrace/millrace/models"
)

// benchConfigs are the sizes that are measured: the proving ground's policy, and the shape of SmolLM2-135M.
func benchConfigs() map[string]Config {
	return map[string]Config{
		"provingground": {ModelType: "llama", Vocab: 26, Hidden: 64, Intermediate: 176, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 16,
			NormEps: 1e-6, Rope: Rope{Theta: 10000, Type: "default"}},
		"smollm2": {ModelType: "llama", Vocab: 49152, Hidden: 576, Intermediate: 1536, Layers: 30, Heads: 9, KVHeads: 3, HeadDim: 64,
			NormEps: 1e-5, Rope: Rope{Theta: 100000, Type: "default"}, Tied: true},
	}
}

func benchBatch(c Config, sequences, length int) models.Packed {
	p := models.Packed{Starts: []int{0}}
	for s := range sequences {
		for i := range length {
			p.Tokens = append(p.Tokens, int32((s*7919+i*104729)%c.Vocab))
		}
		p.Starts = append(p.Starts, len(p.Tokens))
	}
	return p
}

func BenchmarkTransformer(b *testing.B) {
	for _, size := range []struct {
		name              string
		sequences, length int
	}{{"provingground", 32, 50}, {"smollm2", 4, 256}} {
		c := benchConfigs()[size.name]
		m, err := New(c, 1, false)
		if err != nil {
			b.Fatal(err)
		}
		batch := benchBatch(c, size.sequences, size.length)
		perToken := func(b *testing.B) {
			b.ReportMetric(float64(b.N*len(batch.Tokens))/b.Elapsed().Seconds(), "tokens/s")
		}
		b.Run(size.name+"/forward", func(b *testing.B) {
			var w Workspace
			for b.Loop() {
				if _, err := m.Forward(&w, batch); err != nil {
					b.Fatal(err)
				}
			}
			perToken(b)
		})
		for _, recompute := range []bool{false, true} {
			tr := NewTrainer(m, TrainOptions{Recompute: recompute})
			name := "/step"
			if recompute {
				name = "/step-recompute"
			}
			dh := make([]float32, len(batch.Tokens)*c.Hidden)
			b.Run(size.name+name, func(b *testing.B) {
				for b.Loop() {
					h, err := tr.Forward(batch)
					if err != nil {
						b.Fatal(err)
					}
					copy(dh, h)
					if err := tr.Backward(dh); err != nil {
						b.Fatal(err)
					}
				}
				perToken(b)
			})
		}
	}
}

// BenchmarkDecode is a step over sequences of 96 tokens: a frozen model of bfloat16 weights and its logits.
func BenchmarkDecode(b *testing.B) {
	m, err := New(benchConfigs()["smollm2"], 1, false)
	if err != nil {
		b.Fatal(err)
	}
	for i, v := range m.params {
		m.params[i] = math.Float32frombits(math.Float32bits(v) &^ 0xffff)
	}
	m.Freeze()
	for _, rows := range []int{1, 16, 64} {
		const length = 96
		var w Workspace
		batch := benchBatch(m.config, rows, length)
		caches, tokens := make([]*KV, rows), make([]int32, rows)
		for i := range caches {
			caches[i] = m.NewKV(128)
		}
		if _, err := m.Prefill(&w, batch, caches); err != nil {
			b.Fatal(err)
		}
		logits := make([]float32, rows*m.config.Vocab)
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			for b.Loop() {
				h, err := m.Decode(&w, tokens, caches)
				if err != nil {
					b.Fatal(err)
				}
				m.Logits(logits, h, rows)
				for _, kv := range caches {
					kv.n = length
				}
			}
			b.ReportMetric(float64(b.N*rows)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
