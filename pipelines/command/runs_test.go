package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipes"
)

// shortRecipe makes a run of two iterations in a fraction of a second; prompts of more than 16 tokens die.
const shortRecipe = `
kind: policy
run: unset
iterations: 2
prompts: {source: chain, count: 6}
policy:
  tokenizer: proving_ground
  new: {model_type: llama, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, intermediate_size: 24,
        rms_norm_eps: 1.0e-6, rope_theta: 10000, max_position_embeddings: 64, tie_word_embeddings: false}
rollout: {samples: 2, max_new_tokens: 8, max_prompt_tokens: 16, candidate_k: 2, candidate_min_p: 0.001}
label: {verifier: {kind: regex, options: {pattern: "[0-9]"}}}
reward:
  tokenizer: proving_ground
  new: {model_type: llama, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, intermediate_size: 24,
        rms_norm_eps: 1.0e-6, rope_theta: 10000, max_position_embeddings: 64, tie_word_embeddings: false}
  value: {kind: ipvrm, beta: 10}
advantage: {kind: combined, normalise: batch, groups: all}
update: {losses: [{name: ppo}, {name: distrl}], optimizer: {lr: 1e-3}}
evaluate: {every: 2, prompts: 4, samples: 2}
limits: {dead_share: 0.9}
`

var shortRun struct {
	once         sync.Once
	dir, recipe  string
	code         int
	out, problem string
}

// aRun makes one run for all tests of this file.
func aRun(t *testing.T) (run, recipe string) {
	t.Helper()
	shortRun.once.Do(func() {
		dir, err := os.MkdirTemp("", "millrace-command-")
		if err != nil {
			shortRun.problem = err.Error()
			return
		}
		shortRun.dir, shortRun.recipe = filepath.Join(dir, "run"), filepath.Join(dir, "short.yaml")
		if err := os.WriteFile(shortRun.recipe, []byte(shortRecipe), 0o644); err != nil {
			shortRun.problem = err.Error()
			return
		}
		shortRun.code, shortRun.out, shortRun.problem = execute("run", shortRun.recipe, "--set", "run="+shortRun.dir)
	})
	if shortRun.dir == "" || shortRun.code != exitOK {
		t.Fatalf("exit code %d: %s", shortRun.code, shortRun.problem)
	}
	return shortRun.dir, shortRun.recipe
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shortRun.dir != "" {
		os.RemoveAll(filepath.Dir(shortRun.dir))
	}
	os.Exit(code)
}

func execute(args ...string) (code int, stdout, stderr string) {
	var out, log bytes.Buffer
	code = Main(args, &out, &log)
	return code, out.String(), log.String()
}

