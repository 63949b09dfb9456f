package label

import (
	"slices"
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

func TestRewardsGolden(t *testing.T) {
	seen := 0
	for _, c := range golden.Load(t, "batch_advantages.json").Cases {
		switch c.Name {
		case "overlong":
			seen++
			p := Penalty{Kind: "overlong", NGram: 4,
				MaxTokens: golden.Get[int](t, c.Params, "max_tokens"), Cache: golden.Get[int](t, c.Params, "cache")}
			if err := setting.Check(p); err != nil {
				t.Fatal(err)
			}
			var got []float64
			for _, n := range golden.Get[[]int](t, c.In, "lengths") {
				got = append(got, p.Of(make([]int32, n)))
			}
			golden.Close(t, c.Name, got, golden.Get[golden.Tensor](t, c.Out, "penalty").Data, 1e-12)
		case "composed":
			seen++
			parts := golden.Get[golden.Tensor](t, c.In, "parts")
			weights := golden.Get[golden.Tensor](t, c.Params, "weights").Data
			n := parts.Shape[1]
			var got []float64
			for i := range n {
				row := make([]float64, len(weights))
				for k := range row {
					row[k] = parts.Data[k*n+i]
				}
				got = append(got, Compose(weights, row))
			}
			golden.Close(t, c.Name, got, golden.Get[golden.Tensor](t, c.Out, "reward").Data, 1e-12)
		}
	}
	if seen != 2 {
		t.Errorf("%d of 2 kinds of cases", seen)
	}
}

func TestPenaltiesAndForms(t *testing.T) {
	for _, c := range []struct {
		p      Penalty
		tokens []int32
		want   float64
	}{
		{Penalty{Kind: "length", MaxTokens: 8, NGram: 4}, make([]int32, 2), -0.25},
		{Penalty{Kind: "length", MaxTokens: 8, NGram: 4}, make([]int32, 99), -1},
		{Penalty{Kind: "repetition", NGram: 2}, []int32{1, 2, 1, 2, 3}, -0.25}, // 12 21 12 23
		{Penalty{Kind: "repetition", NGram: 2}, []int32{1}, 0},
	} {
		if got := c.p.Of(c.tokens); got != c.want {
			t.Errorf("%+v of %v is %v, want %v", c.p, c.tokens, got, c.want)
		}
	}
	for text, want := range map[string]float64{
		"<think>a</think> <answer>b</answer>":                1,
		"<answer>b</answer><think>a</think>":                 0, // another order
		"<think>a</think><think>a</think><answer>b</answer>": 0, // twice
		"<think>a<answer>b</answer></think>":                 0,
		"<think>a</think><answer>b":                          0,
		"x <think></think> y <answer></answer> z":            1,
		"<think>a</think><answer>b</answer> </answer>":       0,
		"":                                   0,
		"<Think>a</Think><answer>b</answer>": 0,
		"<think>1</think>\n<answer>\\boxed{2}</answer>":       1,
		"<think>a</think><answer><answer>b</answer></answer>": 0,
		"no tags": 0,
		"</think><think></think><answer></answer>":             0,
		"<think></think><answer></answer>":                     1,
		"<think> </think>\n\n<answer> </answer>\n":             1,
		"<think>a</think>":                                     0,
		"<answer>a</answer>":                                   0,
		"<think>a</think><answer>b</answer><answer>c</answer>": 0,
	} {
		f := Format{Tags: []string{"think", "answer"}}
		if got := f.Of(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	f := Format{Pattern: `\\boxed\{[^}]+\}\s*$`}
	f.compile()
	if f.Of(`so \boxed{4}`) != 1 || f.Of(`\boxed{4} is it`) != 0 {
		t.Error("a pattern")
	}
}

// A response of which one part is not known has no reward, whatever the others say: it is neither 0 nor the sum of what is known, and
// counts for no statistic of its group.
func TestUnknownPartLeavesNoReward(t *testing.T) {
	labeled, _ := stagetest.Run(t, Default("tolerance"), responses(t,
		row{prompt: "p", answer: "4", response: "so 4"},
		row{prompt: "p", answer: "4", response: "so 5 and more"},
		row{prompt: "q", answer: "", response: "7"}, // no answer to judge by
		row{prompt: "r", answer: "x", response: "so 4"},
	))
	known := numbers(schemas.Outcome.Of(labeled))
	if !slices.Equal(known, []float32{1, 0, -1, -1}) {
		t.Fatalf("outcomes %v", known)
	}
	parts := []Part{{Name: "right", Weight: 1, Outcome: &OutcomePart{}}, {Name: "brief", Weight: 0.5,
		Penalty: &Penalty{Kind: "length", MaxTokens: 40, NGram: 4}}}
	for name, r := range map[string]Rewards{"last": {Parts: parts}, "first": {Parts: []Part{parts[1], parts[0]}}} {
		out, _ := stagetest.Run(t, r, labeled)
		rewards, means := schemas.Reward.Of(out), schemas.RewardMean.Of(out)
		for i, y := range known {
			reward, has := rewards.At(i)
			mean, hasMean := means.At(i)
			if has != (y >= 0) || hasMean != (y >= 0) {
				t.Errorf("%s: row %d of outcome %v has reward %v (known: %t), mean %v (known: %t)", name, i, y, reward, has, mean, hasMean)
			}
			if part, ok := parts[1].Column().Of(out).At(i); !ok || part >= 0 {
				t.Errorf("%s: row %d: the part that is known is %v, %t", name, i, part, ok)
			}
		}
	}
}
