package method_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/transforms/value"
)

// Reward models whose references are the same model, wherever it lies, are measured with one scoring of it.
func TestOneReferenceIsScoredOnce(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "copy"), os.DirFS(filepath.Join(dir, "policy"))); err != nil {
		t.Fatal(err)
	}
	var text string
	for _, e := range recipes.All() {
		if e.Name == "ipvrm-refresh" {
			text = e.Text
		}
	}
	r, err := parse([]byte(text), []string{"run=" + filepath.Join(dir, "run"), "policy.path=" + filepath.Join(dir, "policy"),
		"evaluate.prompts=3", "evaluate.samples=2", "reward.value.reference=" + value.Frozen, "update.losses[0].reference=" + value.Frozen})
	if err != nil {
		t.Fatal(err)
	}
	var rewards []look.RewardModel
	for _, names := range [][2]string{{"reward", "policy"}, {"reward", "copy"}, {"policy", "reward"}} { // a model, and its reference
		reference, err := chain.Open(t.Context(), recipe.Model{Path: filepath.Join(dir, names[1])}, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		m, err := look.OpenReward(t.Context(), r, filepath.Join(dir, names[0]), 0, reference, dir)
		if err != nil {
			t.Fatal(err)
		}
		rewards = append(rewards, m)
	}
	look.ShareReferences(rewards)
	policy, err := look.OpenPolicy(t.Context(), r, "", dir)
	if err != nil {
		t.Fatal(err)
	}
	test := look.RewardTest{Recipe: r, Policy: policy, Work: filepath.Join(dir, "work")}
	var scored []int
	var measured []look.MeasuredReward
	for _, m := range rewards {
		out, err := test.Measure(t.Context(), m, look.HeldOutSet)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := filepath.Glob(filepath.Join(test.Work, "rows", "score_reference-*.json"))
		if err != nil {
			t.Fatal(err)
		}
		scored, measured = append(scored, len(kept)), append(measured, out)
	}
	if scored[0] == 0 || scored[1] != scored[0] || scored[2] != 2*scored[0] {
		t.Errorf("references were scored %v times; want once for the first two, and once more for the third", scored)
	}
	if a, b := *measured[0].Final.AUC.Value, *measured[1].Final.AUC.Value; a != b {
		t.Errorf("the same model with the same reference has AUC %v and %v", a, b)
	}
}
