package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// What every recipe that comes with the program computes in two small iterations is recorded in testdata/recipes.json. A change
// that is not meant to change results leaves the file as it is; one that is writes it anew, with -record, and its commit says why.
var recordDigests = flag.Bool("record", false, "write testdata/recipes.json from what the recipes compute now")

const recordedDigests = "testdata/recipes.json"

// computed are digests of what an iteration has left, by kind.
type computed struct {
	Models  string `json:"models"`  // weights and the state of optimizers
	Rows    string `json:"rows"`    // every column of every row, dead letters among them
	Figures string `json:"figures"` // metrics, optimizer steps, ledgers, promotions
}

// The models that recipes name are those of the quickstart here.
var givenModels = map[string]string{
	"runs/warm-start/iter-00000/policy": "policy",
	"runs/grpo/iter-00059/policy":       "policy",
	"runs/dckd/iter-00000/policy":       "policy",
	"runs/dpo/iter-00000/policy":        "policy",
	"runs/student/iter-00000/policy":    "policy",
	"runs/ipvrm/iter-00000/reward":      "reward",
}

// Models that recipes name and that another recipe leaves; of text-grpo's ten iterations only two are run here, so its start stands in.
var leftModels = []struct{ recipe, model, to string }{
	{"qrm-lm-refresh", "iter-00000/reward", "runs/qrm-lm/iter-00000/reward"},
	{"gsm8k-ipvrm-refresh", "iter-00000/reward", "runs/gsm8k-ipvrm/iter-00000/reward"},
	{"text-warm-start", "iter-00000/policy", "runs/text-warm-start/iter-00000/policy"},
	{"text-warm-start", "iter-00001/policy", "runs/text-warm-start/iter-00001/policy"},
	{"text-warm-start", "iter-00001/policy", "runs/text-grpo/iter-00009/policy"},
	{"text-qrm-lm-refresh", "iter-00000/reward", "runs/text-qrm-lm/iter-00000/reward"},
}

