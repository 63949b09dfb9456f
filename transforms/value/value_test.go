package value

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

func scored(t testing.TB) stage.Batch {
	t.Helper()
	nan := float32(math.NaN())
	reward := [][]float32{{-1, -2, -3}, {-0.5}, {nan, -1}, {-1, -1}, nil, {}, {-1, -2}}
	tokens := [][]int32{{1, 2, 3}, {4}, {1, 2}, {1}, {1}, {}, {3, 4}}
	old := [][]float32{{-2, -2, -2}, {-1}, {-1, -1}, {-1}, {-1}, {}, {-1.5, -1.5}}
	n := len(tokens)
	prompts, ids, known := make([]uuid.UUID, n), make([]uuid.UUID, n), make([]bool, n)
	for i := range ids {
		prompts[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i / 3)})
		ids[i] = uuid.NewSHA1(prompts[i], []byte{byte(i)})
		known[i] = reward[i] != nil
	}
	b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(prompts), schemas.ResponseID.From(ids),
		schemas.ResponseTokens.FromRows(tokens),
		schemas.OldLogP.FromRows(old).Defined(schemas.FullLogP("a")),
		schemas.RewardLogP.FromRows(reward, known...).Defined(schemas.FullLogP("b")),
		schemas.ReferenceLogP.FromRows(old).Defined(schemas.FullLogP("c")), schemas.QValue.FromRows(reward, known...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func row(v schemas.Lists[float32], i int) []float64 {
	out := []float64{}
	for _, x := range v.Row(i) {
		out = append(out, float64(x))
	}
	return out
}

var wantDead = []schemas.Reason{schemas.ReasonNotFinite, schemas.ReasonMismatch, schemas.ReasonMissingField, schemas.ReasonEmpty}

func TestValues(t *testing.T) {
	for _, reference := range []string{Old, Frozen} {
		c := Config{"ipvrm", IPVRM{ratio{2, reference}}}
		out, dead := stagetest.Run(t, c, scored(t))
		stagetest.Dead(t, dead, wantDead...)
		golden.Close(t, "value", row(schemas.Value.Of(out), 0), []float64{2, 2, 0}, 0)
		golden.Close(t, "mean value", row(schemas.MeanValue.Of(out), 0), []float64{2, 1, 0}, 0)
		golden.Close(t, "p_correct", row(schemas.PCorrect.Of(out), 0), []float64{1 / (1 + math.Exp(-2)), 1 / (1 + math.Exp(-1)), 0.5}, 1e-7)
		golden.Close(t, "value of the last row", row(schemas.Value.Of(out), 2), []float64{1, 0}, 0)
	}
	implicit := Config{"implicit_prm", ImplicitPRM{ratio{2, Old}}}
	out, _ := stagetest.Run(t, implicit, scored(t))
	golden.Close(t, "p_correct of the sum", row(schemas.PCorrect.Of(out), 0), []float64{1 / (1 + math.Exp(-2)), 1 / (1 + math.Exp(-2)), 0.5},
		1e-7)
	out, dead := stagetest.Run(t, Default("q_rm"), scored(t))
	stagetest.Dead(t, dead, wantDead...)
	golden.Close(t, "scores", row(schemas.Value.Of(out), 0), []float64{-1, -2, -3}, 0)
	golden.Close(t, "mean score", row(schemas.MeanValue.Of(out), 0), []float64{-1, -1.5, -2}, 0)
}

func TestValuesOutOfRange(t *testing.T) {
	c := Config{"ipvrm", IPVRM{ratio{1e39, Old}}}
	out, dead := stagetest.Run(t, c, scored(t))
	if out.NumRows() != 0 {
		t.Errorf("%d rows with infinite values are kept", out.NumRows())
	}
	stagetest.Dead(t, dead, slices.Concat([]schemas.Reason{schemas.ReasonNotFinite, schemas.ReasonNotFinite}, wantDead,
		[]schemas.Reason{schemas.ReasonNotFinite})...)
}

func TestValuesOnTheEmbeddedRunner(t *testing.T) {
	want, wantLetters := stagetest.Run(t, Default("ipvrm"), scored(t))
	out, dead := stagetest.Pipeline(t, Default("ipvrm"), scored(t))
	stagetest.Same(t, "rows", out, want)
	stagetest.Same(t, "dead letters", dead, wantLetters)
}

func TestConfig(t *testing.T) {
	for want, tree := range map[string]map[string]any{"value.kind": {"kind": "ipwrm"}, "value.beta": {"kind": "ipvrm", "beta": 0},
		"value.reference": {"kind": "q_rm", "reference": "old"}} {
		var c Config
		if err := setting.Decode(tree, &c, "value"); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want one of %s", err, want)
		}
	}
	other := schemas.FullLogP("b")
	other.Temperature = 0.7
	b, err := scored(t).With(schemas.RewardLogP.FromRows(make([][]float32, 7)).Defined(other))
	if err != nil {
		t.Fatal(err)
	}
	c := Default("ipvrm")
	if _, err := stage.Run(t.Context(), &c, b); err == nil || !strings.Contains(err.Error(), "temperature 0.7") {
		t.Errorf("log-probs at another temperature: %v", err)
	}
}
