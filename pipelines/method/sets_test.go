package method_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
)

// Further sets have their own file, verifier and sampling; the best iteration is named by one of them, also after a run has gone on.
func TestEvaluationSets(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other.jsonl")
	var lines strings.Builder
	for range 1 {
		for _, p := range []string{"1a+2b*3=", "2a+2b*3=", "3a+2b*3=", "4a-2b*3="} {
			lines.WriteString(`{"prompt": "` + p + `", "answer": "1"}` + "\n")
		}
	}
	if err := os.WriteFile(other, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	sets := []string{"run=" + filepath.Join(dir, "run"), "policy.path=" + writtenModel(t),
		"evaluate={every: 1, prompts: 4, samples: 2, best: strict, sets: [{name: strict, count: 3, samples: 2, verifier: {kind: regex, " +
			"options: {pattern: '[2-3]'}}, temperature: 0.5, max_new_tokens: 30}, {name: file, split: all, count: 4, prompts: {source: file, " +
			"split: all, file: {path: " + other + ", fields: {prompt: prompt, answer: answer}}}, temperature: 0}]}"}
	measured := func(iterations string) []run.Measurement {
		t.Helper()
		r, err := parse([]byte(engineRecipe), append(sets, "iterations="+iterations))
		if err != nil {
			t.Fatal(err)
		}
		if err := iterate(t.Context(), r, progress.Silent()); err != nil {
			t.Fatal(err)
		}
		d, err := run.Read(t.Context(), r.Run)
		if err != nil {
			t.Fatal(err)
		}
		all, err := d.ReadMeasurements(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	all := measured("3")
	if len(all) != 4 {
		t.Fatalf("%d measurements, want those of the start and of 3 iterations", len(all))
	}
	want, ok := run.BestOf(all, "strict")
	if !ok || want.Measured != 4 || want.Metric != "set/strict/avg@2" {
		t.Errorf("%+v", want)
	}
	for _, m := range all {
		for _, name := range []string{"avg@2", "set/strict/avg@2", "set/strict/avg@2_stderr", "set/file/avg@1"} {
			if _, ok := m.Metrics[name]; !ok {
				t.Errorf("after %d iterations %s is not measured: %v", m.Iterations, name, m.Metrics)
			}
		}
		if m.AccuracyName() != "avg@2" {
			t.Errorf("the accuracy on held-out prompts is %q", m.AccuracyName())
		}
	}
	var best run.Best
	raw, err := os.ReadFile(filepath.Join(dir, "run", run.BestName))
	if err == nil {
		err = json.Unmarshal(raw, &best)
	}
	if err != nil || best != want {
		t.Errorf("%+v, want %+v (%v)", best, want, err)
	}
	// The file of a set is an input of the run.
	if err := os.WriteFile(other, []byte(lines.String()+lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := parse([]byte(engineRecipe), append(sets, "iterations=3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := iterate(t.Context(), r, progress.Silent()); err == nil || !strings.Contains(err.Error(), "evaluate.sets[1].prompts") {
		t.Errorf("%v, want that the file of a set has changed", err)
	}
	for path, set := range map[string]string{
		"evaluate.sets[0].name":    "evaluate.sets=[{name: held_out}]",
		"evaluate.sets[1].name":    "evaluate.sets=[{name: a}, {name: a}]",
		"evaluate.sets[0].split":   "evaluate.sets=[{name: a, split: train}]",
		"evaluate.sets[0].prompts": "evaluate.sets=[{name: a, prompts: {source: nowhere}}]",
		"evaluate.best":            "evaluate.best=b",
	} {
		var wrong *setting.Error
		if _, err := parse([]byte(engineRecipe), []string{"run=x", "policy.path=y", "evaluate.every=1", set}); !errors.As(err, &wrong) ||
			!strings.HasPrefix(wrong.Path, path) {
			t.Errorf("%s: %v, want an error of %s", set, err, path)
		}
	}
}

func TestBestOf(t *testing.T) {
	all := []run.Measurement{{Metrics: map[string]float64{"avg@4": 0.5, "avg@4_stderr": 0.1, "set/a/avg@1": 0.2}},
		{Iterations: 1, Metrics: map[string]float64{"loss": 1}},
		{Iterations: 2, Metrics: map[string]float64{"avg@4": 0.5, "set/a/avg@1": 0.4, "set/a/avg@1_stderr": 0.9}}}
	if best, ok := run.BestOf(all, ""); !ok || best.Iteration != -1 || best.Value != 0.5 || best.StdErr != 0.1 || best.Measured != 2 {
		t.Errorf("%+v", best)
	}
	if best, ok := run.BestOf(all, "a"); !ok || best.Iteration != 1 || best.Value != 0.4 {
		t.Errorf("%+v", best)
	}
	other := append(slices.Clone(all), run.Measurement{Iterations: 9, Metrics: map[string]float64{"avg@16": 0.1}})
	if best, ok := run.BestOf(other, ""); !ok || best.Iteration != 8 || best.Metric != "avg@16" || best.Measured != 1 {
		t.Errorf("an accuracy over another number of samples is compared: %+v", best)
	}
	if _, ok := run.BestOf(all, "b"); ok {
		t.Error("a set that is not there has a best")
	}
}
