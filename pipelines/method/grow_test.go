package method_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
)

// A finished run goes on with more iterations and with other limits, and is then what it would have been from the start; what decides
// what is computed stays.
func TestRunsGrow(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	whole := given(t, "grpo", dir, "iterations=3", "evaluate.every=0")
	if err := iterate(t.Context(), whole, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	grown := given(t, "grpo", dir, "iterations=1", "evaluate.every=0")
	if err := iterate(t.Context(), grown, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	more := given(t, "grpo", dir, "iterations=3", "evaluate.every=0", "limits.idle=7", "run="+grown.Run)
	var notes bytes.Buffer
	show := progress.Start(&notes, "test")
	if err := iterate(t.Context(), more, show); err != nil {
		t.Fatal(err)
	}
	show.Done()
	for _, want := range []string{"from iteration 1 on iterations: 3, was 1", "from iteration 1 on limits.idle: 7, was 5"} {
		if !strings.Contains(notes.String(), want) {
			t.Errorf("%q is not said: %s", want, notes.String())
		}
	}
	for i := range 3 {
		if want, got := manifestFiles(t, whole.Run, i), manifestFiles(t, grown.Run, i); !maps.Equal(want, got) {
			t.Errorf("iteration %d: %v, want %v", i, got, want)
		}
	}
	if kept, err := filepath.Glob(filepath.Join(grown.Run, run.ConfigsName, "*.yaml")); err != nil || len(kept) != 1 {
		t.Errorf("configurations before: %v, %v", kept, err)
	}
	d, err := run.Read(t.Context(), grown.Run)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := d.Recipe(t.Context()); err != nil || r.Iterations != 3 || r.Limits.Idle != 7 {
		t.Errorf("the recipe of the run: %d iterations, limits.idle %d, %v", r.Iterations, r.Limits.Idle, err)
	}
	other := given(t, "grpo", dir, "iterations=4", "evaluate.every=0", "rollout.samples=2", "run="+grown.Run)
	if err := iterate(t.Context(), other, progress.Silent()); err == nil || !strings.Contains(err.Error(), "samples: ") {
		t.Errorf("other samples: %v", err)
	}
	// Fewer iterations than there are change nothing, nor is the number that it was to have forgotten.
	config := filepath.Join(grown.Run, recipe.ConfigName)
	before, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	fewer := given(t, "grpo", dir, "iterations=2", "evaluate.every=0", "run="+grown.Run)
	var e *setting.Error
	if err := iterate(t.Context(), fewer, progress.Silent()); !errors.As(err, &e) || e.Path != "iterations" {
		t.Errorf("fewer iterations: %v", err)
	}
	if after, err := os.ReadFile(config); err != nil || !bytes.Equal(before, after) {
		t.Errorf("config.yaml is another one: %v", err)
	}
	// What was laid into an iteration is none of it.
	last, err := filepath.Glob(filepath.Join(grown.Run, "iter-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"notes.txt", filepath.Join("policy", "extra.json")} {
		path := filepath.Join(last[len(last)-1], name)
		write(t, path, []byte("{}"))
		more := given(t, "grpo", dir, "iterations=9", "evaluate.every=0", "run="+grown.Run)
		var changed *commit.ChangedError
		if err := iterate(t.Context(), more, progress.Silent()); !errors.As(err, &changed) || changed.Path != path {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
