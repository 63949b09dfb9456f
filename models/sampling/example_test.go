package sampling_test

import (
	"context"
	"fmt"
	"log"
	"slices"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/sampling"
	"github.com/millrace/millrace/models/transformer"
)

// A tiny model of random weights answers two prompts. What is drawn depends on the model, the prompt and the key (seed, prompt
// id, sample) alone: asked for by itself, sample 2 of the second prompt has the same tokens and log-probs.
func Example() {
	model, err := transformer.New(transformer.Config{ModelType: "llama", Vocab: 26, Hidden: 64, Intermediate: 176, Layers: 2,
		Heads: 4, KVHeads: 2, HeadDim: 16, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}}, 1, false)
	if err != nil {
		log.Fatal(err)
	}
	sampler := sampling.New(model, sampling.Options{})
	how := models.Sampling{Temperature: 0.8, MaxNewTokens: 6, Stop: []int32{1}}
	ctx := context.Background()
	all, err := sampler.Generate(ctx, []models.GenerateRequest{
		{PromptID: [16]byte{1}, Prompt: []int32{8, 18, 15}, Seed: 7, Samples: 2, Sampling: how},
		{PromptID: [16]byte{2}, Prompt: []int32{5, 16}, Seed: 7, Samples: 3, Sampling: how},
	})
	if err != nil {
		log.Fatal(err)
	}
	for i, result := range all {
		for _, r := range result.Responses {
			fmt.Println("prompt", i, "sample", r.Sample, "-", len(r.Tokens), "tokens, ended by", r.Finish)
		}
	}
	alone, err := sampler.Generate(ctx, []models.GenerateRequest{
		{PromptID: [16]byte{2}, Prompt: []int32{5, 16}, Seed: 7, FirstSample: 2, Samples: 1, Sampling: how}})
	if err != nil {
		log.Fatal(err)
	}
	a, b := all[1].Responses[2], alone[0].Responses[0]
	fmt.Println("the same alone:", slices.Equal(a.Tokens, b.Tokens) && slices.Equal(a.LogP, b.LogP))
	// Output:
	// prompt 0 sample 0 - 6 tokens, ended by length
	// prompt 0 sample 1 - 6 tokens, ended by length
	// prompt 1 sample 0 - 6 tokens, ended by length
	// prompt 1 sample 1 - 6 tokens, ended by length
	// prompt 1 sample 2 - 6 tokens, ended by length
	// the same alone: true
}
