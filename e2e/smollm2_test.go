package e2e

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/models"
	_ "github.com/millrace/millrace/models/local"
)

// TestSmolLM2 holds SmolLM2-135M-Instruct against log-probs of Hugging Face transformers on the same weights: the most
// probable tokens at every position of real text, and a greedy continuation. It runs where $MILLRACE_SMOLLM2 names the
// model, a GGUF file or a directory.
func TestSmolLM2(t *testing.T) {
	path := os.Getenv("MILLRACE_SMOLLM2")
	if path == "" {
		t.Skip("MILLRACE_SMOLLM2 does not name the model")
	}
	text, err := os.ReadFile(golden.Path(t, "golden", "smollm2_logp.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Cases []struct {
			IDs   []int32     `json:"ids"`
			LogP  []float64   `json:"logp"`
			Top   [][]int32   `json:"top5_ids"`
			TopLP [][]float64 `json:"top5_logp"`
		} `json:"cases"`
		Greedy struct {
			Prompt       []int32 `json:"prompt_ids"`
			Continuation []int32 `json:"new_ids"`
		} `json:"greedy"`
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	model, err := models.Acquire(context.Background(), models.Ref{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Release()
	var requests []models.ScoreRequest
	for _, c := range want.Cases {
		requests = append(requests, models.ScoreRequest{Sequence: models.Sequence{Prompt: c.IDs[:1], Response: c.IDs[1:]}, TopK: 5})
	}
	results, err := model.Score(context.Background(), requests)
	if err != nil {
		t.Fatal(err)
	}
	worst, positions, unequal := 0.0, 0, 0
	for i, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		for p, l := range r.LogP {
			worst = max(worst, math.Abs(float64(l)-want.Cases[i].LogP[p]))
			positions++
			if r.TopIDs[5*p] != want.Cases[i].Top[p][0] {
				unequal++
			}
		}
	}
	t.Logf("%d positions, the most probable token differs at %d, largest difference of a log-prob %.2g", positions, unequal, worst)
	if unequal > 0 || worst > 2e-3 {
		t.Errorf("log-probs differ by up to %g, the most probable token at %d positions", worst, unequal)
	}
	if n := len(want.Greedy.Continuation); n > 0 {
		out, err := model.Generate(context.Background(), []models.GenerateRequest{{Prompt: want.Greedy.Prompt, Samples: 1,
			Sampling: models.Sampling{Greedy: true, MaxNewTokens: n}}})
		if err != nil || out[0].Err != nil {
			t.Fatal(err, out[0].Err)
		}
		if !slices.Equal(out[0].Responses[0].Tokens, want.Greedy.Continuation) {
			t.Errorf("greedy continuation\n%v, want\n%v", out[0].Responses[0].Tokens, want.Greedy.Continuation)
		}
	}
}
