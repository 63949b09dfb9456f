// Package stagetest runs a stage on a handful of rows, alone and on the embedded runner, so that the test of a stage fits
// in a few lines:
//
//	out, dead := stagetest.Run(t, label.Config{Kind: "chain"}, batch)
//	want := []float32{1, 0}
//	if got := schemas.Outcome.Of(out).Values; !slices.Equal(got, want) { ... }
//	stagetest.Dead(t, dead, schemas.ReasonEmpty)
//
// Every helper runs the stage on the whole batch, on each prompt group apart and on the groups joined two by two, and
// fails the test unless all give the same bytes: a stage must not depend on what else is in a batch.
package stagetest

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Run sets the stage up and runs it on the batch, split in several ways. It returns the rows kept and the dead letters;
// either is the zero Batch when there are none.
func Run[M any, P stage.MapperPtr[M]](t testing.TB, cfg M, in stage.Batch) (out, dead stage.Batch) {
	t.Helper()
	m := P(&cfg)
	if err := m.Setup(context.Background()); err != nil {
		t.Fatalf("setup: %v", err)
	}
	return compareSplits(t, in, func(b stage.Batch) (stage.Result, error) { return stage.Run(context.Background(), m, b) })
}

// RunWith is Run for a stage with a side input.
func RunWith[M, S any, P stage.SideMapperPtr[M, S]](t testing.TB, cfg M, in stage.Batch, side S) (out, dead stage.Batch) {
	t.Helper()
	m := P(&cfg)
	if err := m.Setup(context.Background()); err != nil {
		t.Fatalf("setup: %v", err)
	}
	return compareSplits(t, in, func(b stage.Batch) (stage.Result, error) {
		return stage.RunWith[S](context.Background(), m, b, side)
	})
}

// Pipeline runs the stage on the embedded runner, one element a prompt group, and returns its rows and dead letters in
// the order of the input. It fails the test when the stage loses rows.
func Pipeline[M any, P stage.MapperPtr[M]](t testing.TB, cfg M, in stage.Batch) (out, dead stage.Batch) {
	t.Helper()
	return Collect(t, Groups(t, in), func(s beam.Scope, p stage.Rows) (stage.Rows, stage.Rows) {
		return stage.Apply[M, P](s, cfg, p)
	})
}

// Dead fails the test unless the dead letters have these reasons, in this order.
func Dead(t testing.TB, dead stage.Batch, reasons ...schemas.Reason) {
	t.Helper()
	var got []schemas.Reason
	if dead.NumRows() > 0 {
		col := schemas.DeadReason.Of(dead)
		for i := range col.Len() {
			got = append(got, schemas.Reason(col.At(i)))
		}
	}
	if !slices.Equal(got, reasons) {
		t.Errorf("dead letters for %v, want %v", got, reasons)
		for i := range dead.NumRows() {
			t.Logf("row %d: %s", i, schemas.DeadMessage.Of(dead).At(i))
		}
	}
}

// Same fails the test unless the two batches are equal to the byte.
func Same(t testing.TB, what string, got, want stage.Batch) {
	t.Helper()
	if bytes.Equal(marshal(t, got), marshal(t, want)) {
		return
	}
	t.Errorf("%s: other rows than expected", what)
	show := func(v any) string {
		s := fmt.Sprint(v)
		return s[:min(len(s), 400)]
	}
	if got.NumRows() != want.NumRows() || !slices.Equal(got.Columns(), want.Columns()) {
		t.Logf("got %d rows of %v\nwant %d rows of %v", got.NumRows(), got.Columns(), want.NumRows(), want.Columns())
		return
	}
	if got.Arrow() == nil || want.Arrow() == nil {
		return
	}
	if g, w := got.Arrow().Schema(), want.Arrow().Schema(); !g.Equal(w) || !g.Metadata().Equal(w.Metadata()) {
		t.Logf("got %s\nwant %s", g, w)
	}
	for i, c := range want.Arrow().Columns() {
		if g := got.Arrow().Column(i); show(g) != show(c) {
			t.Logf("%s\ngot  %s\nwant %s", want.Columns()[i], show(g), show(c))
		}
	}
}

