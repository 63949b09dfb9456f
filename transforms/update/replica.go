package update

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/millrace/millrace/kernels"
	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/optim"
	"github.com/millrace/millrace/models/safetensors"
	"github.com/millrace/millrace/models/tokenizer"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// StepRecord is one optimiser step as steps-Role.jsonl holds it.
type StepRecord struct {
	Replica  int                `json:"replica"`
	Step     int                `json:"step"` // over the life of the optimizer, from 1
	Loss     float64            `json:"loss"`
	GradNorm float64            `json:"grad_norm"` // before clipping
	Rate     float64            `json:"lr"`
	Units    int                `json:"units"`  // responses or pairs
	Tokens   float64            `json:"tokens"` // response tokens in the loss
	Metrics  map[string]float64 `json:"metrics,omitempty"`
}

// replica is what one replica works with.
type replica struct {
	job   Job
	index int
	model *transformer.Trainer
	*trainer
}

// runReplica trains on the rows of one replica and leaves its result in a file of the work directory: the weights it
// reached, or in gradient mode the gradient, besides its optimizer state and the record of its steps.
func runReplica(ctx context.Context, job Job, index int, batches []stage.Batch) (string, error) {
	r, err := openReplica(ctx, job, index)
	if err != nil {
		return "", err
	}
	units, left, err := unitsOf(batches, r.spec)
	if err != nil {
		return "", err
	}
	stage.Count(ctx, "update_"+job.Role, "rows_left_out", left)
	stage.Count(ctx, "update_"+job.Role, "rows_used", len(units))
	var records []StepRecord
	if job.Mode == Gradient {
		records, err = r.oneGradient(ctx, units)
	} else {
		records, err = r.steps(ctx, units)
	}
	if err != nil {
		return "", err
	}
	dir := r.workDir()
	return dir, files.WriteDirectory(ctx, dir, []string{resultFile}, func(dir string) error { return r.leave(ctx, dir, records) })
}

// resultFile holds the weights that a replica reached, or its gradient.
const resultFile = "result.safetensors"

// leave writes what a replica leaves.
func (r *replica) leave(ctx context.Context, dir string, records []StepRecord) error {
	result := r.model.Grads()
	if r.job.Mode == Delta {
		result = r.model.Params()
		if err := r.state.Save(filepath.Join(dir, "optimizer")); err != nil {
			return err
		}
	}
	if err := files.WriteLines(ctx, filepath.Join(dir, "steps.jsonl"), records); err != nil {
		return err
	}
	weight := 0.0
	for _, s := range records {
		weight += s.Tokens
	}
	return safetensors.Write(filepath.Join(dir, resultFile),
		[]safetensors.NamedTensor{{Name: "result", Shape: []int{len(result)}, Values: result}},
		map[string]string{"tokens": strconv.FormatFloat(weight, 'g', -1, 64)})
}

func (r *replica) workDir() string {
	return files.Join(r.job.Work, fmt.Sprintf("%s-replica-%03d", r.job.Role, r.index))
}

func (r *replica) steps(ctx context.Context, units []unit) ([]StepRecord, error) {
	var records []StepRecord
	for i, step := range r.job.steps(units, r.job.Seed) {
		record, err := r.step(ctx, step)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		record.Replica = r.index
		records = append(records, record)
		stage.Count(ctx, "update_"+r.job.Role, "steps", 1) // a long update is not a stalled one
	}
	return records, nil
}

// oneGradient leaves the gradient of the replica's rows; denominators are the replica's own, the merge weighs by tokens.
func (r *replica) oneGradient(ctx context.Context, units []unit) ([]StepRecord, error) {
	if len(units) == 0 {
		r.model.ZeroGrads()
		return nil, nil
	}
	loss, metrics, totals, err := r.gradient(ctx, units)
	if err != nil {
		return nil, err
	}
	return []StepRecord{{Replica: r.index, Loss: loss, Units: len(units), Tokens: totals.Tokens, Metrics: means(metrics)}}, nil
}

