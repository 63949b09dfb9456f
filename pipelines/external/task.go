package external

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/models/optim"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/update"
)

// Protocol is the version of what both programs write. It changes when a trainer would have to.
const Protocol = 1

// Names in the directory of a task.
const (
	TaskName       = "task.json" // written last by this program
	PlanName       = "steps.jsonl"
	DoneName       = "done.json" // written last by the trainer
	CheckpointName = "checkpoint"
	StateName      = "optimizer"
)

// Task is what a trainer is asked to do. Paths of models and states are absolute, other names are of the task's directory.
type Task struct {
	Protocol  int    `json:"protocol"`
	Run       string `json:"run"` // its name: the beginning of the digest of its recipe
	Iteration int    `json:"iteration"`
	Role      string `json:"role"` // of the model: policy or reward
	Seed      uint64 `json:"seed"` // for what the trainer draws

	Model Model `json:"model"` // where the update starts
	// Target is the row of logits that some losses compare the model with: the sum of these models' logits, each times its weight.
	Target []Part `json:"target,omitempty"`

	Losses      []update.Term `json:"losses"` // with the defaults of all their settings
	Heads       []string      `json:"heads"`  // lm, scalar
	Temperature float64       `json:"temperature"`
	Optimizer   optim.Config  `json:"optimizer"`
	LoRA        *update.LoRA  `json:"lora,omitempty"`

	Batches []Batch `json:"batches"`
	// Plan has a line for every optimizer step: the numbers of its rows, counted through all files of all batches in their order.
	Plan File `json:"plan"`
	// Steps is the number of lines.
	Steps int `json:"steps"`

	// State is the directory that the trainer left as its own for the iteration before, "" at the start.
	State string `json:"state"`
	Leave Leave  `json:"leave"`
}

// Leave says where the trainer leaves what.
type Leave struct {
	Checkpoint string `json:"checkpoint"` // directory of the model
	Optimizer  string `json:"optimizer"`  // directory of what the trainer wants back with the next task
	Done       string `json:"done"`       // written last
}

// Model is a model on this machine.
type Model struct {
	Path      string `json:"path"`
	Digest    string `json:"digest"`
	Format    string `json:"format"`              // huggingface, peft or gguf
	Base      string `json:"base,omitempty"`      // of peft: the path of the model that the adapters belong to
	Precision string `json:"precision,omitempty"` // in which products are computed, where that is not float32
}

// Part is one term of a target row.
type Part struct {
	Model  Model   `json:"model"`
	Name   string  `json:"name"` // old: the model that the update starts from; reward
	Weight float64 `json:"weight"`
}

// Batch is the rows of one kind.
type Batch struct {
	Kind    string          `json:"kind"` // responses or pairs
	Files   []File          `json:"files"`
	Columns []update.Column `json:"columns"`
}

// File is a file with its digest.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Rows   int    `json:"rows,omitempty"`
}

// handed lists the files of rows, by the name of their kind.
func (u Update) handed(ctx context.Context) (map[string][]string, error) {
	out := map[string][]string{}
	for _, name := range []string{chain.ResponsesName, chain.PairsName} {
		paths, err := chain.Handed(u.Iteration, name).Files(ctx)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if len(paths) > 0 {
			out[name] = paths
		}
	}
	return out, nil
}

// task makes the task. The same rows give the same bytes.
func (u Update) task(ctx context.Context, at string, handed map[string][]string) (prepared, error) {
	j := u.Job
	loss, err := j.Loss()
	if err != nil {
		return prepared{}, err
	}
	spec := loss.Spec()
	p := prepared{from: map[string]string{}, local: map[string]string{}}
	p.Task = Task{Protocol: Protocol, Run: u.Iteration.Meta.Run, Iteration: u.Iteration.Number, Role: j.Role, Seed: j.Seed, Losses: j.Losses,
		Temperature: cmp.Or(j.Temperature, 1), Optimizer: j.Optimizer, LoRA: j.LoRA,
		Leave: Leave{Checkpoint: CheckpointName, Optimizer: StateName, Done: DoneName}}
	if spec.Heads&losses.LM != 0 {
		p.Heads = append(p.Heads, "lm")
	}
	if spec.Heads&losses.Scalar != 0 {
		p.Heads = append(p.Heads, "scalar")
	}
	if p.Model, err = p.model(ctx, at, "model", j.Model); err != nil {
		return p, err
	}
	for _, part := range spec.TargetAt(p.Temperature) {
		m, ref, name := p.Model, j.Model, "model"
		switch {
		case part.Model == losses.RewardModel:
			ref, name = j.Reward, "reward"
		case j.Old.Path != j.Model.Path:
			ref, name = j.Old, "old"
		}
		if name != "model" {
			if m, err = p.model(ctx, at, name, ref); err != nil {
				return p, err
			}
		}
		p.Target = append(p.Target, Part{Model: m, Name: part.Model, Weight: part.Weight})
	}
	if p.State = j.State; files.IsURL(j.State) {
		p.State, p.local["state"] = filepath.Join(at, "state"), j.State
	}
	rows, err := p.batches(ctx, j, handed)
	if err != nil {
		return p, err
	}
	if err := p.lay(j, rows); err != nil {
		return p, err
	}
	p.raw, err = json.MarshalIndent(p.Task, "", "  ")
	p.raw = append(p.raw, '\n')
	return p, err
}