// want runs a command, wants its exit code and these words in its output.
func want(t *testing.T, code int, words []string, args ...string) string {
	t.Helper()
	got, out, log := execute(args...)
	text := out
	if code != exitOK {
		text = log
	}
	if got != code {
		t.Fatalf("millrace %s: exit code %d, want %d: %s", strings.Join(args, " "), got, code, log)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("millrace %s: no %q in\n%s", strings.Join(args, " "), w, text)
		}
	}
	return out
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func TestShow(t *testing.T) {
	run, _ := aRun(t)
	want(t, exitOK, []string{"iteration 1", "logp", "advantage"}, "show", run)
	out := want(t, exitOK, nil, "show", run, "--iteration", "0", "--rows", "1", "--json")
	rollout := decode[struct {
		Name, Prompt, Answer string
		Outcome              *bool
		Tokens               []struct {
			Text           string
			LogP, PCorrect *float64
			Advantage      *float64
			Candidates     []json.RawMessage
		}
	}](t, strings.ReplaceAll(out, "p_correct", "PCorrect"))
	if rollout.Prompt == "" || rollout.Answer == "" || rollout.Outcome == nil || len(rollout.Tokens) == 0 || !strings.HasPrefix(rollout.Name,
		"iteration 0") {
		t.Fatalf("%+v", rollout)
	}
	for i, token := range rollout.Tokens {
		if token.LogP == nil || *token.LogP > 0 || token.PCorrect == nil || *token.PCorrect < 0 || *token.PCorrect > 1 ||
			token.Advantage == nil || len(token.Candidates) == 0 {
			t.Errorf("token %d: %+v", i, token)
		}
	}
	id := strings.Split(strings.Split(rollout.Name, "prompt ")[1], ",")[0]
	if got := want(t, exitOK, nil, "show", run, "--iteration", "0", "--prompt", id[:13], "--rows", "0", "--json"); strings.Count(got,
		"\n") != 2 {
		t.Errorf("%d rollouts of prompt %s, want its 2 samples", strings.Count(got, "\n"), id)
	}
	want(t, exitOK, []string{"rollout", "too_long", "max_prompt_tokens"}, "show", run, "--dead", "--rows", "0")
	letter := decode[struct {
		Reason string
		Row    map[string]any
	}](t, want(t, exitOK, nil, "show", run, "--dead", "--rows", "1", "--json"))
	if letter.Reason != "too_long" || letter.Row["prompt"] == "" {
		t.Errorf("%+v", letter)
	}
	want(t, exitUsage, []string{"no iteration 9"}, "show", run, "--iteration", "9")
	want(t, exitFailed, []string{"zzz"}, "show", run, "--prompt", "zzz")
	want(t, exitUsage, []string{"not a run directory"}, "show", t.TempDir())
}

func TestReport(t *testing.T) {
	run, _ := aRun(t)
	page := filepath.Join(t.TempDir(), "page.html")
	out := want(t, exitOK, nil, "report", run, "--with", run, "--out", page, "--json")
	if got := decode[struct{ Report string }](t, out); got.Report != page {
		t.Errorf("%s", out)
	}
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"avg@2", "run (2)", "too_long", "Reward model"} {
		if !strings.Contains(string(raw), w) {
			t.Errorf("no %q on the page", w)
		}
	}
	again := filepath.Join(t.TempDir(), "page.html")
	want(t, exitOK, nil, "report", run, "--with", run, "--out", again)
	if other, err := os.ReadFile(again); err != nil || !bytes.Equal(other, raw) {
		t.Errorf("the same runs give another page (%v)", err)
	}
	want(t, exitUsage, []string{"not a run directory"}, "report", run, "--with", t.TempDir())
}

func TestEval(t *testing.T) {
	run, recipe := aRun(t)
	model := filepath.Join(run, "iter-00001", "policy")
	out := want(t, exitOK, nil, "eval", run, model, "--set", "rollout.max_prompt_tokens=64", "--json")
	v := decode[evaluation](t, out)
	if len(v.Results) != 2 || len(v.Pairs) != 1 || v.Results[0].Prompts != 4 || v.Results[0].Avg != v.Results[1].Avg ||
		v.Pairs[0].Comparison.Verdict != "undecided" {
		t.Errorf("%s", out)
	}
	want(t, exitOK, []string{"avg@2", "cannot be told apart"}, "eval", run, model, "--recipe", recipe, "--set", "rollout.max_prompt_tokens=64")
	want(t, exitUsage, []string{"--recipe"}, "eval", model)

	// A run is measured in its own precision, a model in that of the recipe that says what is measured.
	half := filepath.Join(t.TempDir(), "half")
	want(t, exitOK, nil, "run", recipe, "--set", "run="+half, "--set", "policy.precision=bfloat16", "--set", "iterations=1", "--set",
		"evaluate.every=0")
	precisions := func(args ...string) (out []kernels.Precision) {
		t.Helper()
		args = append(args, "--set", "rollout.max_prompt_tokens=64", "--json")
		for _, r := range decode[evaluation](t, want(t, exitOK, nil, append([]string{"eval", run, half, model}, args...)...)).Results {
			out = append(out, r.Model.Precision)
		}
		return out
	}
	if got := precisions(); !slices.Equal(got, []kernels.Precision{kernels.Float32, kernels.BFloat16, kernels.Float32}) {
		t.Errorf("a run, one in bfloat16 and a model are measured in %v", got)
	}
	if got := precisions("--set", "policy.precision=bfloat16"); !slices.Equal(got, []kernels.Precision{kernels.Float32, kernels.BFloat16,
		kernels.BFloat16}) {
		t.Errorf("with a recipe in bfloat16 they are measured in %v", got)
	}

	// A run that learned from given responses is measured by its policy's own.
	taught := filepath.Join(t.TempDir(), "taught")
	small := []string{"--set", "evaluate.prompts=4", "--set", "evaluate.samples=2"}
	want(t, exitOK, nil, append([]string{"run", "warm-start", "--set", "run=" + taught, "--set", "prompts.count=8", "--set",
		"update.steps=1", "--set", "update.batch_size=4"}, small...)...)
	want(t, exitOK, []string{"avg@2"}, append([]string{"eval", taught}, small...)...)
	want(t, exitUsage, []string{"neither a run nor a model"}, "eval", run, filepath.Join(run, "no-such"))
}

