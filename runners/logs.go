package runners

import (
	"log/slog"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

// Init freezes Beam's registry, once; pipelines can be built after it. Beam's own Init also replaces the logger of the
// process by one that narrates every bundle; this one leaves the program's logger as it was.
var Init = sync.OnceFunc(func() {
	before := slog.Default()
	beam.Init()
	slog.SetDefault(before)
})

// quietLogs keeps the narration off the terminal of a program that has not chosen a logger of its own.
func quietLogs() { slog.SetLogLoggerLevel(slog.LevelError) }
