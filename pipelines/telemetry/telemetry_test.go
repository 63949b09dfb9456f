package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/log"
	"go.opentelemetry.io/otel"

	"github.com/millrace/millrace/pipelines/telemetry/telemetrytest"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/stage"
)

// notes is where a run shows lines.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) note(_ string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, strings.TrimSpace(args[0].(string)))
}

func (n *notes) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.lines, "\n")
}

func start(t *testing.T, c Config, dir string) (context.Context, *Run, *notes) {
	t.Helper()
	n := &notes{}
	ctx, r := Start(context.Background(), c, "0123456789abcdef", dir, n.note)
	return ctx, r, n
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	for path, set := range map[string]func(*Config){
		"log.level":      func(c *Config) { c.Log.Level = "loud" },
		"log.file":       func(c *Config) { c.Log.File = "" },
		"log.beam":       func(c *Config) { c.Log.Beam = "INFO" },
		"log.format":     func(c *Config) { c.Log.Format = "xml" },
		"metrics.listen": func(c *Config) { c.Metrics.Listen = "9464" },
	} {
		c := Default()
		if err := setting.Check(c); err != nil {
			t.Fatalf("the default: %v", err)
		}
		set(&c)
		if err := setting.Check(c); err == nil || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%s: error %v does not start with the path", path, err)
		}
	}
}

func logLines(t *testing.T, dir string) (out []map[string]any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, Dir, logName))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		var l map[string]any
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		out = append(out, l)
	}
	return out
}

// TestBeamIsLoggedWhereAskedFor and from its level on.
func TestBeamIsLoggedWhereAskedFor(t *testing.T) {
	dir, c := t.TempDir(), Default()
	c.Log.Beam = "error"
	ctx, r, _ := start(t, c, dir)
	log.Infof(ctx, "narration")
	log.Errorf(ctx, "a bundle failed")
	r.Close(nil)
	var said []string
	for _, l := range logLines(t, dir) {
		said = append(said, l["msg"].(string))
	}
	if !slices.Contains(said, "a bundle failed") || slices.Contains(said, "narration") {
		t.Errorf("logged: %q", said)
	}
}

func TestLogLinesSayWhereTheyComeFrom(t *testing.T) {
	dir := t.TempDir()
	ctx, r, n := start(t, Default(), dir)
	within, end := r.Iteration(ctx, 3)
	row := stage.WithLogAttrs(within, slog.String("stage", "label"), slog.String("record", "r1"))
	slog.InfoContext(row, "an answer was cut", "tokens", 7)
	log.Infof(within, "narration") // by Beam
	log.Errorf(within, "a bundle failed")
	slog.WarnContext(within, "look here")
	slog.DebugContext(within, "too much")
	end(false, errors.New("no such model"))
	r.Close(nil)

	found := map[string]map[string]any{}
	for _, l := range logLines(t, dir) {
		found[l["msg"].(string)] = l
	}
	cut := found["an answer was cut"]
	if cut["run"] != "0123456789abcdef" || cut["iteration"] != 3.0 || cut["stage"] != "label" || cut["record"] != "r1" ||
		cut["tokens"] != 7.0 || cut["level"] != "INFO" {
		t.Errorf("the line of the stage is %v; want run, iteration, stage and record", cut)
	}
	if found["iteration failed"]["error"] != "no such model" {
		t.Errorf("the failed iteration left %v", found["iteration failed"])
	}
	for _, name := range []string{"narration", "too much", "a bundle failed"} {
		if found[name] != nil {
			t.Errorf("%q was logged", name)
		}
	}
	if text := n.text(); !strings.Contains(text, "look here") || strings.Contains(text, "an answer was cut") {
		t.Errorf("on standard error:\n%s\nwant the warning, not the line of level info", text)
	}
}

