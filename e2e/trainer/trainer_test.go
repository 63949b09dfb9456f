//go:build peers

// Package trainer holds updates that trainer.py does in PyTorch against our own, through the hand-over of docs/external.md. One command
// does all of it:
//
//	go test -tags peers -timeout 60m -v ./e2e/trainer
//
// It installs PyTorch (install.sh) into $MILLRACE_TRAINER, or into the user's cache directory.
package trainer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/safetensors"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/external"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/update"
)

const (
	// lossTolerance and gradientTolerance are by how much the two may differ, both in float32: of the loss, and of a gradient as a share of
	// the largest.
	lossTolerance     = 1e-5
	gradientTolerance = 1e-5
)

var install struct {
	once   sync.Once
	python string
	err    error
}

// python is a Python with PyTorch.
func python(t *testing.T) string {
	t.Helper()
	install.once.Do(func() {
		env := os.Getenv("MILLRACE_TRAINER")
		if env == "" {
			cache, err := os.UserCacheDir()
			if err != nil {
				cache = os.TempDir()
			}
			env = filepath.Join(cache, "millrace", "trainer")
		}
		cmd := exec.Command("sh", "install.sh", env)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		install.python, install.err = strings.TrimSpace(string(out)), err
	})
	if install.err != nil {
		t.Fatalf("install.sh: %v", install.err)
	}
	return install.python
}

// command is that of the trainer.
func command(t *testing.T, options ...string) []string {
	script, err := filepath.Abs("trainer.py")
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{python(t), script, "--device", "cpu"}, options...)
}

