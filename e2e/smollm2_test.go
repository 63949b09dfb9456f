package e2e

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	_ "github.com/millrace/millrace/models/local"
)

// TestSmolLM2 holds SmolLM2-135M-Instruct against log-probs of Hugging Face transformers on the same weights: the most
// probable tokens at every position of real text, and a greedy continuation; in bfloat16 they are close, and what is stored while
// sampling is what scoring gives. It runs where $MILLRACE_SMOLLM2 names the model, a GGUF file or a directory.
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
	for _, c := range []struct {
		precision      kernels.Precision
		unequal, worst float64 // the most that is put up with: share of positions, difference of a log-prob
	}{{kernels.Float32, 0, 2e-3}, {kernels.BFloat16, 0.02, 0.5}} {
		t.Run(c.precision.String(), func(t *testing.T) {
			model, err := models.Acquire(t.Context(), models.Ref{Path: path, Precision: c.precision})
			if err != nil {
				t.Fatal(err)
			}
			defer model.Release()
			score := func(requests ...models.ScoreRequest) []models.ScoreResult {
				t.Helper()
				results, err := model.Score(t.Context(), requests)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range results {
					if r.Err != nil {
						t.Fatal(r.Err)
					}
				}
				return results
			}
			var requests []models.ScoreRequest
			for _, c := range want.Cases {
				requests = append(requests, models.ScoreRequest{Sequence: models.Sequence{Prompt: c.IDs[:1], Response: c.IDs[1:]}, TopK: 5})
			}
			worst, squares, positions, unequal := 0.0, 0.0, 0, 0
			for i, r := range score(requests...) {
				for p, l := range r.LogP {
					d := math.Abs(float64(l) - want.Cases[i].LogP[p])
					worst, squares = max(worst, d), squares+d*d
					positions++
					if r.TopIDs[5*p] != want.Cases[i].Top[p][0] {
						unequal++
					}
				}
			}
			t.Logf("%d positions, the most probable token differs at %d; differences of log-probs are at most %.2g, root mean square %.2g",
				positions, unequal, worst, math.Sqrt(squares/float64(positions)))
			if float64(unequal) > c.unequal*float64(positions) || worst > c.worst {
				t.Errorf("log-probs differ by up to %g, the most probable token at %d positions", worst, unequal)
			}

			out, err := model.Generate(t.Context(), []models.GenerateRequest{{Prompt: want.Greedy.Prompt, Samples: 1,
				Sampling: models.Sampling{Greedy: true, MaxNewTokens: len(want.Greedy.Continuation)}}})
			if err != nil || out[0].Err != nil {
				t.Fatal(err, out[0].Err)
			}
			got := out[0].Responses[0]
			if c.precision == kernels.Float32 && !slices.Equal(got.Tokens, want.Greedy.Continuation) {
				t.Errorf("greedy continuation\n%v, want\n%v", got.Tokens, want.Greedy.Continuation)
			}
			again := score(models.ScoreRequest{Sequence: models.Sequence{Prompt: want.Greedy.Prompt, Response: got.Tokens}})
			if !slices.Equal(again[0].LogP, got.LogP) {
				t.Error("scoring what was sampled gives other log-probs")
			}
		})
	}
}