func TestSecretsStayOut(t *testing.T) {
	const key, password = "sk-verysecretvalue-1", "hunter2hunter2"
	t.Setenv("OPENAI_API_KEY", key)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-auth="+password)
	var collected bytes.Buffer
	var mu sync.Mutex
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		io.Copy(&collected, req.Body)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	dir := t.TempDir()
	c := Default()
	c.Log.Level, c.Log.File, c.Traces = "debug", "debug", true
	ctx, r, n := start(t, c, dir)
	within, end := r.Iteration(ctx, 0)
	slog.Error("the server said "+key, "error", errors.New("Get http://me:"+password+"@host/v1: 401 with "+key), "api_key", "anything",
		"header", "Authorization: Bearer abcdef123456",
		"group", slog.GroupValue(slog.String("inner", key)), "list", []string{key})
	slog.With("given", key).Info("with")
	end(false, errors.New("401 for "+key))
	r.Close(nil)
	_ = within
	raw, err := os.ReadFile(filepath.Join(dir, Dir, logName))
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for where, text := range map[string]string{"log.jsonl": string(raw), "standard error": n.text(), "spans": collected.String()} {
		if text == "" {
			t.Errorf("%s is empty", where)
		}
		for _, secret := range []string{key, password, "abcdef123456", `"anything"`} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds the secret %q", where, secret)
			}
		}
	}
	if !strings.Contains(string(raw), "the server said "+redacted) {
		t.Errorf("the words around a secret are gone too: %s", raw)
	}
}

func counts(rows int64) []stage.Counts {
	return []stage.Counts{{Stage: "rollout", In: rows, Kept: rows - 1, Dead: 1, Out: 2 * rows, Tokens: 40, Bytes: 100, Batches: 2,
		Millis:  1500,
		Reasons: map[schemas.Reason]int64{schemas.ReasonTooLong: 1}, Other: map[string]int64{"replayed": 2}}}
}

func TestMetricsAreServed(t *testing.T) {
	c := Default()
	c.Metrics.Listen = "localhost:0"
	_, r, _ := start(t, c, t.TempDir())
	defer r.Close(nil)
	at := place{"0123456789abcdef", 1, "iteration"}
	r.board.show(stageLines(at, time.Now(), counts(5)), []TransformLine{{Pipeline: "iteration", Transform: "rollout/ParDo", Elements: 9}},
		true)
	r.board.show(stageLines(at, time.Now(), counts(3)), nil, false) // the next pipeline, under way
	r.board.startIteration(1)
	r.Measured(map[string]float64{"loss": 0.25})
	answer, err := http.Get("http://" + r.Address() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`millrace_stage_rows_in_total{pipeline="iteration",stage="rollout"} 8`,
		`millrace_stage_rows_dead_total{pipeline="iteration",reason="too_long",stage="rollout"} 2`,
		`millrace_stage_seconds_total{pipeline="iteration",stage="rollout"} 3`,
		`millrace_stage_count_total{name="replayed",pipeline="iteration",stage="rollout"} 4`,
		`millrace_iteration 1`, `millrace_measurement{name="loss"} 0.25`, `millrace_telemetry_dropped_total{sink="log"} 0`, `go_goroutines `,
	} {
		if !strings.Contains(string(raw), "\n"+want) {
			t.Errorf("/metrics has no line %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", raw)
	}
}

// TestARunThatCannotTellGoesOn: the port is taken, the disk is full, the endpoint of the traces is gone.
func TestARunThatCannotTellGoesOn(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	taken, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", gone.URL)
	t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "300")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, Dir), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{countersName, logName} {
		if err := os.Symlink("/dev/full", filepath.Join(dir, Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	c := Default()
	c.Metrics.Listen, c.Traces = taken.Addr().String(), true
	ctx, r, n := start(t, c, dir)
	r.curves.close(closeWait)
	r.curves = newSink("tensorboard", (&recordFile{w: full}).write)
	for i := range 3 {
		_, end := r.Iteration(ctx, i)
		writeLine(r.counters, StageLine{Stage: "label"})
		r.Draw([]Point{{time.Now(), i, "loss", 1}})
		end(true, nil)
	}
	r.Close(nil)
	text := n.text()
	for _, want := range []string{"telemetry.metrics.listen", "address already in use", "sink=counters", "sink=tensorboard", "sink=log",
		"no space left on device", "sink=traces spans=4"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing was noted about %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestNothingIsADirectoryToWriteIn: the telemetry directory cannot be made at all.
func TestNothingIsADirectoryToWriteIn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, Dir), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, r, n := start(t, Default(), dir)
	_, end := r.Iteration(ctx, 0)
	end(true, nil)
	r.Draw([]Point{{time.Now(), 0, "loss", 1}})
	r.Close(nil)
	if !strings.Contains(n.text(), "telemetry is not complete") {
		t.Errorf("noted: %s", n.text())
	}
}

func TestASlowSinkDropsAndCounts(t *testing.T) {
	release := make(chan struct{})
	var passed int
	s := newSink("slow", func([]byte) error { <-release; passed++; return nil })
	for range queueLength + 100 { // does not block
		s.Write([]byte("x"))
	}
	if n, _ := s.lost(); n < 98 {
		t.Errorf("%d writes were counted as dropped, want about 99", n)
	}
	s.close(time.Millisecond) // does not wait for the slow one
	close(release)
	<-s.ended
	s.Write([]byte("late"))
	lost, why := s.lost()
	if why == nil || int64(passed)+lost < queueLength+100 {
		t.Errorf("%d passed and %d lost (%v) of %d", passed, lost, why, queueLength+101)
	}
	panicky := newSink("panicky", func([]byte) error { panic("disk") })
	panicky.Write([]byte("x"))
	panicky.close(closeWait)
	if n, why := panicky.lost(); n != 1 || why == nil {
		t.Errorf("a panic of a sink: %d lost, %v", n, why)
	}
}

func TestHalfALineIsEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), Dir, countersName)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"stage":"label","rows_in":1,"pipeline":"iteration"}`+"\n"+`{"stage":"sco`), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := appendTo(path)
	if err != nil {
		t.Fatal(err)
	}
	s := newSink("counters", f.write)
	writeLine(s, StageLine{Stage: "label", Pipeline: "iteration", RowsIn: 2}) // the iteration is done again
	writeLine(s, StageLine{Stage: "label", Pipeline: "evaluation", RowsIn: 3})
	writeLine(s, TransformLine{Transform: "label/ParDo", Elements: 4})
	writeLine(s, StageLine{Stage: "score", Pipeline: "iteration", Iteration: 1, RowsIn: 5})
	s.close(closeWait)
	lines, err := ReadStages(t.Context(), filepath.Dir(filepath.Dir(path)))
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, l := range lines {
		got = append(got, l.RowsIn)
	}
	if len(got) != 3 || got[0] != 2 || got[1] != 3 || got[2] != 5 {
		t.Errorf("read rows_in %v, want 2 3 5: the last attempt of an iteration, then its evaluation, then the next", got)
	}
}