// model writes a small model whose distributions are neither flat nor certain.
func model(t *testing.T, change func(c *transformer.Config), seed uint64) models.Ref {
	t.Helper()
	tok := tokenizer.NewProvingGround(false)
	c := transformer.Config{ModelType: "llama", Vocab: tok.VocabSize(), Hidden: 32, Intermediate: 48, Layers: 2, Heads: 4, KVHeads: 2,
		HeadDim: 8, MaxPositions: 64, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}, EOS: tok.EOS()}
	if change != nil {
		change(&c)
	}
	m, err := transformer.New(c, seed, false)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seed, 9))
	for _, p := range m.Parameters() { // biases and norms start at 0 and 1, which would hide a mistake
		for i := range p.Param {
			p.Param[i] += 0.1 * float32(random.NormFloat64())
		}
	}
	dir := t.TempDir()
	if err := chain.SaveModel(t.Context(), dir, m, tok); err != nil {
		t.Fatal(err)
	}
	ref, err := chain.OpenAt(t.Context(), recipe.Model{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// rows have every column that the update reads: responses of one to six tokens, masks, tokens without candidates.
func rows(t *testing.T, job update.Job, pairs bool, vocabulary int) stage.Batch {
	t.Helper()
	columns, err := job.Columns(pairs)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(7, 3))
	const groups, each = 4, 3
	n := groups * each
	prompts, ids, texts := make([]uuid.UUID, n), make([]uuid.UUID, n), make([][]int32, n)
	for i := range n {
		prompts[i] = uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, "prompt", i/each))
		ids[i] = uuid.NewSHA1(prompts[i], fmt.Append(nil, i, pairs))
		for range 2 + i/each {
			texts[i] = append(texts[i], int32((i/each*5+len(texts[i])*3)%vocabulary))
		}
	}
	filled := []schemas.Filled{schemas.PromptID.From(prompts), schemas.PromptTokens.FromRows(texts)}
	if pairs {
		filled = append(filled, schemas.PairID.From(ids))
	} else {
		filled = append(filled, schemas.ResponseID.From(ids))
	}
	near := func() float32 { return float32(-math.Log(float64(vocabulary)) + 0.8*random.NormFloat64()) }
	pushes := func() float32 { return float32(random.NormFloat64()) }
	for _, side := range []string{"", "chosen_", "rejected_"} {
		tokens, candidates, teacher := make([][]int32, n), make([][][]int32, n), make([][][]int32, n)
		empty := make([][]bool, n)
		sampled := map[string][][]float32{} // of a kind of log-prob, which its candidates begin with
		for i := range n {
			for range 1 + random.IntN(6) {
				order := random.Perm(vocabulary)
				list := []int32{int32(order[0]), int32(order[1]), int32(order[2])}
				tokens[i], candidates[i] = append(tokens[i], list[0]), append(candidates[i], list)
				few := []int32{}
				for _, id := range order[3 : 3+random.IntN(4)] {
					few = append(few, int32(id))
				}
				teacher[i] = append(teacher[i], few)
				empty[i] = append(empty[i], random.IntN(5) == 0)
			}
		}
		numbers := func(kind string, draw func() float32) [][]float32 {
			if sampled[kind] == nil {
				out := make([][]float32, n)
				for i := range out {
					for range tokens[i] {
						out[i] = append(out[i], draw())
					}
				}
				sampled[kind] = out
			}
			return sampled[kind]
		}
		for _, c := range columns {
			d, ok := schemas.ByName(c.Name)
			if !ok || c.Input == "" || strings.HasPrefix(c.Name, "chosen_") != (side == "chosen_") ||
				strings.HasPrefix(c.Name, "rejected_") != (side == "rejected_") {
				continue
			}
			draw := pushes
			if d.LogProb {
				draw = near
			}
			kind := strings.TrimPrefix(strings.TrimPrefix(c.Input, "candidate_"), "target_")
			var f schemas.Filled
			switch {
			case c.Input == "response_tokens":
				f = schemas.List[int32]{Column: d}.FromRows(tokens)
			case c.Input == "candidate_ids":
				f = schemas.Nested[int32]{Column: d}.FromRows(candidates)
			case c.Input == "teacher_ids":
				f = schemas.Nested[int32]{Column: d}.FromRows(teacher)
			case c.Of == "row":
				x := make([]float32, n)
				for i := range x {
					if x[i] = float32((i + i/each) % 2); c.Input == "group_mean" {
						x[i] = []float32{1. / 3, 2. / 3, 1, 0}[i/each]
					}
				}
				f = schemas.Scalar[float32]{Column: d}.From(x)
			case c.Of == "token":
				f = schemas.List[float32]{Column: d}.FromRows(numbers(kind, draw))
			default:
				lists, first := make([][][]float32, n), numbers(kind, draw)
				for i := range lists {
					for at := range tokens[i] {
						list := []float32{}
						switch {
						case c.Of == "teacher":
							for range teacher[i][at] {
								list = append(list, draw())
							}
						case !(strings.HasSuffix(c.Input, "_advantage") && empty[i][at]):
							list = append(list, first[i][at], draw(), draw())
						}
						lists[i] = append(lists[i], list)
					}
				}
				f = schemas.Nested[float32]{Column: d}.FromRows(lists)
			}
			if c.LogP != nil {
				f = f.Defined(*c.LogP)
			}
			filled = append(filled, f)
		}
		for _, c := range columns {
			if c.Input != "" || side != "" || c.Of != "token" || !strings.HasSuffix(c.Name, "_mask") {
				continue
			}
			masks, known := make([][]int32, n), make([]bool, n)
			for i := range n {
				known[i] = c.Name == "token_mask" || i%3 > 0
				for at := range tokens[i] {
					if !known[i] {
						break
					}
					masks[i] = append(masks[i], 1)
					if at > 0 && random.IntN(4) == 0 {
						masks[i][at] = 0
					}
				}
			}
			d, _ := schemas.ByName(c.Name)
			filled = append(filled, schemas.List[int32]{Column: d}.FromRows(masks, known...))
		}
	}
	b, err := schemas.NewRecord(schemas.Meta{Run: "test"}, filled...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// run puts the rows through the update of a recipe.
func run(t *testing.T, r recipe.Recipe, it chain.Iteration, batches []stage.Batch) {
	t.Helper()
	if err := files.MakeDirectory(it.Work); err != nil {
		t.Fatal(err)
	}
	p, f := chain.New(it, r.Limits.MaxRecordBytes)
	f.Rows = stage.Rows{PCollection: beam.CreateList(f.Scope, batches)}
	f.Add(chain.Update(r, chain.PolicyRole, false))
	if _, err := chain.Execute(t.Context(), "test", p, runners.Default()); err != nil {
		t.Fatal(err)
	}
	if r.Update.External != nil {
		u := external.Update{Job: chain.UpdateJob(r, chain.PolicyRole, it), Run: it.Dir, Iteration: it}
		if err := u.Do(t.Context(), progress.Silent()); err != nil {
			t.Fatal(err)
		}
	}
}

// read brings the tensors of a file by name.
func read(t *testing.T, path string) map[string][]float32 {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string][]float32{}
	for _, name := range f.Names() {
		if out[name], _, err = f.Float32(name); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

type peerCase struct {
	losses      string
	temperature float32
	model       func(*transformer.Config)
	lora        bool
}

// The loss and every gradient of one step are ours.
func TestGradients(t *testing.T) {
	cases := map[string]peerCase{}
	for _, reduction := range []string{"token_mean", "seq_mean", "seq_sum", "dr_grpo"} {
		cases["ppo "+reduction] = peerCase{losses: fmt.Sprintf(`[{"name":"ppo","reduction":%q,"max_tokens":9}]`, reduction)}
	}
	for name, losses := range map[string]string{
		"ppo dual clip":         `[{"name":"ppo","dual_clip":1.2,"eps_low":0.1,"max_log_ratio":0.5}]`,
		"reinforce":             `[{"name":"reinforce"}]`,
		"sft":                   `[{"name":"sft","reduction":"seq_mean"}]`,
		"entropy":               `[{"name":"entropy"}]`,
		"reference_kl k1":       `[{"name":"reference_kl","estimator":"k1"}]`,
		"reference_kl k3":       `[{"name":"reference_kl"},{"name":"ppo","weight":0.5}]`,
		"distrl":                `[{"name":"ppo"},{"name":"distrl","weight":0.7}]`,
		"distrl paper":          `[{"name":"distrl","mode":"paper"}]`,
		"lco_kld":               `[{"name":"lco_kld"}]`,
		"lco_kld estimate":      `[{"name":"lco_kld","advantages":"vocab_estimate"}]`,
		"lco_kld dense":         `[{"name":"lco_kld","advantages":"dense"}]`,
		"lco_kld dense split":   `[{"name":"lco_kld","advantages":"dense","reduction":"split_mean"}]`,
		"lco_kld reward":        `[{"name":"lco_kld","advantages":"reward","reward_beta":3,"beta":4}]`,
		"lco_mse":               `[{"name":"lco_mse"}]`,
		"lco_mse dense":         `[{"name":"lco_mse","advantages":"dense","agreement_threshold":-3.2,"agreement_beta_factor":4}]`,
		"lco_mse dense current": `[{"name":"lco_mse","advantages":"dense","anchor":"current","agreement_beta_factor":1}]`,
		"lco_lch":               `[{"name":"lco_lch","reduction":"seq_mean"}]`,
		"lco_lch dense":         `[{"name":"lco_lch","advantages":"dense","agreement_beta_factor":1}]`,
		"adpa":                  `[{"name":"adpa"}]`,
		"ipvrm":                 `[{"name":"ipvrm","beta":2,"margin":1}]`,
		"ipvrm late":            `[{"name":"ipvrm","beta":2,"margin":1,"weights":"late","reference":"frozen"}]`,
		"ipvrm early":           `[{"name":"ipvrm","beta":2,"margin":1,"weights":"early"}]`,
		"ipvrm pooled":          `[{"name":"ipvrm","beta":2,"margin":1,"reduction":"token_mean"}]`,
		"ipvrm_online":          `[{"name":"ipvrm_online","beta":2,"margin":1}]`,
		"ipvrm_online keep":     `[{"name":"ipvrm_online","beta":0.5,"margin":0,"all_equal":"keep"}]`,
		"dpo":                   `[{"name":"dpo","beta":0.3}]`,
	} {
		cases[name] = peerCase{losses: losses}
	}
	for _, name := range []string{"ppo token_mean", "reference_kl k3", "distrl", "lco_kld", "lco_kld reward", "lco_mse",
		"lco_lch dense"} {
		c := cases[name]
		c.temperature = 0.7
		cases[name+" at 0.7"] = c
	}
	const ppo = `[{"name":"ppo"}]`
	cases["qwen2"] = peerCase{losses: ppo, model: func(c *transformer.Config) { c.ModelType, c.QKVBias = "qwen2", true }}
	cases["qwen3"] = peerCase{losses: ppo, model: func(c *transformer.Config) {
		c.ModelType, c.QKNorm, c.HeadDim, c.Tied = "qwen3", true, 16, true
	}}
	cases["llama biases"] = peerCase{losses: ppo, model: func(c *transformer.Config) { c.QKVBias, c.OutBias, c.MLPBias = true, true, true }}
	cases["llama3 rope"] = peerCase{losses: ppo, model: func(c *transformer.Config) {
		c.Rope = transformer.Rope{Theta: 500000, Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPosition: 16}
	}}
	cases["linear rope"] = peerCase{losses: ppo, model: func(c *transformer.Config) { c.Rope.Type, c.Rope.Factor = "linear", 4 }}
	cases["adapters"] = peerCase{losses: ppo, lora: true}
	dir, number := t.TempDir(), 0 // each case is an iteration of one trainer that watches: it takes seconds to start
	words := command(t, "--gradients", "--microbatch", "5", "--watch", dir)
	trainer := exec.Command(words[0], words[1:]...)
	var said bytes.Buffer
	trainer.Stdout, trainer.Stderr = &said, &said
	if err := trainer.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		trainer.Process.Kill()
		trainer.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	}()
	var worst, worstLoss float64
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		t.Run(name, func(t *testing.T) {
			number++
			loss, gradient := gradients(t, cases[name], dir, number)
			t.Logf("loss differs by %.1e, gradients by %.1e of the largest", loss, gradient)
			if loss > lossTolerance || gradient > gradientTolerance || math.IsNaN(loss+gradient) {
				t.Errorf("more than %v and %v", lossTolerance, gradientTolerance)
			}
			worst, worstLoss = max(worst, gradient), max(worstLoss, loss)
		})
	}
	t.Logf("%d cases; losses differ by up to %.1e, gradients by up to %.1e of the largest", len(cases), worstLoss, worst)
}

