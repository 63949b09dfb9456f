package update

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/local/localtest"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

func tiny(t *testing.T) models.Ref {
	t.Helper()
	m, err := transformer.New(transformer.Config{ModelType: "llama", Vocab: 26, Hidden: 16, Intermediate: 24, Layers: 2, Heads: 2, KVHeads: 1,
		HeadDim:      8,
		MaxPositions: 64, NormEps: 1e-6, Rope: transformer.Rope{Theta: 10000, Type: "default"}}, 5, false)
	if err != nil {
		t.Fatal(err)
	}
	return localtest.Save(t, m, tokenizer.NewProvingGround(false))
}

func identified(t *testing.T, dir string) models.Ref {
	t.Helper()
	digest, err := models.Digest(dir)
	if err != nil {
		t.Fatal(err)
	}
	return models.Ref{Path: dir, Digest: digest}
}

func rows(t *testing.T) stage.Batch {
	t.Helper()
	var prompts, responses []uuid.UUID
	var p, r [][]int32
	for i := range 6 {
		id := uuid.NewSHA1(uuid.NameSpaceOID, []byte{byte(i)})
		prompts, responses = append(prompts, id), append(responses, uuid.NewSHA1(id, []byte("r")))
		p, r = append(p, []int32{3, int32(i) + 4}), append(r, []int32{5, int32(i) + 6, 1})
	}
	b, err := schemas.NewRecord(schemas.Meta{Run: "test"}, schemas.PromptID.From(prompts), schemas.ResponseID.From(responses),
		schemas.PromptTokens.FromRows(p), schemas.ResponseTokens.FromRows(r))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// updated does one update and returns the job that made it.
func updated(t *testing.T, model models.Ref, state string, lora *LoRA) Job {
	t.Helper()
	c := Default()
	c.Losses, c.LoRA, c.Steps = []Term{{Name: "sft", Weight: 1}}, lora, 3
	c.Optimizer.Rate = 0.01
	dir := t.TempDir()
	job := Job{Config: c, Role: "policy", Model: model, State: state, Dir: dir, Work: filepath.Join(dir, "work"), Seed: 3}
	if err := setting.Check(job); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(job.Work, 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := runReplica(context.Background(), job, 0, []stage.Batch{rows(t)}, losses.Totals{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mergeReplicas(t.Context(), job, []string{file}); err != nil {
		t.Fatal(err)
	}
	return job
}

func logp(t *testing.T, dir string) []float32 {
	t.Helper()
	m, err := local.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	results, err := local.New(m).Score(context.Background(),
		[]models.ScoreRequest{{Sequence: models.Sequence{Prompt: []int32{3, 4}, Response: []int32{5, 6, 1}}}})
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results[0].Err)
	}
	return results[0].LogP
}

func sum(xs []float32) (s float32) {
	for _, x := range xs {
		s += x
	}
	return s
}

// TestAdaptersGoOn: adapters alone are saved beside the name of their base, and the next update goes on with them and with the
// state of their optimizer.
func TestAdaptersGoOn(t *testing.T) {
	base := tiny(t)
	lora := &LoRA{LoRA: transformer.LoRA{Rank: 2, Alpha: 4}}
	first := updated(t, base, "", lora)
	if got, err := transformer.AdapterBase(first.ModelDir()); err != nil || got != base.Path {
		t.Fatalf("base %q, %v", got, err)
	}
	second := updated(t, identified(t, first.ModelDir()), first.StateDir(), lora)
	if got, err := transformer.AdapterBase(second.ModelDir()); err != nil || got != base.Path {
		t.Fatalf("base of the second %q, %v", got, err)
	}
	steps, err := os.ReadFile(second.StepsFile())
	if err != nil || !strings.Contains(string(steps), `"step":6`) {
		t.Errorf("the optimizer did not go on: %v %s", err, steps)
	}
	before, once, twice := sum(logp(t, base.Path)), sum(logp(t, first.ModelDir())), sum(logp(t, second.ModelDir()))
	if !(before < once && once < twice) {
		t.Errorf("log-probs of a trained response: %v, %v, %v", before, once, twice)
	}
	other := second.Config
	other.LoRA = &LoRA{LoRA: transformer.LoRA{Rank: 3, Alpha: 4}}
	if _, err := openReplica(t.Context(), Job{Config: other, Model: identified(t, first.ModelDir())}, 0); err == nil ||
		!strings.Contains(err.Error(), "update.lora asks for") {
		t.Errorf("adapters of another rank: %v", err)
	}
}

// TestMergedAdapters: a merged model is whole, answers nearly as the adapted one does, and the next update starts afresh.
func TestMergedAdapters(t *testing.T) {
	base := tiny(t)
	alone := updated(t, base, "", &LoRA{LoRA: transformer.LoRA{Rank: 2, Alpha: 4}})
	merged := updated(t, base, "", &LoRA{LoRA: transformer.LoRA{Rank: 2, Alpha: 4}, Merge: true})
	if transformer.IsAdapter(merged.ModelDir()) {
		t.Fatal("the merged model is saved as adapters")
	}
	a, m := logp(t, alone.ModelDir()), logp(t, merged.ModelDir())
	for i := range a {
		if d := a[i] - m[i]; d > 1e-4 || d < -1e-4 {
			t.Errorf("token %d: %v with adapters, %v merged", i, a[i], m[i])
		}
	}
	if slices.Equal(m, logp(t, base.Path)) {
		t.Error("the merged model is the base")
	}
	next := updated(t, identified(t, merged.ModelDir()), merged.StateDir(), &LoRA{LoRA: transformer.LoRA{Rank: 2, Alpha: 4}, Merge: true})
	steps, err := os.ReadFile(next.StepsFile())
	if err != nil || strings.Contains(string(steps), `"step":4`) {
		t.Errorf("new adapters go on with the old ones' state: %v %s", err, steps)
	}
}

func TestLoRASettings(t *testing.T) {
	c := Default()
	c.Losses = []Term{{Name: "sft", Weight: 1}}
	for want, l := range map[string]LoRA{
		"lora.rank":       {},
		"lora.alpha":      {LoRA: transformer.LoRA{Rank: 2}},
		"lora.targets[0]": {LoRA: transformer.LoRA{Rank: 2, Alpha: 1, Targets: []string{"embed"}}},
	} {
		c.LoRA = &l
		if err := setting.Check(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	c.LoRA, c.Outer.Momentum = &LoRA{LoRA: transformer.LoRA{Rank: 2, Alpha: 1}, Merge: true}, 0.9
	if err := setting.Check(c); err == nil || !strings.Contains(err.Error(), "lora.merge") {
		t.Errorf("%v", err)
	}
}
