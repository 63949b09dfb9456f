package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/keyed"
	_ "github.com/millrace/millrace/models/local"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/advantage"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/rollout"
	"github.com/millrace/millrace/transforms/score"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/target"
	"github.com/millrace/millrace/transforms/value"
)

// measured is what a job prints.
type measured struct {
	Runner  string  `json:"runner"`
	Slots   int     `json:"slots,omitempty"`
	Slices  int     `json:"slices"`
	Rows    int64   `json:"rows"`
	Tokens  int64   `json:"tokens"`
	Bytes   int64   `json:"bytes"` // of the rows that came out, as Arrow
	Seconds float64 `json:"seconds"`
	// First is the first slice's time: with the start of workers.
	First  float64        `json:"first_seconds"`
	CPU    used           `json:"cpu_seconds"`
	Peak   used           `json:"peak_rss_mb"`
	Stages []measuredTime `json:"stages"`
	// Digest sums up the rows, in whatever order they came.
	Digest string `json:"digest"`
}

type measuredTime struct {
	Name    string  `json:"name"`
	Rows    int64   `json:"rows"`
	Seconds float64 `json:"seconds"`       // of work, summed over workers
	CPU     float64 `json:"cpu,omitempty"` // processor time; known where stages are called
}

// chain is a sequence of stages that can be put into a pipeline, or called.
type chain struct {
	source func(s beam.Scope, slice int) stage.Rows
	batch  func(index int) (stage.Batch, error) // what the source makes of an index
	before []step                               // up to what is summed over the batch
	sums   advantage.Stage
	after  []step
}

type step struct {
	add  func(s beam.Scope, store stage.Store, in stage.Rows) stage.Rows
	call stage.Mapper
}

func apply[M any, P stage.MapperPtr[M]](c M) step {
	return step{func(s beam.Scope, _ stage.Store, in stage.Rows) stage.Rows {
		out, _ := stage.Apply[M, P](s, c, in)
		return out
	}, P(&c)}
}

func combined(candidates bool) advantage.Config {
	e := advantage.Default("combined").Estimator.(advantage.Combined)
	e.Normalise, e.CGAE, e.Candidates = advantage.Batch, 0.3, candidates
	return advantage.Config{Kind: "combined", Estimator: e}.WithValues(advantage.Values{Beta: 10, Reference: advantage.Old})
}

// volume is the work between sampling and update that needs no model.
func volume(ctx context.Context, o options) (any, error) {
	return measure(ctx, o, chain{
		source: func(s beam.Scope, slice int) stage.Rows { return source(s, slice, o.shape, ofRollouts) },
		batch:  func(i int) (stage.Batch, error) { return rollouts(o.shape, i) },
		before: []step{apply(label.Default("math")), apply(value.Default("ipvrm"))},
		sums:   advantage.Stage{Config: combined(true)},
		after:  []step{apply(target.DefaultLCO(target.DenseForm))},
	})
}

// outcomes is the part of it that a peer does too: which responses are right, and advantages relative to the group.
func outcomes(ctx context.Context, o options) (any, error) {
	return measure(ctx, o, chain{
		source: func(s beam.Scope, slice int) stage.Rows { return source(s, slice, o.shape, ofRollouts) },
		batch:  func(i int) (stage.Batch, error) { return rollouts(o.shape, i) },
		before: []step{apply(label.Default("math"))},
		sums:   advantage.Stage{Config: advantage.Default("grpo")},
	})
}