// gradients are by how much loss and gradients differ.
func gradients(t *testing.T, c peerCase, dir string, number int) (loss, gradient float64) {
	t.Helper()
	r := recipe.Default()
	if c.temperature != 0 {
		r.Rollout.Temperature = c.temperature
	}
	if err := json.Unmarshal([]byte(c.losses), &r.Update.Losses); err != nil {
		t.Fatal(err)
	}
	policy, reward := model(t, c.model, 3), model(t, c.model, 4)
	config, err := local.ReadConfig(policy.Path)
	if err != nil {
		t.Fatal(err)
	}
	if c.lora {
		policy = adapted(t, policy)
	}
	begin := func(name string) chain.Iteration {
		it := chain.NewIteration("0123456789abcdef", 5, number, filepath.Join(t.TempDir(), name))
		it.Policy, it.Reward = policy, reward
		return it
	}
	job := chain.UpdateJob(r, chain.PolicyRole, begin(""))
	l, err := job.Loss()
	if err != nil {
		t.Fatal(err)
	}
	var batches []stage.Batch
	for _, role := range l.Spec().Roles {
		if s := role.String(); s == "sample" {
			batches = append(batches, rows(t, job, false, config.Vocab))
		} else if s == "chosen" && !strings.Contains(c.losses, "sft") {
			batches = append(batches, rows(t, job, true, config.Vocab))
		}
	}
	ours := begin("ours")
	r.Update.Mode = update.Gradient
	run(t, r, ours, batches)
	want := read(t, filepath.Join(ours.Work, "policy-replica-000", "result.safetensors"))["result"]
	var part struct{ Loss float64 }
	raw, err := os.ReadFile(filepath.Join(ours.Work, "policy-replica-000", "gradient.json"))
	if err != nil || json.Unmarshal(raw, &part) != nil {
		t.Fatal(err)
	}

	theirs := begin("theirs")
	r.Update.Mode = update.Delta
	r.Update.External = &update.External{Watch: true, Dir: dir, Seconds: 120}
	run(t, r, theirs, batches)
	have := read(t, filepath.Join(theirs.Dir, "optimizer-policy", "gradients.safetensors"))
	steps, err := files.ReadLines[update.StepRecord](t.Context(), filepath.Join(theirs.Dir, "steps-policy.jsonl"))
	if err != nil || len(steps) != 1 {
		t.Fatal(steps, err)
	}
	loss = math.Abs(steps[0].Loss-part.Loss) / max(1, math.Abs(part.Loss))
	m, err := local.LoadRef(t.Context(), policy)
	if err != nil {
		t.Fatal(err)
	}
	largest, at := 0.0, 0
	for _, p := range m.Parameters() {
		g := have[p.Name]
		if len(g) != len(p.Param) {
			t.Fatalf("%s has %d gradients, want %d", p.Name, len(g), len(p.Param))
		}
		for i, x := range g {
			w := float64(want[at+i])
			largest, gradient = max(largest, math.Abs(w)), max(gradient, math.Abs(float64(x)-w))
		}
		at += len(g)
	}
	if largest == 0 || at != len(want) {
		t.Fatalf("largest gradient %v, %d of %d", largest, at, len(want))
	}
	return loss, gradient / largest
}

