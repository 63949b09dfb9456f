package value

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// Tokens that the policy has not written change no value of those that it has: at these values are what they are without them, and
// between them the last one holds.
func TestValuesOfOwnTokens(t *testing.T) {
	id := []uuid.UUID{uuid.NewSHA1(uuid.Nil, []byte{1})}
	own := []int{0, 2, 3}
	reward, old := []float32{-1, -9, -2, -3, -8}, []float32{-2, -1, -2.5, -1, -1}
	pick := func(x []float32) (out []float32) {
		for _, t := range own {
			out = append(out, x[t])
		}
		return out
	}
	run := func(c Config, tokens []int32, reward, old []float32, masks ...[]int32) [3][]float32 {
		t.Helper()
		cols := []schemas.Filled{schemas.PromptID.From(id), schemas.ResponseID.From(id), schemas.ResponseTokens.FromRows([][]int32{tokens}),
			schemas.OldLogP.FromRows([][]float32{old}).Defined(schemas.FullLogP("a")), schemas.QValue.FromRows([][]float32{reward}),
			schemas.RewardLogP.FromRows([][]float32{reward}).Defined(schemas.FullLogP("b"))}
		if masks != nil {
			cols = append(cols, schemas.LossMask.FromRows(masks))
		}
		b, err := schemas.NewRecord(schemas.Meta{}, cols...)
		if err != nil {
			t.Fatal(err)
		}
		out, _ := stagetest.Run(t, c, b)
		return [3][]float32{schemas.Value.Of(out).Row(0), schemas.MeanValue.Of(out).Row(0), schemas.PCorrect.Of(out).Row(0)}
	}
	for _, kind := range []string{"ipvrm", "implicit_prm", "q_rm", "policy_logp", "q_rm_lm", "length"} {
		c := Default(kind)
		whole := run(c, []int32{1, 2, 3, 4, 5}, reward, old, []int32{1, 0, 1, 1, 0})
		alone := run(c, []int32{1, 3, 4}, pick(reward), pick(old))
		for k, column := range []string{"value", "mean_value", "p_correct"} {
			if got := pick(whole[k]); !slices.Equal(got, alone[k]) {
				t.Errorf("%s, %s: %v, want %v", kind, column, got, alone[k])
			}
		}
		if whole[2][1] != whole[2][0] || whole[2][4] != whole[2][3] {
			t.Errorf("%s: p_correct %v does not hold between own tokens", kind, whole[2])
		}
	}
}
