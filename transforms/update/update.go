// Package update takes optimiser steps on a model with the rows of a batch.
//
// In: rows with every column the losses read. A record of pairs holds them for both sides, or for the chosen one where the loss
// reads no other; a loss of chosen responses and of samples takes records of pairs and of responses. Out: PCollection<models.Ref>
// of one element, the directory the updated model was written to. Rows are divided over replicas by their id; each replica sorts
// its rows by id, takes its steps and leaves a delta; the deltas are added in the order of the replicas. One replica with outer
// rate 1 is ordinary training.
package update

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/losses"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// Job is one update of one model: what to do, to what, and where to leave the result.
type Job struct {
	Config
	Role  string     `json:"role"`  // names the outputs: policy, reward, student, ...
	Model models.Ref `json:"model"` // the model to start from
	// State is the directory of the optimizer state to go on with; "" starts afresh.
	State string `json:"state"`
	// Dir is where Role/ (the model), optimizer-Role/ (its state) and steps-Role.jsonl are written; Work holds deltas.
	Dir  string `json:"dir"`
	Work string `json:"work"`
	Seed uint64 `json:"seed"` // of the order of rows
	// Old and Reward are models whose logits a target row blends, where the loss has one.
	Old    models.Ref `json:"old"`
	Reward models.Ref `json:"reward"`
	// Temperature is the one that the responses of the batch were sampled at, where it is not 1: the loss reads the policy, and what
	// it compares it with, at that temperature (algorithms.md 4.7). It goes with losses of samples alone.
	Temperature float64 `json:"temperature,omitempty"`
}

// ModelDir is where the updated model is written.
func (j Job) ModelDir() string { return files.Join(j.Dir, j.Role) }

// StateDir is where the optimizer state is written.
func (j Job) StateDir() string { return files.Join(j.Dir, "optimizer-"+j.Role) }

// StepsFile is where the steps are recorded, a JSON object a line.
func (j Job) StepsFile() string { return files.Join(j.Dir, "steps-"+j.Role+".jsonl") }

