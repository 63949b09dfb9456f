package method_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/schemas/setting"
)

// withAdapters unpacks the quickstart's models to a directory and puts one with adapters of rank 4 beside the policy.
func withAdapters(t *testing.T, dir string) (policy, adapted string) {
	t.Helper()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	policy, adapted = filepath.Join(dir, "policy"), filepath.Join(dir, "adapted")
	m, err := local.Load(policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddLoRA(transformer.LoRA{Rank: 4, Alpha: 8}, 1, models.Ref{Path: policy}); err != nil {
		t.Fatal(err)
	}
	if err := m.Save(adapted); err != nil {
		t.Fatal(err)
	}
	return policy, adapted
}

// A model that comes with adapters is trained by these: other ones are refused before a run samples.
func TestAdaptersAreContinued(t *testing.T) {
	_, adapted := withAdapters(t, t.TempDir())
	for _, c := range []struct {
		recipe string
		sets   []string
		path   string // "": nothing is wrong
		says   string
	}{
		{"grpo", []string{"update.lora={rank: 4, alpha: 8}"}, "", ""},
		{"grpo", nil, "", ""},
		{"grpo", []string{"update.lora={rank: 8, alpha: 8}"}, "update.lora", "rank 4 and alpha 8 on all linear layers already"},
		{"grpo", []string{"update.lora={rank: 4, alpha: 8, targets: [q_proj]}"}, "update.lora", "on q_proj"},
		{"distrl", []string{"reward.path=" + adapted, "reward.update.lora={rank: 2, alpha: 8}"}, "reward.update.lora", "rank 4"},
		{"ipvrm-refresh", []string{"update.lora={rank: 2, alpha: 8}"}, "update.lora", "rank 4"},
		{"value-head-refresh", nil, "", ""},
		{"ppo", nil, "", ""},
	} {
		r, err := recipes.Open(t.Context(), c.recipe, append(c.sets, "policy.path="+adapted))
		if err != nil {
			t.Fatal(err)
		}
		_, err = method.New(r)
		var e *setting.Error
		switch {
		case c.path == "" && err != nil, c.path != "" && (!errors.As(err, &e) || e.Path != c.path || !strings.Contains(e.Why, c.says)):
			t.Errorf("%s %v: %v, want an error at %q that says %q", c.recipe, c.sets, err, c.path, c.says)
		}
	}
	if err := os.WriteFile(filepath.Join(adapted, "adapter_config.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := recipes.Open(t.Context(), "grpo", []string{"policy.path=" + adapted})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := method.New(r); err == nil {
		t.Error("half an adapter_config.json passes")
	}
}

// Value heads are given to whole models and to models with adapters, in either precision: what the update computes is then what was
// sampled, so that the first step's ratio is exactly 1.
func TestValueHeadsKeepWhatTheModelIs(t *testing.T) {
	dir := t.TempDir()
	base, adapted := withAdapters(t, dir)
	for _, policy := range []string{base, adapted} {
		for _, precision := range []string{"float32", "bfloat16"} {
			run := filepath.Join(dir, filepath.Base(policy)+"-"+precision)
			r, err := recipes.Open(t.Context(), "ppo", append([]string{"run=" + run, "policy.path=" + policy, "policy.precision=" + precision,
				"iterations=1"}, tiny...))
			if err != nil {
				t.Fatal(err)
			}
			if err := iterate(t.Context(), r, progress.Silent()); err != nil {
				t.Fatalf("%s: %v", filepath.Base(run), err)
			}
			raw, err := os.ReadFile(filepath.Join(run, "iter-00000", "steps-policy.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			var first struct{ Metrics map[string]float64 }
			if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&first); err != nil {
				t.Fatal(err)
			}
			if ratio, ok := first.Metrics["ppo/ratio"]; ratio != 1 || !ok {
				t.Errorf("%s: the ratio of the first step is %v, want exactly 1", filepath.Base(run), ratio)
			}
			after := filepath.Join(run, "iter-00000", "policy")
			if has, err := local.HasScalarHead(after); err != nil || !has || transformer.IsAdapter(after) != (policy == adapted) {
				t.Errorf("%s: a scalar head: %v, %v; adapters: %v", filepath.Base(run), has, err, transformer.IsAdapter(after))
			}
		}
	}
}

// The recipes on Q-RM take its LM form; on the scalar head that qrm-refresh leaves, of a whole model or beside adapters, they run as well.
func TestPoliciesOnAScalarHead(t *testing.T) {
	dir := t.TempDir()
	base, adapted := withAdapters(t, dir)
	for _, policy := range []string{base, adapted} {
		at := func(name string) string { return filepath.Join(dir, filepath.Base(policy)+"-"+name) }
		run := func(name string, sets ...string) {
			t.Helper()
			r, err := recipes.Open(t.Context(), name, slices.Concat([]string{"run=" + at(name), "policy.path=" + policy}, tiny, sets))
			if err == nil {
				err = iterate(t.Context(), r, progress.Silent())
			}
			if err != nil {
				t.Fatalf("%s on %s: %v", name, filepath.Base(policy), err)
			}
		}
		run("qrm-refresh", "update.steps=1", "update.batch_size=4")
		head := []string{"iterations=1", "reward.value.kind=q_rm", "reward.path=" + filepath.Join(at("qrm-refresh"), "iter-00000", "reward")}
		run("qrm-reinforce", head...)
		run("qrm-ppo", head...)
	}
}
