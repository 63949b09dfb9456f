package preflight_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/preflight"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/schemas/setting"
)

const tinyShape = `{model_type: llama, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 2,
  intermediate_size: 32, rms_norm_eps: 1e-6, rope_theta: 10000, max_position_embeddings: 256, tie_word_embeddings: false}`

// A plan opens what a recipe names: prompt files with their fields, models, scalar heads.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	policy, reward := filepath.Join(dir, "policy"), filepath.Join(dir, "reward")
	problems := filepath.Join(dir, "problems.jsonl")
	var text strings.Builder
	for i := range 40 {
		fmt.Fprintf(&text, "{\"question\": \"what is %d?\", \"answer\": \"%d\"}\n", i, i)
	}
	text.WriteString("{\"question\": \"what is 0?\", \"answer\": \"0\"}\n")
	if err := os.WriteFile(problems, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := []string{"policy={tokenizer: bytes, new: " + tinyShape + "}",
		"chat.template=false", "prompts.file.path=" + problems, "prompts.file.test_share=0.5"}
	for _, c := range []struct {
		recipe string
		sets   []string
		path   string // "": nothing is wrong
		says   string // in the error or the notes
	}{
		{"grpo", []string{"policy.path=" + policy}, "", ""},
		{"grpo", []string{"policy.path=" + policy, "label.verifier={kind: command, options: {command: [/nosuch]}}"},
			"label.verifier.options.command", "/nosuch"},
		{"grpo", nil, "policy.path", "millrace run warm-start"},
		{"grpo", []string{"policy.path=" + filepath.Join(dir, "none")}, "policy.path", "there is no model"},
		{"grpo", []string{"policy.path=" + filepath.Join(dir, "empty")}, "policy", "tokenizer"},
		{"text-grpo", []string{"policy.path=" + policy}, "policy", "not in the vocabulary"},
		{"distrl", []string{"policy.path=" + policy}, "reward.path", "millrace run ipvrm-refresh"},
		{"qrm-ppo", []string{"policy.path=" + policy, "reward.path=" + reward, "reward.value.kind=q_rm"}, "reward.path", "no scalar head"},
		{"ppo", []string{"policy.path=" + policy, "update.losses=[{name: ppo}]"}, "", "value head that no loss of update trains"},
		{"seft", []string{"policy.path=" + policy}, "", ""},
		{"seft", []string{"policy.path=" + policy, "seft.reviser.layout.after=Check"}, "seft.reviser.layout.after", "\"Check\""},
		{"seft", []string{"policy.path=" + policy, "seft.reviser.labels.no=[26]"}, "seft.reviser.labels.no", "no token has the id 26"},
		{"seft", []string{"policy.path=" + policy, "seft.reviser.labels.no=+-"}, "seft.reviser.labels.no", "begins with all of minor"},
		{"seft", []string{"policy.path=" + policy, "seft.reviser.labels.no=[13]"}, "seft.reviser.labels.minor", "the same tokens as no"},
		{"gsm8k-ipvrm-refresh", file, "", "1 of the first 41 rows repeat a prompt"},
		{"gsm8k-ipvrm-refresh", append(file, "prompts.file.fields.answer=anwser"), "prompts.file.fields.answer", `did you mean "answer"?`},
		{"gsm8k-ipvrm-refresh", append(file, "prompts.file.path=none.jsonl"), "prompts.file.path", "no such file"},
		{"gsm8k-ipvrm-refresh", append(file, "prompts.file.fields.difficulty=question", "prompts.file.fields.id=answer"), "", ""},
	} {
		r, err := recipes.Open(t.Context(), c.recipe, c.sets)
		if err != nil {
			t.Fatalf("%s %v: %v", c.recipe, c.sets, err)
		}
		found, err := looked(t, r)
		var e *setting.Error
		switch {
		case c.path == "" && err != nil, c.path != "" && (!errors.As(err, &e) || e.Path != c.path || !strings.Contains(e.Why, c.says)):
			t.Errorf("%s %v: %v, want an error at %q that says %q", c.recipe, c.sets, err, c.path, c.says)
		case c.path == "" && !strings.Contains(strings.Join(found.Notes, "\n"), c.says):
			t.Errorf("%s %v: notes %q do not say %q", c.recipe, c.sets, found.Notes, c.says)
		}
	}
}

// looked makes the method of a recipe and looks at what it names.
func looked(t *testing.T, r recipe.Recipe) (preflight.Report, error) {
	t.Helper()
	m, err := method.New(r)
	if err != nil {
		return preflight.Report{}, err
	}
	phases, err := m.Phases()
	if err != nil {
		t.Fatal(err)
	}
	return preflight.Look(t.Context(), r, phases[0].Chain.Nodes, recipes.MakerOf)
}
