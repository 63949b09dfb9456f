package runners

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"runtime"
	"strings"
	"sync"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

// Init freezes Beam's registry, once; pipelines can be built after it. Beam's own Init also replaces the logger of the
// process by one that narrates every bundle; this one leaves the program's logger as it was.
var Init = sync.OnceFunc(func() {
	defer keepLog()()
	before := slog.Default()
	beam.Init()
	slog.SetDefault(before)
})

// keepLog returns a function that gives the standard log the writer it has now: slog.SetDefault leads it elsewhere.
func keepLog() func() {
	w, flags := log.Writer(), log.Flags()
	return func() {
		log.SetOutput(w)
		log.SetFlags(flags)
	}
}

// quietBeam keeps Beam off the terminal of a program that has not chosen a logger of its own. Beam and its embedded runner tell
// of every bundle, and of a failure three times, each time with all of the pipeline; Run returns what the stage said.
func quietBeam() {
	before := slog.Default().Handler()
	if fmt.Sprintf("%T", before) != "*slog.defaultHandler" {
		return
	}
	defer keepLog()()
	slog.SetDefault(slog.New(withoutBeam{before}))
}

// withoutBeam is a handler that leaves out what Beam logs.
type withoutBeam struct{ slog.Handler }

func (h withoutBeam) Handle(ctx context.Context, r slog.Record) error {
	if FromBeam(r) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h withoutBeam) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withoutBeam{h.Handler.WithAttrs(attrs)}
}

func (h withoutBeam) WithGroup(name string) slog.Handler {
	return withoutBeam{h.Handler.WithGroup(name)}
}

// FromBeam reports whether a line was logged by Beam: by its own log package or by the embedded runner.
func FromBeam(r slog.Record) bool {
	if r.PC == 0 {
		return false
	}
	frame, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
	return strings.HasPrefix(frame.Function, "github.com/apache/beam/")
}
