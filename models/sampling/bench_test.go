package sampling

import (
	"context"
	"testing"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/transformer"
)

func BenchmarkGenerate(b *testing.B) {
	ground := transformer.Config{ModelType: "llama", Vocab: 26, Hidden: 64, Intermediate: 176, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 16,
		NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}}
	smollm2 := transformer.Config{ModelType: "llama", Vocab: 49152, Hidden: 576, Intermediate: 1536, Layers: 30, Heads: 9, KVHeads: 3,
		HeadDim: 64, NormEps: 1e-5, Rope: transformer.Rope{Theta: 100000, Type: "default"}, Tied: true}
	for _, size := range []struct {
		name                          string
		config                        transformer.Config
		prompts, samples, prompt, new int
	}{
		{"provingground-64", ground, 16, 4, 16, 35}, {"provingground-256", ground, 32, 8, 16, 35},
		{"smollm2-16", smollm2, 4, 4, 64, 32}, {"smollm2-64", smollm2, 4, 16, 64, 32},
	} {
		m, err := transformer.New(size.config, 1, false)
		if err != nil {
			b.Fatal(err)
		}
		var requests []models.GenerateRequest
		for i := range size.prompts {
			r := models.GenerateRequest{PromptID: [16]byte{byte(i)}, Samples: size.samples, Sampling: models.Sampling{
				MaxNewTokens: size.new, CandidateK: 5, CandidateMinP: 0.1}}
			for j := range size.prompt {
				r.Prompt = append(r.Prompt, int32((i*31+j*17)%size.config.Vocab))
			}
			requests = append(requests, r)
		}
		b.Run(size.name, func(b *testing.B) {
			s := New(m, Options{})
			for b.Loop() {
				if _, err := s.Generate(context.Background(), requests); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*size.prompts*size.samples*size.new)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
