package runners

import (
	"context"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	//lint:ignore SA1019 see the comment of the package
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/direct"
)

// runDirect runs the pipeline in this process, one element after the other and without encoding them: for quick tests of
// a few rows. It says nothing while it runs, so the watchdog's limit is on the whole pipeline.
func runDirect(ctx context.Context, p *beam.Pipeline, c Config) (beam.PipelineResult, error) {
	type outcome struct {
		result beam.PipelineResult
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		result, err := direct.Execute(ctx, p)
		if err != nil {
			err = &JobError{Runner: "direct", Why: cause("", err.Error()), Err: err}
		}
		done <- outcome{result, err}
	}()
	var limit <-chan time.Time
	if d := c.noProgress(); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		limit = t.C
	}
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-limit:
		return nil, &StalledError{Runner: "direct", Idle: c.noProgress()}
	}
}