// Groups cuts a batch into its prompt groups; a batch without prompt ids into its rows.
func Groups(t testing.TB, b stage.Batch) []stage.Batch {
	t.Helper()
	var out []stage.Batch
	if !b.Has(schemas.PromptID) {
		for i := range b.NumRows() {
			out = append(out, b.Slice(i, i+1))
		}
		return out
	}
	gs, err := b.Groups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range gs {
		out = append(out, b.Slice(g.Lo, g.Hi))
	}
	return out
}

func compareSplits(t testing.TB, in stage.Batch, run func(stage.Batch) (stage.Result, error)) (out, dead stage.Batch) {
	t.Helper()
	groups := Groups(t, in)
	var pairs []stage.Batch
	for i := 0; i < len(groups); i += 2 {
		pairs = append(pairs, Join(t, groups[i:min(i+2, len(groups))]))
	}
	for i, split := range [][]stage.Batch{{in}, groups, pairs} {
		what := []string{"the whole batch", "each prompt group apart", "prompt groups two by two"}[i]
		var os, ds []stage.Batch
		for _, b := range split {
			before := marshal(t, b)
			res, err := run(b)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if !bytes.Equal(before, marshal(t, b)) {
				t.Fatalf("%s: the stage changed its input", what)
			}
			os, ds = append(os, res.Out...), append(ds, res.Dead...)
		}
		o, d := Join(t, os), Join(t, ds)
		if i == 0 {
			out, dead = o, d
			continue
		}
		Same(t, what+": rows", o, out)
		Same(t, what+": dead letters", withoutMessages(d), withoutMessages(dead))
	}
	return out, dead
}

// withoutMessages drops what may tell of the batch a row was in, such as the stack of a panic.
func withoutMessages(dead stage.Batch) stage.Batch { return dead.Without(schemas.DeadMessage) }

func marshal(t testing.TB, b stage.Batch) []byte {
	t.Helper()
	raw, err := b.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Join puts the rows of batches below each other.
func Join(t testing.TB, bs []stage.Batch) stage.Batch {
	t.Helper()
	out, err := schemas.Append(bs...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Collect runs build over the batches on the embedded runner and returns what comes out of both outputs, in the order of
// the input's rows. It fails the test when a stage loses rows.
func Collect(t testing.TB, in []stage.Batch, build func(beam.Scope, stage.Rows) (out, dead stage.Rows)) (out, dead stage.Batch) {
	t.Helper()
	p, s := beam.NewPipelineWithRoot()
	out2, dead2 := build(s, Source(s, in))
	outs, deads := sink(s, out2), sink(s, dead2)
	defer outs.drop()
	defer deads.drop()
	Execute(t, p)
	return outs.rows(t, in), deads.rows(t, in)
}

// Source makes rows of the batches.
func Source(s beam.Scope, in []stage.Batch) stage.Rows {
	return stage.Rows{PCollection: beam.CreateList(s, append([]stage.Batch{}, in...))} // nil has no element type
}

// Execute runs a pipeline on the embedded runner and fails the test when it fails or a stage loses rows.
func Execute(t testing.TB, p *beam.Pipeline) beam.PipelineResult {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir()) // Beam leaves a file there for every pipeline
	beam.Init()
	defer quiet()()
	r, err := prism.Execute(context.Background(), p)
	if err != nil {
		t.Fatalf("pipeline: %s", said(err))
	}
	if err := stage.Conserved(r); err != nil {
		t.Error(err)
	}
	return r
}

// quiet keeps the log, in which Beam tells of every bundle and repeats a whole pipeline with every failure, out of a test's
// output, until the function that it returns is called.
func quiet() func() {
	w, flags, before := log.Writer(), log.Flags(), slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	return func() {
		slog.SetDefault(before)
		log.SetOutput(w) // slog has led it to its handler
		log.SetFlags(flags)
	}
}

// said is what a stage said of its failure; Beam puts the pipeline before it.
func said(err error) string {
	const mark = "] failed:\n"
	text := err.Error()
	if i := strings.LastIndex(text, mark); i >= 0 {
		text = text[i+len(mark):]
	}
	return text
}

func init() { beam.RegisterDoFn(&sinkFn{}) }