func TestSpansArrive(t *testing.T) {
	received := telemetrytest.Collector(t)
	c := Default()
	c.Traces = true
	ctx, r, n := start(t, c, t.TempDir())
	within, end := r.Iteration(ctx, 0)
	inner, _, ended := r.Pipeline(within, "iteration")
	_, s := otel.Tracer("test").Start(inner, "stage label")
	s.End()
	ended(nil, nil)
	end(true, nil)
	r.Close(nil)
	byID, parents := map[string]string{}, map[string]string{}
	for _, s := range received() {
		byID[string(s.SpanId)] = s.Name
	}
	for _, s := range received() {
		parents[s.Name] = byID[string(s.ParentSpanId)]
	}
	want := map[string]string{"run": "", "iteration": "run", "pipeline iteration": "iteration", "stage label": "pipeline iteration"}
	for name, parent := range want {
		if got, ok := parents[name]; !ok || got != parent {
			t.Errorf("span %q has parent %q (there: %v), want %q", name, got, ok, parent)
		}
	}
	if strings.Contains(n.text(), "dropped") {
		t.Error(n.text())
	}
}

func TestTracesAreOffWhenTheEnvironmentSaysSo(t *testing.T) {
	for name, value := range map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if traces, err := startTracing(context.Background(), newRedactor()); traces != nil || err != nil {
				t.Errorf("%v, %v", traces, err)
			}
		})
	}
	t.Setenv("OTEL_TRACES_EXPORTER", "zipkin")
	if _, err := startTracing(context.Background(), newRedactor()); err == nil {
		t.Error("an exporter that is not known was accepted")
	}
}

func TestNilRunTellsNothing(t *testing.T) {
	var r *Run
	ctx, end := r.Iteration(context.Background(), 0)
	_, watch, ended := r.Pipeline(ctx, "evaluation")
	if watch != nil {
		t.Error("a nil run watches")
	}
	ended(nil, nil)
	end(true, nil)
	r.Measured(nil)
	r.Draw([]Point{{}})
	r.Close(nil)
}
