package method_test

import (
	"context"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/schemas/setting"
)

// tiny makes a run of any recipe of the proving ground a matter of a second.
var tiny = []string{"prompts.count=8", "evaluate.prompts=3", "evaluate.samples=2", "evaluate.every=1"}

// tinyRecipe is an embedded recipe on models that the test gives.
func tinyRecipe(t *testing.T, e recipes.Embedded, policy, reward, run string) recipe.Recipe {
	t.Helper()
	sets := append([]string{"run=" + run}, tiny...)
	if e.Kind == "label" { // which measures nothing
		sets = sets[:2]
	}
	r, err := parse([]byte(e.Text), sets)
	if err != nil {
		t.Fatal(err)
	}
	if r.Policy.New == nil {
		r.Policy.Path = policy
	}
	if r.Reward != nil && r.Reward.Path != "" {
		r.Reward.Path = reward
	}
	if r.Distill != nil {
		r.Distill.Teacher.Path = policy
		if r.Distill.Reference != nil {
			r.Distill.Reference.Path = policy
		}
	}
	r.Iterations = 1
	r.Update.Steps, r.Update.BatchSize = min(r.Update.Steps, 1), min(r.Update.BatchSize, 4)
	if r.SEFT != nil {
		r.Iterations, r.SEFT.Pairs = 3, 8
		r.SEFT.Base.Steps, r.SEFT.Adaptive.Steps = 1, 1
	}
	if f := r.Scheduled(); f != nil {
		r.Iterations, f.Every, f.Update.Steps, f.Update.BatchSize = 2, 1, 1, 4
	}
	if err := setting.Check(r); err != nil {
		t.Fatal(err)
	}
	return r
}

// Every recipe that comes with the program is parsed, planned, and run for one small iteration from the embedded models.
func TestEmbeddedRecipes(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	policy, reward := filepath.Join(dir, "policy"), filepath.Join(dir, "reward")
	all := recipes.All()
	short := []string{"qrm-refresh", "qrm-ppo", "adpa", "seft", "lco-dense"}
	for _, e := range all {
		t.Run(e.Name, func(t *testing.T) {
			if strings.Contains(e.Text, "source: file") {
				if _, err := parse([]byte(e.Text), nil); err != nil {
					t.Fatal(err)
				}
				t.Skip("reads a file that is not part of the program; planned only")
			}
			if strings.Contains(e.Text, "source: text_chains") {
				t.Skip("asks in words that the embedded models do not know; TestRecipesOfTextChains runs it")
			}
			run := filepath.Join(dir, e.Name)
			r := tinyRecipe(t, e, policy, reward, run)
			if testing.Short() && !slices.Contains(short, e.Name) {
				t.Skip("planned; run without -short")
			}
			show := progress.Start(io.Discard, e.Name)
			defer show.Done()
			if err := iterate(context.Background(), r, show); err != nil {
				t.Fatal(err)
			}
			measured, err := measurementsOf(t.Context(), run)
			if err != nil {
				t.Fatal(err)
			}
			if measured[len(measured)-1].Evaluation == nil && e.Kind != "label" {
				t.Error("the last iteration was not evaluated")
			}
		})
	}
}

// A teacher whose ids mean something else is refused before anything runs.
func TestDistillationNeedsOneVocabulary(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	other := recipe.Model{Tokenizer: "bytes", New: map[string]any{"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1,
		"num_attention_heads": 1,
		"num_key_value_heads": 1, "intermediate_size": 8, "rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 64,
		"tie_word_embeddings": true}}
	teacher := filepath.Join(dir, "other")
	if err := written(t.Context(), other, teacher, 1); err != nil {
		t.Fatal(err)
	}
	for _, e := range recipes.All() {
		if e.Name != "dckd" {
			continue
		}
		_, err := parse([]byte(e.Text), []string{"policy.path=" + filepath.Join(dir, "policy"), "distill.teacher.path=" + teacher})
		if err == nil || !strings.Contains(err.Error(), "distill.teacher") || !strings.Contains(err.Error(), "vocabulary") {
			t.Fatalf("got %v, want an error about the vocabulary of distill.teacher", err)
		}
		return
	}
	t.Fatal("no recipe dckd")
}
