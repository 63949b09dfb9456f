package update

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// randomRows has every column that the job's loss reads, in a record a prompt: prompts of one to five rows, responses of one to
// five tokens, all lengths uneven, so that no denominator of a part is that of the whole.
func randomRows(t *testing.T, job Job, pairs bool) []stage.Batch {
	t.Helper()
	needs, err := job.Needs(pairs)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 1))
	var out []stage.Batch
	for p := range 6 {
		n := 1 + p%5
		id := uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, "prompt", p))
		prompts, rows, tokens := make([]uuid.UUID, n), make([]uuid.UUID, n), make([][]int32, n)
		lengths := map[string][]int{"": make([]int, n), "chosen_": make([]int, n), "rejected_": make([]int, n)}
		for i := range n {
			prompts[i], rows[i], tokens[i] = id, uuid.NewSHA1(id, fmt.Append(nil, i)), []int32{3, int32(p) + 4}
			for _, l := range lengths {
				l[i] = 1 + rng.IntN(5)
			}
		}
		cols := []schemas.Filled{schemas.PromptID.From(prompts), schemas.PromptTokens.FromRows(tokens)}
		if pairs {
			cols = append(cols, schemas.PairID.From(rows))
		} else {
			cols = append(cols, schemas.ResponseID.From(rows))
		}
		for _, d := range needs[1:] {
			cols = append(cols, randomColumn(rng, d.Describe(), n, lengths))
		}
		b, err := schemas.NewRecord(schemas.Meta{Run: "test"}, cols...)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func randomColumn(rng *rand.Rand, c schemas.Column, n int, lengths map[string][]int) schemas.Filled {
	side := ""
	for _, prefix := range []string{"chosen_", "rejected_"} {
		if len(c.Name) > len(prefix) && c.Name[:len(prefix)] == prefix {
			side = prefix
		}
	}
	number := func() float32 { return -3.2 - 0.2*rng.Float32() } // near the log-probs of the untrained model
	list := func(i int) []float32 {
		xs := make([]float32, lengths[side][i])
		for t := range xs {
			xs[t] = number()
		}
		return xs
	}
	switch c.Type.String() {
	case schemas.Outcome.Type.String():
		xs := make([]float32, n)
		for i := range xs {
			if xs[i] = float32(i % 2); c.Name == losses.GroupMean.Name {
				xs[i] = 0.4
			}
		}
		return schemas.Scalar[float32]{Column: c}.From(xs)
	case schemas.ResponseTokens.Type.String():
		rows := make([][]int32, n)
		for i := range rows {
			for t := range lengths[side][i] {
				rows[i] = append(rows[i], int32(5+t)) // as candidate 0 below
			}
		}
		return schemas.List[int32]{Column: c}.FromRows(rows)
	case schemas.OldLogP.Type.String():
		rows := make([][]float32, n)
		for i := range rows {
			if rows[i] = list(i); c.Name == losses.Advantage.Name { // of both signs
				for t := range rows[i] {
					rows[i][t] += 3.3
				}
			}
		}
		return schemas.List[float32]{Column: c}.FromRows(rows)
	case schemas.CandidateIDs.Type.String():
		rows := make([][][]int32, n)
		for i := range rows {
			for t := range lengths[side][i] {
				rows[i] = append(rows[i], []int32{int32(5 + t), 15, 16})
			}
		}
		return schemas.Nested[int32]{Column: c}.FromRows(rows)
	}
	rows := make([][][]float32, n)
	for i := range rows {
		for range lengths[side][i] {
			rows[i] = append(rows[i], []float32{number(), number(), number()})
		}
	}
	return schemas.Nested[float32]{Column: c}.FromRows(rows)
}

