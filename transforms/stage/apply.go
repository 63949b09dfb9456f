package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
)

// Mapper is a stage: rows in, the same rows with more columns out.
type Mapper interface {
	// Contract names the stage, the columns it needs and the columns it adds. It depends on the exported fields only, so
	// it can be asked before Setup.
	Contract() schemas.Contract
	// Setup loads models and compiles patterns, once for each instance.
	Setup(ctx context.Context) error
	// Map adds the columns. It must not depend on what else is in the batch beside a row's prompt group.
	Map(ctx context.Context, b Batch, dead *DeadLetters) (Batch, error)
}

// SideMapper is a stage that also reads one value computed earlier in the same pipeline: batch-wide totals, or the
// reference to a model an update stage has just written.
type SideMapper[S any] interface {
	Contract() schemas.Contract
	Setup(ctx context.Context) error
	MapWith(ctx context.Context, b Batch, side S, dead *DeadLetters) (Batch, error)
}

// MapperPtr says that the pointer to a Config is a Mapper.
type MapperPtr[M any] interface {
	*M
	Mapper
}

// SideMapperPtr says that the pointer to a Config is a SideMapper.
type SideMapperPtr[M, S any] interface {
	*M
	SideMapper[S]
}

// Optional methods of a Config.
type (
	// Validator is checked when the pipeline is built, after the ranges and choices of the fields' tags (package setting); a wrong
	// setting panics there.
	Validator = setting.Validator
	// Closer is called when the runner gives an instance up. Beam's workers never do: what must not outlive the pipeline is held
	// under its context, as handles of models are (models.Scope).
	Closer interface{ Teardown() error }
	// Traced names what the added columns were written by, such as the digest of a model; without it the stage's name
	// and the digest of its settings are recorded.
	Traced interface{ Lineage() string }
)

// Register makes a stage known to Beam. Call it once, in the init function of the stage's package.
func Register[M any, P MapperPtr[M]]() {
	beam.RegisterDoFn(&mapFn[M, P]{})
	registerOnce[M, P]()
	register.Emitter1[Batch]()
}

// RegisterWith is Register for a stage with a side input.
func RegisterWith[M, S any, P SideMapperPtr[M, S]]() {
	beam.RegisterDoFn(&sideFn[M, S, P]{})
	beam.RegisterDoFn(&joinFn[S]{})
	beam.RegisterDoFn(&storedSideFn[M, S, P]{})
	register.Emitter1[Batch]()
}

// Apply puts a stage into a pipeline: rows in, the rows with the added columns and the dead letters out.
//
// It panics, while the pipeline is built, when the settings are wrong or cannot travel as JSON, or when a column the stage
// needs is known not to be there.
func Apply[M any, P MapperPtr[M]](s beam.Scope, cfg M, in Rows) (out, dead Rows) {
	c := P(&cfg).Contract()
	s = s.Scope(c.Name)
	out = prepare(c, cfg, P(&cfg), in)
	out.PCollection, dead.PCollection = beam.ParDo2(s, &mapFn[M, P]{Config: cfg, MaxRecordBytes: out.MaxRecordBytes}, in.PCollection)
	return out, dead
}

// ApplyWith is Apply for a stage with a side input: side is a PCollection of exactly one S.
//
// Runners never fuse such a stage with the one before it, since it must wait for its side input. Where the rows came through
// a store, what waits are descriptions of stored rows: they are joined with the name of a file that holds the side input, and a
// stage after that does the work. Prism (Beam 2.77, internal/engine/elementmanager.go, Bundles) asks in a busy loop whether a
// stage with a side input can go on, for as long as it is at work, so such a stage should have none.
func ApplyWith[M, S any, P SideMapperPtr[M, S]](s beam.Scope, cfg M, in Rows, side beam.PCollection) (out, dead Rows) {
	c := P(&cfg).Contract()
	s = s.Scope(c.Name)
	out = prepare(c, cfg, P(&cfg), in)
	fn := sideFn[M, S, P]{Config: cfg, MaxRecordBytes: out.MaxRecordBytes}
	if out.Store.Dir == "" {
		out.PCollection, dead.PCollection = beam.ParDo2(s, &fn, in.PCollection, beam.SideInput{Input: side})
		return out, dead
	}
	joined := beam.ParDo(s, &joinFn[S]{Store: out.Store}, stored(s, out.Store, in), beam.SideInput{Input: side})
	out.PCollection, dead.PCollection = beam.ParDo2(s, &storedSideFn[M, S, P]{Side: fn, Store: out.Store}, beam.Reshuffle(s, joined))
	return out, dead
}

