package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"

	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/transforms/stage"
)

// workerOption tells worker processes what to tell.
const workerOption = "millrace_telemetry"

type workerOptions struct {
	Level  string `json:"level"`
	Traces bool   `json:"traces"`
}

// tellWorkers hands the settings to the workers of the pipelines to come, as a pipeline option.
func tellWorkers(c Config, traces bool) {
	o := workerOptions{Level: c.Log.Level, Traces: traces}
	if levels[c.Log.File] < levels[o.Level] {
		o.Level = c.Log.File
	}
	if raw, err := json.Marshal(o); err == nil && string(raw) != beam.PipelineOptions.Get(workerOption) {
		beam.PipelineOptions.Set(workerOption, string(raw))
	}
}

// Worker starts the telemetry of a worker process, whose files and standard error nobody may see: lines go to Beam's log,
// which the runner collects. The function that is returned delivers what is outstanding.
func Worker() (end func()) {
	o := readWorkerOptions(beam.PipelineOptions.Get(workerOption))
	redact := newRedactor()
	line := &bytes.Buffer{}
	slog.SetDefault(slog.New(&remoteHandler{level: levelOf(o.Level), mu: &sync.Mutex{}, line: line, inner: newOutput(line, "json",
		slog.LevelDebug, redact).handler}))
	var traces *tracing
	if o.Traces {
		traces = tracesOfWorker(redact)
	}
	return func() { traces.close(closeWait) }
}

func readWorkerOptions(raw string) workerOptions {
	o := workerOptions{Level: Default().Log.Level}
	if raw != "" && json.Unmarshal([]byte(raw), &o) != nil {
		return workerOptions{Level: Default().Log.Level}
	}
	return o
}

func tracesOfWorker(r redactor) *tracing {
	traces, err := startTracing(context.Background(), r)
	if err != nil {
		slog.Warn("traces are not delivered", "error", r.text(err.Error()))
	}
	return traces
}

// Pool starts the telemetry of a pool of workers: a process that serves several jobs, and whose standard error, where its
// lines go, is its own. Job is to be given the options of the job that a worker is started for, and returns the context of
// its stages. End delivers what is outstanding.
func Pool() (job func(context.Context, map[string]string) context.Context, end func()) {
	start := sync.OnceValue(func() *tracing { return tracesOfWorker(newRedactor()) })
	var traced atomic.Bool
	job = func(ctx context.Context, options map[string]string) context.Context {
		if readWorkerOptions(options[workerOption]).Traces {
			traced.Store(true)
			start()
		}
		return stage.WithTraceParent(ctx, options[stage.TraceOption])
	}
	return job, func() {
		if traced.Load() {
			start().close(closeWait)
		}
	}
}

// remoteHandler passes lines to Beam's log as JSON.
type remoteHandler struct {
	level slog.Level
	mu    *sync.Mutex
	line  *bytes.Buffer
	inner slog.Handler
}

// Enabled implements slog.Handler.
func (h *remoteHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle implements slog.Handler.
func (h *remoteHandler) Handle(ctx context.Context, r slog.Record) error {
	r = withContext(ctx, r)
	h.mu.Lock()
	h.line.Reset()
	err := h.inner.Handle(ctx, r)
	text := strings.TrimSuffix(h.line.String(), "\n")
	h.mu.Unlock()
	if err != nil {
		return err
	}
	if runners.FromBeam(r) { // Beam's log is not connected yet and has passed the line here
		_, err := os.Stderr.WriteString(text + "\n")
		return err
	}
	log.Output(ctx, severity(r.Level), 3, text)
	return nil
}

func severity(l slog.Level) log.Severity {
	switch {
	case l < slog.LevelInfo:
		return log.SevDebug
	case l < slog.LevelWarn:
		return log.SevInfo
	case l < slog.LevelError:
		return log.SevWarn
	}
	return log.SevError
}

// WithAttrs implements slog.Handler.
func (h *remoteHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &remoteHandler{h.level, h.mu, h.line, h.inner.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *remoteHandler) WithGroup(name string) slog.Handler {
	return &remoteHandler{h.level, h.mu, h.line, h.inner.WithGroup(name)}
}
