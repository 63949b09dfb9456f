package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// Failing is a stage that fails where its setting says.
type Failing struct{ In string }

func init() {
	stage.Register[Failing]()
	stage.RegisterWith[FailingWith, int]()
}

func (c *Failing) Contract() schemas.Contract {
	return schemas.Contract{Name: "failing", Needs: []schemas.Descriptor{schemas.Prompt}}
}

func (c *Failing) fails(where string) error {
	if c.In == where {
		return errors.New("the disk is full")
	}
	return nil
}

func (c *Failing) Setup(context.Context) error { return c.fails("setup") }

func (c *Failing) Map(_ context.Context, b stage.Batch, _ *stage.DeadLetters) (stage.Batch, error) {
	return b, c.fails("map")
}

// FailingWith is Failing with a side input.
type FailingWith struct{ Failing }

func (c *FailingWith) MapWith(ctx context.Context, b stage.Batch, _ int, dead *stage.DeadLetters) (stage.Batch, error) {
	return c.Map(ctx, b, dead)
}

// TestErrorBeginsWithTheStage: whoever runs a pipeline of stages is told which one failed and why, before and without Beam's
// plan of the pipeline.
func TestErrorBeginsWithTheStage(t *testing.T) {
	row, err := schemas.NewRecord(schemas.Meta{}, schemas.PromptID.From([]uuid.UUID{uuid.New()}), schemas.Prompt.From([]string{"x"}))
	if err != nil {
		t.Fatal(err)
	}
	runners.Init()
	for _, runner := range []string{"prism", "direct"} {
		for where, want := range map[string]string{"setup": "stage failing: setup: the disk is full (", "map": "stage failing: the disk is " +
			"full ("} {
			for how, apply := range map[string]func(beam.Scope, stage.Rows) stage.Rows{
				"Apply": func(s beam.Scope, in stage.Rows) stage.Rows {
					out, _ := stage.Apply(s, Failing{In: where}, in)
					return out
				},
				"ApplyOnce": func(s beam.Scope, in stage.Rows) stage.Rows {
					out, _ := stage.ApplyOnce(s, Failing{In: where}, stage.Store{Dir: t.TempDir()}, in)
					return out
				},
				"ApplyWith": func(s beam.Scope, in stage.Rows) stage.Rows {
					out, _ := stage.ApplyWith[FailingWith, int](s, FailingWith{Failing{In: where}}, in, beam.Create(s, 1))
					return out
				},
			} {
				p, s := beam.NewPipelineWithRoot()
				out := apply(s, stage.Rows{PCollection: beam.CreateList(s, []stage.Batch{row})})
				stage.End(s, out.PCollection)
				c := runners.Default()
				c.Name = runner
				_, err := runners.Run(t.Context(), p, c)
				if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "Plan[") {
					t.Errorf("%s on %s, failing in %s: %v", how, runner, where, err)
				}
			}
		}
	}
}
