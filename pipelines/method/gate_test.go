package method

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/transforms/evaluate"
)

func measured(chance, best, stdErr float64) measure.Evaluation {
	return measure.Evaluation{
		Report: evaluate.Report{Random: evaluate.Estimate{Mean: chance}, BestOf: []evaluate.BestAt{
			{Score: "mean_value", Estimate: evaluate.Estimate{Mean: best, StdErr: stdErr}}, {Score: "value"}}},
		Sums: evaluate.Sums{Prompts: []evaluate.PromptResult{{N: 8}}},
	}
}

func TestGate(t *testing.T) {
	gate := recipe.Gate{Margin: 0.1}
	for _, c := range []struct {
		name           string
		accuracy, best float64
		stdErr         float64
		want           bool
		why            string
	}{
		{"ranks", 0.35, 0.55, 0.03, true, "more than two standard errors above chance"},
		{"below the margin", 0.35, 0.44, 0.01, false, "is not at least chance"},
		{"noise", 0.50, 0.62, 0.08, false, "within two standard errors"},
		{"worse than chance", 0.50, 0.40, 0.03, false, "is not at least chance"},
	} {
		got := judge(gate, measured(c.accuracy, c.best, c.stdErr), "mean_value")
		if got.Promoted != c.want || !strings.Contains(got.Why, c.why) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	auc := 0.7
	single := measure.Evaluation{Report: evaluate.Report{Calibration: &evaluate.Calibration{AUC: &auc}},
		Sums: evaluate.Sums{Prompts: []evaluate.PromptResult{{N: 1}}}}
	if got := judge(gate, single, "mean_value"); !got.Promoted || got.Measure != "auc" {
		t.Errorf("one response a prompt: %+v", got)
	}
}

func TestRefusedModelIsNotServed(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(dir, "reward")
	if err := Promoted(t.Context(), model); err != nil {
		t.Errorf("a model without a record: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, run.PromotionName), []byte(`{"promoted": false, "why": "noise"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	var refused *RefusedError
	if err := Promoted(t.Context(), model); !errors.As(err, &refused) || !strings.Contains(err.Error(), "noise") {
		t.Errorf("a refused model: %v", err)
	}
	r := recipe.Recipe{Kind: "policy", Reward: &recipe.Reward{Model: recipe.Model{Path: model}}}
	if err := Gates(t.Context(), r); err == nil || !strings.HasPrefix(err.Error(), "reward.path: the reward model "+model) {
		t.Errorf("a recipe that learns from it: %v", err)
	}
	if r.Kind = "refresh"; Gates(t.Context(), r) != nil {
		t.Error("a refresh trains it further, and is refused")
	}
}
