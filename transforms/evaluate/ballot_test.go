package evaluate

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
)

// A score that depends on the response alone, drawn at random, picks right as often as Random says, and not as often as the mean:
// of four responses to a prompt three are the same wrong one.
func TestChanceIsAmongDistinctResponses(t *testing.T) {
	id := uuid.NewSHA1(uuid.Nil, []byte("p"))
	texts, outcomes := [][]int32{{1, 2}, {1, 2}, {3}, {1, 2}}, []float32{0, 0, 1, 0}
	prompts, responses, verdicts, extracted := make([]uuid.UUID, 4), make([]uuid.UUID, 4), make([]string, 4), make([]string, 4)
	for i := range texts {
		prompts[i], responses[i] = id, uuid.NewSHA1(id, []byte{byte(i)})
		verdicts[i], extracted[i] = "incorrect", "7"
	}
	extracted[2] = "8"
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(prompts), schemas.ResponseID.From(responses),
		schemas.Verdict.From(verdicts),
		schemas.ResponseTokens.FromRows(texts), schemas.Outcome.From(outcomes), schemas.Extracted.From(extracted))
	if err != nil {
		t.Fatal(err)
	}
	var sums Sums
	c := Default()
	if err := c.Add(b, &sums); err != nil {
		t.Fatal(err)
	}
	r := c.Report(sums)
	if r.Avg.Mean != 0.25 || r.Random.Mean != 0.5 || r.Vote == nil || r.Vote.Mean != 0 {
		t.Errorf("mean %v, random choice %v, majority vote %v; want 0.25, 0.5, 0", r.Avg.Mean, r.Random.Mean, r.Vote)
	}
	rng, picked := rand.New(rand.NewPCG(1, 2)), 0.0
	const draws = 4000
	for range draws {
		of := map[int32]float64{1: rng.Float64(), 3: rng.Float64()}
		scores := make([]float64, 4)
		for i := range texts {
			scores[i] = of[texts[i][0]]
		}
		picked += float64(outcomes[BestOf(scores)]) / draws
	}
	if math.Abs(picked-r.Random.Mean) > 0.03 {
		t.Errorf("a random score picks right with %v, Random says %v", picked, r.Random.Mean)
	}
}

// The rules min and last read single tokens, the others running sums; token scores are the values themselves or their growth.
func TestRulesOfTokenScores(t *testing.T) {
	for _, tokens := range []bool{false, true} {
		c := Config{Beta: 1, TokenScores: tokens}
		values := []float32{-1, -4, -6, -6.5}
		if tokens {
			values = []float32{-1, -3, -2, -0.5}
		}
		if got := c.tokenScores(values); got[0] != -1 || got[1] != -3 || got[2] != -2 || got[3] != -0.5 {
			t.Errorf("token scores %v, want -1 -3 -2 -0.5", got)
		}
	}
	item := Item{StepEnds: []int{2, 4}, Values: []float64{-4, -6.5}, Least: []float64{-3, -2}, Last: []float64{-3, -0.5}}
	for rule, want := range map[string]int{"min": 0, "last": 0, "sum_diff": 0, "sum": 1, "mean_diff": 0} {
		scores := item.scores(rule)
		lowest := 0
		if scores[1] < scores[0] {
			lowest = 1
		}
		if lowest != want {
			t.Errorf("%s: scores %v, the lowest of step %d, want %d", rule, scores, lowest, want)
		}
	}
}