// prepare checks a stage against the rows it is given and returns what will be known of those it makes, which have no
// PCollection yet.
func prepare[M any](c schemas.Contract, cfg M, p any, in Rows) Rows {
	if err := setting.Check(p); err != nil {
		panic(fmt.Sprintf("stage %s: %v", c.Name, err))
	}
	if err := travels(cfg); err != nil {
		panic(fmt.Sprintf("stage %s: its Config %v", c.Name, err))
	}
	if err := c.Check(); err != nil {
		panic(err.Error())
	}
	out := Rows{Known: in.Known, MaxRecordBytes: in.MaxRecordBytes, Store: in.Store}
	if in.Known == nil {
		return out
	}
	known, err := in.Known.Then(c)
	if err != nil {
		panic(err.Error())
	}
	out.Known = &known
	return out
}

// travels checks that what Beam ships to the workers, the JSON of the Config, gives the same Config there.
func travels[M any](cfg M) error {
	raw, err := json.Marshal(cfg)
	if err != nil {
		return fmt.Errorf("cannot be written as JSON: %w", err)
	}
	var back M
	if err := json.Unmarshal(raw, &back); err != nil {
		return fmt.Errorf("cannot be read back from JSON: %w", err)
	}
	again, err := json.Marshal(back)
	if err != nil || string(again) != string(raw) {
		return fmt.Errorf("changes on its way through JSON: %s becomes %s", raw, again)
	}
	return nil
}

// mapFn is the one DoFn behind Apply.
type mapFn[M any, P MapperPtr[M]] struct {
	Config         M
	MaxRecordBytes int
	runner         runner
}

func (f *mapFn[M, P]) Setup(ctx context.Context) error {
	p := P(&f.Config)
	f.runner = newRunner(p.Contract(), f.Config, p, f.MaxRecordBytes)
	return f.runner.setup(ctx, p.Setup)
}

// FinishBundle closes the span of the bundle. Beam wants it to take what ProcessElement takes besides the element.
func (f *mapFn[M, P]) FinishBundle(context.Context, func(Batch), func(Batch)) { f.runner.span.end(nil) }

func (f *mapFn[M, P]) ProcessElement(ctx context.Context, b Batch, out, dead func(Batch)) error {
	return f.runner.process(ctx, b, P(&f.Config).Map, out, dead)
}

func (f *mapFn[M, P]) Teardown() error { return teardown(P(&f.Config)) }

// sideFn is the one DoFn behind ApplyWith. It must have no StartBundle, which would have to take the side input: Beam's Java
// runners cannot give one before the worker asks for data, and a worker whose first bundle this is would wait for three
// minutes and fail.
type sideFn[M, S any, P SideMapperPtr[M, S]] struct {
	Config         M
	MaxRecordBytes int
	runner         runner
}

func (f *sideFn[M, S, P]) Setup(ctx context.Context) error {
	p := P(&f.Config)
	f.runner = newRunner(p.Contract(), f.Config, p, f.MaxRecordBytes)
	return f.runner.setup(ctx, p.Setup)
}

// FinishBundle closes the span of the bundle.
func (f *sideFn[M, S, P]) FinishBundle(context.Context, S, func(Batch), func(Batch)) {
	f.runner.span.end(nil)
}

func (f *sideFn[M, S, P]) ProcessElement(ctx context.Context, b Batch, side S, out, dead func(Batch)) error {
	return f.runner.process(ctx, b, func(ctx context.Context, b Batch, d *DeadLetters) (Batch, error) {
		return P(&f.Config).MapWith(ctx, b, side, d)
	}, out, dead)
}

func (f *sideFn[M, S, P]) Teardown() error { return teardown(P(&f.Config)) }

// joinFn puts the name of a parcel with the side input beside the descriptions of rows.
type joinFn[S any] struct {
	Store  Store
	parcel string
}

func (f *joinFn[S]) ProcessElement(ctx context.Context, d Stored, side S) (Stored, string, error) {
	if f.parcel == "" {
		raw, err := json.Marshal(side)
		if err != nil {
			return d, "", fmt.Errorf("side input: %w", err)
		}
		if f.parcel, err = f.Store.putParcel(ctx, raw); err != nil {
			return d, "", err
		}
	}
	return d, f.parcel, nil
}

