package update

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

var precisions = kernels.Precisions

// sampledFrom gives the rows the log-probs of a model, as its rollout would, and advantages.
func sampledFrom(t *testing.T, model models.Ref) stage.Batch {
	t.Helper()
	h, err := models.Acquire(t.Context(), model)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	b := rows(t)
	prompts, responses := schemas.PromptTokens.Of(b), schemas.ResponseTokens.Of(b)
	var requests []models.ScoreRequest
	for i := range b.NumRows() {
		requests = append(requests, models.ScoreRequest{Sequence: models.Sequence{Prompt: prompts.Row(i), Response: responses.Row(i)}})
	}
	results, err := h.Score(t.Context(), requests)
	if err != nil {
		t.Fatal(err)
	}
	var logp, advantage [][]float32
	for i, r := range results {
		logp, advantage = append(logp, r.LogP), append(advantage, []float32{float32(i), 1, -float32(i)})
	}
	b, err = b.With(schemas.OldLogP.FromRows(logp).Defined(schemas.FullLogP(h.Ref.Identity())), schemas.Advantage.FromRows(advantage))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// firstStep is the first step of an update, and the model that the update leaves.
func firstStep(t *testing.T, job Job, term Term, b stage.Batch) (StepRecord, models.Ref) {
	t.Helper()
	lora := job.LoRA
	job.Config = Default()
	job.Losses, job.LoRA = []Term{term}, lora
	job.Role, job.Dir = "policy", t.TempDir()
	job.Work = filepath.Join(job.Dir, "work")
	if err := setting.Check(job); err != nil {
		t.Fatal(err)
	}
	file, err := runReplica(context.Background(), job, 0, []stage.Batch{b}, losses.Totals{})
	if err != nil {
		t.Fatal(err)
	}
	left, err := mergeReplicas(t.Context(), job, []string{file})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := files.ReadLines[StepRecord](t.Context(), job.StepsFile())
	if err != nil || len(steps) == 0 {
		t.Fatal(len(steps), err)
	}
	return steps[0], left
}

// The trainer's log-probs are those of the model at the same precision, bit for bit, and at the other one they are not; what it
// leaves has the precision.
func TestTrainedAtItsPrecision(t *testing.T) {
	base, lora := tiny(t), &LoRA{LoRA: transformer.LoRA{Rank: 2, Alpha: 4}}
	for what, c := range map[string]struct {
		model models.Ref
		lora  *LoRA
	}{
		"all weights": {base, nil},
		"adapters":    {identified(t, updated(t, base, "", lora).ModelDir()), lora},
	} {
		for _, sampled := range precisions {
			model := c.model
			model.Precision = sampled
			b := sampledFrom(t, model)
			for _, trained := range precisions {
				model.Precision = trained
				step, left := firstStep(t, Job{Config: Config{LoRA: c.lora}, Model: model}, Term{Name: "ppo", Weight: 1}, b)
				ratio, kl := step.Metrics["ppo/ratio"], step.Metrics["ppo/kl"]
				exact, told := ratio == 1 && kl == 0, sampled.Rounds() != trained.Rounds() // other orders of few products may give the same sums
				if exact != (sampled == trained) && (told || !exact) || math.Abs(ratio-1) > 0.1 {
					t.Errorf("%s, sampled in %s, trained in %s: ratio %v, kl %v", what, sampled, trained, ratio, kl)
				}
				if left.Precision != trained || left.Digest == "" {
					t.Errorf("%s, trained in %s, left %+v", what, trained, left)
				}
			}
		}
	}
}

// The models of a target row have the precisions of their references: a model has no divergence from itself, and one from itself
// at another precision.
func TestTargetRowsAtTheirPrecision(t *testing.T) {
	model := tiny(t)
	for what, c := range map[string]struct {
		settings map[string]any
		set      func(j *Job, ref models.Ref)
	}{
		"reward": {map[string]any{"advantages": "reward", "reward_beta": 1, "beta": 1}, func(j *Job, ref models.Ref) { j.Reward = ref }},
		// Of a weight that leaves the old model alone: the reward model's share is too small to be seen.
		"old": {map[string]any{"advantages": "reward", "reward_beta": 1e-30, "beta": 1},
			func(j *Job, ref models.Ref) { j.Old, j.Reward = ref, ref }},
	} {
		for _, target := range precisions {
			for _, trained := range precisions {
				model.Precision = trained
				job := Job{Model: model}
				ref := model
				ref.Precision = target
				c.set(&job, ref)
				step, _ := firstStep(t, job, Term{Name: "lco_kld", Weight: 1, Config: c.settings}, sampledFrom(t, model))
				kl, told := step.Metrics["lco_kld/kl"], target == trained || target.Rounds() != trained.Rounds()
				if told && (kl == 0) != (target == trained) || math.Abs(kl) > 0.1 {
					t.Errorf("%s in %s, trained in %s: KL %v", what, target, trained, kl)
				}
			}
		}
	}
}
