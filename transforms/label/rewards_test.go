package label

import (
	"testing"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/schemas/setting"
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
