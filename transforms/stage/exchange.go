package stage

import (
	"context"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
)

func init() {
	beam.RegisterType(reflect.TypeOf(Stored{}))
	beam.RegisterDoFn(&putFn{})
	beam.RegisterDoFn(&getFn{})
	register.Emitter1[Stored]()
	register.Emitter1[Batch]()
}

// Exchange spreads rows over the workers through files. With a store without a directory it does nothing, which suits tests
// on a few rows; nor where the rows have just come that way.
func Exchange(s beam.Scope, store Store, in Rows) Rows {
	if store.Dir == "" || in.storedIn(store) {
		return in
	}
	s = s.Scope("exchange")
	out := in
	out.Store, out.stored = store, beam.Reshuffle(s, Put(s, store, in))
	out.PCollection = Get(s, store, out.stored)
	return out
}

// storedIn reports whether the rows have come through the store, unchanged since.
func (r Rows) storedIn(store Store) bool { return r.stored.IsValid() && r.Store == store }

// stored describes the rows of a collection in the store, which they are written to unless they have just come from there.
func stored(s beam.Scope, store Store, in Rows) beam.PCollection {
	if in.storedIn(store) {
		return in.stored
	}
	return Put(s, store, in)
}

// Put writes rows: PCollection<Stored> out.
func Put(s beam.Scope, store Store, in Rows) beam.PCollection {
	return beam.ParDo(s, &putFn{Store: store}, in.PCollection)
}

// Get reads batches: PCollection<Stored> in, PCollection<Batch> out.
func Get(s beam.Scope, store Store, in beam.PCollection) beam.PCollection {
	return beam.ParDo(s, &getFn{Store: store}, in)
}

// End reads what a pipeline ends with. Somebody has to: prism (Beam 2.77, internal/stage.go, Execute) waits for a stage whose
// results nobody reads in a busy loop, which takes a core from its work.
func End(s beam.Scope, last beam.PCollection) { beam.GroupByKey(s, beam.AddFixedKey(s, last)) }

// ApplyOnce is Apply for a stage whose work must not be done twice, such as sampling. What it makes of a batch is kept in
// the store, named by all it depends on (settings, models, rows); a bundle that is run again, or an iteration that
// was interrupted, finds it there. The rows cross to other workers before, so that a source that is one bundle does not keep
// the work on one worker, and after, as by Exchange. With a store without a directory it is Apply.
func ApplyOnce[M any, P MapperPtr[M]](s beam.Scope, cfg M, store Store, in Rows) (out, dead Rows) {
	if store.Dir == "" {
		return Apply[M, P](s, cfg, in)
	}
	c := P(&cfg).Contract()
	s = s.Scope(c.Name)
	out = prepare(c, cfg, P(&cfg), in)
	fn := &onceFn[M, P]{Config: cfg, Store: store, MaxRecordBytes: out.MaxRecordBytes}
	kept, set := beam.ParDo2(s, fn, Exchange(s, store, in).PCollection)
	out.Store, out.stored = store, beam.Reshuffle(s, kept)
	out.PCollection = Get(s, store, out.stored)
	dead.PCollection = Get(s, store, set)
	return out, dead
}

func registerOnce[M any, P MapperPtr[M]]() {
	beam.RegisterDoFn(&onceFn[M, P]{})
	register.Emitter1[Stored]()
}

// onceFn is the DoFn behind ApplyOnce.
type onceFn[M any, P MapperPtr[M]] struct {
	Config         M
	Store          Store
	MaxRecordBytes int
	runner         runner
}

// FinishBundle closes the span of the bundle.
func (f *onceFn[M, P]) FinishBundle(context.Context, func(Stored), func(Stored)) {
	f.runner.span.end(nil)
}

func (f *onceFn[M, P]) Setup(ctx context.Context) error {
	p := P(&f.Config)
	f.runner = newRunner(p.Contract(), f.Config, p, f.MaxRecordBytes)
	return f.runner.setup(ctx, p.Setup)
}

func (f *onceFn[M, P]) ProcessElement(ctx context.Context, b Batch, out, dead func(Stored)) error {
	if b.NumRows() == 0 {
		return nil
	}
	r := &f.runner
	var m memo
	err := r.observe(ctx, b, func(ctx context.Context) (Result, passed, error) {
		name, err := taskName(r.contract, f.Config, r.lineage(), nil, r.limit, b)
		if err != nil {
			return Result{}, passed{}, fmt.Errorf("stage %s: %w", r.contract.Name, err)
		}
		var made Result // nothing, when it was made before
		var replayed bool
		m, replayed, err = f.Store.once(ctx, name, func() (_ Result, err error) {
			made, err = run(ctx, r.contract, r.lineage, r.limit, b, P(&f.Config).Map)
			return made, err
		})
		if replayed {
			Count(ctx, r.contract.Name, "replayed", 1)
		}
		return Result{In: m.In, Kept: m.Kept, Filtered: m.Filtered, Reasons: m.Reasons, Dead: made.Dead}, passedStored(m.Out), err
	})
	if err != nil {
		return err
	}
	for _, d := range m.Out {
		out(d)
	}
	for _, d := range m.Dead {
		dead(d)
	}
	return nil
}

func (f *onceFn[M, P]) Teardown() error { return teardown(P(&f.Config)) }

type putFn struct {
	Store Store
	ahead ahead[Stored]
}

func (f *putFn) ProcessElement(ctx context.Context, b Batch, emit func(Stored)) error {
	if b.NumRows() == 0 {
		return nil
	}
	return exchanged(f.ahead.begin(func() (Stored, error) { return f.Store.Put(ctx, b) }, emit))
}

func (f *putFn) FinishBundle(_ context.Context, emit func(Stored)) error {
	return exchanged(f.ahead.finish(emit))
}

type getFn struct {
	Store Store
	ahead ahead[Batch]
}

func (f *getFn) ProcessElement(ctx context.Context, d Stored, emit func(Batch)) error {
	return exchanged(f.ahead.begin(func() (Batch, error) { return f.Store.Get(ctx, d) }, emit))
}

func (f *getFn) FinishBundle(_ context.Context, emit func(Batch)) error {
	return exchanged(f.ahead.finish(emit))
}

func exchanged(err error) error {
	if err != nil {
		return fmt.Errorf("exchange: %w", err)
	}
	return nil
}
