package runners

import (
	"log/slog"
	"os"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
)

var quiet sync.Once

// quietLogs keeps Beam's narration of every bundle off the terminal: what a user should see there is the progress of the
// run. MILLRACE_LOG=debug shows all of it.
func quietLogs() {
	quiet.Do(func() {
		level := slog.LevelError
		if os.Getenv("MILLRACE_LOG") == "debug" {
			level = slog.LevelDebug
		}
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
		log.SetLogger(&log.Structural{})
	})
}
