package runners

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec/optimized" // faster generic invocation
	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
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
	defer func() {
		if ctx.Err() == nil {
			stop()
			return
		}
		time.AfterFunc(lingering, stop)
	}()
	return retryHeldUp(ctx, func() (beam.PipelineResult, error) {
		j := job{runner: "prism", client: client, noProgress: c.noProgress(), watch: c.Watch}
		j.read = j.readMetrics
		return j.execute(ctx, p, env, nil)
	})
}

// lingering is how long this process still answers as a worker for a pipeline that was cancelled: prism may start the worker of a job that
// has ended meanwhile, and panics where nobody answers (Beam 2.77, internal/environments.go, externalEnvironment).
const lingering = 2 * time.Second

// heldUpAttempts bounds how often a pipeline is run that prism failed by its own fault.
const heldUpAttempts = 5

// retryHeldUp runs a pipeline again that prism failed by its own fault. What was done is found in files, so little is lost.
func retryHeldUp(ctx context.Context, run func() (beam.PipelineResult, error)) (result beam.PipelineResult, err error) {
	for range heldUpAttempts {
		if result, err = run(); !heldUp(err) || ctx.Err() != nil {
			break
		}
		log.Warnf(ctx, "prism failed the job by its own fault; it is run again")
	}
	return result, err
}

// heldUp reports a fault of prism (Beam 2.77, internal/stage.go, Execute): when the machine is so busy that a transform which
// prism does itself, such as a shuffle, is held up for 100 ms, prism asks a worker about its progress that such a transform
// does not have, and turns the panic into the failure of the job.
func heldUp(err error) bool {
	var failed *JobError
	return errors.As(err, &failed) && strings.Contains(failed.Why, "panic in stage.Execute") &&
		strings.Contains(failed.Why, "nil pointer dereference")
}
