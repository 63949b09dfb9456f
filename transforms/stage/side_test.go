package stage_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
	"github.com/millrace/millrace/transforms/stage/stagetest"
)

// Scale is a number that an earlier step of a pipeline finds out.
type Scale struct{ By float64 }

// Scaled gives every prompt the scale as its outcome.
type Scaled struct{}

func (c *Scaled) Contract() schemas.Contract {
	return schemas.Contract{Name: "scaled", Needs: []schemas.Descriptor{schemas.Prompt}, Adds: []schemas.Descriptor{schemas.Outcome}}
}

func (c *Scaled) Setup(context.Context) error { return nil }

func (c *Scaled) MapWith(_ context.Context, b stage.Batch, s Scale, _ *stage.DeadLetters) (stage.Batch, error) {
	out := make([]float32, b.NumRows())
	for i := range out {
		out[i] = float32(s.By)
	}
	return b.With(schemas.Outcome.From(out))
}

func init() {
	beam.RegisterType(reflect.TypeFor[Scale]())
	stage.RegisterWith[Scaled, Scale]()
}

func TestSideInput(t *testing.T) {
	in := prompts(t, "a", "b", "c")
	want, _ := stagetest.RunWith(t, Scaled{}, in, Scale{By: 0.5})
	out, _ := stagetest.Collect(t, stagetest.Groups(t, in), func(s beam.Scope, p stage.Rows) (stage.Rows, stage.Rows) {
		return stage.ApplyWith[Scaled, Scale](s, Scaled{}, p, beam.Create(s, Scale{By: 0.5}))
	})
	stagetest.Same(t, "rows", out, want)
	if v := schemas.Outcome.Of(out).Values; len(v) != 3 || v[2] != 0.5 {
		t.Errorf("outcomes %v", v)
	}
}

// No runner fuses a stage with a side input with the one before it, so batches must not be what it is given.
func TestRowsForASideInputAreStored(t *testing.T) {
	in, dir := prompts(t, "a", "b", "c"), t.TempDir()
	want, _ := stagetest.RunWith(t, Scaled{}, in, Scale{By: 0.5})
	out, _ := stagetest.Collect(t, stagetest.Groups(t, in), func(s beam.Scope, p stage.Rows) (stage.Rows, stage.Rows) {
		p = stage.Exchange(s, stage.Store{Dir: dir}, p)
		return stage.ApplyWith[Scaled, Scale](s, Scaled{}, p, beam.Create(s, Scale{By: 0.5}))
	})
	stagetest.Same(t, "rows", out, want)

	pipeline, s := beam.NewPipelineWithRoot()
	p := stage.Exchange(s, stage.Store{Dir: dir}, stagetest.Source(s, []stage.Batch{in}))
	stage.ApplyWith[Scaled, Scale](s, Scaled{}, p, beam.Create(s, Scale{By: 0.5}))
	edges, _, err := pipeline.Build()
	if err != nil {
		t.Fatal(err)
	}
	found, written := 0, 0
	for _, e := range edges {
		if strings.Contains(e.Name(), "putFn") {
			written++
		}
		if len(e.Input) == 2 && e.DoFn != nil {
			found++
			if given := e.Input[0].From.Type().Type(); given != reflect.TypeFor[stage.Stored]() {
				t.Errorf("%s is given %v", e.Name(), given)
			}
		}
	}
	if found != 1 {
		t.Errorf("%d stages with a side input", found)
	}
	if written != 1 {
		t.Errorf("rows that have just come through the store are written %d times", written)
	}
}
