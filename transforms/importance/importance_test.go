package importance

import (
	"math"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/e2e/golden"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

func TestGolden(t *testing.T) {
	for _, c := range golden.Load(t, "importance.json").Cases {
		t.Run(c.Name, func(t *testing.T) {
			config := Config{Level: golden.Get[string](t, c.Params, "level"), Mode: golden.Get[string](t, c.Params, "mode"),
				Cap: golden.GetOr(t, c.Params, "cap", 2.0), Low: golden.GetOr(t, c.Params, "low", 0.5), High: golden.GetOr(t, c.Params, "high", 5.0)}
			if most := golden.Get[float64](t, c.Params, "max_log_ratio"); most != maxLogRatio {
				t.Fatalf("log-ratios are bounded at %v here and at %v there", maxLogRatio, most)
			}
			own, sampler := golden.Get[golden.Tensor](t, c.In, "train_logp").Data, golden.Get[golden.Tensor](t, c.In, "sampler_logp").Data
			got, lo := make([]float64, len(own)), 0
			for _, n := range golden.Get[[]int](t, c.In, "lengths") {
				config.Weights(got[lo:lo+n], own[lo:lo+n], sampler[lo:lo+n])
				lo += n
			}
			golden.Close(t, "weight", got, golden.Get[golden.Tensor](t, c.Out, "weight").Data, 1e-12)
		})
	}
}

// The stage weighs own tokens, at the temperature of sampling, and reads no other log-probs than those that were sampled from.
func TestStage(t *testing.T) {
	id := []uuid.UUID{uuid.NewSHA1(uuid.Nil, []byte{1}), uuid.NewSHA1(uuid.Nil, []byte{2})}
	record := func(sampler schemas.LogPDefinition) stage.Batch {
		t.Helper()
		own := [][]float32{{-1, -2, -3}, {-1}}
		b, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From(id), schemas.ResponseID.From(id),
			schemas.ResponseTokens.FromRows([][]int32{{1, 2, 3}, {4}}), schemas.LossMask.FromRows([][]int32{{1, 0, 1}, nil}, true, false),
			schemas.OldLogP.FromRows(own).Defined(schemas.FullLogP("a")),
			schemas.TemperedOldLogP.FromRows(own).Defined(schemas.FullLogP("a").At(0.5)),
			schemas.SamplerLogP.FromRows([][]float32{{-1.5, -50, -3}, {-9}}).Defined(sampler))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	nucleus := schemas.LogPDefinition{Temperature: 0.5, TopP: 0.9}
	for _, c := range []struct {
		stage Stage
		have  schemas.LogPDefinition
	}{{Stage{Config: Default(), TopP: 1}, schemas.FullLogP("b")}, {Stage{Config: Default(), Temperature: 0.5, TopP: 0.9}, nucleus}} {
		out, dead := stagetest.Run(t, c.stage, record(c.have))
		if dead.NumRows() > 0 {
			t.Errorf("%d rows are dead", dead.NumRows())
		}
		w := schemas.ImportanceWeight.Of(out)
		golden.Close(t, "weights", []float64{float64(w.Row(0)[0]), float64(w.Row(0)[1]), float64(w.Row(0)[2]), float64(w.Row(1)[0])},
			[]float64{math.Exp(0.5), 0, 1, 2}, 1e-6)
	}
}

func TestSettings(t *testing.T) {
	c := Default()
	c.Mode, c.Low, c.High = Mask, 1, 1
	if err := setting.Check(c); err == nil {
		t.Error("low is not below high")
	}
}
