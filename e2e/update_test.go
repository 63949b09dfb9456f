package e2e

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
	"github.com/millrace/millrace/transforms/update"
)

// rolloutsWithAdvantages samples from the policy and gives every token a made-up advantage.
func rolloutsWithAdvantages(t *testing.T, policy models.Ref) stage.Batch {
	t.Helper()
	b := run(t, sampler(policy), prompts(t, "3a+4b*5=", "9a-1=", "0a*7b+2c-8=", "5a+5=", "1a*2b*3=")).Out[0]
	tokens := schemas.ResponseTokens.Of(b)
	advantages, masks := make([][]float32, b.NumRows()), make([][]int32, b.NumRows())
	for i := range advantages {
		for k := range tokens.Row(i) {
			advantages[i] = append(advantages[i], float32(math.Sin(float64(3*i+k))))
			masks[i] = append(masks[i], 1)
		}
	}
	b, err := b.With(schemas.Advantage.FromRows(advantages), schemas.TokenMask.FromRows(masks))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ppoJob(policy models.Ref, dir string) update.Job {
	c := update.Default()
	c.Losses = []update.Term{{Name: "ppo", Weight: 1}}
	c.Minibatches = 2
	return update.Job{Config: c, Role: "policy", Model: policy, Dir: dir, Work: filepath.Join(dir, "work"), Seed: 5}
}

// apply runs the update on the embedded runner over the batches and returns the digest of the model it wrote.
func apply(t *testing.T, job update.Job, batches []stage.Batch) string {
	t.Helper()
	if err := os.MkdirAll(job.Work, 0o755); err != nil {
		t.Fatal(err)
	}
	p, s := beam.NewPipelineWithRoot()
	update.Apply(s, job, stage.Store{Dir: job.Work}, stagetest.Source(s, batches))
	stagetest.Execute(t, p)
	digest, err := models.Digest(job.ModelDir())
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func firstStep(t *testing.T, job update.Job) update.StepRecord {
	t.Helper()
	raw, err := os.ReadFile(job.StepsFile())
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	var s update.StepRecord
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestUpdateDoesNotDependOnTheRecords: rows in one record, one a prompt, or in another order give the same weights.
func TestUpdateDoesNotDependOnTheRecords(t *testing.T) {
	policy := tiny(t, 11)
	b := rolloutsWithAdvantages(t, policy)
	groups := stagetest.Groups(t, b)
	reversed := make([]stage.Batch, len(groups))
	for i, g := range groups {
		reversed[len(groups)-1-i] = g
	}
	want := apply(t, ppoJob(policy, t.TempDir()), []stage.Batch{b})
	for name, batches := range map[string][]stage.Batch{"one a prompt": groups, "reversed": reversed} {
		if got := apply(t, ppoJob(policy, t.TempDir()), batches); got != want {
			t.Errorf("%s: the model has digest %s, in one record %s", name, got, want)
		}
	}
	if want == policy.Digest {
		t.Error("the update changed nothing")
	}
}

// TestFirstStepIsOnPolicy: before the first step the trainer's log-probs are the rollout's, bit for bit, so every ratio is 1.
func TestFirstStepIsOnPolicy(t *testing.T) {
	policy := tiny(t, 12)
	job := ppoJob(policy, t.TempDir())
	apply(t, job, []stage.Batch{rolloutsWithAdvantages(t, policy)})
	s := firstStep(t, job)
	if s.Metrics["ppo/ratio"] != 1 || s.Metrics["ppo/kl"] != 0 || s.Metrics["ppo/clip_fraction"] != 0 {
		t.Errorf("first step: ratio %v, kl %v, clip fraction %v; want exactly 1, 0, 0", s.Metrics["ppo/ratio"], s.Metrics["ppo/kl"],
			s.Metrics["ppo/clip_fraction"])
	}
}

// TestReplicas: a given number of replicas gives the same weights every time, and in gradient mode the step of one, up to rounding.
func TestReplicas(t *testing.T) {
	policy := tiny(t, 13)
	b := rolloutsWithAdvantages(t, policy)
	job := func(mode string, replicas int) update.Job {
		j := ppoJob(policy, t.TempDir())
		j.Mode, j.Replicas = mode, replicas
		if mode == update.Gradient {
			j.Minibatches = 1
		}
		return j
	}
	for _, mode := range []string{update.Delta, update.Gradient} {
		a, again := apply(t, job(mode, 3), stagetest.Groups(t, b)), apply(t, job(mode, 3), []stage.Batch{b})
		if a != again {
			t.Errorf("%s, 3 replicas: two runs differ", mode)
		}
	}
	one, three := job(update.Gradient, 1), job(update.Gradient, 3)
	apply(t, one, []stage.Batch{b})
	apply(t, three, []stage.Batch{b})
	x, y := firstStep(t, one), firstStep(t, three)
	for what, v := range map[string][2]float64{"grad_norm": {x.GradNorm, y.GradNorm}, "loss": {x.Loss, y.Loss}, "tokens": {x.Tokens, y.Tokens},
		"units": {float64(x.Units), float64(y.Units)}} {
		if v[0] == 0 || math.Abs(v[0]-v[1]) > 1e-5*math.Abs(v[0]) {
			t.Errorf("gradient mode: %s is %v with one replica and %v with three", what, v[0], v[1])
		}
	}
}

func weights(t *testing.T, dir string) []float32 {
	t.Helper()
	m, err := local.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), m.LMHead()...)
}

// TestUpdateWithoutUsableRows leaves the model as it was.
func TestUpdateWithoutUsableRows(t *testing.T) {
	policy := tiny(t, 14)
	b := rolloutsWithAdvantages(t, policy)
	none := make([]bool, b.NumRows())
	b, err := b.With(schemas.Advantage.FromRows(make([][]float32, b.NumRows()), none...))
	if err != nil {
		t.Fatal(err)
	}
	job := ppoJob(policy, t.TempDir())
	apply(t, job, []stage.Batch{b})
	before, after := weights(t, policy.Path), weights(t, job.ModelDir())
	for i := range before {
		if before[i] != after[i] {
			t.Fatal("weights moved without a row to learn from")
		}
	}
}
