// Package totals computes the few numbers that cross records: sums over a whole batch, such as the spread of all prefix
// values, which a later stage reads as a side input.
//
// What is summed belongs to the stage that needs it (a Source); here is the one reduction. Sums are exact (series.Sum), so
// the number of records, bundles and workers, and the order they arrive in, do not change a bit of what is read from them.
package totals

import (
	"context"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Source is a Config that says what a batch contributes to the sums T. Add must add each row or leave it out for reasons
// of its own or its prompt group's, and leave out the rows that the stage which reads the sums sets aside.
type Source[T any] interface {
	Contract() schemas.Contract
	Add(b stage.Batch, sums *T) error
}

// SourcePtr says that the pointer to a Config is a Source.
type SourcePtr[M, T any] interface {
	*M
	Source[T]
}

// Sums says that the pointer to T merges other sums into itself; the zero T is no rows at all.
type Sums[T any] interface {
	*T
	Merge(T)
}

// Register makes the reduction of a Source known to Beam. Call it once, in the init function of the stage's package.
// Encode and decode must be named functions of that package: Beam looks a coder up by the name of its functions, and those
// of one generic function are all called alike.
func Register[M, T any, P SourcePtr[M, T], Q Sums[T]](encode func(T) ([]byte, error), decode func([]byte) (T, error)) {
	beam.RegisterCoder(reflect.TypeFor[T](), encode, decode)
	beam.RegisterDoFn(&partialFn[M, T, P]{})
	beam.RegisterDoFn(&mergeFn[T, Q]{})
}

// Reduce sums over all batches: PCollection<T> of exactly one element out.
func Reduce[M, T any, P SourcePtr[M, T], Q Sums[T]](s beam.Scope, cfg M, in stage.Rows) beam.PCollection {
	s = s.Scope(P(&cfg).Contract().Name + ".totals")
	store := in.Store
	partials := beam.ParDo(s, &partialFn[M, T, P]{Config: cfg, Store: store}, in.PCollection)
	nothing := beam.ParDo(s, noParcel, beam.Create(s, 0)) // so that there is a sum even over no batches
	return beam.ParDo(s, &mergeFn[T, Q]{Store: store}, beam.GroupByKey(s, beam.Flatten(s, nothing, partials)))
}

func init() { register.Function1x2(noParcel) }

func noParcel(key int) (int, string) { return key, "" }

// partialFn sums over a bundle. Beam's own Combine would hand over the sums of every batch as one record on runners that do
// not lift it, as Flink's.
type partialFn[M, T any, P SourcePtr[M, T]] struct {
	Config  M
	Store   stage.Store
	sums    *T
	parcels stage.Parcels[T]
}

func (f *partialFn[M, T, P]) ProcessElement(_ context.Context, b stage.Batch, _ func(int, string)) error {
	p := P(&f.Config)
	c := p.Contract()
	if err := b.Check(c.Needs...); err != nil {
		return fmt.Errorf("totals of stage %s: its input: %w", c.Name, err)
	}
	if f.sums == nil {
		f.sums = new(T)
	}
	if err := p.Add(b, f.sums); err != nil {
		return fmt.Errorf("totals of stage %s: %w", c.Name, err)
	}
	return nil
}

func (f *partialFn[M, T, P]) FinishBundle(ctx context.Context, emit func(int, string)) error {
	if f.sums == nil {
		return nil
	}
	if err := f.parcels.Add(0, *f.sums); err != nil {
		return err
	}
	f.sums = nil
	return f.parcels.Send(ctx, f.Store, emit)
}

type mergeFn[T any, Q Sums[T]] struct{ Store stage.Store }

func (f *mergeFn[T, Q]) ProcessElement(ctx context.Context, _ int, parcels func(*string) bool) (sums T, err error) {
	parts, err := stage.Unpack[T](ctx, f.Store, parcels)
	for _, part := range parts {
		Q(&sums).Merge(part)
	}
	return sums, err
}
