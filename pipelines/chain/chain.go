// Package chain makes pipelines of recipes. A chain is a value: nodes, each a stage with its contract, in an order that their
// contracts allow. It can be planned, measured and translated without being run.
package chain

import (
	"context"
	"fmt"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// Node is one stage of a chain: what it promises, and how it is put into a pipeline.
type Node struct {
	Contract schemas.Contract
	// Section is the section of a recipe that sets the stage up; "" where it is called as the stage is.
	Section string
	// Opens are the roles of the models that the stage opens and keeps open to the end of its pipeline, for what a run holds in memory.
	Opens []string
	Add   func(f *Flow)
}

// Chain is the stages of one iteration.
type Chain struct {
	Nodes   []Node
	Streams []Stream // that run beside it, into the same update
}

// Stream is a sequence of stages beside the main one.
type Stream struct {
	Name    string
	Nodes   []Node
	Samples int // responses a prompt
}

// Models are what the stages of an iteration are given.
type Models struct {
	Policy    models.Ref
	Sampler   models.Ref // the policy, or the model that answers the prompts in its place
	Reward    models.Ref
	Reference models.Ref // frozen
	// RewardModels are those that score beside Reward, by their names.
	RewardModels map[string]models.Ref
	// Of a distillation and an evolution.
	Teacher, TeacherReference, Reviser models.Ref
	// State directories of the optimizers, "" at the start.
	PolicyState, RewardState string
	// Other are models of stages that are not of this module, by a name of their own.
	Other map[string]models.Ref
}

// Iteration is what differs from one iteration to the next.
type Iteration struct {
	Number  int
	Seed    uint64 // of everything random in this iteration
	First   int    // where in the source of prompts it begins
	Version int    // the iteration whose starting policy samples, where another engine does
	History string // file of pass rates that a curriculum goes by
	// Of the rounds of sampling: the current one, the prompts that earlier ones drew, the files of rows that each has left, and
	// the prompt after which those of the last one are surplus.
	Round, Drawn int
	Rounds       [][]string
	Last         string

	Dir, Work string
	Meta      schemas.Meta
	Models
}

// RunNameLength is how much of the digest of its configuration names a run in records, log lines and metrics.
const RunNameLength = 16

// Names in the directory of a run.
const (
	// WorkName is the folder of what an iteration needs only until its commit: materialised edges.
	WorkName = commit.WorkName
	// StartPrefix begins the names of models that a run makes before its first iteration.
	StartPrefix = "start-"
	// HandoverName is the folder of tasks for another trainer.
	HandoverName = "handover"
)

// NewIteration is iteration number of a run with that seed, in its directory.
func NewIteration(run string, seed uint64, number int, dir string) Iteration {
	return Iteration{Number: number, Seed: uint64(keyed.New(seed).With(uint64(number))), Dir: dir, Work: files.Join(dir, WorkName),
		Meta: schemas.Meta{Run: run, Iteration: number, Seed: seed}}
}

// Flow is a pipeline under construction.
type Flow struct {
	Scope   beam.Scope
	It      Iteration
	Store   stage.Store
	Rows    stage.Rows
	Prompts stage.Rows // as they were drawn

	dead []stage.Rows
	// reward is the reward model that an update earlier in the same pipeline writes; not valid when there is none.
	reward beam.PCollection
}

// New begins a pipeline. Batches above maxRecordBytes are not stored.
func New(it Iteration, maxRecordBytes int) (*beam.Pipeline, *Flow) {
	runners.Init()
	p, scope := beam.NewPipelineWithRoot()
	return p, &Flow{Scope: scope, It: it, Store: stage.Store{Dir: it.Work, MaxRecordBytes: maxRecordBytes}}
}

// Add puts nodes into the pipeline.
func (f *Flow) Add(nodes ...Node) {
	for _, n := range nodes {
		n.Add(f)
	}
}

// Then takes the outputs of a stage.
func (f *Flow) Then(out, dead stage.Rows) {
	f.Rows = out
	f.SetAside(dead)
}

// SetAside takes dead letters.
func (f *Flow) SetAside(dead stage.Rows) {
	if dead.IsValid() {
		f.dead = append(f.dead, dead)
	}
}

// Materialise leaves the rows in the store, so that they can be read twice.
func (f *Flow) Materialise() { f.Rows = stage.Exchange(f.Scope, f.Store, f.Rows) }

// WriteDead writes the rows that the stages so far have set aside.
func (f *Flow) WriteDead(name string) {
	if len(f.dead) > 0 {
		recordio.Write(f.Scope, recordio.Output{Dir: f.It.Dir, Name: name}, f.Store, stage.Flatten(f.Scope, f.dead...))
	}
}

// The files an iteration keeps of its rows: every column of the chain, the preference pairs that were made of them, what a reviser
// is trained on, and the dead letters.
const (
	BatchName = "batch"
	PairsName = "pairs"
	TasksName = "tasks"
	DeadName  = "dead"
	// ResponsesName is that of rows without pairs, where another program updates the model.
	ResponsesName = "responses"
)

// Names of pipelines for the telemetry.
const (
	IterationPipeline  = "iteration"
	EvaluationPipeline = "evaluation"
)

// Run builds the pipeline of a chain and runs it.
func (c Chain) Run(ctx context.Context, name string, it Iteration, maxRecordBytes int, runner runners.Config) (beam.PipelineResult, error) {
	p, f := New(it, maxRecordBytes)
	f.Add(c.Nodes...)
	return Execute(ctx, name, p, runner)
}

// RoundPipeline names a round of dynamic sampling, from 0.
func RoundPipeline(round int) string { return fmt.Sprintf("round-%03d", round) }
