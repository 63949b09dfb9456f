package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/millrace/millrace/transforms/stage"
)

const tracerName = "github.com/millrace/millrace/pipelines/telemetry"

// tracing sends spans. The zero value and nil send none.
type tracing struct {
	provider *sdktrace.TracerProvider
	counts   *spanCounts
}

// spanCounts follows spans to the endpoint, so that those that never got there can be counted.
type spanCounts struct {
	ended, sent, failed atomic.Int64
	once                sync.Once
	redact              redactor
	sdktrace.SpanExporter
}

// startTracing sets the process's tracer provider: OTLP over HTTP, to where the OTEL_* environment variables say.
func startTracing(ctx context.Context, r redactor) (*tracing, error) {
	switch name := os.Getenv("OTEL_TRACES_EXPORTER"); {
	case strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true"), name == "none":
		return nil, nil
	case name != "" && name != "otlp":
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER is %q; this program knows otlp and none", name)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, err
	}
	// What the environment says comes last, and so wins.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attribute.String("service.name", "millrace")),
		resource.WithFromEnv())
	if err != nil {
		return nil, err
	}
	counts := &spanCounts{SpanExporter: exporter, redact: r}
	// The batcher's queue is bounded and never waits: what does not fit is dropped.
	t := &tracing{counts: counts, provider: sdktrace.NewTracerProvider(sdktrace.WithResource(about),
		sdktrace.WithSpanProcessor(endCounter{counts}), sdktrace.WithBatcher(counts))}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(counts.say))
	otel.SetTracerProvider(t.provider)
	return t, nil
}

// ExportSpans implements sdktrace.SpanExporter.
func (c *spanCounts) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		c.failed.Add(int64(len(spans)))
		return err
	}
	c.sent.Add(int64(len(spans)))
	return nil
}

// say logs the first error of OpenTelemetry; the rest is in the count of what was dropped.
func (c *spanCounts) say(err error) {
	c.once.Do(func() { slog.Warn("traces are not delivered; the run goes on", "error", c.redact.text(err.Error())) })
}

// endCounter counts the spans that end.
type endCounter struct{ counts *spanCounts }

func (e endCounter) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (e endCounter) OnEnd(s sdktrace.ReadOnlySpan) {
	if s.SpanContext().IsSampled() {
		e.counts.ended.Add(1)
	}
}
func (e endCounter) Shutdown(context.Context) error   { return nil }
func (e endCounter) ForceFlush(context.Context) error { return nil }

// dropped is how many spans did not arrive; those still queued count only once the run is over.
func (t *tracing) dropped(over bool) int64 {
	if t == nil {
		return 0
	}
	if over {
		return t.counts.ended.Load() - t.counts.sent.Load()
	}
	return t.counts.failed.Load()
}

func (t *tracing) close(wait time.Duration) {
	if t == nil {
		return
	}
	ctx, done := context.WithTimeout(context.Background(), wait)
	defer done()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.counts.say(err)
	}
	otel.SetTracerProvider(noop.NewTracerProvider())
}

// span opens a span; the function that is returned closes it with what went wrong.
func (t *tracing) span(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, func(error)) {
	if t == nil {
		return ctx, func(error) {}
	}
	ctx, s := t.provider.Tracer(tracerName).Start(ctx, name, trace.WithAttributes(attrs...))
	return ctx, func(err error) {
		if err != nil {
			s.SetStatus(codes.Error, t.counts.redact.text(err.Error()))
		}
		s.End()
	}
}

// carry hands the span of the context to the workers of the next pipeline.
func (t *tracing) carry(ctx context.Context) {
	parent := ""
	if t != nil {
		carrier := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, carrier)
		parent = carrier["traceparent"]
	}
	if parent != beam.PipelineOptions.Get(stage.TraceOption) {
		beam.PipelineOptions.Set(stage.TraceOption, parent)
	}
}