// policy is an iteration without the update, by a model of the proving ground that is its own reward model.
func policy(ctx context.Context, o options) (any, error) {
	digest, err := models.Digest(o.model)
	if err != nil {
		return nil, fmt.Errorf("--model: %w", err)
	}
	ref := models.Ref{Path: o.model, Digest: digest}
	sampler := rollout.Sampler{Config: rollout.Default(), Policy: ref, Seed: uint64(keyed.New(1))}
	sampler.Samples, sampler.MaxNewTokens, sampler.CandidateK = o.shape.Responses, 45, 0
	return measure(ctx, o, chain{
		source: func(s beam.Scope, slice int) stage.Rows { return source(s, slice, o.shape, ofPrompts) },
		batch:  func(i int) (stage.Batch, error) { return promptsOf(o.shape, i) },
		before: []step{
			{func(s beam.Scope, store stage.Store, in stage.Rows) stage.Rows {
				out, _ := stage.ApplyOnce(s, sampler, store, in)
				return out
			}, &sampler},
			apply(label.Default("proving_ground")),
			apply(score.Scorer{Config: score.Config{Role: score.Reward}, Model: ref}),
			apply(value.Default("ipvrm")),
		},
		sums: advantage.Stage{Config: combined(false)},
	})
}

func measure(ctx context.Context, o options, c chain) (measured, error) {
	m := measured{Runner: o.runner, Slots: o.slots, Slices: o.slices}
	if o.runner != "flink" {
		m.Slots = 0
	}
	took := watch()
	times := map[string]*measuredTime{}
	var order []string
	var sum uint64
	add := func(name string, rows int64, d, cpu time.Duration) {
		if times[name] == nil {
			times[name] = &measuredTime{Name: name}
			order = append(order, name)
		}
		times[name].Rows += rows
		times[name].Seconds += d.Seconds()
		times[name].CPU += cpu.Seconds()
	}
	start := time.Now()
	for slice := range o.slices {
		var err error
		if o.runner == "none" {
			err = c.call(ctx, o, slice, &m, &sum, add)
		} else {
			err = c.run(ctx, o, slice, &m, &sum, add)
		}
		if err != nil {
			return m, fmt.Errorf("slice %d: %w", slice, err)
		}
		if slice == 0 {
			m.First = time.Since(start).Seconds()
		}
		fmt.Fprintf(os.Stderr, "jobs: slice %d of %d, %.1f s, %d rows, %.2f GB\n", slice+1, o.slices, time.Since(start).Seconds(), m.Rows,
			float64(m.Bytes)/1e9)
	}
	m.Seconds = time.Since(start).Seconds()
	for _, name := range order {
		m.Stages = append(m.Stages, *times[name])
	}
	m.Peak, m.CPU = took()
	if o.runner != "flink" { // a cluster may be there all the same
		m.Peak, m.CPU = used{Driver: m.Peak.Driver}, used{Driver: m.CPU.Driver}
	}
	m.Digest = fmt.Sprintf("%016x", sum)
	return m, nil
}

// run does a slice as a pipeline. Rows are materialised where an iteration does so, before sums over the batch.
func (c chain) run(ctx context.Context, o options, slice int, m *measured, sum *uint64,
	add func(string, int64, time.Duration, time.Duration)) error {
	edges := filepath.Join(o.dir, "edges")
	defer os.RemoveAll(edges)
	beam.Init()
	p, s := beam.NewPipelineWithRoot()
	store := stage.Store{Dir: edges}
	rows := c.source(s, slice)
	for _, st := range c.before {
		rows = st.add(s, store, rows)
	}
	if c.sums.Config.Inputs().Batch {
		rows = stage.Exchange(s, store, rows)
	}
	rows, _ = advantage.Apply(s, c.sums, rows)
	for _, st := range c.after {
		rows = st.add(s, store, rows)
	}
	stage.End(s, beam.ParDo(s, &sinkFn{}, rows.PCollection))
	result, err := o.execute(ctx, p)
	if err != nil {
		return err
	}
	if err := stage.Conserved(result); err != nil {
		return err
	}
	for _, k := range stage.CountsOf(result) {
		add(k.Stage, max(k.In, k.Out), time.Duration(k.Millis)*time.Millisecond, 0)
		if k.Stage == "sink" {
			m.Rows += k.Out
			m.Tokens, m.Bytes = m.Tokens+k.Other["tokens"], m.Bytes+k.Other["bytes"]
			*sum += uint64(k.Other["digest"])
		}
	}
	return nil
}