func TestRetry(t *testing.T) {
	run, recipe := aRun(t)
	dir := t.TempDir()
	out := decode[struct{ Files []look.Revived }](t, want(t, exitOK, nil, "retry", run, "--out", dir, "--json"))
	if len(out.Files) != 1 || out.Files[0].Stage != "rollout" || out.Files[0].Rows == 0 {
		t.Fatalf("%+v", out)
	}
	args := append([]string{"run", recipe}, retrySets(out.Files[0])...)
	want(t, exitOK, nil, append(args, "--set", "run="+filepath.Join(dir, "again"), "--set", "rollout.max_prompt_tokens=64", "--set",
		"iterations=1")...)
	got := want(t, exitOK, nil, "show", filepath.Join(dir, "again"), "--rows", "0", "--json")
	if rows := strings.Count(got, "\n"); rows != 2*min(6, out.Files[0].Rows) {
		t.Errorf("%d rollouts of %d revived prompts", rows, out.Files[0].Rows)
	}
	want(t, exitOK, []string{"no dead letters"}, "retry", filepath.Join(dir, "again"))
}

func retrySets(r look.Revived) (args []string) {
	for _, s := range r.Sets {
		args = append(args, "--set", s)
	}
	return args
}

// What retry prints runs as it is, whatever the recipe's own source, whatever kind of run, and wherever the run lies; rows of an
// iteration that was not committed are among them.
func TestRetrySuggestsWhatRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	const model = `{model_type: llama, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1,
    intermediate_size: 24, rms_norm_eps: 1.0e-6, rope_theta: 10000, max_position_embeddings: 256, tie_word_embeddings: false}`
	for name, text := range map[string]string{
		"a kind that samples, whose source has settings": `
kind: policy
prompts: {source: chain, count: 6, chain: {max_steps: 6}}
rollout: {samples: 2, max_new_tokens: 8, max_prompt_tokens: 11}
label: {verifier: {kind: regex, options: {pattern: "[0-9]"}}}
advantage: {kind: grpo}
update: {losses: [{name: ppo}], optimizer: {lr: 1e-3}}
`, "a mixture": `
kind: policy
prompts: {source: mixture, count: 6, mixture: [{source: chain, name: a, weight: 1, chain: {max_steps: 6}},
  {source: chain, name: b, weight: 1}]}
rollout: {samples: 2, max_new_tokens: 8, max_prompt_tokens: 11}
label: {verifier: {kind: regex, options: {pattern: "[0-9]"}}}
advantage: {kind: grpo}
update: {losses: [{name: ppo}], optimizer: {lr: 1e-3}}
`, "a kind that measures nothing": `
kind: label
prompts: {source: chain, count: 6}
rollout: {samples: 2, max_new_tokens: 8, max_prompt_tokens: 11}
label: {verifier: {kind: regex, options: {pattern: "[0-9]"}}}
`, "prompts of chat": `
kind: label
prompts: {source: file, count: 6, file: {path: CHATS, fields: {prompt: m, answer: a}}}
rollout: {samples: 2, max_new_tokens: 8, max_prompt_tokens: 11}
label: {verifier: {kind: regex, options: {pattern: "[0-9]"}}}
`, "given responses": `
kind: train
prompts: {source: chain, count: 6, chain: {responses: right}}
tokenize: {max_tokens: 40}
update: {losses: [{name: sft}], optimizer: {lr: 1e-3}}
`} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "it's a run")
			path := filepath.Join(t.TempDir(), "recipe.yaml")
			chats := lineFile(t, "chats.jsonl", `{"m": [{"role": "user", "content": "3a+4b+5c+6d+7="}], "a": "5"}`,
				`{"m": [{"role": "user", "content": "3a+4="}], "a": "7"}`)
			text = strings.ReplaceAll(text, "CHATS", chats)
			text += "policy: {tokenizer: proving_ground, new: " + model + "}\nlimits: {dead_share: 0.01}\n"
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			want(t, exitDead, []string{"too_long"}, "run", path, "--set", `run="`+dir+`"`)
			printed := want(t, exitOK, nil, "retry", dir)
			out := decode[struct{ Files []look.Revived }](t, want(t, exitOK, nil, "retry", dir, "--json"))
			if len(out.Files) != 1 || out.Files[0].Rows == 0 {
				t.Fatalf("%+v", out)
			}
			f := out.Files[0]
			if f.Verb != "run" || f.From != filepath.Join(dir, "config.yaml") ||
				!strings.Contains(printed, `'run="`+strings.ReplaceAll(dir, "'", `'\''`)) {
				t.Errorf("%+v\n%s", f, printed)
			}
			if chat := strings.Contains(strings.Join(f.Sets, " "), `"messages":"messages"`); chat != (name == "prompts of chat") {
				t.Errorf("prompts that were conversations, and no others, stay such: %v", f.Sets)
			}
			mended := "rollout.max_prompt_tokens=200"
			if name == "given responses" {
				mended = "tokenize.max_tokens=200"
			}
			want(t, exitOK, nil, append([]string{f.Verb, f.From, "--set", mended}, retrySets(f)...)...)
			if rows := strings.Count(want(t, exitOK, nil, "show", dir+"-retry-"+f.Stage, "--rows", "0", "--json"), "\n"); rows < f.Rows {
				t.Errorf("%d rows of %d that were revived", rows, f.Rows)
			}
			want(t, exitFailed, []string{"iteration 0 is not committed", "--dead"}, "show", dir)
			dead := strings.Join(strings.Fields(want(t, exitOK, nil, "show", dir, "--dead", "--iteration", "0", "--rows", "1")), " ")
			if !strings.Contains(dead, fmt.Sprintf("%s too_long %d ", f.Stage, f.Rows)) {
				t.Errorf("not all of %d dead rows are counted: %s", f.Rows, dead)
			}
		})
	}
}

