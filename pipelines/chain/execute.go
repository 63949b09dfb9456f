package chain

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/transforms/stage"
)

// Execute runs a pipeline under a name for the telemetry, shows what it works on, and checks that no stage lost rows.
func Execute(ctx context.Context, name string, p *beam.Pipeline, c runners.Config) (beam.PipelineResult, error) {
	ctx, watch, end := telemetry.From(ctx).Pipeline(ctx, name)
	w := working{show: progress.From(ctx)}
	defer w.end()
	c.Watch = func(result beam.PipelineResult) {
		if watch != nil {
			watch(result)
		}
		w.see(result)
	}
	result, err := runners.Run(ctx, p, c)
	if err == nil {
		err = stage.Conserved(result)
	}
	end(result, err)
	return result, err
}
