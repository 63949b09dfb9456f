package method_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
)

// TestRecipesForRealModels runs the recipes that need a published model and a file of problems with a small model of random
// weights that has a chat template, and a few problems in the layout of theirs: adapters are trained, saved, sampled from and
// trained on, and the reward model of the refresh serves in the policy's run.
func TestRecipesForRealModels(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(dir, "model")
	m := recipe.Model{Tokenizer: "bytes", New: map[string]any{"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 2,
		"num_attention_heads": 2,
		"num_key_value_heads": 1, "intermediate_size": 24, "rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 1024,
		"tie_word_embeddings": false}}
	if err := written(t.Context(), m, model, 1); err != nil {
		t.Fatal(err)
	}
	write := func(name, format string) string {
		var lines strings.Builder
		for i := range 16 {
			fmt.Fprintf(&lines, format+"\n", i, i+1, i%2)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	problems := write("train.jsonl", `{"question": "What is %d+1?", "answer": "It is one more.\n#### %d", "number": %d}`)
	solutions := write("solutions.jsonl", `{"conversation": [{"role": "user", "content": "What is %d+1?"}, {"role": "assistant", "content": "It is %d."}], "label": %d}`)
	ran := func(name string, sets ...string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		small := []string{"run=" + path, "policy.path=" + model, "prompts.file.test_share=0.4", "prompts.count=4", "evaluate.prompts=3",
			"evaluate.samples=2"}
		r, err := open(t.Context(), name, append(small, sets...))
		if err != nil {
			t.Fatal(err)
		}
		if err := iterate(context.Background(), r, progress.Silent()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return path
	}
	letters := "[" + strings.Join(strings.Split("abcdefghijklmopqrstuvwxz", ""), ", ") + "]" // a response ends with its first letter
	rollouts := []string{"prompts.file.path=" + problems, "rollout.samples=4", "rollout.max_new_tokens=60", "rollout.stop_strings=" + letters}
	refreshed := ran("gsm8k-ipvrm-refresh", append(rollouts, "gate.margin=-1", "update.lora={rank: 2, alpha: 4}")...)
	reward := filepath.Join(refreshed, "iter-00000", "reward")
	if base, err := transformer.AdapterBase(reward); err != nil || base != model {
		t.Errorf("the reward model's base is %q, %v", base, err)
	}
	distrl := ran("gsm8k-distrl", append(rollouts, "rollout.candidate_min_p=0.001", "iterations=2", "evaluate.every=0",
		"reward.path="+reward, "reward.update.lora={rank: 2, alpha: 4}", "advantage.groups=all")...)
	for i := range 2 {
		policy := filepath.Join(distrl, fmt.Sprintf("iter-%05d", i), "policy")
		if base, err := transformer.AdapterBase(policy); err != nil || base != model {
			t.Errorf("iteration %d: the policy's base is %q, %v", i, base, err)
		}
	}
	measured, err := measurementsOf(t.Context(), distrl)
	if err != nil || len(measured) != 2 {
		t.Fatalf("%v %+v", err, measured)
	}
	for i, m := range measured {
		if m.Metrics["loss"] == 0 || m.Metrics["gradient_norm"] == 0 || m.Metrics["truncated_share"] == 1 {
			t.Errorf("iteration %d: %v", i, m.Metrics)
		}
	}
	ran("solutions-ipvrm-refresh", "prompts.file.path="+solutions, "update.lora={rank: 2, alpha: 4, merge: true}", "gate.margin=-1")
}

// TestRecipesOfTextChains runs the recipes on text chains with a small model of random weights: a warm start by adapters, then a policy and
// a reward model that both go on from it.
func TestRecipesOfTextChains(t *testing.T) {
	dir := t.TempDir()
	ran := func(name string, sets ...string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		r, err := open(t.Context(), name, append([]string{"run=" + path, "prompts.count=4", "evaluate.prompts=2", "evaluate.samples=2",
			"iterations=1"}, sets...))
		if err != nil {
			t.Fatal(err)
		}
		if err := iterate(context.Background(), r, progress.Silent()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return filepath.Join(path, "iter-00000")
	}
	model := `policy={tokenizer: bytes, new: {model_type: llama, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2,
		num_key_value_heads: 1, intermediate_size: 24, rms_norm_eps: 1.0e-6, rope_theta: 10000, max_position_embeddings: 1024,
		tie_word_embeddings: false}}`
	start := filepath.Join(ran("text-warm-start", model), "policy")
	base, err := transformer.AdapterBase(start)
	if err != nil || base == "" {
		t.Fatalf("the warm start's base is %q, %v", base, err)
	}
	sets := []string{"policy.path=" + start, "evaluate.every=1", "advantage.groups=all", "rollout.max_new_tokens=12"}
	for name, more := range map[string][]string{"text-grpo": nil, "text-distrl": {"reward.path=" + start, "rollout.candidate_min_p=0.001"}} {
		iteration := ran(name, append(more, sets...)...)
		roles := []string{"policy"}
		if more != nil {
			roles = append(roles, "reward")
		}
		for _, role := range roles {
			if of, err := transformer.AdapterBase(filepath.Join(iteration, role)); err != nil || of != base {
				t.Errorf("%s: the base of its %s is %q, want %q: %v", name, role, of, base, err)
			}
		}
		measured, err := measurementsOf(t.Context(), filepath.Dir(iteration))
		if err != nil || len(measured) == 0 {
			t.Fatalf("%s: %d measurements, %v", name, len(measured), err)
		}
		for _, metric := range []string{"set/wording/avg@4", "set/longer/avg@4", "audit_gap"} {
			if _, ok := measured[len(measured)-1].Metrics[metric]; !ok {
				t.Errorf("%s does not measure %s: %v", name, metric, measured[len(measured)-1].Metrics)
			}
		}
	}
}
