package update

import (
	"bytes"
	"cmp"
	"context"
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

// StepRecord is one optimiser step as steps-Role.jsonl holds it. In gradient mode the one step of all replicas is one record.
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
// reached, besides its optimizer state and the record of its steps, or in gradient mode the gradient. totals are the
// denominators of gradient mode, counted over all replicas.
func runReplica(ctx context.Context, job Job, index int, batches []stage.Batch, totals losses.Totals) (string, error) {
	r, err := openReplica(ctx, job, index)
	if err != nil {
		return "", err
	}
	units, left, err := unitsOf(batches, r.spec, r.job.Temperature)
	if err != nil {
		return "", err
	}
	for column, n := range left {
		stage.Count(ctx, "update_"+job.Role, "rows_left_out", n)
		stage.Count(ctx, "update_"+job.Role, WithoutPrefix+column, n)
	}
	stage.Count(ctx, "update_"+job.Role, "rows_used", len(units))
	var leave func(dir string) error
	if job.Mode == Gradient {
		leave, err = r.oneGradient(ctx, units, totals)
	} else {
		leave, err = r.steps(ctx, units)
	}
	if err != nil {
		return "", err
	}
	dir := r.workDir()
	return dir, files.WriteDirectory(ctx, dir, []string{resultFile}, leave)
}

// WithoutPrefix begins the names of counters of rows that an update left out, by the column that they miss.
const WithoutPrefix = "without_"

// resultFile holds the weights that a replica reached, or its gradient.
const resultFile = "result.safetensors"

// leave writes the weights or the gradient, and how many rows they come from.
func (r *replica) leave(dir string, result []float32, units int) error {
	return safetensors.Write(filepath.Join(dir, resultFile),
		[]safetensors.NamedTensor{{Name: "result", Shape: []int{len(result)}, Values: result}},
		map[string]string{"units": strconv.Itoa(units)})
}

func (r *replica) workDir() string {
	return files.Join(r.job.Work, fmt.Sprintf("%s-replica-%03d", r.job.Role, r.index))
}

// steps takes the replica's steps and returns what leaves the weights that they reached.
func (r *replica) steps(ctx context.Context, units []unit) (leave func(dir string) error, err error) {
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
	return func(dir string) error {
		if err := r.state.Save(filepath.Join(dir, "optimizer")); err != nil {
			return err
		}
		if err := files.WriteLines(ctx, filepath.Join(dir, "steps.jsonl"), records); err != nil {
			return err
		}
		return r.leave(dir, r.model.Params(), len(units))
	}, nil
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
	if loss.Spec().Heads&losses.Scalar != 0 {
		m.AddScalarHead()
	}
	if err := adapt(m, job); err != nil {
		return nil, err
	}
	var targets []target
	for _, p := range loss.Spec().TargetAt(cmp.Or(job.Temperature, 1)) {
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
	t.head.Temperature = job.Temperature
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
	if why := job.OtherAdapters(*have, job.Model.Path); why != "" {
		return fmt.Errorf("update.lora %s", why)
	}
	return nil
}

// OtherAdapters says why the update cannot go on with the adapters that a model has, "" where it can.
func (c Config) OtherAdapters(have transformer.LoRA, model string) string {
	if c.LoRA == nil || have.Equal(c.LoRA.LoRA) {
		return ""
	}
	return fmt.Sprintf("asks for adapters of %v, and %s has those of %v already, which are what is trained; say the same, or leave the "+
		"section out", c.LoRA.LoRA, model, have)
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
	if r.job.Mode == Gradient {
		return r.mergeGradients(ctx, dirs, state, steps)
	}
	job := r.job
	results, units := make([][]float32, len(dirs)), make([]int, len(dirs))
	for k, dir := range dirs {
		err := files.ReadDirectory(ctx, dir, func(dir string) (err error) {
			if results[k], units[k], err = readResult(dir, len(r.model.Params())); err != nil {
				return err
			}
			lines, err := os.ReadFile(filepath.Join(dir, "steps.jsonl"))
			if err != nil {
				return err
			}
			steps.Write(lines)
			// Copied, not moved: a bundle that is run again must find it.
			return os.CopyFS(filepath.Join(state, stateName(k)), os.DirFS(filepath.Join(dir, "optimizer")))
		})
		if err != nil {
			return err
		}
	}
	outer := optim.NewOuter(job.Outer.Rate, job.Outer.Momentum, len(r.model.Params()))
	if job.State != "" && job.Outer.Momentum != 0 {
		if err := files.ReadDirectory(ctx, job.State, outer.Load); err != nil {
			return err
		}
	}
	if err := r.outerStep(outer, results, units); err != nil {
		return err
	}
	return outer.Save(state)
}

// outerStep moves the weights along the mean of the replicas' deltas, each weighted by the rows that it saw: rows are divided by
// their prompts' ids, so a replica may have many or none. A single replica at rate 1 gives the weights it reached, bit for bit,
// which a sum of weights and delta would only nearly be.
func (r *replica) outerStep(outer *optim.Outer, reached [][]float32, units []int) error {
	params := r.model.Params()
	if o := r.job.Outer; len(reached) == 1 && o.Rate == 1 && o.Momentum == 0 {
		copy(params, reached[0])
		return nil
	}
	total := 0
	for _, n := range units {
		total += n
	}
	delta := make([]float32, len(params))
	for k, theta := range reached {
		if units[k] == 0 {
			continue
		}
		kernels.Axpy(-1, params, theta)
		kernels.Axpy(float32(float64(units[k])/float64(total)), theta, delta)
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

// readResult reads what leave wrote.
func readResult(dir string, n int) (values []float32, units int, err error) {
	path := filepath.Join(dir, resultFile)
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	values, _, err = f.Float32("result")
	if err != nil {
		return nil, 0, err
	}
	if len(values) != n {
		return nil, 0, fmt.Errorf("%s: %d values for %d parameters", path, len(values), n)
	}
	if units, err = strconv.Atoi(f.Metadata()["units"]); err != nil {
		return nil, 0, fmt.Errorf("%s: metadata units: %w", path, err)
	}
	return values, units, nil
}
