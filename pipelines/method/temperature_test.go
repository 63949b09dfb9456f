package method_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/update"
)

// A policy that sampled at a temperature is compared with itself at that temperature: before the first step every ratio is exactly 1
// and every distance to the reference that it is exactly 0, in the first iteration and in the next (algorithms.md 4.7).
func TestUpdateAtTheTemperatureOfSampling(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		recipe, losses string
		one, zero      []string // metrics of the first step
	}{
		{"grpo", "[{name: ppo}, {name: reference_kl, weight: 0.1}]", []string{"ppo/ratio"}, []string{"ppo/kl", "reference_kl/kl"}},
		{"distrl", "", []string{"ppo/ratio"}, []string{"ppo/kl", "distrl/clip_fraction"}},
		{"lco-kld", "", nil, nil},
		{"lco-mse", "", nil, nil},
		{"lco-dense", "", nil, nil},
		{"ppo", "", []string{"ppo/ratio"}, []string{"ppo/kl"}},
		{"reinforce", "", nil, nil},
	} {
		for _, temperature := range []float64{0.7, 1.3} {
			t.Run(fmt.Sprint(c.recipe, " ", temperature), func(t *testing.T) {
				sets := []string{"iterations=2", fmt.Sprint("rollout.temperature=", temperature)}
				if c.losses != "" {
					sets = append(sets, "update.losses="+c.losses)
				}
				r := given(t, c.recipe, dir, sets...)
				if err := iterate(t.Context(), r, progress.Silent()); err != nil {
					t.Fatal(err)
				}
				d, err := run.Read(t.Context(), r.Run)
				if err != nil {
					t.Fatal(err)
				}
				for n := range 2 {
					steps, err := files.ReadLines[update.StepRecord](t.Context(), filepath.Join(d.IterPath(n), "steps-policy.jsonl"))
					if err != nil || len(steps) == 0 {
						t.Fatalf("%d steps, %v", len(steps), err)
					}
					for want, names := range [][]string{c.zero, c.one} {
						for _, name := range names {
							if got, ok := steps[0].Metrics[name]; !ok || got != float64(want) && (name != "reference_kl/kl" || n == 0) {
								t.Errorf("iteration %d: before the first step %s is %v, want exactly %d", n, name, got, want)
							}
						}
					}
					tempered(t, d.IterPath(n), temperature, len(c.one) > 0)
				}
			})
		}
	}
}

// tempered checks what the batch says of its log-probs: those of sampling at temperature 1, those of the update at that of sampling.
func tempered(t *testing.T, iteration string, temperature float64, want bool) {
	t.Helper()
	paths, err := run.RowFiles(t.Context(), iteration, chain.BatchName)
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	err = recordio.ReadFile(t.Context(), paths[0], func(b stage.Batch) error {
		if def, ok := schemas.LogPOf(b, schemas.OldLogP); !ok || def.Temperature != 1 {
			t.Errorf("old_logp is of temperature %v, want 1", def.Temperature)
		}
		if !want {
			return nil
		}
		def, ok := schemas.LogPOf(b, schemas.TemperedOldLogP)
		if !ok || def.Temperature != temperature || def.Model == "" {
			t.Errorf("tempered_old_logp is %v, want temperature %v of the policy", def, temperature)
		}
		raw, at := schemas.OldLogP.Of(b), schemas.TemperedOldLogP.Of(b)
		same := 0
		for i := range b.NumRows() {
			for k, x := range raw.Row(i) {
				if x == at.Row(i)[k] {
					same++
				}
			}
		}
		if same > b.NumRows() {
			t.Errorf("%d tokens have the same log-prob at temperature %v and at 1", same, temperature)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// At the smallest temperature that is taken no log-prob leaves single precision, whatever the loss.
func TestLeastTemperature(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	for _, recipe := range []string{"grpo", "lco-kld", "lco-mse", "ppo"} {
		t.Run(recipe, func(t *testing.T) {
			r := given(t, recipe, dir, "iterations=1", fmt.Sprint("rollout.temperature=", models.LeastTemperature), "limits.dead_share=0")
			if err := iterate(t.Context(), r, progress.Silent()); err != nil {
				t.Error(err)
			}
		})
	}
}
