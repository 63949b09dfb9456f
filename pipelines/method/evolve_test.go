package method_test

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/update"
)

// runTiny runs an embedded recipe for a few iterations of few prompts, from the embedded policy.
func runTiny(t *testing.T, name, policy string, change func(*recipe.Recipe)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	for _, e := range recipes.All() {
		if e.Name != name {
			continue
		}
		r := tinyRecipe(t, e, policy, "", dir)
		change(&r)
		if err := setting.Check(r); err != nil {
			t.Fatal(err)
		}
		show := progress.Start(&bytes.Buffer{}, name)
		defer show.Done()
		if err := iterate(context.Background(), r, show); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	t.Fatalf("no recipe %s", name)
	return ""
}

// lineage says what wrote a column of the rows that an iteration kept.
func lineage(t *testing.T, dir string, iteration int, column schemas.Descriptor) string {
	t.Helper()
	paths, err := run.RowFiles(t.Context(), (&run.Dir{Path: dir}).IterPath(iteration), chain.BatchName)
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	var out string
	err = recordio.ReadFile(context.Background(), paths[0], func(b stage.Batch) error {
		out = b.Meta().Lineage[column.Describe().Name]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func digestOf(t *testing.T, dir string) string {
	t.Helper()
	d, err := models.Digest(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// In a round of SEFT the originals come from the policy (internal) or from another model (external).
func TestSEFTSources(t *testing.T) {
	if testing.Short() {
		t.Skip("two runs")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	policy, other := filepath.Join(dir, "policy"), filepath.Join(dir, "reward")
	const round = 2
	for source, want := range map[string]string{"internal": policy, "external": other} {
		ran := runTiny(t, "seft", policy, func(r *recipe.Recipe) {
			if source == "external" {
				r.SEFT.Source = &recipe.Model{Path: other}
			}
		})
		if got := lineage(t, ran, round, schemas.ResponseTokens); got != "policy@"+digestOf(t, want) {
			t.Errorf("%s: originals are of %s, want of %s", source, got, digestOf(t, want))
		}
		if got := lineage(t, ran, 0, schemas.ResponseTokens); got != "policy@"+digestOf(t, policy) {
			t.Errorf("%s: the pairs are of %s, want of the policy", source, got)
		}
	}
}

// With seft.greedy the originals of a round are the most probable answers; the revisers' pairs, which need differing answers, are sampled.
func TestSEFTGreedyOriginals(t *testing.T) {
	for _, e := range recipes.All() {
		if e.Name != "seft" {
			continue
		}
		for _, greedy := range []bool{false, true} {
			r := tinyRecipe(t, e, filepath.Join("..", "quickstart", "policy"), "", t.TempDir())
			r.SEFT.Greedy = greedy
			m, err := method.New(r)
			if err != nil {
				t.Fatal(err)
			}
			phases, err := m.Phases()
			if err != nil || len(phases) != 3 {
				t.Fatal(phases, err)
			}
			for i, want := range []bool{false, false, greedy} {
				if got := phases[i].Recipe.Rollout.Greedy; got != want {
					t.Errorf("seft.greedy %t: %s is answered greedily: %t", greedy, phases[i].Name, got)
				}
			}
		}
	}
}

// The penalty of reference_kl is taken to the policy that the run started from, not to the one that sampled.
func TestReferenceKL(t *testing.T) {
	if testing.Short() {
		t.Skip("a run")
	}
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(dir, "policy")
	for _, estimator := range []string{"k1", "k2", "k3"} {
		ran := runTiny(t, "grpo", policy, func(r *recipe.Recipe) {
			r.Iterations = 2
			r.Update.Losses = append(r.Update.Losses, update.Term{Name: "reference_kl", Weight: 0.05,
				Config: map[string]any{"estimator": estimator}})
		})
		var first [2]float64 // before any step of the iteration
		for i := range first {
			steps, err := files.ReadLines[update.StepRecord](t.Context(), update.Job{Dir: (&run.Dir{Path: ran}).IterPath(i),
				Role: "policy"}.StepsFile())
			if err != nil || len(steps) == 0 {
				t.Fatal(steps, err)
			}
			kl, ok := steps[0].Metrics["reference_kl/kl"]
			if !ok {
				t.Fatalf("metrics %v", steps[0].Metrics)
			}
			first[i] = kl
			if got := lineage(t, ran, i, schemas.ReferenceLogP); got != "reference@"+digestOf(t, policy) {
				t.Errorf("iteration %d: the reference is %s, want the policy at the start", i, got)
			}
		}
		if first[0] != 0 || first[1] == 0 {
			t.Errorf("%s: the first step of the first iteration has a penalty of %v, that of the second %v; want 0 and another", estimator,
				first[0], first[1])
		}
	}
}
