package runners

import (
	"context"
	"log/slog"
	"os"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/exec/optimized" // faster generic invocation
	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
)

var quiet sync.Once

// runPrism runs the pipeline in this process. The first call starts prism's job server on a free loopback port; later
// calls share it.
func runPrism(ctx context.Context, p *beam.Pipeline, _ Config) (beam.PipelineResult, error) {
	quiet.Do(func() {
		// Prism narrates every bundle at info level; what a user should see is the progress of the run.
		level := slog.LevelError
		if os.Getenv("MILLRACE_LOG") == "debug" {
			level = slog.LevelDebug
		}
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
		log.SetLogger(&log.Structural{})
	})
	return prism.Execute(ctx, p)
}