// Needs lists the columns the update reads from records of pairs, or of responses.
func (j Job) Needs(pairs bool) ([]schemas.Descriptor, error) {
	loss, err := j.Loss()
	if err != nil {
		return nil, err
	}
	spec := loss.Spec()
	out := []schemas.Descriptor{schemas.PromptTokens}
	for _, s := range sidesOf(spec, pairs, j.Temperature) {
		for _, in := range inputsOf(spec, s) {
			c, ok := schemas.ByName(s.column(in))
			if !ok {
				return nil, &schemas.ColumnError{Column: s.column(in), Reason: "is not a column of any stage"}
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// Contract says which columns the losses read; the update ends the chain and adds none.
func (j Job) Contract(pairs bool) (schemas.Contract, error) {
	needs, err := j.Needs(pairs)
	c := schemas.Contract{Name: "update_" + j.Role, Needs: needs, Reads: map[string]schemas.LogPDefinition{}}
	if err != nil {
		return c, err
	}
	loss, err := j.Loss()
	if err != nil {
		return c, err
	}
	for _, s := range sidesOf(loss.Spec(), pairs, j.Temperature) {
		for _, in := range inputsOf(loss.Spec(), s) {
			if d, ok := schemas.ByName(s.column(in)); ok && d.LogProb {
				c.Reads[d.Name] = s.definition(in)
			}
		}
	}
	return c, nil
}

func init() {
	beam.RegisterDoFn(&shardFn{})
	beam.RegisterDoFn(&trainFn{})
	beam.RegisterDoFn(&countFn{})
	beam.RegisterDoFn(&gradientFn{})
	beam.RegisterDoFn(sumCounts)
	beam.RegisterDoFn(&mergeFn{})
	register.Emitter2[int, part]()
	register.Emitter1[models.Ref]()
	register.Emitter2[int, counted]()
	register.Iter1[part]()
	register.Iter1[counted]()
	beam.RegisterType(reflect.TypeFor[part]())
	beam.RegisterType(reflect.TypeFor[counted]())
	beam.RegisterType(reflect.TypeFor[models.Ref]())
}

// Apply adds the update to a pipeline; rows travel to the replicas through the store. It panics, while the pipeline is built, when
// the settings are wrong or a column is known not to be there.
func Apply(s beam.Scope, job Job, store stage.Store, in stage.Rows) beam.PCollection {
	if err := setting.First(job.Needed(), setting.Check(job)); err != nil {
		panic(fmt.Sprintf("update of %s: %v", job.Role, err))
	}
	var contracts [2]schemas.Contract // of responses, of pairs
	for k := range contracts {
		var err error
		if contracts[k], err = job.Contract(k == 1); err != nil {
			panic(err.Error())
		}
	}
	s = s.Scope(contracts[0].Name)
	if known := in.Known; known != nil {
		c := contracts[0]
		if known.Has(schemas.ChosenTokens.Name) {
			c = contracts[1]
		}
		if _, err := known.Then(c); err != nil {
			panic(err.Error())
		}
	}
	shard := &shardFn{Replicas: job.Replicas, Store: store, Columns: schemas.Names(append(contracts[0].Needs, ids...)),
		PairColumns: schemas.Names(append(contracts[1].Needs, ids...))}
	sharded := beam.ParDo(s, shard, in.PCollection)
	// Every replica must run, also one that no row fell to: its delta of zero is part of the mean.
	all := make([]any, job.Replicas)
	for k := range all {
		all[k] = k
	}
	seeds := beam.ParDo(s, emptyShard, beam.Create(s, all...))
	rows := beam.GroupByKey(s, beam.Flatten(s, sharded, seeds))
	train := trainFn{Job: ship(job), Store: store}
	var parts beam.PCollection
	if job.Mode == Gradient {
		counts := beam.ParDo(s, &countFn{train}, rows)
		totals := beam.ParDo(s, sumCounts, beam.GroupByKey(s, counts))
		parts = beam.ParDo(s, &gradientFn{train}, rows, beam.SideInput{Input: totals})
	} else {
		parts = beam.ParDo(s, &train, rows)
	}
	model := beam.ParDo(s, &mergeFn{Job: ship(job)}, beam.GroupByKey(s, parts))
	stage.End(s, model)
	return model
}

var ids = []schemas.Descriptor{schemas.PromptID}

func init() { register.Function1x2(emptyShard) }

func emptyShard(k int) (int, string) { return k, "" }

// shardFn cuts a batch by the id of its prompts and keeps the columns the losses read.
type shardFn struct {
	Replicas    int
	Columns     []string // of records of responses
	PairColumns []string // of records of pairs
	Store       stage.Store
	parcels     stage.Parcels[stage.Stored]
}

// ProcessElement stores the rows of each replica.
func (f *shardFn) ProcessElement(ctx context.Context, b stage.Batch, _ func(int, string)) error {
	columns := f.Columns
	if b.Has(schemas.ChosenTokens) {
		columns = f.PairColumns
	}
	var keep []schemas.Descriptor
	for _, name := range columns {
		if c, ok := schemas.ByName(name); ok {
			keep = append(keep, c)
		}
	}
	for _, c := range []schemas.Descriptor{schemas.PairID, schemas.ResponseID, schemas.TokenMask, schemas.LossMask} {
		if b.Has(c) {
			keep = append(keep, c)
		}
	}
	b, err := b.Select(unique(keep)...)
	if err != nil {
		return err
	}
	groups, err := b.Groups()
	if err != nil {
		return err
	}
	rows := make([][]int, f.Replicas)
	for _, g := range groups {
		k := int(uint(g.ID[0])|uint(g.ID[1])<<8) % f.Replicas
		for i := g.Lo; i < g.Hi; i++ {
			rows[k] = append(rows[k], i)
		}
	}
	for k := range rows {
		if len(rows[k]) == 0 {
			continue
		}
		shard, err := b.Take(rows[k])
		if err != nil {
			return err
		}
		stored, err := f.Store.Put(ctx, shard)
		if err != nil {
			return err
		}
		if err := f.parcels.Add(k, stored); err != nil {
			return err
		}
	}
	return nil
}

// FinishBundle tells the replicas where their rows are.
func (f *shardFn) FinishBundle(ctx context.Context, emit func(int, string)) error {
	return f.parcels.Send(ctx, f.Store, emit)
}

func unique(ds []schemas.Descriptor) []schemas.Descriptor {
	seen := map[string]bool{}
	var out []schemas.Descriptor
	for _, d := range ds {
		if n := d.Describe().Name; !seen[n] {
			seen[n] = true
			out = append(out, d)
		}
	}
	return out
}

// part is what a replica leaves: a file, not its content, crosses the shuffle.
type part struct {
	Replica int
	File    string
}

// shipped is a Job as JSON: Beam's schema of a DoFn cannot hold the free keys of a loss.
type shipped string

func ship(j Job) shipped {
	raw, err := json.Marshal(j)
	if err != nil {
		panic("update: settings cannot be written as JSON: " + err.Error())
	}
	return shipped(raw)
}

func (s shipped) open() (j Job, err error) {
	return j, json.Unmarshal([]byte(s), &j)
}

// trainFn is one replica.
type trainFn struct {
	Job   shipped
	Store stage.Store
}

// open reads the job and the rows of a replica.
func (f *trainFn) open(ctx context.Context, shards func(*string) bool) (Job, []stage.Batch, error) {
	job, err := f.Job.open()
	if err != nil {
		return job, nil, err
	}
	stored, err := stage.Unpack[stage.Stored](ctx, f.Store, shards)
	if err != nil {
		return job, nil, err
	}
	var all []stage.Batch
	for _, d := range stored {
		b, err := f.Store.Get(ctx, d)
		if err != nil {
			return job, nil, err
		}
		all = append(all, b)
	}
	return job, all, nil
}

// train is the work of the replica.
func (f *trainFn) train(ctx context.Context, replica int, shards func(*string) bool, totals losses.Totals, emit func(int, part)) error {
	job, all, err := f.open(ctx, shards)
	if err != nil {
		return err
	}
	start, end := time.Now(), stage.Span(ctx, "update_"+job.Role)
	file, err := runReplica(ctx, job, replica, all, totals)
	end(err)
	stage.Count(ctx, "update_"+job.Role, "ms", int(time.Since(start).Milliseconds()))
	if err != nil {
		return fmt.Errorf("update of %s, replica %d of %d: %w", job.Role, replica, job.Replicas, err)
	}
	emit(0, part{Replica: replica, File: file})
	return nil
}

// ProcessElement trains on the rows of the replica.
func (f *trainFn) ProcessElement(ctx context.Context, replica int, shards func(*string) bool, emit func(int, part)) error {
	return f.train(ctx, replica, shards, losses.Totals{}, emit)
}

// gradientFn is one replica of gradient mode.
type gradientFn struct{ Train trainFn }

// ProcessElement computes the replica's part of the gradient.
func (f *gradientFn) ProcessElement(ctx context.Context, replica int, shards func(*string) bool, totals string,
	emit func(int, part)) error {
	var all losses.Totals
	if err := json.Unmarshal([]byte(totals), &all); err != nil {
		return err
	}
	return f.Train.train(ctx, replica, shards, all, emit)
}

// countFn counts what the rows of a replica add to the denominators of gradient mode.
type countFn struct{ Train trainFn }

// ProcessElement counts the rows of the replica.
func (f *countFn) ProcessElement(ctx context.Context, replica int, shards func(*string) bool, emit func(int, counted)) error {
	job, all, err := f.Train.open(ctx, shards)
	if err != nil {
		return err
	}
	totals, err := countRows(job, all)
	if err != nil {
		return fmt.Errorf("update of %s, replica %d of %d: %w", job.Role, replica, job.Replicas, err)
	}
	raw, err := json.Marshal(totals)
	emit(0, counted{replica, string(raw)})
	return err
}

// sumCounts adds the replicas' counts in their order.
func sumCounts(_ int, counts func(*counted) bool) (string, error) {
	var all []counted
	for c := (counted{}); counts(&c); {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b counted) int { return a.Replica - b.Replica })
	var totals losses.Totals
	for _, c := range all {
		var part losses.Totals
		if err := json.Unmarshal([]byte(c.Totals), &part); err != nil {
			return "", err
		}
		totals.Merge(part)
	}
	raw, err := json.Marshal(totals)
	return string(raw), err
}

// mergeFn adds the parts in the order of the replicas and writes the model.
type mergeFn struct {
	Job shipped
}

// ProcessElement writes the model and emits where it lies.
func (f *mergeFn) ProcessElement(ctx context.Context, _ int, parts func(*part) bool, emit func(models.Ref)) error {
	job, err := f.Job.open()
	if err != nil {
		return err
	}
	paths := make([]string, job.Replicas)
	for p := (part{}); parts(&p); {
		paths[p.Replica] = p.File
	}
	ref, err := mergeReplicas(ctx, job, paths)
	if err != nil {
		return fmt.Errorf("update of %s: %w", job.Role, err)
	}
	emit(ref)
	return nil
}