func means(metrics losses.Metrics) map[string]float64 {
	out := map[string]float64{}
	for _, m := range metrics {
		out[m.Name] = m.Mean()
	}
	return out
}

// openReplica loads the model, the models of the target row, and the optimizer state.
func openReplica(ctx context.Context, job Job, index int) (*replica, error) {
	loss, err := job.Loss()
	if err != nil {
		return nil, err
	}
	m, err := local.LoadRef(ctx, job.Model)
	if err != nil {
		return nil, err
	}
	if loss.Spec().Heads&losses.Scalar != 0 && m.Scalar() == nil {
		if m.LoRA() != nil {
			return nil, fmt.Errorf("%s: the loss needs a scalar head, which a model with adapters cannot be given; "+
				"give it to the model before, or merge the adapters", job.Model.Path)
		}
		m.AddScalarHead()
	}
	if err := adapt(m, job); err != nil {
		return nil, err
	}
	var targets []target
	for _, p := range loss.Spec().Target {
		ref := map[string]models.Ref{losses.OldModel: job.Old, losses.RewardModel: job.Reward}[p.Model]
		frozen, err := local.LoadRef(ctx, ref)
		if err != nil {
			return nil, fmt.Errorf("%s model of the target row: %w", p.Model, err)
		}
		targets = append(targets, target{name: p.Model, model: frozen})
	}
	model := transformer.NewTrainer(m, transformer.TrainOptions{Recompute: job.Recompute, SharePrefixes: true})
	t, err := newTrainer(job.Config, loss, model, targets)
	if err != nil {
		return nil, err
	}
	if job.State != "" && !job.merges() {
		if err := files.ReadDirectory(ctx, files.Join(job.State, stateName(stateIndex(job, index))), t.state.Load); err != nil {
			return nil, fmt.Errorf("optimizer state: %w", err)
		}
	}
	return &replica{job: job, index: index, model: model, trainer: t}, nil
}

// adapt gives the model the adapters that are asked for, unless it came with them.
func adapt(m *transformer.Model, job Job) error {
	if job.LoRA == nil {
		return nil
	}
	have := m.LoRA()
	if have == nil {
		return m.AddLoRA(job.LoRA.LoRA, job.Seed, job.Model)
	}
	if !have.Equal(job.LoRA.LoRA) {
		return fmt.Errorf("%s has adapters %v, update.lora asks for %v", job.Model.Path, *have, job.LoRA.LoRA)
	}
	return nil
}

// merges reports whether adapters are folded into the weights at the end.
func (j Job) merges() bool { return j.LoRA != nil && j.LoRA.Merge }

// stateIndex: in gradient mode there is one optimizer, that of the merge.
func stateIndex(job Job, index int) int {
	if job.Mode == Gradient {
		return 0
	}
	return index
}

// stateName is the directory of a replica's optimizer in that of the state.
func stateName(index int) string { return fmt.Sprintf("replica-%03d", index) }

// mergeReplicas adds the replicas' results in their order, takes the outer step, and writes model, state and steps.
func mergeReplicas(ctx context.Context, job Job, dirs []string) (models.Ref, error) {
	r, err := openReplica(ctx, job, 0)
	if err != nil {
		return models.Ref{}, err
	}
	var steps bytes.Buffer
	err = files.WriteDirectory(ctx, job.StateDir(), nil, func(state string) error { return r.merge(ctx, dirs, state, &steps) })
	if err != nil {
		return models.Ref{}, err
	}
	if err := files.Write(ctx, job.StepsFile(), steps.Bytes(), false); err != nil {
		return models.Ref{}, err
	}
	ref := models.Ref{Path: job.ModelDir(), Precision: job.Model.Precision}
	return ref, files.WriteDirectory(ctx, ref.Path, local.ConfigFiles(), func(model string) (err error) {
		if err := r.save(ctx, model); err != nil {
			return err
		}
		ref.Digest, err = models.Digest(model)
		return err
	})
}