func TestRecipesComputeWhatTheyDid(t *testing.T) {
	if testing.Short() {
		t.Skip("trains")
	}
	binary := program(t)
	dir := t.TempDir()
	for path, model := range givenModels {
		copyModel(t, filepath.Join("..", quickstartFolder, model), filepath.Join(dir, path))
	}
	writeProblems(t, dir)
	var recipes []struct{ Name, Text string }
	if err := json.Unmarshal([]byte(mustRun(t, "recipes", "--json")), &recipes); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(recipes, func(a, b struct{ Name, Text string }) int { // who leaves a model comes before who takes it
		rank := func(name string) int {
			for i, m := range leftModels {
				if m.recipe == name {
					return i - len(leftModels)
				}
			}
			return 0
		}
		return rank(a.Name) - rank(b.Name)
	})
	family := "vector" // all vector levels give the same bits; the portable one has no fused multiply-add of single precision
	if kernels.Level() == "generic" {
		family = "portable"
	}
	recorded := map[string]map[string][]computed{}
	raw, err := os.ReadFile(recordedDigests)
	if err == nil {
		err = json.Unmarshal(raw, &recorded)
	}
	if err != nil && !*recordDigests {
		t.Fatal(err)
	}
	now := map[string][]computed{}
	for _, r := range recipes {
		t.Run(r.Name, func(t *testing.T) {
			run := filepath.Join(dir, "out", r.Name)
			args := []string{"run", r.Name}
			for _, s := range smallSettings(t, r.Text, run) {
				args = append(args, "--set", s)
			}
			cmd := exec.Command(binary, args...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("millrace %s: %v\n%s", strings.Join(args, " "), err, out)
			}
			mustRun(t, "rm", run, "--all") // it takes nothing that a run writes for something else
			iterations, err := filepath.Glob(filepath.Join(run, "iter-*"))
			if err != nil || len(iterations) < 2 {
				t.Fatalf("%d iterations, %v", len(iterations), err)
			}
			for i, iteration := range iterations {
				c := computedIn(t, iteration)
				now[r.Name] = append(now[r.Name], c)
				if *recordDigests {
					continue
				}
				switch was := recorded[family][r.Name]; {
				case i >= len(was):
					t.Errorf("%s is not recorded for the %s level; see -record", filepath.Base(iteration), family)
				case was[i] != c:
					t.Errorf("%s: now %+v, recorded %+v", filepath.Base(iteration), c, was[i])
				}
			}
			configIsARecipe(t, binary, dir, run, !strings.Contains(r.Text, "kind: label"))
			for _, m := range leftModels {
				if m.recipe == r.Name {
					copyModel(t, filepath.Join(run, m.model), filepath.Join(dir, m.to))
				}
			}
		})
	}
	for name := range recorded[family] {
		if _, ok := now[name]; !ok && !*recordDigests && !t.Failed() {
			t.Errorf("recipe %s is recorded and no longer comes with the program", name)
		}
	}
	if *recordDigests && !t.Failed() {
		recorded[family] = now
		raw, err := json.MarshalIndent(recorded, "", "  ")
		if err == nil {
			err = os.WriteFile(recordedDigests, append(raw, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// configIsARecipe reads a run's config.yaml back by every command that takes a recipe or a run: a finished run has nothing left to
// do, and leaves every file as it was.
func configIsARecipe(t *testing.T, binary, dir, run string, evaluated bool) {
	t.Helper()
	before := digests(t, run)
	config := filepath.Join(run, "config.yaml")
	commands := [][]string{{"plan", config, "--recipe-only"}, {"run", config}, {"report", run, "--out", filepath.Join(dir, "report.html")}}
	if _, err := os.Stat(filepath.Join(run, "iter-00000", "reward")); err == nil {
		commands = append(commands, []string{"eval", "--reward", run, "--on", "held_out", "--continuations", "0"})
	} else if evaluated {
		commands = append(commands, []string{"eval", run})
	}
	for _, args := range commands {
		cmd := exec.Command(binary, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("millrace %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	sameFiles(t, "after its config.yaml was read back", digests(t, run), before, nil)
}

// TestConfigOfARunWithAdapters: config.yaml is a recipe with adapters too, whether their targets are named or not.
func TestConfigOfARunWithAdapters(t *testing.T) {
	binary, dir := program(t), t.TempDir()
	copyModel(t, filepath.Join("..", quickstartFolder, "policy"), filepath.Join(dir, "policy"))
	for name, lora := range map[string]string{"all": "{rank: 2, alpha: 4}", "some": "{rank: 2, alpha: 4, targets: [q_proj, v_proj]}"} {
		run := filepath.Join(dir, name)
		cmd := exec.Command(binary, "run", "grpo", "--set", "run="+run, "--set", "policy.path="+filepath.Join(dir, "policy"), "--set",
			"update.lora="+lora,
			"--set", "iterations=1", "--set", "prompts.count=4", "--set", "evaluate.prompts=2", "--set", "evaluate.samples=2")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		configIsARecipe(t, binary, dir, run, true)
	}
}

// quickstartFolder holds the models of the quickstart.
const quickstartFolder = "pipelines/quickstart"

// smallSettings make two iterations of a recipe a matter of seconds.
func smallSettings(t *testing.T, text, run string) []string {
	t.Helper()
	var r struct {
		Kind   string
		Policy struct{ Path, Precision string }
		Chat   *struct{ Template bool }
		Update struct {
			Steps     int
			BatchSize int `yaml:"batch_size"`
		}
		Prompts struct {
			Source string
			File   struct{ Path string }
		}
		Rollout map[string]any
		Reward  struct{ Refresh map[string]any }
	}
	if err := yaml.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	sets := []string{"run=" + run, "iterations=2", "prompts.count=8"}
	if r.Kind != "label" { // which measures nothing
		sets = append(sets, "evaluate.prompts=3", "evaluate.samples=2", "evaluate.every=1")
	}
	if r.Update.Steps > 0 {
		sets = append(sets, "update.steps=2")
	}
	if r.Update.BatchSize > 0 {
		sets = append(sets, "update.batch_size=4")
	}
	if r.Reward.Refresh != nil {
		sets = append(sets, "reward.refresh.every=1", "reward.refresh.update.steps=2", "reward.refresh.update.batch_size=4")
	}
	if r.Kind == "evolve" {
		sets = append(sets, "iterations=4", "seft.pairs=8", "seft.base.steps=2", "seft.adaptive.steps=2", "seft.base.batch_size=4",
			"seft.adaptive.batch_size=4")
	}
	precision := r.Policy.Precision
	if precision == "" {
		precision = "float32"
	}
	small := "policy={tokenizer: bytes, precision: " + precision + ", new: {model_type: llama, hidden_size: 32, " +
		"num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, intermediate_size: 64, rms_norm_eps: 1.0e-6, " +
		"rope_theta: 10000, max_position_embeddings: 4096, tie_word_embeddings: true}}"
	if r.Prompts.Source == "text_chains" {
		if strings.HasPrefix(r.Policy.Path, "models/") {
			sets = append(sets, small)
		}
		return append(sets, "rollout.max_new_tokens=16")
	}
	if r.Prompts.Source != "file" {
		return sets
	}
	file := "solutions.jsonl"
	switch {
	case strings.HasSuffix(r.Prompts.File.Path, "model-solutions.jsonl"):
		file = "judged.jsonl"
	case strings.HasPrefix(r.Prompts.File.Path, "data/gsm8k"):
		file = "problems.jsonl"
	}
	sets = append(sets, "prompts.file.path="+file, "limits.dead_share=1")
	if r.Policy.Path != "" {
		sets = append(sets, small)
	}
	if r.Chat != nil && r.Chat.Template {
		sets = append(sets, "chat.template=false")
	}
	if r.Rollout != nil {
		sets = append(sets, "rollout.max_new_tokens=16")
	}
	return sets
}

// writeProblems writes problems with answers, conversations that are judged, and several judged solutions of a problem.
func writeProblems(t *testing.T, dir string) {
	t.Helper()
	var problems, solutions, judged strings.Builder
	for a := range 60 {
		b := 7*a%23 + 1
		fmt.Fprintf(&problems, "{\"question\": \"What is %d plus %d?\", \"answer\": \"%d + %d = %d\\n#### %d\"}\n", a, b, a, b, a+b, a+b)
		said := a + b + a%2
		fmt.Fprintf(&solutions, "{\"conversation\": [{\"role\": \"user\", \"content\": \"What is %d plus %d?\"}, {\"role\": \"assistant\", "+
			"\"content\": \"It is %d.\"}], \"label\": %d}\n",
			a, b, said, 1-a%2)
		for slip := range 4 {
			fmt.Fprintf(&judged, "{\"question\": \"What is %d plus %d?\", \"answer\": \"%d\", \"solution\": \"It is %d.\", \"label\": %v}\n",
				a, b, a+b, a+b+slip, slip == 0)
		}
	}
	for name, text := range map[string]string{"problems.jsonl": problems.String(), "solutions.jsonl": solutions.String(),
		"judged.jsonl": judged.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func copyModel(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// computedIn digests an iteration. Names of runs, which follow from the text of a recipe, are left out.
func computedIn(t *testing.T, dir string) computed {
	t.Helper()
	files := map[string][]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		kind := ""
		switch name := d.Name(); {
		case strings.HasSuffix(name, ".safetensors"):
			kind = "models"
		case strings.HasSuffix(name, ".parquet"):
			kind = "rows"
		case strings.HasSuffix(name, ".jsonl"), name == "ledger.json", name == "promotion.json":
			kind = "figures"
		default:
			return nil
		}
		files[kind] = append(files[kind], path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := func(kind string) string {
		h := sha256.New()
		for _, path := range files[kind] { // in the order of the walk, which is that of names
			rel, _ := filepath.Rel(dir, path)
			fmt.Fprintln(h, rel)
			if kind == "rows" {
				digestRows(t, h, path)
				continue
			}
			f, err := os.Open(path)
			if err == nil {
				_, err = io.Copy(h, f)
				f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return hex.EncodeToString(h.Sum(nil))[:16]
	}
	return computed{Models: sum("models"), Rows: sum("rows"), Figures: sum("figures")}
}

// digestRows digests the values of all columns, in the order of their names.
func digestRows(t *testing.T, h io.Writer, path string) {
	t.Helper()
	err := recordio.ReadFile(t.Context(), path, func(b stage.Batch) error {
		columns := map[string]arrow.Array{}
		for i, f := range b.Arrow().Schema().Fields() {
			if f.Name != schemas.DeadRow.Name { // a record with the name of its run
				columns[f.Name] = b.Arrow().Column(i)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(columns)) {
			fmt.Fprintln(h, name, columns[name].DataType())
			for i := range columns[name].Len() {
				fmt.Fprintln(h, columns[name].ValueStr(i))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
