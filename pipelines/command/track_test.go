package command

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/pipelines/telemetry/trackers"
	"github.com/millrace/millrace/pipelines/telemetry/trackers/trackerstest"
)

// copied is a copy of the run of all tests, into which a test may write.
func copied(t *testing.T) string {
	t.Helper()
	from, _ := aRun(t)
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// checkPoints holds what a server has to metrics.jsonl: every point once.
func checkPoints(t *testing.T, dir string, got trackerstest.Run) {
	t.Helper()
	d, err := run.Read(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	measured, err := d.ReadMeasurements(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, m := range measured {
		for name, value := range m.Figures() {
			want++
			times := 0
			for _, p := range got.Metrics[strings.ReplaceAll(name, "@", "_at_")] {
				if int(p.Step) == m.Iterations {
					times++
					if p.Value != value || p.At == 0 {
						t.Errorf("%s after %d iterations is %v, sent as %+v", name, m.Iterations, value, p)
					}
				}
			}
			if times != 1 {
				t.Errorf("%s after %d iterations is there %d times", name, m.Iterations, times)
			}
		}
	}
	have := 0
	for _, points := range got.Metrics {
		have += len(points)
	}
	if have != want || len(got.Metrics["pass_at_1"]) < 2 {
		t.Errorf("%d points, want %d", have, want)
	}
}

// only is the one run that a server has.
func only(t *testing.T, m *trackerstest.MLflow) trackerstest.Run {
	t.Helper()
	runs := m.Runs()
	if len(runs) != 1 {
		t.Fatalf("the server has %d runs", len(runs))
	}
	return runs[0]
}

// TestTrack sends a run that had no tracker, and again.
func TestTrack(t *testing.T) {
	m, dir := trackerstest.NewMLflow(t), copied(t)
	want(t, exitUsage, []string{"was given no tracker", "mlflow"}, "track", dir)
	want(t, exitUsage, []string{"kind", "mlflow"}, "track", dir, "--to", "mlfow")
	want(t, exitUsage, []string{"url: "}, "track", dir, "--to", "mlflow", "--set", "url=nowhere")
	want(t, exitUsage, []string{"--to"}, "track", dir, "--set", "url=nowhere")
	args := []string{"track", dir, "--json", "--to", "mlflow", "--set", "url=" + m.URL, "--set", "samples.rows=5"}
	want(t, exitUsage, []string{"samples.rows"}, args...)
	args[len(args)-1] = "samples={rows: 3, every: 1, characters: 40}"
	first := decode[[]run.Tracked](t, want(t, exitOK, nil, args...))
	got := only(t, m)
	checkPoints(t, dir, got)
	if len(first) != 1 || first[0].Iterations != 2 || first[0].Tables != 2 || first[0].Status != trackers.Finished ||
		got.Status != "FINISHED" {
		t.Errorf("%+v, %s", first, got.Status)
	}
	if d := got.End - got.Metrics["loss"][1].At; d != 0 || got.Start > got.End {
		t.Errorf("it began at %d and ended %d ms after its last commit", got.Start, d)
	}
	if got.Params["kind"] != "policy" || got.Params["update.losses.1.name"] != "distrl" || got.Params["seed"] != "0" || got.Name != "copy" {
		t.Errorf("%s: %v", got.Name, got.Params)
	}
	for _, tag := range []string{"millrace.run", "millrace.identity", "millrace.version", "millrace.manifest", "millrace.iterations",
		"millrace.model.policy/model.safetensors"} {
		if got.Tags[tag] == "" {
			t.Errorf("no tag %s in %v", tag, got.Tags)
		}
	}
	config, err := os.ReadFile(filepath.Join(dir, recipe.ConfigName))
	if err != nil || got.Files["config.yaml"] != string(config) {
		t.Errorf("%v: config.yaml is %s", err, got.Files["config.yaml"])
	}
	var table struct {
		Columns []string
		Data    [][]any
	}
	if err := json.Unmarshal([]byte(got.Files["samples/00002.json"]), &table); err != nil {
		t.Fatal(err)
	}
	if c := strings.Join(table.Columns, " "); c != "iterations prompt response outcome verdict advantage tokens" || len(table.Data) != 3 {
		t.Errorf("a table of %s, %d rows", c, len(table.Data))
	}
	for _, row := range table.Data {
		if row[0] != 2.0 || row[1] == "" || len([]rune(row[2].(string))) > 40 || row[len(row)-1] == 0.0 {
			t.Errorf("row %v", row)
		}
	}
	again := decode[[]run.Tracked](t, want(t, exitOK, nil, args...))
	if again[0].Points != 0 || again[0].Tables != 0 || again[0].Address != first[0].Address {
		t.Errorf("the second time %+v", again)
	}
	checkPoints(t, dir, only(t, m))
}

// without lists what is in a run directory but for its telemetry.
func without(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, "/telemetry/") || d.Name() == ".lock" {
			return err
		}
		raw, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir)] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tracker(url string) string {
	return "telemetry.trackers=[{kind: mlflow, url: '" + url + "', seconds: 30, samples: {every: 2}}]"
}

// TestTrackerOfARun: a run that goes on, and grows, is one run at its tracker, with every point once; and it leaves the bytes that it
// leaves without a tracker.
func TestTrackerOfARun(t *testing.T) {
	m := trackerstest.NewMLflow(t)
	plain, file := aRun(t)
	dir := filepath.Join(t.TempDir(), "tracked")
	run := func(more ...string) {
		t.Helper()
		want(t, exitOK, nil, append([]string{"run", file, "--set", "run=" + dir, "--set", tracker(m.URL)}, more...)...)
		checkPoints(t, dir, only(t, m))
	}
	run()
	if a, b := without(t, plain), without(t, dir); len(a) != len(b) {
		t.Errorf("%d files, and %d without a tracker", len(b), len(a))
	} else {
		for name, text := range a {
			if b[name] != text {
				t.Errorf("%s is another one with a tracker", name)
			}
		}
	}
	end := only(t, m).End
	run() // nothing is left to do
	if got := only(t, m); got.End != end || got.Status != "FINISHED" {
		t.Errorf("a run that had finished is %s, %d, %d", got.Status, got.End, end)
	}
	run("--set", "iterations=4")
	got := only(t, m)
	if got.Status != "FINISHED" || got.Params["iterations"] != "2" || got.Tags["millrace.setting.iterations"] != "4" ||
		got.Tags["millrace.iterations"] != "4" || !strings.Contains(got.Files["config.yaml"], "iterations: 4") {
		t.Errorf("%s, %v", got.Status, got.Tags)
	}
	for _, name := range []string{"samples/00001.json", "samples/00002.json", "samples/00004.json"} {
		if got.Files[name] == "" {
			t.Errorf("no %s", name)
		}
	}
	again := decode[[]map[string]any](t, want(t, exitOK, nil, "track", dir, "--json")) // to the tracker that it was given
	if len(again) != 1 || again[0]["points"] != 0.0 {
		t.Errorf("%v", again)
	}
	// A run directory may come from somebody else: it does not choose where keys go, nor which run is written to.
	asked := false
	t.Setenv("MLFLOW_TRACKING_TOKEN", "secret")
	t.Setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
	m.Before(func(http.ResponseWriter, *http.Request) bool { asked = true; return false })
	if says := want(t, exitUsage, []string{"trackers[0].url: ", "--to mlflow"}, "track", dir); asked || strings.Contains(says, "secret") {
		t.Errorf("asked %v: %s", asked, says)
	}
	t.Setenv("MLFLOW_TRACKING_URI", m.URL)
	want(t, exitOK, nil, "track", dir)
	given := filepath.Join(dir, "telemetry", "trackers.json")
	raw, err := os.ReadFile(given)
	if err != nil {
		t.Fatal(err)
	}
	other := regexp.MustCompile(`"key": ?"[^"]*"`).ReplaceAll(raw, []byte(`"key":"x' OR tags.a = 'b"`))
	if err := os.WriteFile(given, other, 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, exitFailed, []string{"trackers.json: key: "}, "track", dir)
	if err := os.WriteFile(given, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	want(t, exitUsage, []string{"telemetry.trackers[0].url: "}, "run", file, "--set", "run="+dir, "--set", tracker("nowhere"))
	want(t, exitUsage, []string{"telemetry.trackers[0].kind: "}, "plan", file, "--set", "telemetry.trackers=[{kind: mlflw}]")
}

// TestTrackerDown: a run whose tracker does not answer is not lost; once the tracker is there again it is sent all.
func TestTrackerDown(t *testing.T) {
	if testing.Short() {
		t.Skip("waits")
	}
	m := trackerstest.NewMLflow(t)
	m.Before(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	_, file := aRun(t)
	dir := filepath.Join(t.TempDir(), "tracked")
	code, _, log := execute("run", file, "--set", "run="+dir, "--set", tracker(m.URL))
	if code != exitOK || !strings.Contains(log, "a tracker was not reached") || !strings.Contains(log, "503") ||
		!strings.Contains(log, "does not have all of the run") {
		t.Errorf("exit code %d: %s", code, log)
	}
	if runs := m.Runs(); len(runs) != 0 {
		t.Errorf("%+v", runs)
	}
	want(t, exitFailed, []string{"503"}, "track", dir)
	m.Before(nil)
	want(t, exitOK, []string{"mlflow has 2 iterations, finished"}, "track", dir)
	checkPoints(t, dir, only(t, m))
}

// TestTrackerComesBack: what is missing is sent with a later iteration.
func TestTrackerComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("waits")
	}
	m := trackerstest.NewMLflow(t)
	var asked atomic.Int64
	m.Before(func(w http.ResponseWriter, _ *http.Request) bool {
		if asked.Add(1) <= 4 { // the first attempts, all of them, and one of the next
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	})
	_, file := aRun(t)
	dir := filepath.Join(t.TempDir(), "tracked")
	want(t, exitOK, nil, "run", file, "--set", "run="+dir, "--set", tracker(m.URL))
	if asked.Load() <= 4 {
		t.Errorf("it was asked %d times", asked.Load())
	}
	checkPoints(t, dir, only(t, m))
}

// TestTrackerHangs: a run does not wait for a tracker that hangs, but for some seconds at its end.
func TestTrackerHangs(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for ten seconds")
	}
	m, over := trackerstest.NewMLflow(t), make(chan struct{})
	defer close(over)
	m.Before(func(http.ResponseWriter, *http.Request) bool { <-over; return true })
	_, file := aRun(t)
	start := time.Now()
	code, _, log := execute("run", file, "--set", "run="+filepath.Join(t.TempDir(), "tracked"), "--set", tracker(m.URL))
	if took := time.Since(start); code != exitOK || !strings.Contains(log, "it has not taken all within 10s") || took > 30*time.Second {
		t.Errorf("exit code %d after %v: %s", code, took, log)
	}
}

// TestTrackerOfAFailure: a run that fails says so, and one that is interrupted goes on as the same run.
func TestTrackerOfAFailure(t *testing.T) {
	m := trackerstest.NewMLflow(t)
	_, file := aRun(t)
	failing := filepath.Join(t.TempDir(), "tracked")
	want(t, exitDead, nil, "run", file, "--set", "run="+failing, "--set", "limits.dead_share=0", "--set", tracker(m.URL))
	if got := only(t, m); got.Status != "FAILED" || got.End == 0 {
		t.Errorf("%+v", got)
	}

	m = trackerstest.NewMLflow(t)
	dir := filepath.Join(t.TempDir(), "tracked")
	r, err := recipe.Parse([]byte(shortRecipe), []string{"run=" + dir, "iterations=200", tracker(m.URL)})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := method.New(r)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m.Before(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api/2.0/mlflow-artifacts") { // after points have come
			cancel()
		}
		return false
	})
	if err := method.Run(ctx, chain, progress.Silent()); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got := only(t, m); got.Status != "KILLED" {
		t.Errorf("an interrupted run is %s", got.Status)
	}

	// Of a run whose process nobody hears of, the lock tells whether it is there.
	other := trackerstest.NewMLflow(t)
	to := []string{"track", dir, "--to", "mlflow", "--set", "url=" + other.URL}
	d, _, err := run.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	want(t, exitOK, []string{"running"}, to...)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, exitOK, []string{"killed"}, to...)

	m.Before(nil)
	done, err := d.Committed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.Iterations = len(done) + 1
	if chain, err = method.New(r); err != nil {
		t.Fatal(err)
	}
	if err := method.Run(t.Context(), chain, progress.Silent()); err != nil {
		t.Fatal(err)
	}
	if got := only(t, m); got.Status != "FINISHED" {
		t.Errorf("a run that went on is %s", got.Status)
	}
	checkPoints(t, dir, only(t, m))
}
