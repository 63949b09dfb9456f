// Package telemetry tells what a run does: log lines, counters as JSON lines and as Prometheus text, training curves for
// TensorBoard, spans for OpenTelemetry.
//
// Telemetry never slows or fails a run. Everything goes through bounded queues into goroutines of their own; what cannot
// be delivered is dropped and counted, and the end of a run says how much that was. Nothing that is told is read by the
// run again.
package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"go.opentelemetry.io/otel/attribute"

	"github.com/millrace/millrace/pipelines/telemetry/tensorboard"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// Run is the telemetry of one run in this process. A nil Run tells nothing.
type Run struct {
	name   string // of the run in lines and spans
	dir    string // of files that are appended to
	spool  *spool // of a run in a bucket
	board  *board
	traces *tracing

	log, counters, curves *sink
	files                 []io.Closer
	endpoint              *endpoint
	events                *tensorboard.Writer
	record                bytes.Buffer // events that are not queued yet
	before                *slog.Logger
	note                  func(format string, args ...any)
	endRun                func(error)

	mu sync.Mutex // of what a pipeline sets
	at place
}

// Start opens the telemetry of a run in its directory. What cannot be opened is noted and left out. Lines for people go
// through note, which must not block; nil means nowhere. The context that is returned carries the Run.
func Start(ctx context.Context, c Config, name, dir string, note func(format string, args ...any)) (context.Context, *Run) {
	r := &Run{name: name, dir: files.Join(dir, Dir), before: slog.Default(), note: note}
	r.board = newBoard(func() map[string]int64 { return r.dropped(false) })
	redact := newRedactor()
	var problems []error
	if files.IsURL(dir) {
		var err error
		if r.spool, err = openSpool(ctx, r.dir); err == nil {
			r.dir = r.spool.local
		} else { // which leaves a directory in which no file can be opened
			problems = append(problems, err)
		}
	}

	h := &logHandler{beam: levelOf(c.Log.Beam)}
	if level := levelOf(c.Log.Level); level < off && note != nil {
		h.outputs = append(h.outputs, newOutput(lineFunc(func(line string) { note("%s", line) }), c.Log.Format, level, redact))
	}
	if level := levelOf(c.Log.File); level < off {
		if r.log = r.open("log", logName, &problems); r.log != nil {
			h.outputs = append(h.outputs, newOutput(r.log, "json", level, redact))
		}
	}
	slog.SetDefault(slog.New(h))
	r.counters = r.open("counters", countersName, &problems)
	if c.TensorBoard && !files.IsURL(r.dir) {
		problems = append(problems, r.openCurves(ctx, time.Now()))
	}
	if c.Metrics.Listen != "" {
		var err error
		if r.endpoint, err = listen(c.Metrics.Listen, r.board); err != nil {
			problems = append(problems, fmt.Errorf("telemetry.metrics.listen: %w", err))
		} else {
			slog.Info("metrics are served", "address", "http://"+r.endpoint.at.String()+"/metrics")
		}
	}
	if c.Traces {
		var err error
		if r.traces, err = startTracing(ctx, redact); err != nil {
			problems = append(problems, fmt.Errorf("telemetry.traces: %w", err))
		}
	}
	for _, err := range problems {
		if err != nil {
			slog.Warn("telemetry is not complete; the run goes on", "error", err)
		}
	}
	tellWorkers(c, r.traces != nil)
	ctx, r.endRun = r.traces.span(ctx, "run", attribute.String("millrace.run", name))
	ctx = stage.WithLogAttrs(ctx, slog.String("run", name))
	return context.WithValue(ctx, runKey{}, r), r
}

type runKey struct{}

// From is the Run that the context carries, nil when there is none.
func From(ctx context.Context) *Run {
	r, _ := ctx.Value(runKey{}).(*Run)
	return r
}

// open opens a file of lines behind a queue; nil when that fails.
func (r *Run) open(name, file string, problems *[]error) *sink {
	if files.IsURL(r.dir) {
		return nil
	}
	f, err := appendTo(filepath.Join(r.dir, file))
	if err != nil {
		*problems = append(*problems, err)
		return nil
	}
	r.files = append(r.files, f.file)
	return newSink(name, f.write)
}

// openCurves starts a new event file in place of those of earlier processes: it will hold their points too.
func (r *Run) openCurves(ctx context.Context, now time.Time) error {
	dir := r.dir
	if r.spool != nil {
		dir = r.spool.remote
	}
	old, err := files.ListIn(ctx, dir, "events.out.tfevents.*")
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := files.Remove(ctx, path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(r.dir, tensorboard.FileName(now)))
	if err != nil {
		return err
	}
	r.files = append(r.files, f)
	r.curves = newSink("tensorboard", (&recordFile{w: f}).write)
	r.events, err = tensorboard.NewWriter(&r.record, now, 0)
	return err
}

// lineFunc is a writer of lines: they go where the run shows its progress, so that the two do not run into each other.
type lineFunc func(string)

func (f lineFunc) Write(p []byte) (int, error) {
	f(string(p))
	return len(p), nil
}

