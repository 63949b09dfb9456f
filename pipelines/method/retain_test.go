package method_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
)

// folders are the models and states of optimizers that iterations have.
func folders(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"policy", "reward", "optimizer-*"} {
		found, err := filepath.Glob(filepath.Join(dir, "iter-*", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			at, err := filepath.Rel(dir, path)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, at)
		}
	}
	slices.Sort(out)
	return out
}

// A run keeps the models that section keep names and the state that it goes on from, computes what it would without, goes on, and says
// of a model that is gone that it was removed. What a death left of a removal is ended; what was not to go must be there.
func TestRetention(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	whole := given(t, "grpo", dir, "iterations=4", "evaluate.every=0")
	if err := iterate(t.Context(), whole, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	r := given(t, "grpo", dir, "iterations=3", "evaluate.every=0", "keep={last: 1, every: 2, best: false}")
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	want := []string{"iter-00001/policy", "iter-00002/optimizer-policy", "iter-00002/policy"}
	if got := folders(t, r.Run); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	gone := filepath.Join(r.Run, "iter-00000", "policy")
	from := given(t, "grpo", dir, "iterations=1", "evaluate.every=0", "policy.path="+gone)
	says := (&commit.RemovedError{Path: gone}).Error()
	if err := iterate(t.Context(), from, progress.Silent()); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("a model that was removed: %v", err)
	}
	// A death after the note and before the end of the removal.
	if err := os.MkdirAll(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(gone, "half.safetensors"), []byte("x"))
	more := given(t, "grpo", dir, "iterations=4", "evaluate.every=0", "keep={last: 1, every: 2, best: false}", "run="+r.Run)
	if err := iterate(t.Context(), more, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	want = []string{"iter-00001/policy", "iter-00003/optimizer-policy", "iter-00003/policy"}
	if got := folders(t, r.Run); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	for i := range 4 {
		if a, b := manifestFiles(t, whole.Run, i), manifestFiles(t, r.Run, i); !maps.Equal(a, b) {
			t.Errorf("iteration %d computed something else", i)
		}
	}
	// What no note names must be there.
	if err := os.RemoveAll(filepath.Join(r.Run, "iter-00003", "policy")); err != nil {
		t.Fatal(err)
	}
	more.Iterations = 5
	var changed *commit.ChangedError
	if err := iterate(t.Context(), more, progress.Silent()); !errors.As(err, &changed) || changed.Got != "" {
		t.Errorf("a model that somebody took: %v", err)
	}
}

// The reward model of a refresh serves on, whatever else goes.
func TestRetentionOfTheServingModel(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	r := refreshing(t, dir, "iterations=4", "reward.refresh.gate.margin=-1", "keep={last: 1, best: false}")
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	want := []string{"iter-00002/optimizer-reward", "iter-00002/reward", "iter-00003/optimizer-policy", "iter-00003/policy"}
	if got := folders(t, r.Run); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}

// A model that adapters belong to stays as long as they do: they are nothing without it.
func TestRetentionOfTheBaseOfAdapters(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	r := refreshing(t, dir, "iterations=4", "reward.refresh.gate.margin=-1", "reward.refresh.update.lora={rank: 2, alpha: 4}",
		"keep={last: 1, best: false}")
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	want := []string{"iter-00001/policy", "iter-00002/optimizer-reward", "iter-00002/reward", "iter-00003/optimizer-policy",
		"iter-00003/policy"}
	if got := folders(t, r.Run); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	// By another name of the same place.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Dir(r.Run), link); err != nil {
		t.Fatal(err)
	}
	keep := recipe.Keep{Last: 1}
	byLink, err := run.Read(t.Context(), filepath.Join(link, filepath.Base(r.Run)))
	if err != nil {
		t.Fatal(err)
	}
	if goes, err := byLink.ToRemove(t.Context(), keep, 4, -1); err != nil || len(goes) > 0 {
		t.Errorf("%v would go: %v", goes, err)
	}
	// Of a fork its own copy stays, and is enough when the first run is gone.
	parent, err := run.Read(t.Context(), r.Run)
	if err != nil {
		t.Fatal(err)
	}
	fork, _ := forkAt(t, parent, 3, filepath.Join(dir, "fork"), false, "iterations=6")
	forked, err := run.Read(t.Context(), fork.Run)
	if err != nil {
		t.Fatal(err)
	}
	if goes, err := forked.ToRemove(t.Context(), keep, 4, -1); err != nil || len(goes) > 0 {
		t.Errorf("of the fork %v would go: %v", goes, err)
	}
	if err := os.RemoveAll(r.Run); err != nil {
		t.Fatal(err)
	}
	if err := iterate(t.Context(), fork, progress.Silent()); err != nil {
		t.Error(err)
	}
}

