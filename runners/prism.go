package runners

import (
	"context"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec/optimized" // faster generic invocation
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
)

// prismServer is prism's job service on a free loopback port of this process; all pipelines share it.
var prismServer = sync.OnceValues(func() (jobpb.JobServiceClient, error) {
	return prism.CreateJobServer(context.Background(), prism.Options{})
})

// runPrism runs the pipeline in this process.
func runPrism(ctx context.Context, p *beam.Pipeline, c Config) (beam.PipelineResult, error) {
	client, err := prismServer()
	if err != nil {
		return nil, err
	}
	env, stop, err := loopback(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	j := job{runner: "prism", client: client, noProgress: c.noProgress()}
	j.read = j.readMetrics
	return j.execute(ctx, p, env, nil)
}