// call does a slice by calling the stages, one record after the other, in memory.
func (c chain) call(ctx context.Context, o options, slice int, m *measured, sum *uint64,
	add func(string, int64, time.Duration, time.Duration)) error {
	do := func(name string, b *stage.Batch, f func() error) error {
		start, before, rows := time.Now(), processTime(), b.NumRows()
		err := f()
		add(name, int64(max(rows, b.NumRows())), time.Since(start), processTime()-before) // as counters have it, see run
		return err
	}
	var kept []stage.Batch
	var totals advantage.Totals
	if slice == 0 {
		for _, st := range append(c.before[:len(c.before):len(c.before)], c.after...) {
			if err := st.call.Setup(ctx); err != nil {
				return err
			}
		}
	}
	through := func(steps []step, b stage.Batch) (stage.Batch, error) {
		for _, st := range steps {
			err := do(st.call.Contract().Name, &b, func() error {
				r, err := stage.Run(ctx, st.call, b)
				if err == nil && len(r.Out) > 0 {
					b, err = schemas.Append(r.Out...)
				}
				return err
			})
			if err != nil {
				return b, err
			}
		}
		return b, nil
	}
	for _, i := range indices(slice, o.shape) {
		var b stage.Batch
		if err := do("source", &b, func() (err error) { b, err = c.batch(i); return err }); err != nil {
			return err
		}
		b, err := through(c.before, b)
		if err != nil {
			return err
		}
		if c.sums.Config.Inputs().Batch {
			if err := do("advantage.totals", &b, func() error { return c.sums.Add(b, &totals) }); err != nil {
				return err
			}
		}
		kept = append(kept, b)
	}
	for _, b := range kept {
		err := do(c.sums.Contract().Name, &b, func() error {
			r, err := stage.RunWith(ctx, &c.sums, b, totals)
			if err == nil {
				b, err = schemas.Append(r.Out...)
			}
			return err
		})
		if err != nil {
			return err
		}
		if b, err = through(c.after, b); err != nil {
			return err
		}
		if err := do("sink", &b, func() error {
			got, err := lookAt(b)
			m.Rows, m.Tokens, m.Bytes = m.Rows+got.rows, m.Tokens+got.tokens, m.Bytes+got.bytes
			*sum += got.digest
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// processTime is the processor time of this process.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func init() { beam.RegisterDoFn(&sinkFn{}) }

// sinkFn counts and digests what comes out; nothing is kept.
type sinkFn struct{}

// ProcessElement counts a batch and returns its rows.
func (*sinkFn) ProcessElement(ctx context.Context, b stage.Batch) (int64, error) {
	start := time.Now()
	got, err := lookAt(b)
	if err != nil {
		return 0, err
	}
	for name, n := range map[string]int64{"rows_out": got.rows, "tokens": got.tokens, "bytes": got.bytes, "digest": int64(got.digest)} {
		stage.Count(ctx, "sink", name, int(n))
	}
	stage.Count(ctx, "sink", "ms", int(time.Since(start).Milliseconds()))
	return got.rows, nil
}

type seen struct {
	rows, tokens, bytes int64
	digest              uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// lookAt digests a batch prompt group by prompt group; the sum of the digests does not depend on how groups were batched.
func lookAt(b stage.Batch) (seen, error) {
	got := seen{rows: int64(b.NumRows())}
	tokens := schemas.ResponseTokens.Of(b)
	for i := range b.NumRows() {
		got.tokens += int64(len(tokens.Row(i)))
	}
	groups, err := b.Groups()
	if err != nil {
		return got, err
	}
	for _, g := range groups {
		h := crc32.New(castagnoli) // of which even sums stay far from what counters hold
		n, err := b.Slice(g.Lo, g.Hi).Canonical().WriteTo(h)
		if err != nil {
			return got, err
		}
		got.bytes += n
		got.digest += uint64(h.Sum32())
	}
	return got, nil
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