// forkAt forks a run as the command does.
func forkAt(t *testing.T, d *run.Dir, at int, out string, fresh bool, sets ...string) (recipe.Recipe, run.Forked) {
	t.Helper()
	r, err := d.Recipe(t.Context(), append(sets, "run="+out)...)
	if err != nil {
		t.Fatal(err)
	}
	m, err := method.New(r)
	if err != nil {
		t.Fatal(err)
	}
	config, err := method.Resolved(m)
	if err != nil {
		t.Fatal(err)
	}
	f, err := d.Fork(t.Context(), at, out, config, fresh)
	if err != nil {
		t.Fatal(err)
	}
	return r, f
}

// A fork may refresh its reward model on another schedule, and goes on with the one that served.
func TestForkWithAnotherSchedule(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	parent := refreshing(t, dir, "iterations=4", "reward.refresh.gate.margin=-1")
	if err := iterate(t.Context(), parent, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	d, err := run.Read(t.Context(), parent.Run)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := forkAt(t, d, 3, filepath.Join(dir, "fork"), false, "reward.refresh.every=3", "iterations=5")
	if err := iterate(t.Context(), r, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	of, err := run.Read(t.Context(), r.Run)
	if err != nil {
		t.Fatal(err)
	}
	if before, after := scoredBy(t, d, 3), scoredBy(t, of, 4); before == "" || before != after {
		t.Errorf("rows are scored by %q, and were by %q", after, before)
	}
}

// A fork with the same settings computes what its parent does; with others it says which, and leaves the parent as it is.
func TestFork(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	parent := given(t, "grpo", dir, "iterations=3", "evaluate.every=0")
	if err := iterate(t.Context(), parent, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	d, err := run.Read(t.Context(), parent.Run)
	if err != nil {
		t.Fatal(err)
	}
	fork := func(name string, fresh bool, sets ...string) (recipe.Recipe, run.Forked) {
		t.Helper()
		return forkAt(t, d, 0, filepath.Join(dir, name), fresh, sets...)
	}
	same, f := fork("same", false)
	if len(f.Changes) > 0 {
		t.Errorf("changes %v", f.Changes)
	}
	if err := os.Remove(filepath.Join(same.Run, "config.yaml")); err != nil { // as a death before the end leaves it
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(same.Run, "iter-00000", "policy")); err != nil {
		t.Fatal(err)
	}
	same, _ = fork("same", false)
	if err := iterate(t.Context(), same, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if a, b := manifestFiles(t, parent.Run, i), manifestFiles(t, same.Run, i); !maps.Equal(a, b) {
			t.Errorf("iteration %d of a fork with the same settings is another", i)
		}
	}
	before := manifestFiles(t, parent.Run, 0)
	other, f := fork("other", true, "rollout.samples=2")
	if len(f.Changes) != 1 || f.Changes[0].String() != "rollout.samples: 2, was 4" {
		t.Errorf("changes %v", f.Changes)
	}
	if err := iterate(t.Context(), other, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	if now := manifestFiles(t, parent.Run, 0); !maps.Equal(now, before) {
		t.Error("the parent has changed")
	}
	// A fork that takes another number of prompts goes on after those that were taken.
	fewer, _ := fork("fewer", false, "prompts.count=2")
	fd, err := run.Read(t.Context(), fewer.Run)
	if err != nil {
		t.Fatal(err)
	}
	for iteration, want := range []int{0, 8, 10, 12} {
		if got, err := fd.First(t.Context(), iteration, 2); err != nil || got != want {
			t.Errorf("iteration %d begins at prompt %d, %v, want %d", iteration, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(parent.Run, "iter-00000", "optimizer-policy")); err != nil {
		t.Errorf("the parent's optimizer: %v", err)
	}
	if _, err := d.Fork(t.Context(), 0, other.Run, []byte("x"), false); err == nil || !strings.Contains(err.Error(), "holds a run already") {
		t.Errorf("a fork into a run: %v", err)
	}
	again := other
	again.Rollout.Samples = 3 // it goes on with what it was forked with
	if err := iterate(t.Context(), again, progress.Silent()); err == nil || !strings.Contains(err.Error(), "another recipe") {
		t.Errorf("a fork with yet other settings: %v", err)
	}
}
