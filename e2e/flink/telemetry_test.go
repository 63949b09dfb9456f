//go:build flink

package flink

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/pipelines/telemetry/telemetrytest"
)

// TestTelemetryOfWorkers: wherever the stages of a run work, their spans, counters and log lines arrive, and say what they say
// of a run on the embedded runner.
func TestTelemetryOfWorkers(t *testing.T) {
	sets := []string{"--traces", "--metrics-listen", "localhost:0", "--set", "rollout.max_prompt_tokens=16",
		"--set", "policy.path=" + filepath.Join(undisturbed(t), "iter-00000", "policy")}
	spans := telemetrytest.Collector(t)
	dir := t.TempDir()
	out, err := run(t, "policy.yaml", filepath.Join(dir, "prism"), sets...)
	must(t, out, err)
	wantSpans, wantCounts := worked(t, spans(), filepath.Join(dir, "prism")), counted(t, filepath.Join(dir, "prism"))
	if len(wantSpans) == 0 || len(wantCounts) == 0 {
		t.Fatalf("of the embedded runner there are %d spans and %d counters", len(wantSpans), len(wantCounts))
	}

	// The environment of a TaskManager's children is its own; that of a pool is the pool's.
	var inherited []string
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_COMPRESSION"} {
		inherited = append(inherited, "--set", "runner.flink.env."+name+"="+os.Getenv(name))
	}
	for _, c := range []struct {
		environment string
		args        []string
		log         func(run string) string // where the lines of the stages are
	}{
		{"loopback", nil, func(run string) string {
			raw, _ := os.ReadFile(filepath.Join(run, telemetry.Dir, "log.jsonl")) // once there is one
			return string(raw)
		}},
		{"process", inherited, func(string) string { return taskManagers(t) }},
		{"external", []string{"--set", "runner.flink.pool=localhost:50072"}, nil},
	} {
		t.Run(c.environment, func(t *testing.T) {
			log := c.log
			if c.environment == "external" {
				lines := pool(t, "localhost:50072")
				log = func(string) string { return lines() }
			}
			run := filepath.Join(dir, c.environment)
			setAside := func() int { // lines about the rows that a stage set aside
				return len(slices.DeleteFunc(strings.Split(log(run), "\n"), func(line string) bool {
					return !strings.Contains(line, "rows set aside") || !strings.Contains(line, "too_long") || !strings.Contains(line, "rollout")
				}))
			}
			before := setAside() // the log of a TaskManager has earlier runs too
			metrics := watched(t, run, append(append(onFlink(c.environment, 2), sets...), c.args...))
			counts := counted(t, run)
			compare(t, "counter", counts, wantCounts)
			for _, stage := range []string{"rollout", "label", "advantage"} {
				if !regexp.MustCompile(`millrace_stage_rows_in_total\{pipeline="iteration",stage="` + stage + `"\} [1-9]`).MatchString(metrics) {
					t.Errorf("/metrics has no rows of %s", stage)
				}
			}
			// A TaskManager kills a worker that has not ended half a second after its signal: on a busy machine some spans are lost.
			if c.environment == "process" {
				noWorkers(t)
				whole := 0
				for name, n := range worked(t, spans(), run) {
					if n == wantSpans[name] {
						whole++
					} else if n > wantSpans[name] {
						t.Errorf("span of %s: %d, on the embedded runner %d", name, n, wantSpans[name])
					}
				}
				t.Logf("all spans of %d of %d stages", whole, len(wantSpans))
				if whole < len(wantSpans)/2 {
					t.Errorf("most spans are missing")
				}
			} else {
				await(t, "the spans arrive", func() bool { return len(worked(t, spans(), run)) >= len(wantSpans) })
				compare(t, "span", worked(t, spans(), run), wantSpans)
			}
			await(t, "the log has the line of a worker", func() bool { return setAside() > before })
		})
	}
}