// gradientStep takes the step of gradient mode with the rows dealt out to so many replicas.
func gradientStep(t *testing.T, job Job, batches []stage.Batch, replicas int) (StepRecord, []float32) {
	t.Helper()
	job.Dir = t.TempDir()
	job.Work, job.Mode, job.Replicas = filepath.Join(job.Dir, "work"), Gradient, replicas
	if err := os.MkdirAll(job.Work, 0o755); err != nil {
		t.Fatal(err)
	}
	parts := make([][]stage.Batch, replicas)
	for i, b := range batches {
		k := i * i % replicas // of four replicas two have nothing
		parts[k] = append(parts[k], b)
	}
	var totals losses.Totals
	for _, part := range parts {
		counts, err := countRows(job, part)
		if err != nil {
			t.Fatal(err)
		}
		totals.Merge(counts)
	}
	dirs := make([]string, replicas)
	for k, part := range parts {
		var err error
		if dirs[k], err = runReplica(t.Context(), job, k, part, totals); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := mergeReplicas(t.Context(), job, dirs); err != nil {
		t.Fatal(err)
	}
	steps, err := files.ReadLines[StepRecord](t.Context(), job.StepsFile())
	if err != nil || len(steps) != 1 {
		t.Fatalf("%d steps, %v; replicas of gradient mode take one together", len(steps), err)
	}
	m, err := local.Load(job.ModelDir())
	if err != nil {
		t.Fatal(err)
	}
	return steps[0], append([]float32(nil), m.LMHead()...)
}

// Any number of replicas in gradient mode takes the same step, whatever the loss divides by.
func TestReplicasAddUp(t *testing.T) {
	model := tiny(t)
	for name, terms := range map[string][]Term{
		"token_mean":    {{Name: "ppo", Weight: 1}},
		"seq_mean":      {{Name: "ppo", Weight: 1, Config: map[string]any{"reduction": "seq_mean"}}},
		"seq_sum":       {{Name: "ppo", Weight: 1, Config: map[string]any{"reduction": "seq_sum"}}},
		"dr_grpo":       {{Name: "ppo", Weight: 1, Config: map[string]any{"reduction": "dr_grpo", "max_tokens": 9}}},
		"distrl":        {{Name: "ppo", Weight: 1}, {Name: "distrl", Weight: 0.1}},
		"distrl, paper": {{Name: "distrl", Weight: 1, Config: map[string]any{"mode": "paper"}}},
		"ipvrm":         {{Name: "ipvrm", Weight: 1}},
		"ipvrm, tokens": {{Name: "ipvrm", Weight: 1, Config: map[string]any{"reduction": "token_mean"}}},
		"implicit_prm":  {{Name: "implicit_prm", Weight: 1}},
		"dpo":           {{Name: "dpo", Weight: 1}},
		"dpo_rm":        {{Name: "dpo_rm", Weight: 1, Config: map[string]any{"reference": "frozen"}}},
		"qrm":           {{Name: "qrm", Weight: 1}},
		"value":         {{Name: "ppo", Weight: 1}, {Name: "value", Weight: 0.5}},
		"lco_kld":       {{Name: "lco_kld", Weight: 1}},
		"lco, split_mean": {{Name: "lco_kld", Weight: 1, Config: map[string]any{"advantages": "vocab_estimate", "beta": 10.0,
			"reduction": "split_mean"}}},
		"reinforce": {{Name: "reinforce", Weight: 1}},
		"sft":       {{Name: "sft", Weight: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			job := Job{Config: Default(), Role: "policy", Model: model, Old: model, Reward: model, Seed: 3}
			job.Losses, job.Optimizer.MaxGradNorm = terms, 0
			loss, err := job.Loss()
			if err != nil {
				t.Fatal(err)
			}
			pairs := len(sidesOf(loss.Spec(), true, 0)) > 1
			batches := randomRows(t, job, pairs)
			one, _ := gradientStep(t, job, batches, 1)
			if one.GradNorm == 0 || one.Units == 0 || one.Tokens == 0 {
				t.Fatalf("one replica: %+v; the test sees nothing", one)
			}
			many, _ := gradientStep(t, job, batches, 4)
			for what, x := range map[string][2]float64{"loss": {one.Loss, many.Loss}, "grad_norm": {one.GradNorm, many.GradNorm},
				"units": {float64(one.Units), float64(many.Units)}, "tokens": {one.Tokens, many.Tokens}} {
				if math.Abs(x[0]-x[1]) > 2e-5*math.Max(1e-3, math.Abs(x[0])) {
					t.Errorf("%s is %v with one replica and %v with four", what, x[0], x[1])
				}
			}
			for name, x := range one.Metrics {
				if y := many.Metrics[name]; math.Abs(x-y) > 2e-5*math.Max(1, math.Abs(x)) {
					t.Errorf("metric %s is %v with one replica and %v with four", name, x, y)
				}
			}
		})
	}
}

// In delta mode a replica's delta counts as much as the rows that it saw, and one without rows does not dilute the step.
func TestDeltasAreWeighted(t *testing.T) {
	model := tiny(t)
	job := Job{Config: Default(), Role: "policy", Model: model, Seed: 3, Dir: t.TempDir()}
	job.Losses, job.Replicas = []Term{{Name: "sft", Weight: 1}}, 3
	job.Work = filepath.Join(job.Dir, "work")
	batches := randomRows(t, job, false)
	dirs := make([]string, 3)
	want := make([]float64, len(head(t, model.Path)))
	total := 0
	for k, part := range [][]stage.Batch{batches[:1], nil, batches[2:5]} { // 1, 0 and 3 + 4 + 5 rows
		var err error
		if dirs[k], err = runReplica(t.Context(), job, k, part, losses.Totals{}); err != nil {
			t.Fatal(err)
		}
		rows := 0
		for _, b := range part {
			rows += b.NumRows()
		}
		alone := job
		alone.Dir, alone.Replicas = t.TempDir(), 1
		if _, err := mergeReplicas(t.Context(), alone, dirs[k:k+1]); err != nil {
			t.Fatal(err)
		}
		for i, x := range head(t, alone.ModelDir()) {
			want[i] += float64(rows) * float64(x)
		}
		total += rows
	}
	if _, err := mergeReplicas(t.Context(), job, dirs); err != nil {
		t.Fatal(err)
	}
	for i, x := range head(t, job.ModelDir()) {
		if w := want[i] / float64(total); math.Abs(float64(x)-w) > 1e-6 {
			t.Fatalf("weight %d of the head is %v, want %v", i, x, w)
		}
	}
}

func head(t *testing.T, dir string) []float32 {
	t.Helper()
	m, err := local.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), m.LMHead()...)
}
