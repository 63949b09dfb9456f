package method_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/ipc"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

const importedRecipe = `
kind: policy
run: unset
iterations: 1
prompts: {source: batch, count: 16, batch: {path: unset}}
policy: {path: unset}
label: {verifier: {kind: regex, options: {pattern: "[0-9]"}}}
advantage: {kind: grpo, keep_truncated: true}
update: {losses: [{name: ppo}], optimizer: {lr: 1e-2}}
evaluate: {every: 0}
`

const importedTrain = `
kind: train
run: unset
iterations: 1
prompts: {source: batch, count: 16, batch: {path: unset, columns: [advantage, token_mask]}}
policy: {path: unset}
update: {losses: [{name: ppo}], optimizer: {lr: 1e-2}}
evaluate: {every: 0}
`

// rewritten writes the rows of a run's first iteration as another would have left them.
func rewritten(t *testing.T, dir, to string, change func(stage.Batch) stage.Batch) {
	t.Helper()
	var out bytes.Buffer
	var w *ipc.Writer
	err := recordio.ReadFile(t.Context(), filepath.Join(dir, "iter-00000", "batch-00000-of-00001.parquet"), func(b stage.Batch) error {
		rec := change(b).Arrow()
		if w == nil {
			w = ipc.NewWriter(&out, ipc.WithSchema(rec.Schema()))
		}
		return w.Write(rec)
	})
	if err == nil {
		err = errors.Join(w.Close(), os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, out.Bytes(), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// shifted are log-probs with a number added to each.
func shifted(v schemas.Lists[float32], by float64) [][]float32 {
	out := make([][]float32, v.Len())
	for i := range out {
		for _, x := range v.Row(i) {
			out[i] = append(out[i], float32(float64(x)+by))
		}
	}
	return out
}

// TestImported: rows that somebody else has sampled train the policy as its own would, at temperature 1 and at another, as long as the
// log-probs that they bring are the trainer's; where they are not, weights correct the advantages, made anew or brought.
func TestImported(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir, below := writtenModel(t), t.TempDir()
	do := func(name, recipe string, sets ...string) (policy string, metrics map[string]float64) {
		t.Helper()
		at := filepath.Join(below, name)
		r, err := parse([]byte(recipe), append(sets, "run="+at, "policy.path="+dir))
		if err == nil {
			err = iterate(t.Context(), r, progress.Silent())
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if policy, err = models.Digest(filepath.Join(at, "iter-00000", "policy")); err != nil {
			t.Fatal(err)
		}
		measured, err := measurementsOf(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		return policy, measured[0].Metrics
	}
	batch := func(name string) string { return filepath.Join(below, name+"-rows", "batch-rows.arrow") }
	path := func(name string) string { return "prompts.batch.path=" + batch(name) }
	const train, sixteen, digits = importedTrain, "prompts.count=16", `label.verifier.options.pattern="[0-9]"`
	raw, _ := do("raw", engineRecipe, "iterations=1", sixteen, digits)
	cold, _ := do("cold", engineRecipe, "iterations=1", sixteen, digits, "rollout.temperature=0.5")
	rewritten(t, filepath.Join(below, "raw"), batch("raw"), func(b stage.Batch) stage.Batch { return b })
	rewritten(t, filepath.Join(below, "raw"), batch("double"), func(b stage.Batch) stage.Batch {
		return must(b.With(schemas.OldLogP.FromRows(shifted(schemas.OldLogP.Of(b), -math.Log(1.5))).Defined(schemas.FullLogP("other"))))
	})
	rewritten(t, filepath.Join(below, "cold"), batch("cold"), func(b stage.Batch) stage.Batch {
		return must(b.With(schemas.OldLogP.FromRows(shifted(schemas.TemperedOldLogP.Of(b), 0)).Defined(schemas.FullLogP("other").At(0.5))))
	})
	if raw == cold {
		t.Fatal("the temperature changes nothing")
	}
	for name, c := range map[string]struct{ got, want string }{
		"as it was sampled": {first(do("again", importedRecipe, path("raw"), "importance={limit: 1e-6}")), raw},
		"at another temperature": {first(do("tempered", importedRecipe, path("cold"), "prompts.batch.logprobs={temperature: 0.5}",
			"importance={limit: 1e-6}")), cold},
		"with its advantages": {first(do("trained", train, path("raw"), "importance={}")), first(do("plain", train, path("raw")))},
	} {
		if c.got != c.want {
			t.Errorf("%s: the policy is another than that which samples itself", name)
		}
	}
	// What is one and a half times as likely under the trainer counts so much; a mask leaves it out.
	for _, recipe := range []string{importedRecipe, train} {
		for name, w := range map[string]float64{"{}": 1.5, "{mode: mask, high: 1.25}": 0} {
			at := "weighted"
			_, metrics := do(at, recipe, path("double"), "importance="+name)
			if math.Abs(metrics["mismatch"]-math.Log(1.5)) > 1e-5 || math.Abs(metrics["importance/mean"]-w) > 1e-5 {
				t.Errorf("importance %s: metrics %v", name, metrics)
			}
			err := recordio.ReadFile(t.Context(), filepath.Join(below, at, "iter-00000", "batch-00000-of-00001.parquet"), func(b stage.Batch) error {
				for i := range b.NumRows() {
					for k, x := range schemas.Advantage.Of(b).Row(i) {
						if recipe == train && math.Abs(float64(x)-w*float64(schemas.UnweightedAdvantage.Of(b).Row(i)[k])) > 1e-5 {
							t.Fatalf("advantage %v, want %v times that which the row came with", x, w)
						}
					}
				}
				return b.Check(schemas.OldLogP, schemas.OldLogZ, schemas.SamplerLogP, schemas.ImportanceWeight)
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(below, at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Rows that drift further than allowed end the run.
	r, err := parse([]byte(importedRecipe), []string{path("double"), "importance={limit: 0.1}", "run=" + filepath.Join(below, "drift"),
		"policy.path=" + dir})
	if err != nil {
		t.Fatal(err)
	}
	var apart *run.MismatchError
	if err := iterate(t.Context(), r, progress.Silent()); !errors.As(err, &apart) {
		t.Errorf("%v, want that the rows are too far from the trainer", err)
	}
	// Files that say otherwise than the recipe, or nothing.
	rewritten(t, filepath.Join(below, "raw"), batch("unknown"), func(b stage.Batch) stage.Batch {
		return must(b.With(schemas.OldLogP.FromRows(shifted(schemas.OldLogP.Of(b), 0)).Defined(schemas.UnknownLogP())))
	})
	for name, want := range map[string]string{"cold": "temperature: 0.5", "unknown": "{} for raw"} {
		r, err := parse([]byte(importedRecipe), []string{path(name), "importance={}", "run=" + filepath.Join(below, name+"-refused"),
			"policy.path=" + dir})
		if err != nil {
			t.Fatal(err)
		}
		var wrong *setting.Error
		if err := iterate(t.Context(), r, progress.Silent()); !errors.As(err, &wrong) || wrong.Path != "prompts.batch.logprobs" ||
			!strings.Contains(wrong.Why, want) {
			t.Errorf("%s: %v, want what prompts.batch.logprobs should be", name, err)
		}
	}
	said, _ := do("said", importedRecipe, path("unknown"), "prompts.batch.logprobs={}", "importance={limit: 1e-6}")
	if said != raw {
		t.Error("log-probs that the recipe defines, where the files do not, are other ones")
	}
}

func must(b stage.Batch, err error) stage.Batch {
	if err != nil {
		panic(err)
	}
	return b
}

func first(policy string, _ map[string]float64) string { return policy }

// TestImportedSettings: what weights of brought rows need is named, with what would be right.
func TestImportedSettings(t *testing.T) {
	const file = "prompts={source: file, split: all, file: {path: x.jsonl, fields: {prompt: p, answer: a, prompt_tokens: i, response_tokens: j"
	for _, c := range []struct {
		recipe, path, says string
		sets               []string
	}{
		{importedRecipe, "importance", "no log-probs", []string{file + "}}}"}},
		{importedRecipe, "prompts.file.logprobs", "temperature: 0.7", []string{file + ", logprobs: l}}}"}},
		{importedRecipe, "", "", []string{file + ", logprobs: l}, logprobs: {temperature: 0.7, top_p: 0.9}}}"}},
		{importedRecipe, "prompts.batch.columns", "leave one", []string{"prompts.batch.columns=[advantage]"}},
		{importedTrain, "importance", "there are none", []string{"prompts.batch.columns=[]"}},
		{importedTrain, "prompts.batch.columns", "candidate_advantage", []string{"prompts.batch.columns=[advantage, candidate_advantage]"}},
		{importedTrain, "", "", nil},
		{importedRecipe, "update.losses[0]", "not linear", []string{"update.losses=[{name: lco_kld}]"}},
		{"kind: label\nprompts: {source: batch, batch: {path: unset}}\n", "importance", "kind policy, train", nil},
	} {
		_, err := parse([]byte(c.recipe), append(c.sets, "run=x", "policy.path=y", "importance={}"))
		var wrong *setting.Error
		if errors.As(err, &wrong) != (c.path != "") || c.path != "" && (wrong.Path != c.path || !strings.Contains(wrong.Why, c.says)) {
			t.Errorf("%v: %v, want an error of %q that says %q", c.sets, err, c.path, c.says)
		}
	}
}