// adapted is the model with adapters that do something.
func adapted(t *testing.T, ref models.Ref) models.Ref {
	t.Helper()
	m, err := local.LoadRef(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddLoRA(transformer.LoRA{Rank: 3, Alpha: 5, Targets: []string{"q_proj", "v_proj", "down_proj"}}, 2, ref); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for _, p := range m.Parameters() {
		for i := range p.Param {
			p.Param[i] += 0.1 * float32(random.NormFloat64())
		}
	}
	dir := t.TempDir()
	if err := chain.SaveModel(t.Context(), dir, m, tokenizer.NewProvingGround(false)); err != nil {
		t.Fatal(err)
	}
	out, err := chain.OpenAt(t.Context(), recipe.Model{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Five iterations of GRPO by either trainer, from the same policy. Adam divides a gradient by its size, so that where it is all but 0 a
// difference in its last place is a step of its own: weights drift apart by up to twice the learning rate a step, most by far less.
// Responses are the same as long as no draw falls between the two distributions.
func TestRun(t *testing.T) {
	const text = `
kind: policy
iterations: 5
prompts: {source: chain, count: 16}
rollout: {samples: 4, max_new_tokens: 45}
label: {verifier: {kind: proving_ground}}
advantage: {kind: grpo, groups: mixed}
update: {losses: [{name: ppo}, {name: reference_kl, weight: 0.01}], minibatches: 2, optimizer: {lr: 3e-4, weight_decay: 0.01}}
evaluate: {every: 0}
`
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	for _, by := range []string{"ours", "theirs"} {
		r, err := recipe.Parse([]byte(text), []string{"run=" + filepath.Join(dir, by), "policy.path=" + filepath.Join(dir, "policy")})
		if err != nil {
			t.Fatal(err)
		}
		if by == "theirs" {
			r.Update.External = &update.External{Command: command(t, "--microbatch", "16"), Seconds: 600}
		}
		m, err := method.New(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := method.Run(t.Context(), m, progress.Silent()); err != nil {
			t.Fatal(err)
		}
	}
	start := weights(t, filepath.Join(dir, "policy"))
	for i := range 5 {
		iteration := fmt.Sprintf("iter-%05d", i)
		a, b := weights(t, filepath.Join(dir, "ours", iteration, "policy")), weights(t, filepath.Join(dir, "theirs", iteration, "policy"))
		most, apart, moved := 0.0, 0.0, 0.0
		for k := range a {
			most = max(most, math.Abs(float64(a[k]-b[k])))
			apart += math.Pow(float64(a[k]-b[k]), 2)
			moved += math.Pow(float64(a[k]-start[k]), 2)
		}
		x, y := responses(t, filepath.Join(dir, "ours", iteration)), responses(t, filepath.Join(dir, "theirs", iteration))
		same := 0
		for id, tokens := range x {
			if slices.Equal(tokens, y[id]) {
				same++
			}
		}
		share := math.Sqrt(apart / moved)
		t.Logf("iteration %d: %d of %d responses are the same; weights differ by at most %.1e, by %.1e of the way they went", i, same, len(x),
			most, share)
		if i == 0 && same != len(x) || len(x) != 64 || len(y) != 64 {
			t.Errorf("iteration %d: %d of %d responses are the same", i, same, len(x))
		}
		if same == len(x) && share > 5e-3 {
			t.Errorf("iteration %d: weights are %v of their way apart, from the same responses", i, share)
		}
	}
}

func weights(t *testing.T, dir string) (out []float32) {
	t.Helper()
	m, err := local.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Parameters() {
		out = append(out, p.Param...)
	}
	return out
}

// responses are those of an iteration by their ids.
func responses(t *testing.T, dir string) map[uuid.UUID][]int32 {
	t.Helper()
	out := map[uuid.UUID][]int32{}
	err := recordio.ReadFile(context.Background(), filepath.Join(dir, "batch-00000-of-00001.parquet"), func(b schemas.Record) error {
		ids, tokens := b.RowIDs(), schemas.ResponseTokens.Of(b)
		for i, id := range ids {
			out[id] = slices.Clone(tokens.Row(i))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
