package method_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// refreshing is five iterations of the recipe with a refresh before the third and the fifth.
func refreshing(t *testing.T, dir string, sets ...string) recipe.Recipe {
	t.Helper()
	return given(t, "distrl-scheduled", dir, append([]string{"iterations=5", "reward.refresh.every=2", "reward.refresh.batches=2",
		"reward.refresh.update.steps=3", "reward.refresh.update.batch_size=4", "evaluate={every: 0, prompts: 8, samples: 4}"}, sets...)...)
}

// scoredBy are the models that scored the rows of an iteration, as their lineage has them.
func scoredBy(t *testing.T, d *run.Dir, iteration int) string {
	t.Helper()
	paths, err := run.RowFiles(t.Context(), d.IterPath(iteration), chain.BatchName)
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	var found []string
	err = recordio.ReadFile(t.Context(), paths[0], func(b stage.Batch) error {
		found = append(found, b.Meta().Lineage[schemas.RewardLogP.Name])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return strings.Join(slices.Compact(found), ";")
}

// A reward model that is refreshed on a schedule serves from its promotion on, every score names the refresh that made its model, and a
// run that was interrupted gives the same bytes.
func TestScheduledRefresh(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	r := refreshing(t, dir, "reward.refresh.gate.margin=-1")
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	d, err := run.Read(t.Context(), r.Run)
	if err != nil {
		t.Fatal(err)
	}
	promotions, err := d.ReadPromotions(t.Context())
	if err != nil || !slices.Equal(slices.Sorted(maps.Keys(promotions)), []int{2, 4}) {
		t.Fatalf("%v, %v", promotions, err)
	}
	first, second := promotions[2], promotions[4]
	policy, err := models.Identify(t.Context(), models.Ref{Path: filepath.Join(d.IterPath(1), "policy")})
	if err != nil {
		t.Fatal(err)
	}
	if first.From != policy.Identity() || !slices.Equal(first.Batches, []int{0, 1}) || second.From != first.Model ||
		!slices.Equal(second.Batches, []int{2, 3}) || !first.Promoted || !second.Promoted {
		t.Errorf("%+v, then %+v; the policy of the second iteration is %s", first, second, policy.Identity())
	}
	for iteration, model := range map[int]string{2: first.Model, 3: first.Model, 4: second.Model} {
		if got := scoredBy(t, d, iteration); !strings.Contains(got, "reward@"+model) {
			t.Errorf("iteration %d was scored by %s, want %s", iteration, got, model)
		}
	}
	measured, err := d.ReadMeasurements(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range measured {
		_, ok := m.Metrics["refresh/promoted"]
		if want := m.Iterations == 3 || m.Iterations == 5; ok != want {
			t.Errorf("after %d iterations: metric of a refresh %v, want %v", m.Iterations, ok, want)
		}
	}
	want := manifestFiles(t, r.Run, 4)
	for _, i := range []int{2, 3, 4} { // as after a death in iteration 2
		if err := os.Remove(filepath.Join(d.IterPath(i), "manifest.json")); err != nil {
			t.Fatal(err)
		}
	}
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	if got := manifestFiles(t, r.Run, 4); !maps.Equal(got, want) {
		t.Errorf("going on gave other files:\n%v\n%v", got, want)
	}
}

// A model that its gate refuses does not serve, and is not kept.
func TestScheduledRefreshIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	r := refreshing(t, dir, "reward.refresh.gate.margin=1", "iterations=4", "reward.path="+filepath.Join(dir, "reward"))
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	d, err := run.Read(t.Context(), r.Run)
	if err != nil {
		t.Fatal(err)
	}
	promotions, err := d.ReadPromotions(t.Context())
	p := promotions[2]
	if err != nil || len(promotions) != 1 || p.Promoted || p.Serving == nil || p.Measure != "best_of_n" {
		t.Fatalf("%+v, %v", promotions, err)
	}
	for _, iteration := range []int{2, 3} {
		if got := scoredBy(t, d, iteration); !strings.Contains(got, "reward@"+p.From) || p.Model == p.From {
			t.Errorf("iteration %d was scored by %s, want %s", iteration, got, p.From)
		}
	}
	for _, name := range []string{"reward", "optimizer-reward"} {
		if _, err := os.Stat(filepath.Join(d.IterPath(2), name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s of a refused model: %v", name, err)
		}
	}
}

// Settings that would make no refresh, or one of nothing, are refused.
func TestScheduledRefreshIsWanted(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	update := "reward.update={losses: [{name: ipvrm_online, beta: 10, margin: 0}]}"
	for set, at := range map[string]string{
		"reward.refresh.every=0": "reward.refresh.every",
		update:                   "reward.refresh",
		"advantage={kind: td}":   "reward.path",
		"evaluate.split=train":   "evaluate.split",
		"reward.refresh.update.losses=[{name: sft}]": "reward.refresh.update.losses[0].name",
		"kind=label": "",
	} {
		r, err := open(t.Context(), "distrl-scheduled", append(slices.Clone(tiny), "run="+dir, "policy.path="+filepath.Join(dir, "policy"),
			"iterations=5", "reward.refresh.every=2", set))
		if err == nil {
			err = iterate(t.Context(), r, progress.Silent())
		}
		var wrong *setting.Error
		if !errors.As(err, &wrong) || at != "" && wrong.Path != at {
			t.Errorf("%s: %v, want an error of %s", set, err, at)
		}
	}
}
