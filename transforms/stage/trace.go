package stage

import (
	"context"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// TraceOption is the pipeline option that tells workers the span of the pipeline, as a W3C traceparent. Empty or absent,
// no spans are made.
const TraceOption = "millrace_traceparent"

type traceParentKey struct{}

// WithTraceParent gives the bundles that run with the context a parent of their own, where a process serves several jobs and
// so cannot go by its pipeline options.
func WithTraceParent(ctx context.Context, parent string) context.Context {
	return context.WithValue(ctx, traceParentKey{}, parent)
}

const tracerName = "github.com/millrace/millrace/transforms/stage"

// bundleSpan is the span of the bundle that an instance works on; the zero value has none.
type bundleSpan struct {
	span                       trace.Span
	batches                    int
	rowsIn, rowsKept, rowsDead int
}

// begin opens the span, with the first batch of a bundle, unless it is open.
func (s *bundleSpan) begin(ctx context.Context, stage string) {
	parent, ok := ctx.Value(traceParentKey{}).(string)
	if !ok {
		parent = beam.PipelineOptions.Get(TraceOption)
	}
	if parent == "" || s.span != nil {
		return
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
	*s = bundleSpan{}
	_, s.span = otel.Tracer(tracerName).Start(ctx, "stage "+stage, trace.WithAttributes(attribute.String("millrace.stage", stage)))
}

// Span opens a span of a DoFn that is not put into a pipeline by Apply; the function that is returned closes it.
func Span(ctx context.Context, stage string) (end func(error)) {
	var s bundleSpan
	s.begin(ctx, stage)
	return s.end
}

func (s *bundleSpan) count(r Result) {
	if s.span == nil {
		return
	}
	s.batches++
	s.rowsIn += r.In
	s.rowsKept += r.Kept
	for _, n := range r.Reasons {
		s.rowsDead += n
	}
}

// end closes the span, with what the bundle did or why it failed; a span that was closed stays closed.
func (s *bundleSpan) end(err error) {
	if s.span == nil {
		return
	}
	if s.batches > 0 {
		s.span.SetAttributes(attribute.Int("millrace.batches", s.batches), attribute.Int("millrace.rows_in", s.rowsIn),
			attribute.Int("millrace.rows_kept", s.rowsKept), attribute.Int("millrace.rows_dead", s.rowsDead))
	}
	if err != nil {
		s.span.SetStatus(codes.Error, "failed; the log has the error")
	}
	s.span.End()
	s.span = nil
}