// model describes a model; one in a bucket is to be brought to the directory of the task.
func (p *prepared) model(ctx context.Context, at, name string, ref models.Ref) (Model, error) {
	m := Model{Path: ref.Path, Digest: ref.Digest, Format: "huggingface"}
	if s := ref.Precision.String(); s != "float32" {
		m.Precision = s
	}
	here, err := models.FetchDescription(ctx, ref)
	if err != nil {
		return m, err
	}
	defer here.Release()
	if transformer.IsAdapter(here.Path) {
		m.Format = "peft"
		if m.Base, err = transformer.AdapterBase(here.Path); err != nil {
			return m, err
		}
	} else if filepath.Ext(here.Path) == ".gguf" {
		m.Format = "gguf"
	}
	if files.IsURL(m.Path) {
		if m.Format == "gguf" {
			return m, setting.Errorf("update.external", "%s is a GGUF file in a bucket, which is not brought to a trainer; name a directory", m.Path)
		}
		m.Path, p.local[name] = filepath.Join(at, name), m.Path
	}
	if files.IsURL(m.Base) {
		m.Base, p.local[name+"-base"] = filepath.Join(at, name+"-base"), m.Base
	}
	return m, nil
}

// row is where a row lies in the order of ids, and its number.
type row struct {
	prompt, id uuid.UUID
	number     int
}

// batches describes the files of rows, and lists the rows.
func (p *prepared) batches(ctx context.Context, j update.Job, handed map[string][]string) ([]row, error) {
	var rows []row
	for _, kind := range []string{chain.ResponsesName, chain.PairsName} {
		if len(handed[kind]) == 0 {
			continue
		}
		all, err := j.Columns(kind == chain.PairsName)
		if err != nil {
			return nil, err
		}
		b := Batch{Kind: kind}
		for _, path := range handed[kind] {
			f := File{Name: files.Base(path)}
			p.from[f.Name] = path
			err := recordio.ReadFile(ctx, path, func(part schemas.Record) error {
				prompts, ids := schemas.PromptID.Of(part), part.RowIDs()
				for i := range part.NumRows() {
					rows = append(rows, row{prompts[i], ids[i], len(rows)})
				}
				if f.Rows += part.NumRows(); b.Columns == nil {
					b.Columns = columnsOf(all, part)
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
			if f.SHA256, err = digestOf(ctx, path); err != nil {
				return nil, err
			}
			b.Files = append(b.Files, f)
		}
		p.Batches = append(p.Batches, b)
	}
	return rows, nil
}

// columnsOf are the columns that are there, with what their log-probs are.
func columnsOf(all []update.Column, part schemas.Record) (out []update.Column) {
	for _, c := range all {
		d, ok := schemas.ByName(c.Name)
		if !ok || !part.Has(d) {
			continue
		}
		if def, ok := schemas.LogPOf(part, d); ok {
			c.LogP = &def
		}
		out = append(out, c)
	}
	return out
}

// lay makes the plan of the steps, which goes by the order of ids.
func (p *prepared) lay(j update.Job, rows []row) error {
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(bytes.Compare(a.prompt[:], b.prompt[:]), bytes.Compare(a.id[:], b.id[:]))
	})
	for i := 1; i < len(rows); i++ {
		if rows[i].id == rows[i-1].id {
			return fmt.Errorf("row %s arrives twice", rows[i].id)
		}
	}
	var plan bytes.Buffer
	for _, step := range j.Order(len(rows), j.Seed) {
		numbers := make([]int, len(step))
		for i, place := range step {
			numbers[i] = rows[place].number
		}
		line, err := json.Marshal(numbers)
		if err != nil {
			return err
		}
		plan.Write(append(line, '\n'))
		p.Steps++
	}
	p.plan = plan.Bytes()
	sum := sha256.Sum256(p.plan)
	p.Plan = File{Name: PlanName, SHA256: hex.EncodeToString(sum[:])}
	return nil
}

func digestOf(ctx context.Context, path string) (string, error) {
	info, err := files.Stat(ctx, path)
	if err != nil {
		return "", err
	}
	return files.Digest(ctx, info)
}

// stay leaves the model as the update found it: there was no row to learn from.
func (u Update) stay(ctx context.Context) error {
	m, err := local.LoadRef(ctx, u.Job.Model)
	if err != nil {
		return err
	}
	if err := u.leave(ctx, m, []update.StepRecord{}); err != nil {
		return err
	}
	if u.Job.State == "" {
		return nil
	}
	return files.ReadDirectory(ctx, u.Job.State, func(from string) error {
		return files.WriteDirectory(ctx, u.Job.StateDir(), nil, func(to string) error {
			infos, err := files.Below(ctx, from)
			if err != nil {
				return err
			}
			return files.Download(ctx, infos, to)
		})
	})
}
