package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/preflight"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
)

// A model of 17 million parameters, of which a run holds several: enough to see them beside what the program itself takes.
const peakPolicy = `
iterations: 2
policy: {tokenizer: proving_ground, new: {model_type: llama, hidden_size: 512, num_hidden_layers: 6, num_attention_heads: 8,
  num_key_value_heads: 4, intermediate_size: 1376, rms_norm_eps: 1e-6, rope_theta: 10000, max_position_embeddings: 256,
  tie_word_embeddings: false}}
prompts: {source: chain, count: 16}
rollout: {samples: 8, max_new_tokens: 64}
label: {verifier: {kind: regex, options: {pattern: "[0-9]"}}}
evaluate: {every: 0}
`

var peakRecipes = map[string]string{
	"policy": peakPolicy + `
kind: policy
advantage: {kind: grpo, groups: all}
update: {losses: [{name: ppo}], microbatch_tokens: 1024}
`,
	"policy and reference": peakPolicy + `
kind: policy
advantage: {kind: grpo, groups: all}
update: {losses: [{name: ppo}, {name: reference_kl, weight: 0.01}], microbatch_tokens: 1024, lora: {rank: 8, alpha: 16}}
`,
	// Prompts of a file, whose length only the file tells: much shorter than what would be assumed.
	"file": strings.NewReplacer("tokenizer: proving_ground", "tokenizer: bytes", "source: chain, count: 16",
		"source: file, count: 16, file: {path: "+peakPrompts+", fields: {prompt: q, answer: a}}", "max_new_tokens: 64", "max_new_tokens: 24").
		Replace(peakPolicy) + `
kind: policy
advantage: {kind: grpo, groups: all, keep_truncated: true}
update: {losses: [{name: ppo}], microbatch_tokens: 8192}
`,
	"refresh": peakPolicy + `
kind: refresh
reward: {value: {kind: ipvrm, beta: 10}}
update: {losses: [{name: ipvrm, beta: 10, margin: 0}], microbatch_tokens: 1024}
`}

const peakPrompts = "{dir}/prompts.jsonl"

// The estimate is held to what was measured within this share of it.
const peakTolerance = 0.15

// TestPeakMemory holds what plan says of a run to the most that a process of its own had in memory.
func TestPeakMemory(t *testing.T) {
	if testing.Short() || heldNow().peak == 0 {
		t.Skip("trains models of 17 million parameters; the system must tell the most that a process has held")
	}
	for name := range peakRecipes {
		t.Run(name, func(t *testing.T) {
			var planned, held int64
			// What is garbage for how long differs from run to run, and a plan is of the most: a second run may hold more.
			for try := 0; try == 0 || try < 2 && float64(planned) > (1+peakTolerance)*float64(held); try++ {
				p, h := peakOf(t, name)
				planned, held = p, max(held, h)
			}
			off := float64(planned)/float64(held) - 1
			t.Logf("planned %.0f MB, held %.0f MB (%+.0f%%)", float64(planned)/1e6, float64(held)/1e6, 100*off)
			if off < -peakTolerance || off > peakTolerance {
				t.Errorf("plan is off by %.0f%%", 100*off)
			}
		})
	}
}

// peakOf runs a recipe in a process of its own.
func peakOf(t *testing.T, name string) (planned, held int64) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRunOfPeakMemory$", "-test.v")
	child.Env = append(os.Environ(), peakEnv+"="+name, peakDirEnv+"="+t.TempDir())
	said, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	at := strings.Index(string(said), peakSays)
	if at < 0 {
		t.Fatalf("%s", said)
	}
	if _, err := fmt.Sscanf(string(said[at:]), peakSays+"%d %d", &planned, &held); err != nil {
		t.Fatal(err)
	}
	return planned, held
}

// What the process of a run is told, and what it says.
const (
	peakEnv    = "MILLRACE_TEST_PEAK"
	peakDirEnv = "MILLRACE_TEST_PEAK_DIR"
	peakSays   = "planned and held "
)

// TestRunOfPeakMemory is the process that TestPeakMemory starts.
func TestRunOfPeakMemory(t *testing.T) {
	text, ok := peakRecipes[os.Getenv(peakEnv)]
	if !ok {
		t.Skip("TestPeakMemory calls it")
	}
	dir := os.Getenv(peakDirEnv)
	var lines strings.Builder
	for i := range 64 {
		fmt.Fprintf(&lines, "{\"q\": \"What is %d and %d?\", \"a\": \"%d\"}\n", i, 2*i, 3*i)
	}
	prompts := strings.ReplaceAll(peakPrompts, "{dir}", dir)
	if err := os.WriteFile(prompts, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Parse([]byte(strings.ReplaceAll(text, peakPrompts, prompts)), []string{"run=" + filepath.Join(dir, "run")})
	if err != nil {
		t.Fatal(err)
	}
	m, err := method.New(r)
	if err != nil {
		t.Fatal(err)
	}
	measured, err := preflight.Lengths(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	planned, ok := method.Peak(m, measured)
	if !ok {
		t.Fatal("no estimate")
	}
	if err := method.Run(t.Context(), m, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%s%d %d\n", peakSays, planned.Total, heldNow().peak)
}
