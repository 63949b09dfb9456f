package method_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// Where the verifier judges steps, scorers are measured on the corruptions of the recipe's source, step by step, and the truth is sampled
// at step ends; the solutions are those of the source, the verifier and the way of asking those of the recipe.
func TestCorruptionsOfTheSourceAreMeasured(t *testing.T) {
	dir := t.TempDir()
	r, err := parse([]byte(`
kind: policy
prompts: {source: text_chains}
chat: {instruction: "\n"}
policy: {tokenizer: bytes, new: {model_type: llama, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1,
  intermediate_size: 24, rms_norm_eps: 1.0e-6, rope_theta: 10000, max_position_embeddings: 512, tie_word_embeddings: false}}
rollout: {samples: 2, max_new_tokens: 24}
label: {verifier: {kind: text_chains}}
advantage: {kind: grpo}
update: {losses: [{name: ppo}], optimizer: {lr: 1e-3}}
evaluate: {every: 0, prompts: 12, samples: 2}
`), []string{"run=" + filepath.Join(dir, "run")})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := look.OpenPolicy(t.Context(), r, "", dir)
	if err != nil {
		t.Fatal(err)
	}
	test := look.RewardTest{Recipe: r, Policy: policy, Work: filepath.Join(dir, "work"), Continuations: 1}
	if got := test.Sets(); !slices.Equal(got, []string{look.HeldOutSet, "unlikely", "likely"}) {
		t.Fatalf("sets %v", got)
	}
	scorer := look.PolicyScorers(policy)[0]
	for _, set := range []string{"unlikely", "likely"} {
		m, err := test.Measure(t.Context(), scorer, set)
		if err != nil {
			t.Fatal(err)
		}
		right := m.Avg.Mean
		if m.Responses != 12 || m.Unplaced != 0 || len(m.Steps) == 0 || m.Steps[0].Items != 12 || right < 0.1 || right > 0.9 {
			t.Errorf("%s: %d solutions, %d unplaced, share %v right, %+v", set, m.Responses, m.Unplaced, right, m.Steps)
		}
	}
	if _, err := test.Measure(t.Context(), scorer, "corrupted"); err == nil || !strings.Contains(err.Error(), "held_out, unlikely, likely") {
		t.Errorf("a corruption of another source: %v", err)
	}
	if _, err := test.Measure(t.Context(), scorer, look.HeldOutSet); err != nil {
		t.Error(err)
	}
	test.Recipe.Label.Verifier.Kind = "math" // finds no wrong steps
	if got := test.Sets(); !slices.Equal(got, []string{look.HeldOutSet}) {
		t.Errorf("sets %v of a verifier of answers", got)
	}
}
