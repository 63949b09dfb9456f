package method_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/schemas/setting"
)

// No setting is silent: what the chosen kind does not read, and what another section denies, is an error at the setting that names
// the other.
func TestNoSettingIsSilent(t *testing.T) {
	for _, c := range []struct {
		recipe, set, path string
		says              []string
	}{
		// Keys of another kind.
		{"grpo", "advantage.whiten=true", "advantage.whiten", []string{"grpo", "ppo"}},
		{"grpo", "advantage.beta=5", "advantage.beta", []string{"grpo"}},
		{"distrl", "advantage.beta=5", "advantage.beta", []string{"reward.value.beta"}},
		{"distrl", "advantage.reference=frozen", "advantage.reference", []string{"reward.value.reference"}},
		{"qrm-ppo", "reward.value.beta=1", "reward.value.beta", []string{"q_rm", "ipvrm"}},
		{"grpo", "prompts.file={path: a.jsonl}", "prompts.file", []string{"prompts.source", "chain"}},
		{"grpo", "update.losses[0].gamma=1", "update.losses[0].gamma", []string{"ppo"}},
		{"grpo", "rollout.candidate_k=4", "rollout.candidate_k", []string{"candidate tokens"}},
		{"grpo", "reference={path: x}", "reference", []string{"log-probs of a reference"}},
		{"distrl", "reward={}", "reward.path", []string{"all 0", "reward.value.reference"}},
		{"grpo", "rollout.temperature=1e-300", "rollout.temperature", []string{"too small"}},
		{"grpo", "rollout.samples=9223372036854775807", "rollout.samples", []string{"65536"}},
		{"grpo", "update.losses=[{name: ppo}, {name: dpo}]", "update.losses", []string{"pairs"}},
		{"grpo", "pairs={}", "pairs", []string{"response_tokens", "update_policy"}},
		{"grpo", "tokenize.max_tokens=9", "tokenize", []string{"prompts.source"}},
		{"grpo", "label.verifier.options={pattern: x}", "label.verifier.options", []string{"proving_ground"}},
		{"grpo", "update={losses: [{name: ppo}], steps: 5, epochs: 1}", "update.epochs", []string{"update.steps"}},
		{"grpo", "update={losses: [{name: ppo}], steps: 5, epochs: 3}", "update.epochs", []string{"steps"}},
		{"grpo", "update.optimizer.schedule={kind: constant, total: 9}", "update.optimizer.schedule.total", []string{"constant"}},
		{"grpo", "update.optimizer.schedule={final: 0.5}", "update.optimizer.schedule.final", []string{"constant"}},
		{"distrl", "reward.update.optimizer.schedule={total: 9}", "reward.update.optimizer.schedule.total", []string{"constant"}},
		{"grpo", "runner={flink: {parallelism: 2}}", "runner.flink", []string{"prism"}},
		{"grpo", "runner={name: direct, dataflow: {}}", "runner.dataflow", []string{"direct"}},
		{"grpo", "label.max_tokens=9", "label.max_tokens", []string{"sampled"}},
		{"grpo", "label.stop_tokens=[1]", "label.stop_tokens", []string{"sampled"}},
		// Sections that the kind of run does not read.
		{"grpo", "gate.margin=0.2", "gate", []string{"kind policy", "refresh"}},
		{"grpo", "distill={teacher: {path: x}}", "distill", []string{"kind policy", "distill"}},
		{"sft", "advantage={kind: grpo}", "advantage", []string{"train", "policy"}},
		{"ipvrm-refresh", "mixed={low: 0.1}", "mixed", []string{"refresh", "policy"}},
		{"ipvrm-refresh", "reward.update={losses: [{name: ipvrm_online}]}", "reward.update", []string{"section update"}},
		// Settings that another section denies.
		{"distrl", "reward.value.beta=5", "reward.value.beta", []string{"reward.update.losses[0].beta", "10"}},
		{"distrl", "reward.value.reference=frozen", "reward.value.reference", []string{"reward.update.losses[0].reference"}},
		{"distrl", "reward.value.kind=implicit_prm", "reward.update.losses[0].name", []string{"implicit_prm", "reward.value.kind"}},
		{"ipvrm-refresh", "update.losses=[{name: implicit_prm}]", "update.losses[0].name", []string{"ipvrm"}},
		{"grpo", "rollout.samples=1", "rollout.samples", []string{"advantage.kind grpo"}},
		{"rloo", "rollout.samples=1", "rollout.samples", []string{"advantage.kind rloo"}},
		{"dapo", "rollout.samples=1", "rollout.samples", nil},
		{"grpo", "rollout.top_p=0.9", "rollout.top_p", []string{"another distribution", "rollout.temperature"}},
		{"distrl", "rollout.top_k=20", "rollout.top_k", []string{"another distribution"}},
		{"reinforce", "rollout.greedy=true", "rollout.greedy", []string{"alike"}},
		{"opd", "rollout.greedy=true", "rollout.greedy", []string{"alike"}},
		{"opd", "rollout.top_p=0.9", "rollout.top_p", []string{"another distribution"}},
		{"opd", "rollout.top_k=20", "rollout.top_k", []string{"another distribution"}},
		{"opd-pg", "rollout.greedy=true", "rollout.greedy", []string{"alike"}},
		{"opd-pg", "rollout.top_p=0.9", "rollout.top_p", []string{"another distribution"}},
		{"lco-kld", "rollout.min_new_tokens=3", "rollout.min_new_tokens", []string{"another distribution"}},
		{"reinforce", "limits.kl=0.1", "limits.kl", []string{"ppo", "reference_kl"}},
		{"ipvrm-refresh", "limits.kl=0.1", "limits.kl", []string{"kind policy"}},
		{"grpo", "rewards=[{name: a, outcome: {}, penalty: {kind: repetition}}]", "rewards[0]", []string{"one of outcome"}},
		{"grpo", "rewards=[{name: A b, outcome: {}}]", "rewards[0].name", []string{"small letters"}},
		{"grpo", "rewards=[{name: a, outcome: {}}, {name: a, outcome: {}}]", "rewards[1].name", []string{"twice"}},
		{"grpo", "rewards=[{name: a, model: {}}]", "rewards[0].model", []string{"section reward"}},
		{"grpo", "rewards=[{name: a, penalty: {kind: overlong, max_tokens: 5, cache: 9}}]", "rewards[0].penalty.cache", []string{"max_tokens"}},
		{"grpo", "rewards=[{name: a, format: {pattern: '('}}]", "rewards[0].format.pattern", []string{"missing"}},
		{"qrm-reinforce", "rewards=[{name: a, outcome: {}}]", "rewards", []string{"advantage.kind"}},
		{"sft", "rewards=[{name: a, outcome: {}}]", "rewards", []string{"advantage.kind"}},
		{"grpo", "evaluate.split=train", "evaluate.split", []string{"prompts.split"}},
		{"dapo", "mixed.backfill.groups=1000", "mixed.backfill.groups", []string{"prompts.count"}},
		{"seft", "iterations=2", "iterations", []string{"at least 3"}},
		{"grpo", "kind=polcy", "kind", []string{`"policy"`}},
		{"dckd", "kind=train", "distill", []string{"kind train", "distill"}},
	} {
		r, err := recipes.Open(t.Context(), c.recipe, []string{c.set})
		if err == nil {
			_, err = method.New(r)
		}
		var e *setting.Error
		if !errors.As(err, &e) || e.Path != c.path {
			t.Errorf("%s --set %s: %v, want an error at %s", c.recipe, c.set, err, c.path)
			continue
		}
		for _, want := range c.says {
			if !strings.Contains(e.Why, want) {
				t.Errorf("%s --set %s: %v does not say %q", c.recipe, c.set, err, want)
			}
		}
	}
}
