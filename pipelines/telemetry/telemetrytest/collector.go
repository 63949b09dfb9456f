// Package telemetrytest receives what a run tells about itself, for tests.
package telemetrytest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector listens for spans (OTLP over HTTP) and points the environment of the test at itself. The function that is returned
// gives the spans received so far.
func Collector(t *testing.T) (spans func() []*tracepb.Span) {
	var mu sync.Mutex
	var all []*tracepb.Span
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		raw, _ := io.ReadAll(req.Body)
		var got coltrace.ExportTraceServiceRequest
		if err := proto.Unmarshal(raw, &got); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range got.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				all = append(all, ss.Spans...)
			}
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	return func() []*tracepb.Span {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}
