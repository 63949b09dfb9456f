package pipelines

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/transforms/stage"
)

// iterationPipeline is the name of the pipeline that an iteration is.
const iterationPipeline = "iteration"

// execute runs a pipeline under a name for the telemetry, and checks that no stage lost rows.
func execute(ctx context.Context, name string, p *beam.Pipeline, c runners.Config) (beam.PipelineResult, error) {
	ctx, watch, end := telemetry.From(ctx).Pipeline(ctx, name)
	c.Watch = watch
	result, err := runners.Run(ctx, p, c)
	if err == nil {
		err = stage.Conserved(result)
	}
	end(result, err)
	return result, err
}
