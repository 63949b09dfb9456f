package external_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/safetensors"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/pipelines/command"
	"github.com/millrace/millrace/pipelines/external"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/update"
)

// TestMain lets the test's program be a trainer, and Millrace, for the tests that need processes.
func TestMain(m *testing.M) {
	switch args := os.Args; {
	case len(args) == 4 && args[1] == "trainer":
		if err := train(args[2], args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case len(args) > 2 && args[1] == "millrace":
		os.Exit(command.Main(args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// train is a trainer that moves every weight by a little, and makes the mistake that is asked for.
func train(mistake, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var t external.Task
	if err := json.Unmarshal(raw, &t); err != nil {
		return err
	}
	at := filepath.Dir(path)
	log, err := os.OpenFile(filepath.Join(filepath.Dir(at), "starts"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	fmt.Fprintln(log, t.Iteration, os.Getpid())
	log.Close()
	fmt.Fprintln(os.Stderr, "a trainer is at work")
	switch mistake {
	case "exit":
		fmt.Fprintln(os.Stderr, "out of memory")
		os.Exit(3)
	case "nothing":
		return nil
	case "killed":
		if marker := filepath.Join(at, "was-here"); errors.Is(os.Mkdir(marker, 0o755), nil) {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	case "hang":
		child := exec.Command("sleep", "600")
		if err := child.Start(); err != nil {
			return err
		}
		pid := []byte(strconv.Itoa(child.Process.Pid))
		if err := files.Write(context.Background(), filepath.Join(filepath.Dir(at), "child"), pid, true); err != nil {
			return err // whole or not at all: the test reads it as soon as it is there
		}
		time.Sleep(time.Hour)
	case "slow":
		for _, err := os.Stat(filepath.Join(filepath.Dir(at), "go")); err != nil; _, err = os.Stat(filepath.Join(filepath.Dir(at), "go")) {
			time.Sleep(20 * time.Millisecond)
		}
	}
	dir := filepath.Join(at, t.Leave.Checkpoint)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	m, err := local.Load(t.Model.Path)
	if err != nil {
		return err
	}
	tok, err := tokenizer.Load(t.Model.Path)
	if err != nil {
		return err
	}
	if mistake == "vocabulary" {
		c := m.Config()
		c.Vocab += 3
		if m, err = transformer.New(c, 1, false); err != nil {
			return err
		}
	}
	if mistake == "layers" {
		c := m.Config()
		c.Layers++
		if m, err = transformer.New(c, 1, false); err != nil {
			return err
		}
	}
	if mistake == "tokenizer" {
		tok = tokenizer.NewProvingGround(true)
	}
	if lora := t.LoRA; lora != nil && mistake != "whole" || mistake == "adapters" {
		config := transformer.LoRA{Rank: 2, Alpha: 4, Targets: []string{"q_proj", "v_proj"}}
		if lora != nil {
			config = lora.LoRA
		}
		if mistake == "rank" {
			config.Rank++
		}
		if m.LoRA() == nil {
			ref := models.Ref{Path: t.Model.Path}
			if mistake == "base" {
				ref.Path = at
			}
			if err := m.AddLoRA(config, 5, ref); err != nil {
				return err
			}
		}
	}
	for k, p := range m.Parameters() {
		for i := range p.Param {
			p.Param[i] += 1e-3 * float32(math.Sin(float64(i+k+t.Iteration)))
		}
		if mistake == "infinite" && k == 3 {
			p.Param[7] = float32(math.Inf(1))
		}
	}
	if err := errors.Join(m.Save(dir), tok.Save(dir)); err != nil {
		return err
	}
	if mistake == "scaling" { // as transformers writes it
		file := filepath.Join(dir, "config.json")
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		const scaling = `{"rope_parameters": {"rope_type": "default", "rope_theta": 10000},`
		if err := os.WriteFile(file, bytes.Replace(text, []byte("{"), []byte(scaling), 1), 0o644); err != nil {
			return err
		}
	}
	weights := filepath.Join(dir, "model.safetensors")
	if err := spoil(mistake, weights); err != nil {
		return err
	}
	own := filepath.Join(at, t.Leave.Optimizer, "rank-0")
	if err := os.MkdirAll(own, 0o755); err != nil {
		return err
	}
	state := []byte("state after:")
	if t.State != "" {
		if state, err = os.ReadFile(filepath.Join(t.State, "rank-0", "state.bin")); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(own, "state.bin"), fmt.Append(state, " ", t.Iteration), 0o644); err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	d := external.Done{Protocol: external.Protocol, Task: hex.EncodeToString(sum[:]), Trainer: "test 1", Files: map[string]string{}}
	loss, norm := 0.25, 2.0
	for i := range t.Steps {
		d.Steps = append(d.Steps, external.Step{Step: i + 1, Loss: &loss, GradNorm: &norm, Rate: 1e-3, Units: 4, Tokens: 40,
			Metrics: map[string]float64{"ppo/kl": 0.01}})
	}
	for _, of := range []string{t.Leave.Checkpoint, t.Leave.Optimizer} {
		err := filepath.WalkDir(filepath.Join(at, of), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(at, path)
			sum := sha256.Sum256(content)
			d.Files[filepath.ToSlash(rel)] = hex.EncodeToString(sum[:])
			return nil
		})
		if err != nil {
			return err
		}
	}
	return leave(mistake, at, weights, d)
}

// spoil changes the weights file before its digest is taken.
func spoil(mistake, weights string) error {
	switch mistake {
	case "shape", "lost", "extra":
	default:
		return nil
	}
	f, err := safetensors.Open(weights)
	if err != nil {
		return err
	}
	defer f.Close()
	var all []safetensors.NamedTensor
	for _, name := range f.Names() {
		values, shape, err := f.Float32(name)
		if err != nil {
			return err
		}
		if name == "model.layers.0.mlp.up_proj.weight" {
			if mistake == "lost" {
				continue
			}
			if mistake == "shape" {
				shape = []int{shape[1], shape[0]}
			}
		}
		all = append(all, safetensors.NamedTensor{Name: name, Shape: shape, Values: values})
	}
	if mistake == "extra" {
		all = append(all, safetensors.NamedTensor{Name: "model.layers.0.self_attn.q_proj.lora_A.weight", Shape: []int{1}, Values: []float32{1}})
	}
	return safetensors.Write(weights, all, nil)
}

// leave writes the manifest.
func leave(mistake, at, weights string, d external.Done) error {
	const name = external.CheckpointName + "/model.safetensors"
	switch mistake {
	case "incomplete":
		if err := os.Truncate(weights, 1000); err != nil {
			return err
		}
	case "gone":
		if err := os.Remove(weights); err != nil {
			return err
		}
	case "unnamed":
		delete(d.Files, name)
	case "link", "fifo":
		moved := filepath.Join(at, "elsewhere")
		if err := os.Rename(weights, moved); err != nil {
			return err
		}
		link := func() error { return os.Symlink(moved, weights) }
		if mistake == "fifo" {
			link = func() error { return syscall.Mkfifo(weights, 0o600) }
		}
		if err := link(); err != nil {
			return err
		}
	case "linked directory":
		moved := filepath.Join(at, "elsewhere")
		dir := filepath.Dir(weights)
		if err := errors.Join(os.Rename(dir, moved), os.Symlink(moved, dir)); err != nil {
			return err
		}
	case "outside":
		d.Files["checkpoint/../../config.yaml"] = d.Files[name]
	case "other task":
		d.Task = strings.Repeat("0", 64)
	case "protocol":
		d.Protocol = 7
	case "steps":
		d.Steps[0].Loss = nil
	case "empty":
		d.Files = nil
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if mistake == "unknown key" {
		raw = append([]byte(`{"digest": "",`), raw[1:]...)
	}
	tmp := filepath.Join(at, ".done")
	if err := os.WriteFile(tmp, raw, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(at, external.DoneName))
}

const text = `
kind: policy
iterations: 3
prompts: {source: chain, count: 6}
rollout: {samples: 4, max_new_tokens: 45}
label: {verifier: {kind: proving_ground}}
advantage: {kind: grpo}
update: {losses: [{name: ppo}, {name: reference_kl, weight: 0.1}], minibatches: 2}
evaluate: {every: 0}
`

// parse is the recipe in a run directory of dir, whose trainer makes a mistake; "" is one that does the update itself.
func parse(t *testing.T, dir, mistake string, sets ...string) recipe.Recipe {
	t.Helper()
	models := filepath.Join(dir, "models")
	if _, err := os.Stat(models); err != nil {
		if err := quickstart.Unpack(models); err != nil {
			t.Fatal(err)
		}
	}
	sets = append([]string{"run=" + filepath.Join(dir, "run"), "policy.path=" + filepath.Join(models, "policy")}, sets...)
	if mistake != "" {
		sets = append(sets, fmt.Sprintf("update.external.command=[%q,trainer,%q]", os.Args[0], mistake))
	}
	r, err := recipe.Parse([]byte(text), sets)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func do(ctx context.Context, r recipe.Recipe) (notes string, err error) {
	m, err := method.New(r)
	if err != nil {
		return "", err
	}
	var told bytes.Buffer
	show := progress.Start(&told, "test")
	err = method.Run(ctx, m, show)
	show.Done()
	return told.String(), err
}

func at(dir string, iteration int, name ...string) string {
	return filepath.Join(append([]string{dir, "run", fmt.Sprintf("iter-%05d", iteration)}, name...)...)
}

func task(dir string, iteration int, name ...string) string {
	return filepath.Join(append([]string{dir, "run", external.DirName, fmt.Sprintf("iter-%05d", iteration)}, name...)...)
}

func promptsOf(t *testing.T, file string) (out []uuid.UUID) {
	t.Helper()
	if err := recordio.ReadFile(t.Context(), file, func(b schemas.Record) error {
		out = append(out, schemas.PromptID.Of(b)...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// A run whose updates another program does goes on from iteration to iteration as one that does them: the first iteration has the same
// rows, and each later one the next prompts, sampled by what the trainer left.
func TestRunWithATrainer(t *testing.T) {
	ours, theirs := t.TempDir(), t.TempDir()
	r := parse(t, theirs, "good")
	if _, err := do(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	own := parse(t, ours, "")
	own.Policy.Path = r.Policy.Path
	if _, err := do(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	if foreign, err := run.Foreign(t.Context(), filepath.Join(theirs, "run")); err != nil || len(foreign) > 0 {
		t.Errorf("%v is taken for somebody else's: %v", foreign, err)
	}
	for i := range 3 {
		const batch = "batch-00000-of-00001.parquet"
		a, b := promptsOf(t, at(ours, i, batch)), promptsOf(t, at(theirs, i, batch))
		if !slices.Equal(a, b) {
			t.Errorf("iteration %d has other prompts", i)
		}
		m, _, err := (&run.Dir{Path: filepath.Join(theirs, "run")}).ReadManifest(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"policy/model.safetensors", "policy/config.json", "policy/millrace_tokenizer.json",
			"optimizer-policy/rank-0/state.bin", "steps-policy.jsonl"} {
			if m.Files[name] == "" {
				t.Errorf("iteration %d has no %s: %v", i, name, m.Files)
			}
		}
		steps, err := files.ReadLines[update.StepRecord](t.Context(), at(theirs, i, "steps-policy.jsonl"))
		if err != nil || len(steps) != 2 || steps[1].Loss != 0.25 || steps[1].Metrics["ppo/kl"] != 0.01 {
			t.Errorf("steps %+v, %v", steps, err)
		}
		_, missing := os.Stat(task(theirs, i))
		if want := i == 2; want != (missing == nil) { // those of committed iterations are removed
			t.Errorf("task of iteration %d: %v", i, missing)
		}
	}
	if state, err := os.ReadFile(at(theirs, 2, "optimizer-policy/rank-0/state.bin")); err != nil || string(state) != "state after: 0 1 2" {
		t.Errorf("the trainer's state is %q, %v", state, err)
	}
	want, err := local.Load(r.Policy.Path)
	if err != nil {
		t.Fatal(err)
	}
	have, err := local.Load(at(theirs, 0, "policy"))
	if err != nil {
		t.Fatal(err)
	}
	for k, p := range want.Parameters() {
		if got, w := have.Parameters()[k].Param[1], p.Param[1]+1e-3*float32(math.Sin(float64(1+k))); got != w {
			t.Fatalf("%s[1] is %v, the trainer left %v", p.Name, got, w)
		}
	}
	raw, err := os.ReadFile(filepath.Join(theirs, "run", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := recipe.Parse(raw, []string{"run=" + filepath.Join(theirs, "run"), "update.external.timeout_seconds=5"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := do(t.Context(), again); err != nil { // nothing is left to do
		t.Error(err)
	}
}

// The task says what the update reads, and the rows are there with these columns and no others.
func TestTask(t *testing.T) {
	dir := t.TempDir()
	if _, err := do(t.Context(), parse(t, dir, "good", "iterations=1", "rollout.temperature=0.5")); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(task(dir, 0, external.TaskName))
	if err != nil {
		t.Fatal(err)
	}
	var got external.Task
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Temperature != 0.5 || got.Role != "policy" || got.Steps != 2 || got.State != "" || !slices.Equal(got.Heads, []string{"lm"}) ||
		got.Model.Format != "huggingface" || len(got.Model.Digest) != 64 || len(got.Losses) != 2 || got.Losses[0].Config["eps_high"] != 0.28 {
		t.Errorf("%s", raw)
	}
	var names []string
	for _, c := range got.Batches[0].Columns {
		names = append(names, c.Name)
		def := schemas.FullLogP(got.Model.Digest).At(0.5)
		if (c.LogP != nil) != strings.HasSuffix(c.Name, "_logp") || c.LogP != nil && *c.LogP != def {
			t.Errorf("%+v", c)
		}
	}
	if want := []string{"prompt_id", "response_id", "prompt_tokens", "response_tokens", "tempered_old_logp", "advantage",
		"tempered_reference_logp", "token_mask"}; !slices.Equal(names, want) {
		t.Errorf("columns %v, want %v", names, want)
	}
	rows := 0
	if err := recordio.ReadFile(t.Context(), task(dir, 0, got.Batches[0].Files[0].Name), func(b schemas.Record) error {
		rows += b.NumRows()
		if has := b.Columns(); len(has) != len(names) {
			t.Errorf("the file has columns %v", has)
		}
		return nil
	}); err != nil || rows != got.Batches[0].Files[0].Rows {
		t.Errorf("%d rows, %v", rows, err)
	}
	plan, err := os.ReadFile(task(dir, 0, external.PlanName))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for line := range bytes.Lines(plan) {
		var step []int
		if err := json.Unmarshal(line, &step); err != nil {
			t.Fatal(err)
		}
		for _, n := range step {
			seen[n] = true
		}
	}
	if len(seen) != rows {
		t.Errorf("steps take %d of %d rows", len(seen), rows)
	}
}

// Whatever is wrong with what a trainer leaves, the error names the file, and the tensor; the iteration is not committed.
func TestRefused(t *testing.T) {
	lora := "update.lora={rank: 2, alpha: 4}"
	for mistake, c := range map[string]struct {
		file, tensor, why string
		sets              []string
	}{
		"incomplete":       {file: "checkpoint/model.safetensors", why: "its digest is"},
		"gone":             {file: "checkpoint/model.safetensors", why: "is missing, and done.json names it"},
		"unnamed":          {file: "checkpoint/model.safetensors", why: "done.json does not name it"},
		"link":             {file: "checkpoint/model.safetensors", why: "is a symbolic link"},
		"fifo":             {file: "checkpoint/model.safetensors", why: "is not a regular file"},
		"linked directory": {file: "checkpoint", why: "is a symbolic link"},
		"outside":          {file: "done.json", why: `file "checkpoint/../../config.yaml" does not lie in checkpoint or optimizer`},
		"other task":       {file: "done.json", why: "is of another task"},
		"protocol":         {file: "done.json", why: "protocol 7, this program speaks 1"},
		"steps":            {file: "done.json", why: "steps[0] lacks loss or grad_norm"},
		"empty":            {file: "done.json", why: "names no file"},
		"unknown key":      {file: "done.json", why: `unknown field "digest"`},
		"vocabulary":       {file: "checkpoint/config.json", why: "has another vocabulary"},
		"tokenizer":        {file: "checkpoint", why: "has another vocabulary"},
		"layers":           {file: "checkpoint/config.json", why: "has another shape: Layers is"},
		"shape":            {file: "checkpoint", tensor: "model.layers.0.mlp.up_proj.weight", why: "has shape"},
		"lost":             {file: "checkpoint", tensor: "model.layers.0.mlp.up_proj.weight", why: "is missing"},
		"extra":            {file: "checkpoint", tensor: "model.layers.0.self_attn.q_proj.lora_A.weight", why: "is none of the model's"},
		"infinite":         {file: "checkpoint", tensor: "model.layers.0.self_attn.k_proj.weight", why: "number 7 is +Inf"},
		"whole":            {file: "checkpoint", why: "holds no adapters", sets: []string{lora}},
		"rank":             {file: "checkpoint/adapter_config.json", why: "update.lora asks for", sets: []string{lora}},
		"base":             {file: "checkpoint/adapter_config.json", why: "base_model_name_or_path is", sets: []string{lora}},
		"adapters":         {file: "checkpoint", why: "update.lora.merge asks for", sets: []string{lora, "update.lora.merge=true"}},
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, err := do(t.Context(), parse(t, dir, mistake, append(c.sets, "iterations=1")...))
			var refused *external.RefusedError
			if !errors.As(err, &refused) || refused.File != task(dir, 0, c.file) || refused.Tensor != c.tensor ||
				!strings.Contains(refused.Why, c.why) {
				t.Errorf("%v", err)
			}
			if _, err := os.Stat(at(dir, 0, "manifest.json")); err == nil {
				t.Error("the iteration is committed")
			}
			if left, _ := filepath.Glob(task(dir, 0, ".taken-*")); len(left) > 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

// Adapters come back as the run stores its own, and the next task starts from them.
func TestAdapters(t *testing.T) {
	for _, sets := range [][]string{{"update.lora={rank: 3, alpha: 6, targets: [k_proj, up_proj]}"}, nil} {
		dir := t.TempDir()
		mistake := "good"
		if sets == nil {
			mistake = "adapters" // which nobody asked for, and may be
		}
		if _, err := do(t.Context(), parse(t, dir, mistake, append(sets, "iterations=2")...)); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			m, err := local.Load(at(dir, i, "policy"))
			if err != nil || m.LoRA() == nil {
				t.Fatalf("%+v, %v", m, err)
			}
			if base, err := transformer.AdapterBase(at(dir, i, "policy")); err != nil || base != filepath.Join(dir, "models", "policy") {
				t.Errorf("the adapters belong to %s, %v", base, err)
			}
		}
		var next external.Task
		raw, err := os.ReadFile(task(dir, 1, external.TaskName))
		if err != nil || json.Unmarshal(raw, &next) != nil || next.Model.Format != "peft" || next.Model.Path != at(dir, 0, "policy") ||
			next.Model.Base != filepath.Join(dir, "models", "policy") {
			t.Errorf("%s, %v", raw, err)
		}
	}
}

// A trainer that fails fails the iteration, and the same command tries again.
func TestTrainerFails(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	for mistake, why := range map[string]string{"exit": "exit status 3", "nothing": "it ended well, and left no whole",
		"killed": "signal: killed"} {
		dir := t.TempDir()
		r := parse(t, dir, mistake, "iterations=1")
		_, err := do(t.Context(), r)
		var failed *external.TrainerError
		if !errors.As(err, &failed) || !strings.Contains(failed.Why, why) || !strings.Contains(failed.Said, "a trainer is at work") {
			t.Errorf("%s: %v", mistake, err)
		}
		if mistake == "exit" && !strings.Contains(failed.Said, "out of memory") {
			t.Errorf("%q", failed.Said)
		}
		_, err = do(t.Context(), r)
		if want := mistake == "killed"; want != (err == nil) {
			t.Errorf("%s, again: %v", mistake, err)
		}
		if n := starts(t, dir, 0); n != 2 {
			t.Errorf("%s: %d starts", mistake, n)
		}
	}
}

// starts is how often a trainer was started for an iteration.
func starts(t *testing.T, dir string, iteration int) (n int) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "run", external.DirName, "starts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, fmt.Sprint(iteration, " ")) {
			n++
		}
	}
	return n
}

// A trainer that takes too long is ended with what it has started, and so is one whose run is.
func TestTrainerIsEnded(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	for _, how := range []string{"timeout", "interrupt"} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		seconds := "1e6"
		if how == "timeout" {
			seconds = "2"
		}
		child := filepath.Join(dir, "run", external.DirName, "child")
		if how == "interrupt" {
			go func() {
				for _, err := os.Stat(child); err != nil; _, err = os.Stat(child) {
					time.Sleep(10 * time.Millisecond)
				}
				cancel()
			}()
		}
		_, err := do(ctx, parse(t, dir, "hang", "iterations=1", "update.external.timeout_seconds="+seconds))
		cancel()
		var late *external.TimeoutError
		if how == "timeout" && (!errors.As(err, &late) || late.Seconds != 2) || how == "interrupt" && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", how, err)
		}
		raw, err := os.ReadFile(child)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(string(raw))
		if err != nil {
			t.Fatal(err)
		}
		if !ends(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Errorf("%s: what the trainer started lives on", how)
		}
	}
}

// ends reports whether a process is gone, or is a zombie that nobody has waited for, within some seconds.
func ends(pid int) bool {
	for range 100 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}

// waiting starts the run as a process of its own and returns it when the task is there.
func waiting(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	path := filepath.Join(dir, "recipe.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	all := []string{"millrace", "run", path}
	sets := []string{"run=" + filepath.Join(dir, "run"), "policy.path=" + filepath.Join(dir, "models", "policy")}
	for _, set := range append(sets, args...) {
		all = append(all, "--set", set)
	}
	cmd := exec.Command(os.Args[0], all...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return cmd
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for start := time.Now(); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("%s: still not", what)
		}
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// kill -9 of the run: its trainer goes on, and the same command takes what it leaves. The task is not handed over a second time.
func TestKilledWhileWaiting(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	parse(t, dir, "") // unpacks the models
	command := fmt.Sprintf("update.external.command=[%q,trainer,slow]", os.Args[0])
	first := waiting(t, dir, command, "iterations=2")
	until(t, "started", func() bool { return starts(t, dir, 0) == 1 })
	first.Process.Kill()
	first.Wait()
	before, err := os.ReadFile(task(dir, 0, external.TaskName))
	if err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(task(dir, 0, external.TaskName))
	second := waiting(t, dir, command, "iterations=2")
	time.Sleep(3 * time.Second) // it waits for the trainer of the first
	if n := starts(t, dir, 0); n != 1 {
		t.Errorf("%d trainers were started", n)
	}
	after, err := os.ReadFile(task(dir, 0, external.TaskName))
	if now, _ := os.Stat(task(dir, 0, external.TaskName)); err != nil || !bytes.Equal(before, after) || !now.ModTime().Equal(info.ModTime()) {
		t.Errorf("the task was handed over again: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "run", external.DirName, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Fatal(err)
	}
	if starts(t, dir, 0) != 1 || starts(t, dir, 1) != 1 || !exists(at(dir, 1, "manifest.json")) {
		t.Errorf("%d and %d starts", starts(t, dir, 0), starts(t, dir, 1))
	}
}

// A trainer that watches the directory does its work while nobody waits, and the run takes it when it goes on. What lies there of another
// task is refused, and a recipe that changed before the first commit makes a new task.
func TestWatchingTrainer(t *testing.T) {
	dir := t.TempDir()
	parse(t, dir, "")
	shared := "update.external.dir=" + filepath.Join(dir, "run", external.DirName) // named, so that it may be another run's
	first := waiting(t, dir, "update.external.watch=true", "iterations=1", shared)
	until(t, "handed over", func() bool { return exists(task(dir, 0, external.TaskName)) })
	first.Process.Kill()
	first.Wait()
	before, _ := os.ReadFile(task(dir, 0, external.TaskName))

	r := parse(t, dir, "", "update.external.watch=true", "iterations=1", shared)
	changed := parse(t, dir, "", "update.external.watch=true", "iterations=1", "update.optimizer.lr=1e-4", shared)
	var refused *external.RefusedError
	if _, err := do(t.Context(), changed); !errors.As(err, &refused) || !strings.Contains(refused.Why, "of another run or recipe") {
		t.Errorf("the task of another recipe: %v", err)
	}
	if err := train("other task", task(dir, 0, external.TaskName)); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t.Context(), r); !errors.As(err, &refused) || !strings.Contains(refused.Why, "is of another task") {
		t.Errorf("a manifest of another task: %v", err)
	}
	if err := os.Remove(task(dir, 0, external.DoneName)); err != nil {
		t.Fatal(err)
	}
	if err := train("good", task(dir, 0, external.TaskName)); err != nil {
		t.Fatal(err)
	}
	r.Update.External.Seconds = 1 // it is there already
	if _, err := do(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(task(dir, 0, external.TaskName)); !bytes.Equal(before, after) {
		t.Error("the task has other bytes")
	}
}

// What a kind of rotary scaling does not read may differ: it is no other shape.
func TestUnreadScaling(t *testing.T) {
	if _, err := do(t.Context(), parse(t, t.TempDir(), "scaling", "iterations=1")); err != nil {
		t.Fatal(err)
	}
}

// In the run's own directory a task of a recipe that was changed gives way, with what was left for it.
func TestChangedRecipe(t *testing.T) {
	dir := t.TempDir()
	if _, err := do(t.Context(), parse(t, dir, "infinite", "iterations=1")); err == nil {
		t.Fatal("no error")
	}
	if _, err := do(t.Context(), parse(t, dir, "good", "iterations=1")); err != nil {
		t.Fatal(err)
	}
}

// Where no row can be learned from nobody is asked, and the policy stays.
func TestNothingToLearn(t *testing.T) {
	dir := t.TempDir()
	notes, err := do(t.Context(), parse(t, dir, "exit", "iterations=2", "advantage.groups=mixed", "rollout.max_new_tokens=1"))
	if err != nil || !strings.Contains(notes, "learned nothing") {
		t.Fatal(notes, err)
	}
	if starts(t, dir, 0) != 0 {
		t.Error("a trainer was started")
	}
	a, _ := local.Load(filepath.Join(dir, "models", "policy"))
	b, err := local.Load(at(dir, 1, "policy"))
	if err != nil || !slices.Equal(a.Parameters()[0].Param, b.Parameters()[0].Param) {
		t.Errorf("the policy has moved, %v", err)
	}
}

// A refresh has its reward model trained, other kinds their policy; pairs are handed over as pairs, and beside responses where losses read
// both.
func TestOtherKinds(t *testing.T) {
	if testing.Short() {
		t.Skip("runs")
	}
	dir := t.TempDir()
	parse(t, dir, "") // unpacks the models
	teacher := "{path: " + filepath.Join(dir, "models", "policy") + "}"
	for name, text := range map[string]string{
		"refresh": "{kind: refresh, reward: {}, update: {losses: [{name: ipvrm}]}, gate: {margin: -1}, ",
		"train":   "{kind: train, update: {losses: [{name: sft}]}, ",
		"opd":     "{kind: opd, distill: {teacher: " + teacher + ", opd: {top_k: 4}}, update: {losses: [{name: opd}]}, ",
		"distill": "{kind: distill, distill: {teacher: " + teacher + ", reference: " + teacher + ", adpa: {}, samples: 2}, pairs: {}, " +
			"update: {losses: [{name: adpa}]}, ",
		"pairs": "{kind: policy, pairs: {reference: reference_logp}, update: {losses: [{name: dpo}]}, ",
	} {
		text += "prompts: {source: chain, count: 6}, rollout: {samples: 4, max_new_tokens: 45}, label: {verifier: {kind: proving_ground}}, " +
			"evaluate: {every: 0}}"
		r, err := recipe.Parse([]byte(text), []string{"run=" + filepath.Join(dir, name), "policy.path=" + filepath.Join(dir, "models", "policy"),
			fmt.Sprintf("update.external.command=[%q,trainer,good]", os.Args[0])})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := do(t.Context(), r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		role := "policy"
		if name == "refresh" {
			role = "reward"
		}
		if !exists(filepath.Join(dir, name, "iter-00000", role, "model.safetensors")) {
			t.Errorf("%s has left no %s", name, role)
		}
	}
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	for want, sets := range map[string][]string{
		"update.external.command: is empty":             {"update.external={}"},
		"update.external.watch: is set and so is":       {"update.external={watch: true, command: [x]}"},
		"update.external.dir: gs://b/d is in a bucket":  {"update.external={watch: true, dir: gs://b/d}"},
		"update.external.dir: is empty, and run":        {"update.external={watch: true}", "run=gs://b/d"},
		"update.external.timeout_seconds: 0 is not":     {"update.external={watch: true, timeout_seconds: 0}"},
		"update.replicas: is not read: update.external": {"update.external={watch: true}", "update.replicas=2"},
		"reward.update.external: this update is amid":   {"reward={update: {losses: [{name: ipvrm}], external: {watch: true}}}"},
	} {
		models := filepath.Join(dir, "models")
		if !exists(models) {
			if err := quickstart.Unpack(models); err != nil {
				t.Fatal(err)
			}
		}
		sets = append([]string{"run=" + filepath.Join(dir, "run"), "policy.path=" + filepath.Join(models, "policy")}, sets...)
		r, err := recipe.Parse([]byte(text), sets)
		if err == nil {
			_, err = method.New(r)
		}
		var e *setting.Error
		if !errors.As(err, &e) || !strings.HasPrefix(e.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