// storedSideFn is a sideFn that fetches its rows and its side input.
type storedSideFn[M, S any, P SideMapperPtr[M, S]] struct {
	Side   sideFn[M, S, P]
	Store  Store
	ahead  ahead[Batch]
	parcel string
	side   S
}

func (f *storedSideFn[M, S, P]) Setup(ctx context.Context) error { return f.Side.Setup(ctx) }

// FinishBundle works on the rows that are left and closes the span of the bundle.
func (f *storedSideFn[M, S, P]) FinishBundle(ctx context.Context, out, dead func(Batch)) error {
	err := f.apply(ctx, out, dead, f.ahead.finish)
	f.Side.runner.span.end(err)
	return err
}

func (f *storedSideFn[M, S, P]) ProcessElement(ctx context.Context, d Stored, parcel string, out, dead func(Batch)) error {
	if parcel != f.parcel {
		if err := f.open(ctx, parcel); err != nil {
			return fmt.Errorf("stage %s: %w", f.Side.runner.contract.Name, err)
		}
	}
	return f.apply(ctx, out, dead, func(emit func(Batch)) error {
		return f.ahead.begin(func() (Batch, error) { return f.Store.Get(ctx, d) }, emit)
	})
}

// apply works on the rows that have been fetched.
func (f *storedSideFn[M, S, P]) apply(ctx context.Context, out, dead func(Batch), fetched func(emit func(Batch)) error) error {
	var failed error
	err := fetched(func(b Batch) {
		if failed == nil {
			failed = f.Side.ProcessElement(ctx, b, f.side, out, dead)
		}
	})
	if err != nil {
		err = fmt.Errorf("stage %s: %w", f.Side.runner.contract.Name, err)
	}
	return errors.Join(failed, err)
}

func (f *storedSideFn[M, S, P]) open(ctx context.Context, parcel string) error {
	raw, err := f.Store.parcel(ctx, parcel)
	if err != nil {
		return err
	}
	var side S
	if err := json.Unmarshal(raw, &side); err != nil {
		return fmt.Errorf("side input: %w", err)
	}
	f.parcel, f.side = parcel, side
	return nil
}

func (f *storedSideFn[M, S, P]) Teardown() error { return f.Side.Teardown() }

func teardown(p any) error {
	if c, ok := p.(Closer); ok {
		return c.Teardown()
	}
	return nil
}

// runner is what Apply does around Map for each batch.
type runner struct {
	contract schemas.Contract
	lineage  func() string
	limit    int
	counters counters
	span     bundleSpan
}

func newRunner(c schemas.Contract, cfg, p any, limit int) runner {
	fallback := c.Name + "@" + Digest(cfg)[:16]
	lineage := func() string { return fallback }
	if t, ok := p.(Traced); ok {
		lineage = t.Lineage
	}
	return runner{contract: c, lineage: lineage, limit: limit, counters: counters{stage: c.Name}}
}

func (r *runner) setup(ctx context.Context, f func(context.Context) error) error {
	if err := f(ctx); err != nil {
		return fmt.Errorf("stage %s: setup: %w", r.contract.Name, err)
	}
	return nil
}

// observe does the work on a batch between what tells of it: the span of the bundle, the log, the counters.
func (r *runner) observe(ctx context.Context, b Batch, work func(context.Context) (Result, passed, error)) error {
	start := time.Now()
	r.span.begin(ctx, r.contract.Name)
	ctx = logged(ctx, r.contract.Name, b)
	res, out, err := work(ctx)
	if err != nil {
		slog.ErrorContext(ctx, "stage failed", "error", err)
		r.span.end(err)
		return err
	}
	r.counters.add(ctx, res, out, time.Since(start))
	r.span.count(res)
	logDead(ctx, r.contract.Name, b.Meta(), res)
	return nil
}

func (r *runner) process(ctx context.Context, b Batch, f mapFunc, out, dead func(Batch)) error {
	var res Result
	err := r.observe(ctx, b, func(ctx context.Context) (_ Result, _ passed, err error) {
		res, err = run(ctx, r.contract, r.lineage, r.limit, b, f)
		return res, passedOf(res.Out), err
	})
	if err != nil {
		return err
	}
	for _, o := range res.Out {
		out(o)
	}
	for _, d := range res.Dead {
		dead(d)
	}
	return nil
}