// watched does a run and returns what /metrics last said while it was under way.
func watched(t *testing.T, run string, args []string) string {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), 10*time.Minute)
	defer done()
	var printed bytes.Buffer
	cmd := command(ctx, t, "policy.yaml", run, args...)
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	served := regexp.MustCompile(`http://[^"]*/metrics`)
	last := ""
	for {
		select {
		case err := <-ended:
			must(t, printed.String(), err)
			return last
		case <-time.After(100 * time.Millisecond):
		}
		raw, _ := os.ReadFile(filepath.Join(run, telemetry.Dir, "log.jsonl"))
		if at := served.Find(raw); at != nil {
			if resp, err := http.Get(string(at)); err == nil {
				if body, err := io.ReadAll(resp.Body); err == nil {
					last = string(body)
				}
				resp.Body.Close()
			}
		}
	}
}

// pool serves a pool until the test ends; lines gives what it has printed so far.
func pool(t *testing.T, address string) (lines func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pool.log")
	to, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary(t), "worker", "--listen", address)
	cmd.Stderr = to
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		to.Close()
	})
	lines = func() string { return read(t, path) }
	await(t, "the pool serves", func() bool { return strings.Contains(lines(), "pool at") })
	return lines
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// taskManagers is what the TaskManagers have logged.
func taskManagers(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(os.Getenv("FLINK_DIR"), "home", "log", "*taskexecutor*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no log of a TaskManager in %s (%v)", os.Getenv("FLINK_DIR"), err)
	}
	var all strings.Builder
	for _, f := range files {
		all.WriteString(read(t, f))
	}
	return all.String()
}

// worked sums the rows of the stages' spans of a run, by iteration, pipeline and stage.
func worked(t *testing.T, all []*tracepb.Span, run string) map[string]int64 {
	t.Helper()
	attribute := func(s *tracepb.Span, key string) (text string, n int64) {
		for _, a := range s.Attributes {
			if a.Key == key {
				return a.Value.GetStringValue(), a.Value.GetIntValue()
			}
		}
		return "", 0
	}
	trace, pipelines := "", map[string]string{}
	id := runID(t, run)
	for _, s := range all {
		if name, _ := attribute(s, "millrace.run"); s.Name == "run" && name == id {
			trace = hex.EncodeToString(s.TraceId) // of several processes of one recipe, the last
		}
	}
	for _, s := range all {
		if name, ok := strings.CutPrefix(s.Name, "pipeline "); ok && hex.EncodeToString(s.TraceId) == trace {
			_, iteration := attribute(s, "millrace.iteration")
			pipelines[string(s.SpanId)] = fmt.Sprintf("%d %s", iteration, name)
		}
	}
	rows := map[string]int64{}
	for _, s := range all {
		stage, ok := strings.CutPrefix(s.Name, "stage ")
		if !ok || hex.EncodeToString(s.TraceId) != trace {
			continue
		}
		of, ok := pipelines[string(s.ParentSpanId)]
		if !ok {
			t.Errorf("the span of stage %s belongs to no pipeline", stage)
		}
		_, n := attribute(s, "millrace.rows_in")
		rows[of+" "+stage] += n
	}
	return rows
}

// counted is what counters.jsonl says of the rows of every stage.
func counted(t *testing.T, run string) map[string]int64 {
	t.Helper()
	lines, err := telemetry.ReadStages(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, l := range lines {
		for name, n := range map[string]int64{"in": l.RowsIn, "kept": l.RowsKept, "out": l.RowsOut, "dead": l.Dead, "filtered": l.Filtered,
			"tokens": l.TokensOut} {
			counts[fmt.Sprintf("%d %s %s %s", l.Iteration, l.Pipeline, l.Stage, name)] = n
		}
	}
	return counts
}

// runID is what lines and spans call the run.
func runID(t *testing.T, run string) string {
	t.Helper()
	lines, err := telemetry.ReadStages(t.Context(), run)
	if err != nil || len(lines) == 0 {
		t.Fatalf("%s has no counters (%v)", run, err)
	}
	return lines[0].Run
}

func compare(t *testing.T, what string, have, want map[string]int64) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if n, ok := have[name]; !ok || n != want[name] {
			t.Errorf("%s of %s: %d, on the embedded runner %d", what, name, n, want[name])
		}
	}
	for name := range have {
		if _, ok := want[name]; !ok {
			t.Errorf("%s of %s: the embedded runner has none", what, name)
		}
	}
}