// merge moves the weights by what the replicas left, writes the optimizers' states to a directory, and gathers the steps.
func (r *replica) merge(ctx context.Context, dirs []string, state string, steps *bytes.Buffer) error {
	job := r.job
	sum := make([]float32, len(r.model.Params()))
	tokens := make([]float64, len(dirs))
	results := make([][]float32, len(dirs))
	lines := make([][]byte, len(dirs))
	total := 0.0
	for k, dir := range dirs {
		err := files.ReadDirectory(ctx, dir, func(dir string) (err error) {
			if results[k], tokens[k], err = readResult(dir, len(sum)); err != nil {
				return err
			}
			if lines[k], err = os.ReadFile(filepath.Join(dir, "steps.jsonl")); err != nil || job.Mode == Gradient {
				return err
			}
			// Copied, not moved: a bundle that is run again must find it.
			return os.CopyFS(filepath.Join(state, stateName(k)), os.DirFS(filepath.Join(dir, "optimizer")))
		})
		if err != nil {
			return err
		}
		total += tokens[k]
	}
	if job.Mode == Gradient {
		for k, result := range results {
			if total > 0 { // a token mean over all replicas
				kernels.Axpy(float32(tokens[k]/total), result, sum)
			}
		}
		rate := r.state.Rate()
		norm, err := r.state.Step(r.model.Params(), sum)
		if err != nil {
			return err
		}
		if err := r.state.Save(filepath.Join(state, stateName(0))); err != nil {
			return err
		}
		line, err := json.Marshal(StepRecord{Step: r.state.Steps(), GradNorm: norm, Rate: rate, Tokens: total})
		if err != nil {
			return err
		}
		steps.Write(append(line, '\n'))
	} else {
		outer := optim.NewOuter(job.Outer.Rate, job.Outer.Momentum, len(sum))
		if job.State != "" && job.Outer.Momentum != 0 {
			if err := files.ReadDirectory(ctx, job.State, outer.Load); err != nil {
				return err
			}
		}
		if err := r.outerStep(outer, results); err != nil {
			return err
		}
		if err := outer.Save(state); err != nil {
			return err
		}
	}
	for _, l := range lines {
		steps.Write(l)
	}
	return nil
}

// outerStep moves the weights along the mean of the replicas' deltas. A single replica at rate 1 gives the weights it
// reached, bit for bit, which a sum of weights and delta would only nearly be.
func (r *replica) outerStep(outer *optim.Outer, reached [][]float32) error {
	params := r.model.Params()
	if o := r.job.Outer; len(reached) == 1 && o.Rate == 1 && o.Momentum == 0 {
		copy(params, reached[0])
		return nil
	}
	delta := make([]float32, len(params))
	for _, theta := range reached {
		kernels.Axpy(-1, params, theta)
		kernels.Axpy(1/float32(len(reached)), theta, delta)
	}
	return outer.Step(params, delta)
}

// save writes the model with its tokenizer.
func (r *replica) save(ctx context.Context, dir string) error {
	if r.job.merges() {
		r.model.Merge()
	}
	if err := r.model.Save(dir); err != nil {
		return err
	}
	tok, err := tokenizer.Open(ctx, r.job.Model)
	if err != nil {
		return err
	}
	return tok.Save(dir)
}

func readResult(dir string, n int) ([]float32, float64, error) {
	path := filepath.Join(dir, resultFile)
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	values, _, err := f.Float32("result")
	if err != nil {
		return nil, 0, err
	}
	if len(values) != n {
		return nil, 0, fmt.Errorf("%s: %d values for %d parameters", path, len(values), n)
	}
	tokens, err := strconv.ParseFloat(f.Metadata()["tokens"], 64)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: metadata tokens: %w", path, err)
	}
	return values, tokens, nil
}
