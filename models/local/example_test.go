package local_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/millrace/millrace/models"
	_ "github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/transformer"
)

// A model is made, saved, acquired, and asked for two responses to a prompt; scoring a response gives the log-probs that
// were stored while it was sampled.
func Example() {
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	made, err := transformer.New(transformer.Config{ModelType: "llama", Vocab: 26, Hidden: 64, Intermediate: 176, Layers: 2,
		Heads: 4, KVHeads: 2, HeadDim: 16, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}}, 1, false)
	if err != nil {
		log.Fatal(err)
	}
	if err := made.Save(dir); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	model, err := models.Acquire(ctx, models.Ref{Path: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer model.Release()
	prompt := []int32{8, 18, 15, 5, 16}
	results, err := model.Generate(ctx, []models.GenerateRequest{{Prompt: prompt, Seed: 7, Samples: 2,
		Sampling: models.Sampling{MaxNewTokens: 10, CandidateK: 5, CandidateMinP: 0.1}}})
	if err != nil {
		log.Fatal(err)
	}
	for _, response := range results[0].Responses {
		scores, err := model.Score(ctx, []models.ScoreRequest{{Sequence: models.Sequence{Prompt: prompt, Response: response.Tokens}}})
		if err != nil {
			log.Fatal(err)
		}
		same := true
		for t := range response.Tokens {
			same = same && scores[0].LogP[t] == response.LogP[t]
		}
		fmt.Println(len(response.Tokens), "tokens, ended by", response.Finish, "- same log-probs:", same)
	}
	// Output:
	// 10 tokens, ended by length - same log-probs: true
	// 10 tokens, ended by length - same log-probs: true
}
