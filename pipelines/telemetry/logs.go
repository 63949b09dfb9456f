package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/transforms/stage"
)

// levelVariable overrides every level of the log, Beam's included.
const levelVariable = "MILLRACE_LOG"

// output is one place lines go to.
type output struct {
	level   slog.Level
	handler slog.Handler
}

// logHandler sends each line to the outputs whose level it reaches. Lines of Beam and its runners, which use the same
// logger, must also reach a level of their own. Attributes of the context (run, iteration, stage, record) are added.
type logHandler struct {
	outputs []output
	beam    slog.Level
}

func newOutput(w io.Writer, format string, level slog.Level, r redactor) output {
	options := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: r.attr}
	if format == "json" {
		return output{level, slog.NewJSONHandler(w, options)}
	}
	return output{level, slog.NewTextHandler(w, options)}
}

// levelOf is the level of a setting, unless the environment overrides it.
func levelOf(name string) slog.Level {
	if l, ok := levels[strings.ToLower(os.Getenv(levelVariable))]; ok {
		return l
	}
	return levels[name]
}

// SetLogs makes the process log to w alone, as the level, format and beam settings say, until a run sets its own.
func SetLogs(w io.Writer, c Log) {
	slog.SetDefault(slog.New(&logHandler{outputs: []output{newOutput(w, c.Format, levelOf(c.Level), newRedactor())}, beam: levelOf(c.Beam)}))
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	for _, o := range h.outputs {
		if level >= o.level {
			return true
		}
	}
	return false
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < h.beam && runners.FromBeam(r) {
		return nil
	}
	r = withContext(ctx, r)
	var errs []error
	for _, o := range h.outputs {
		if r.Level >= o.level {
			errs = append(errs, o.handler.Handle(ctx, r))
		}
	}
	return errors.Join(errs...)
}

// withContext adds what the context says about where the line comes from: run, iteration, stage, record.
func withContext(ctx context.Context, r slog.Record) slog.Record {
	if attrs := stage.LogAttrs(ctx); len(attrs) > 0 {
		r = r.Clone()
		r.AddAttrs(attrs...)
	}
	return r
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.each(func(inner slog.Handler) slog.Handler { return inner.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return h.each(func(inner slog.Handler) slog.Handler { return inner.WithGroup(name) })
}

func (h *logHandler) each(f func(slog.Handler) slog.Handler) slog.Handler {
	out := &logHandler{beam: h.beam}
	for _, o := range h.outputs {
		out.outputs = append(out.outputs, output{o.level, f(o.handler)})
	}
	return out
}
