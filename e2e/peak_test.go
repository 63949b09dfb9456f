package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/method"
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
	"refresh": peakPolicy + `
kind: refresh
reward: {value: {kind: ipvrm, beta: 10}}
update: {losses: [{name: ipvrm, beta: 10, margin: 0}], microbatch_tokens: 1024}
`}

// The estimate is held to what was measured within this share of it.
const peakTolerance = 0.15

// TestPeakMemory holds what plan says of a run to the most that a process of its own had in memory.
func TestPeakMemory(t *testing.T) {
	if testing.Short() || heldNow().peak == 0 {
		t.Skip("trains models of 17 million parameters; the system must tell the most that a process has held")
	}
	for name := range peakRecipes {
		t.Run(name, func(t *testing.T) {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRunOfPeakMemory$", "-test.v")
			child.Env = append(os.Environ(), peakEnv+"="+name, peakDirEnv+"="+t.TempDir())
			said, err := child.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			var planned, held int64
			at := strings.Index(string(said), peakSays)
			if at < 0 {
				t.Fatalf("%s", said)
			}
			if _, err := fmt.Sscanf(string(said[at:]), peakSays+"%d %d", &planned, &held); err != nil {
				t.Fatal(err)
			}
			off := float64(planned)/float64(held) - 1
			t.Logf("planned %.0f MB, held %.0f MB (%+.0f%%)", float64(planned)/1e6, float64(held)/1e6, 100*off)
			if off < -peakTolerance || off > peakTolerance {
				t.Errorf("plan is off by %.0f%%", 100*off)
			}
		})
	}
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
	r, err := recipe.Parse([]byte(text), []string{"run=" + filepath.Join(os.Getenv(peakDirEnv), "run")})
	if err != nil {
		t.Fatal(err)
	}
	m, err := method.New(r)
	if err != nil {
		t.Fatal(err)
	}
	planned, ok := method.Peak(m)
	if !ok {
		t.Fatal("no estimate")
	}
	if err := method.Run(t.Context(), m, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%s%d %d\n", peakSays, planned.Total, heldNow().peak)
}
