package method_test

import (
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// Several reward models score in one run, each into columns of its own; one that is the same as another says the same, how far they are
// apart is a column, and parts of a reward read any of it.
func TestSeveralRewardModels(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	reward := filepath.Join(dir, "reward")
	r := given(t, "distrl", dir, "iterations=1", "evaluate.every=0", "reward={path: "+reward+", value: {kind: ipvrm, beta: 10}}",
		"reward_models=[{name: twin, path: "+reward+"}, {name: frozen, path: "+reward+", value: {kind: implicit_prm, reference: frozen}}]",
		"rewards=[{name: right, outcome: {}}, {name: likely, weight: 0.5, model: {score: mean_value, of: twin}}, "+
			"{name: doubt, weight: -1, model: {score: disagreement}}]")
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	d, err := run.Read(t.Context(), r.Run)
	if err != nil {
		t.Fatal(err)
	}
	paths, err := run.RowFiles(t.Context(), d.IterPath(0), chain.BatchName)
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	rows, apart := 0, 0.0
	err = recordio.ReadFile(t.Context(), paths[0], func(b stage.Batch) error {
		of := func(c schemas.List[float32], name string) schemas.Lists[float32] {
			return schemas.OfModel(c, name).Of(b)
		}
		own, twin, frozen := of(schemas.PCorrect, ""), of(schemas.PCorrect, "twin"), of(schemas.PCorrect, "frozen")
		doubt := schemas.RewardDisagreement.Of(b)
		for i := range b.NumRows() {
			rows++
			n := len(own.Row(i))
			for k := range n {
				a, b, c := float64(own.Row(i)[k]), float64(twin.Row(i)[k]), float64(frozen.Row(i)[k])
				if a != b {
					t.Fatalf("row %d: %v of a model, %v of its twin", i, a, b)
				}
				mean := (a + b + c) / 3
				want := math.Sqrt(((a-mean)*(a-mean) + (b-mean)*(b-mean) + (c-mean)*(c-mean)) / 3)
				if got := float64(doubt.Row(i)[k]); math.Abs(got-want) > 1e-6 {
					t.Fatalf("row %d: disagreement %v of %v, %v, %v, want %v", i, got, a, b, c, want)
				}
			}
			apart += float64(doubt.Row(i)[n-1])
			if x, ok := schemas.RewardPart("doubt").Of(b).At(i); !ok || x != doubt.Row(i)[n-1] {
				t.Errorf("row %d: part doubt is %v", i, x)
			}
			last := of(schemas.MeanValue, "twin").Row(i)
			if x, ok := schemas.RewardPart("likely").Of(b).At(i); !ok || x != last[n-1] {
				t.Errorf("row %d: part likely is %v, the value %v", i, x, last[n-1])
			}
		}
		lineage := b.Meta().Lineage
		if lineage["reward_logp_twin"] == "" || !strings.Contains(lineage["reward_logp_twin"], "reward_twin@") {
			t.Errorf("lineage %v", lineage)
		}
		return nil
	})
	if err != nil || rows == 0 || apart == 0 {
		t.Fatal(rows, apart, err)
	}
	measured, err := d.ReadMeasurements(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := measured[0].Metrics["reward_disagreement"], apart/float64(rows); math.Abs(got-want) > 1e-6 {
		t.Errorf("metric %v, want %v", got, want)
	}
}

// What reads a model that is not there, or a disagreement of one, is refused.
func TestSeveralRewardModelsAreNamed(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	reward := filepath.Join(dir, "reward")
	for _, c := range []struct {
		at   string
		sets []string
	}{
		{"reward_models[1].name", []string{"reward_models=[{name: a, path: " + reward + "}, {name: a, path: " + reward + "}]"}},
		{"reward_models[0].name", []string{"reward_models=[{path: " + reward + "}]"}},
		{"reward_models[0].path", []string{"reward_models=[{name: a}]"}},
		{"rewards[0].model.of", []string{"rewards=[{name: x, model: {of: b}}]", "reward_models=[{name: a, path: " + reward + "}]"}},
		{"rewards[0].model.score", []string{"rewards=[{name: x, model: {score: disagreement}}]",
			"reward_models=[{name: a, path: " + reward + "}]"}},
		{"rewards[0].model", []string{"rewards=[{name: x, model: {}}]", "reward_models=[{name: a, path: " + reward + "}]"}},
		{"reward_models", []string{"ipvrm-refresh", "reward_models=[{name: a, path: " + reward + "}]"}},
	} {
		name := "grpo"
		if c.sets[0] == "ipvrm-refresh" {
			name, c.sets = c.sets[0], c.sets[1:]
		}
		r, err := open(t.Context(), name, append([]string{"run=" + filepath.Join(dir, "run"), "policy.path=" + filepath.Join(dir, "policy")},
			c.sets...))
		if err == nil {
			err = iterate(t.Context(), r, progress.Silent())
		}
		var wrong *setting.Error
		if !errors.As(err, &wrong) || wrong.Path != c.at {
			t.Errorf("%v: %v, want an error of %s", c.sets, err, c.at)
		}
	}
}