// Iteration opens the span of an iteration. The function that is returned ends it: committed, or with what went wrong, or
// neither where nothing was left to do.
func (r *Run) Iteration(ctx context.Context, number int) (context.Context, func(committed bool, err error)) {
	if r == nil {
		return ctx, func(bool, error) {}
	}
	start := time.Now()
	r.setPlace(place{r.name, number, ""})
	r.board.startIteration(number)
	ctx, end := r.traces.span(ctx, "iteration", attribute.Int("millrace.iteration", number))
	ctx = stage.WithLogAttrs(ctx, slog.Int("iteration", number))
	slog.InfoContext(ctx, "iteration started")
	return ctx, func(committed bool, err error) {
		end(err)
		took := time.Since(start)
		if err != nil {
			slog.ErrorContext(ctx, "iteration failed", "seconds", took.Seconds(), "error", err)
			return
		}
		if !committed {
			slog.InfoContext(ctx, "iteration given up: nothing is left to do", "seconds", took.Seconds())
			return
		}
		r.board.endIteration(took)
		slog.InfoContext(ctx, "iteration committed", "seconds", took.Seconds())
	}
}

// Pipeline opens the span of a pipeline. Watch is given its counters while it runs; end is given those at its end.
func (r *Run) Pipeline(ctx context.Context, name string) (_ context.Context, watch func(beam.PipelineResult),
	end func(beam.PipelineResult, error)) {
	if r == nil {
		return ctx, nil, func(beam.PipelineResult, error) {}
	}
	start := time.Now()
	r.mu.Lock()
	r.at.pipeline = name
	at := r.at
	r.mu.Unlock()
	ctx, endSpan := r.traces.span(ctx, "pipeline "+name, attribute.Int("millrace.iteration", at.iteration))
	r.traces.carry(ctx)
	ctx = stage.WithLogAttrs(ctx, slog.String("pipeline", name))
	slog.DebugContext(ctx, "pipeline started")
	take := func(result beam.PipelineResult, ended bool) {
		if result == nil {
			return
		}
		now := time.Now().UTC()
		stages, transforms := stageLines(at, now, stage.CountsOf(result)), transformLines(at, now, result)
		r.board.show(stages, transforms, ended)
		if !ended || r.counters == nil {
			return
		}
		for _, l := range stages {
			writeLine(r.counters, l)
		}
		for _, l := range transforms {
			writeLine(r.counters, l)
		}
	}
	watch = func(result beam.PipelineResult) { take(result, false) }
	return ctx, watch, func(result beam.PipelineResult, err error) {
		take(result, true)
		endSpan(err)
		if err != nil {
			slog.ErrorContext(ctx, "pipeline failed", "seconds", time.Since(start).Seconds(), "error", err)
			return
		}
		slog.InfoContext(ctx, "pipeline done", "seconds", time.Since(start).Seconds())
	}
}

// Peak tells how much memory of this process was resident at most in the iteration under way; 0: not known.
func (r *Run) Peak(bytes int64) {
	if r == nil || bytes == 0 {
		return
	}
	r.board.peaked(bytes)
	r.mu.Lock()
	at := r.at
	r.mu.Unlock()
	if r.counters != nil {
		writeLine(r.counters, MemoryLine{Time: time.Now().UTC(), Run: at.run, Iteration: at.iteration, PeakResident: bytes})
	}
}

// Measured shows what was measured after an iteration.
func (r *Run) Measured(metrics map[string]float64) {
	if r != nil {
		r.board.measure(metrics)
	}
}

func writeLine(to io.Writer, line any) {
	raw, err := json.Marshal(line)
	if err == nil {
		to.Write(append(raw, '\n'))
	}
}

func (r *Run) setPlace(p place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = p
}

// Point is one point of a training curve.
type Point struct {
	At    time.Time
	Step  int
	Curve string
	Value float64
}

// Draw adds points to the training curves. It is for one goroutine.
func (r *Run) Draw(points []Point) {
	if r == nil || r.events == nil {
		return
	}
	for _, p := range points {
		_ = r.events.Scalar(p.At, int64(p.Step), p.Curve, p.Value) // into memory
	}
	r.curves.Write(r.record.Bytes())
	r.record.Reset()
}

// dropped is what could not be delivered, by what it was for.
func (r *Run) dropped(over bool) map[string]int64 {
	out := map[string]int64{}
	for _, s := range []*sink{r.log, r.counters, r.curves} {
		if s != nil {
			out[s.name], _ = s.lost()
		}
	}
	if r.traces != nil {
		out["traces"] = r.traces.dropped(over)
	}
	return out
}

// Close delivers what is queued, waiting only briefly, and notes what was dropped. The error is how the run ended.
func (r *Run) Close(err error) {
	if r == nil {
		return
	}
	r.endRun(err)
	r.traces.close(closeWait)
	r.traces.carry(context.Background())
	r.endpoint.close()
	for _, s := range []*sink{r.counters, r.curves} {
		if s != nil {
			s.close(closeWait)
		}
	}
	for _, s := range []*sink{r.counters, r.curves, r.log} {
		if s == nil {
			continue
		}
		if n, why := s.lost(); n > 0 {
			slog.Warn("telemetry was dropped", "sink", s.name, "writes", n, "error", why)
		}
	}
	if n := r.traces.dropped(true); n > 0 {
		slog.Warn("telemetry was dropped", "sink", "traces", "spans", n)
	}
	slog.SetDefault(r.before)
	if r.log != nil {
		r.log.close(closeWait)
	}
	for _, f := range r.files {
		f.Close()
	}
	if err := r.spool.close(); err != nil && r.note != nil {
		r.note("telemetry in the run's directory is not complete: %v", err)
	}
}

// Address is where /metrics is served, empty when it is not.
func (r *Run) Address() string {
	if r == nil || r.endpoint == nil {
		return ""
	}
	return r.endpoint.at.String()
}
