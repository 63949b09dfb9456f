package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/models"
	_ "github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	prun "github.com/millrace/millrace/pipelines/run"
)

// held is what the process has in memory, in bytes.
type held struct {
	live     int64 // of the heap, after a collection
	mapped   int64 // of weights' files
	resident int64 // after that; 0 where the system does not say
	peak     int64 // resident at most since held was asked for last
}

func (h held) String() string {
	return fmt.Sprintf("live %.1f MB, mapped %.1f MB, resident %.1f MB, at most %.1f MB",
		float64(h.live)/1e6, float64(h.mapped)/1e6, float64(h.resident)/1e6, float64(h.peak)/1e6)
}

func heldNow() held {
	var out held
	status, _ := os.ReadFile("/proc/self/status")
	if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
		_, _ = fmt.Sscan(rest, &out.peak)
		out.peak *= 1024
	}
	for range 3 { // what pools hold survives the first, what finalizers hold the second
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	out.live = int64(m.HeapAlloc)
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
		out.resident = pages * int64(os.Getpagesize())
	}
	maps, _ := os.ReadFile("/proc/self/maps")
	for line := range strings.Lines(string(maps)) {
		if line = strings.TrimSpace(line); strings.HasSuffix(line, ".safetensors") || strings.HasSuffix(line, ".gguf") {
			var from, to int64
			_, _ = fmt.Sscanf(line, "%x-%x", &from, &to)
			out.mapped += to - from
		}
	}
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // the most resident begins anew
	return out
}

// afterIterations calls for each iteration that is done.
type afterIterations struct {
	progress.Run
	done func()
}

func (a afterIterations) Bar(name string, total int64) progress.Bar {
	bar := a.Run.Bar(name, total)
	if name == "iterations" {
		return iterationBar{bar, a.done}
	}
	return bar
}

type iterationBar struct {
	progress.Bar
	done func()
}

func (b iterationBar) Step(n int64, fields ...progress.Field) {
	b.Bar.Step(n, fields...)
	if n > 0 {
		b.done()
	}
}

// keptPerPipeline is more than what prism (Beam 2.77, jobservices/server.go) keeps of every pipeline that it has run: its
// description and its counters, in a map that nothing is removed from.
const keptPerPipeline = 1 << 18

// givesBack runs a recipe, one pipeline an iteration, and holds what is left after an iteration against what was left after the third.
func givesBack(t *testing.T, text string, weights int64, sets ...string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	r, err := recipe.Parse([]byte(text), append(sets, "run="+dir))
	if err != nil {
		t.Fatal(err)
	}
	m, err := method.New(r)
	if err != nil {
		t.Fatal(err)
	}
	var all []held
	policies := map[string]bool{}
	show := afterIterations{progress.Silent(), func() {
		digest, err := models.Digest(filepath.Join(dir, fmt.Sprintf("iter-%05d", len(all)), "policy"))
		if err != nil {
			t.Fatal(err)
		}
		policies[digest] = true
		all = append(all, heldNow())
		t.Logf("iteration %d: %v", len(all)-1, all[len(all)-1])
	}}
	if err := method.Run(t.Context(), m, show); err != nil {
		t.Fatal(err)
	}
	if len(policies) < 3 {
		t.Fatalf("%d iterations made %d policies: models that are kept would not show", len(all), len(policies))
	}
	third, last := all[2], all[len(all)-1]
	kept := last.live + last.mapped - third.live - third.mapped
	if most := weights/50 + int64(len(all)-3)*keptPerPipeline; kept > most {
		t.Errorf("%d iterations have left %.2f MB behind, want at most %.2f; weights are %.2f MB",
			len(all)-3, float64(kept)/1e6, float64(most)/1e6, float64(weights)/1e6)
	}
}

const memoryRecipe = `
kind: policy
iterations: 12
prompts: {source: chain, count: 4}
rollout: {samples: 8, max_new_tokens: 24}
label: {verifier: {kind: regex, options: {pattern: "[0-9]"}}} # of an untrained model about every tenth digit is right
advantage: {kind: grpo, groups: all}
update:
  losses: [{name: ppo}, {name: reference_kl, weight: 0.01}]
  optimizer: {lr: 1e-3}
evaluate: {every: 0}
`

// TestIterationsGiveTheirMemoryBack: models that an iteration has loaded, trained, packed or merged are gone after it.
func TestIterationsGiveTheirMemoryBack(t *testing.T) {
	if testing.Short() {
		t.Skip("trains")
	}
	model := filepath.Join(t.TempDir(), "model")
	if _, err := chain.Open(t.Context(), recipe.Model{Tokenizer: "proving_ground", New: map[string]any{"model_type": "llama",
		"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 704,
		"rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 256, "tie_word_embeddings": false}}, model, 1); err != nil {
		t.Fatal(err)
	}
	weights, err := os.Stat(filepath.Join(model, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		sets []string
	}{{"full", nil}, {"lora", []string{"update.lora={rank: 4, alpha: 8}"}}} {
		t.Run(c.name, func(t *testing.T) {
			givesBack(t, memoryRecipe, weights.Size(), append(c.sets, "policy.path="+model, "reference.path="+model)...)
		})
	}
}

// TestMemoryIsLimited: a run that takes too much says so and ends, and goes on with a higher limit.
func TestMemoryIsLimited(t *testing.T) {
	if heldNow().resident == 0 {
		t.Skip("the system does not tell resident memory")
	}
	dir := filepath.Join(t.TempDir(), "run")
	run := func(limit string) error {
		t.Helper()
		r, err := recipe.Parse([]byte(tinyRecipe), []string{"run=" + dir, "iterations=1", "limits.memory=" + limit})
		if err != nil {
			t.Fatal(err)
		}
		m, err := method.New(r)
		if err != nil {
			t.Fatal(err)
		}
		return method.Run(t.Context(), m, progress.Silent())
	}
	var full *prun.MemoryError
	if err := run("1MiB"); !errors.As(err, &full) || !strings.Contains(err.Error(), "limits.memory allows 1 MiB; millrace plan estimates ") {
		t.Errorf("%v, want that memory is above the limit", err)
	}
	manifest := filepath.Join(dir, "iter-00000", "manifest.json")
	if _, err := os.Stat(manifest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the iteration is committed: %v", err)
	}
	if err := run("64GiB"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(manifest); err != nil {
		t.Error(err)
	}
}

// TestSmolLM2GivesItsMemoryBack is that with a published model, where $MILLRACE_SMOLLM2 names it.
func TestSmolLM2GivesItsMemoryBack(t *testing.T) {
	path := os.Getenv("MILLRACE_SMOLLM2")
	if path == "" {
		t.Skip("MILLRACE_SMOLLM2 does not name the model")
	}
	problems := filepath.Join(t.TempDir(), "problems.jsonl")
	var lines strings.Builder
	for i := range 16 {
		fmt.Fprintf(&lines, "{\"question\": \"Write about the number %d.\", \"answer\": \"e\"}\n", i)
	}
	if err := os.WriteFile(problems, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	const weights = 4 * 134_515_008 // in single precision
	givesBack(t, memoryRecipe, weights, "policy.path="+path, "reference.path="+path, "iterations=7",
		"prompts={source: file, count: 4, file: {path: "+problems+", fields: {prompt: question, answer: answer}}}",
		"rollout={samples: 4, max_new_tokens: 16}", "advantage={kind: grpo, groups: all, keep_truncated: true}",
		"label.verifier.options={pattern: '[aeiou]'}", "update.lora={rank: 8, alpha: 16}", "update.optimizer.lr=1e-4")
}
