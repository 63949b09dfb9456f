package preflight_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/preflight"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
)

const lengthsRecipe = `
run: none
policy: {tokenizer: bytes, new: ` + tinyShape + `}
prompts: {source: file, count: 4, file: {fields: {prompt: q, answer: a}}}
evaluate: {every: 0}
`

// What a plan says of a file's texts is measured, in the tokens of the policy.
func TestLengths(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	var lines strings.Builder
	for i := range 20 { // prompts of 10 and 20 bytes, responses of 4 and 8
		fmt.Fprintf(&lines, "{\"q\": \"%02d%s\", \"a\": \"1\", \"r\": \"%s\"}\n", i,
			strings.Repeat("x", 8+10*(i%2)), strings.Repeat("y", 4+4*(i%2)))
	}
	if err := os.WriteFile(path, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	policy := []string{"kind=policy", "label.verifier.kind=math", "advantage={kind: grpo, groups: all}", "update={losses: [{name: ppo}]}"}
	look := func(sets ...string) (preflight.Report, recipe.Recipe, error) {
		t.Helper()
		r, err := recipe.Parse([]byte(lengthsRecipe), append(sets, "prompts.file.path="+path))
		if err != nil {
			t.Fatal(err)
		}
		m, err := method.New(r)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := m.Phases()
		if err != nil {
			t.Fatal(err)
		}
		out, err := preflight.Look(t.Context(), r, parts[0].Chain.Nodes, func(string) string { return "" })
		return out, r, err
	}
	found, r, err := look(policy...)
	if err != nil || found.Lengths.Prompts != 20 || math.Abs(found.Lengths.PromptTokens-15) > 1 || found.Lengths.Responses != 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	if s := chain.SizeOf(r, nil, found.Lengths); s.PromptTokens != int(math.Ceil(found.Lengths.PromptTokens)) {
		t.Errorf("%+v", s)
	}
	found, r, err = look("kind=train", "prompts.file.fields.response=r", "update={losses: [{name: sft}]}")
	if err != nil || found.Lengths.Responses != 1 || math.Abs(found.Lengths.ResponseTokens-6) > 0.01 {
		t.Fatalf("%+v, %v", found, err)
	}
	if s := chain.SizeOf(r, nil, found.Lengths); s.ResponseTokens != 6 || s.Rows != 4 {
		t.Errorf("%+v", s)
	}
	found, _, err = look(append(policy, "rollout.max_prompt_tokens=15")...)
	long := func(note string) bool { return strings.Contains(note, "10 of 20 prompts looked at are longer") }
	if err != nil || !slices.ContainsFunc(found.Notes, long) {
		t.Errorf("%q, %v", found.Notes, err)
	}
	for at, set := range map[string]string{"rollout.max_prompt_tokens": "rollout.max_prompt_tokens=3",
		"policy": "policy.tokenizer=proving_ground"} {
		var wrong *setting.Error
		if _, _, err := look(append(policy, set)...); !errors.As(err, &wrong) || wrong.Path != at {
			t.Errorf("%s: %v, want an error of %s", set, err, at)
		}
	}
}

// TestLengthsOfAGenerator: what it writes is measured too, as many responses to a prompt as it writes.
func TestLengthsOfAGenerator(t *testing.T) {
	r, err := recipe.Parse([]byte(`
kind: train
run: none
policy: {tokenizer: bytes, new: `+tinyShape+`}
prompts: {source: chain, count: 4, chain: {responses: right, per_prompt: 8}}
label: {verifier: {kind: proving_ground}}
update: {losses: [{name: sft}]}
evaluate: {every: 0}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := preflight.Lengths(t.Context(), r)
	if err != nil || l.Responses != 8 || l.PromptTokens < 5 || l.ResponseTokens < 5 {
		t.Errorf("%+v, %v", l, err)
	}
}