func TestInspect(t *testing.T) {
	run, _ := aRun(t)
	model := decode[look.Inspection](t, want(t, exitOK, nil, "inspect", filepath.Join(run, "iter-00000", "policy"), "--json"))
	if model.Kind != "model" || len(model.Tensors) == 0 || model.Weights == 0 || model.Bytes != 4*model.Weights || model.Tokenizer == nil ||
		model.Tokenizer.Vocabulary == 0 || model.Digest == "" || len(model.Problems) > 0 {
		t.Errorf("%+v", model)
	}
	files, err := filepath.Glob(filepath.Join(run, "iter-00001", "batch-*.parquet"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v", files, err)
	}
	rows := decode[look.Inspection](t, want(t, exitOK, nil, "inspect", files[0], "--json"))
	if rows.Rows == 0 || rows.Meta == nil || rows.Meta.Iteration != 1 || rows.Meta.Lineage["advantage"] == "" {
		t.Errorf("%+v", rows)
	}
	want(t, exitOK, []string{"p_correct", "lineage", "iteration 1"}, "inspect", files[0])
	want(t, exitOK, []string{"vocabulary", "lm_head.weight"}, "inspect", filepath.Join(run, "iter-00000", "policy"))

	broken := filepath.Join(t.TempDir(), "broken.parquet")
	if err := os.WriteFile(broken, []byte("PAR1 this is no Parquet file PAR1"), 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, exitFailed, []string{"broken.parquet"}, "inspect", broken)
	want(t, exitUsage, []string{"config.json"}, "inspect", t.TempDir())
	endless := t.TempDir()
	if err := os.Symlink("/dev/zero", filepath.Join(endless, "config.json")); err != nil {
		t.Fatal(err)
	}
	want(t, exitFailed, []string{"config.json", "regular file"}, "inspect", endless)
}

// TestPlanTellsTheFastPrecision: of models that are trained in another one, and only where one is faster than float32.
func TestPlanTellsTheFastPrecision(t *testing.T) {
	memory := []chain.TrainMemory{{Role: "policy", Precision: kernels.BFloat16Tiles}, {Role: "reward", Precision: kernels.BFloat16}}
	for fast, c := range map[kernels.Precision]struct{ has, lacks string }{
		kernels.BFloat16Tiles: {"the reward computes in bfloat16; on this processor bfloat16-tiles is faster", "the policy computes"},
		kernels.BFloat16:      {"the policy computes in bfloat16-tiles; on this processor bfloat16 is faster", "the reward computes"},
		kernels.Float32:       {"training the policy in bfloat16-tiles", "is faster"},
	} {
		var out strings.Builder
		plan{Memory: memory, Fast: fast, Phases: []method.PlannedPhase{{}}}.text(&out)
		if !strings.Contains(out.String(), c.has) || strings.Contains(out.String(), c.lacks) {
			t.Errorf("fast is %s: %s", fast, out.String())
		}
	}
}

func TestPlanAndRecipes(t *testing.T) {
	_, recipe := aRun(t)
	want(t, exitOK, []string{"rollout", "candidate_advantage", "6 prompts", "12 rows"}, "plan", recipe)
	p := decode[plan](t, want(t, exitOK, nil, "plan", recipe, "--json"))
	if len(p.Stages) < 6 || p.Size.Rows != 12 || p.Size.Tokens != 96 || p.Size.Bytes == 0 {
		t.Errorf("%+v", p)
	}
	if p.Standing != nil {
		t.Errorf("nobody asked where the policy stands: %+v", p.Standing)
	}
	stands := decode[plan](t, want(t, exitOK, nil, "plan", recipe, "--measure", "20", "--set", "policy={path: ../quickstart/policy}", "--set",
		"rollout={samples: 4, max_new_tokens: 45}", "--json")).Standing
	if stands == nil || stands.Split != "train" || stands.Prompts != 20 || stands.Samples != 4 || stands.Right.Mean != 0.25 ||
		stands.Mixed.Mean != 0.65 || stands.Truncated > 0.1 {
		t.Errorf("the policy of the quickstart stands at %+v", stands)
	}
	pairs := decode[plan](t, want(t, exitOK, nil, "plan", recipe, "--measure", "20", "--set", "policy={path: ../quickstart/policy}", "--set",
		"rollout={samples: 2, max_new_tokens: 45}", "--json")).Standing
	if pairs == nil || pairs.Right.Mean != 0.35 || pairs.Mixed.Mean != 0.4 {
		t.Errorf("a group that is all right is not mixed: %+v", pairs)
	}
	want(t, exitOK, []string{"the policy on 3 prompts of split train, 2 responses each: right 0.000", "right and wrong responses 0.000"},
		"plan", recipe, "--measure", "3")
	want(t, exitUsage, []string{"--measure -1"}, "plan", recipe, "--measure", "-1")
	want(t, exitUsage, []string{"--recipe-only"}, "plan", recipe, "--measure", "3", "--recipe-only")
	if text := want(t, exitOK, []string{"training the policy takes about"}, "plan", recipe); strings.Contains(text, "policy in bfloat16") {
		t.Errorf("%s", text)
	}
	want(t, exitOK, []string{"training the policy in bfloat16 takes about"}, "plan", recipe, "--set", "policy.precision=bfloat16")
	want(t, exitUsage, []string{`policy.precision: "fp8" is not one of float32, bfloat16`}, "plan", recipe, "--set", "policy.precision=fp8")
	want(t, exitOK, []string{"batch files: 4"}, "plan", recipe, "--set", "output.shards=4")
	want(t, exitUsage, []string{"output.shards", "[1, 256]"}, "plan", recipe, "--set", "output.shards=0")
	want(t, exitUsage, []string{"rollout.samples"}, "plan", recipe, "--set", "rollout.samples=-1")
	want(t, exitUsage, []string{"embedded"}, "plan", "nonsense")
	for _, e := range decode[[]recipes.Embedded](t, want(t, exitOK, nil, "recipes", "--json")) {
		want(t, exitOK, []string{e.Name, "prompts"}, "plan", e.Name, "--recipe-only")
		if got := want(t, exitOK, nil, "recipes", e.Name); got != e.Text {
			t.Errorf("recipes %s prints something else", e.Name)
		}
	}
	want(t, exitUsage, []string{"nonsense"}, "recipes", "nonsense")
}

func TestVerify(t *testing.T) {
	want(t, exitOK, []string{"correct", "1/2"}, "verify", `\frac12`, `so it is \boxed{0.5}`)
	want(t, exitOK, []string{"incorrect"}, "verify", "2", `\boxed{3}`)
	want(t, exitUsage, []string{"nonsense"}, "verify", "2", "3", "--kind", "nonsense")
	want(t, exitUsage, nil, "verify", "2")
	pairs := filepath.Join(t.TempDir(), "pairs.jsonl")
	lines := `{"gold":"1/2","response":"\\boxed{0.5}"}` + "\n" + `{"answer":"7","response":"\\boxed{7}"}` + "\n"
	if err := os.WriteFile(pairs, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	sum := decode[struct {
		Pairs, Differ int
		Out           string
	}](t, want(t, exitOK, nil, "verify", "--audit", pairs, "--json"))
	if sum.Pairs != 2 || sum.Differ != 1 {
		t.Errorf("%+v", sum)
	}
	if raw, err := os.ReadFile(sum.Out); err != nil || bytes.Count(raw, []byte("\n")) != 1 || !bytes.Contains(raw, []byte(`"1/2"`)) {
		t.Errorf("%v: %s", err, raw)
	}
	run, _ := aRun(t)
	files, err := filepath.Glob(filepath.Join(run, "iter-00000", "batch-*.parquet"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v", files, err)
	}
	want(t, exitOK, []string{"pairs"}, "verify", "--audit", files[0], "--out", filepath.Join(t.TempDir(), "out.jsonl"))
}

func TestEnv(t *testing.T) {
	v := decode[environment](t, want(t, exitOK, nil, "env", "--json"))
	if v.Kernels == "" || v.Threads < 1 || v.CPUs < 1 || len(v.Runners) == 0 || v.Go == "" || v.Fast != kernels.Fastest() {
		t.Errorf("%+v", v)
	}
	want(t, exitOK, []string{"kernels", "fast in precision " + kernels.Fastest().String(), "runners"}, "env")
}
