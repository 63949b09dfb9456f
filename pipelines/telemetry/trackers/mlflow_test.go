package trackers_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pipelines/telemetry/trackers"
	"github.com/millrace/millrace/pipelines/telemetry/trackers/trackerstest"
	"github.com/millrace/millrace/schemas/setting"
)

// at is a tracker with a server at an address.
func at(t *testing.T, url string, set map[string]any) trackers.Config {
	t.Helper()
	all := map[string]any{"url": url}
	for k, v := range set {
		all[k] = v
	}
	c, err := trackers.New("mlflow", all)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t *testing.T, c trackers.Config, r trackers.Run) trackers.Session {
	t.Helper()
	s, err := c.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// curve is a metric over so many steps.
func curve(name string, steps int) (out []trackers.Point) {
	for i := range steps {
		out = append(out, trackers.Point{At: time.UnixMilli(int64(i)), Step: i, Name: name, Value: float64(i) / 4})
	}
	return out
}

// TestMLflowLimits sends more of everything than fits into a request, and names and values that MLflow refuses.
func TestMLflowLimits(t *testing.T) {
	m := trackerstest.NewMLflow(t)
	long := strings.Repeat("ü", 700)
	r := trackers.Run{Key: "k", Name: "first", Started: time.Unix(7, 0), Settings: map[string]string{"losses[0].name": "ppo", "long": long,
		strings.Repeat("n", 300): "1", "a//b": "2", "empty": ""}, Tags: map[string]string{"millrace.input.prompts.file a/b.jsonl": "digest"}}
	for i := range 350 {
		r.Settings[fmt.Sprintf("section.key_%d", i)] = fmt.Sprint(i)
		r.Tags[fmt.Sprintf("tag %d", i)] = fmt.Sprint(i)
	}
	s := open(t, at(t, m.URL, nil), r)
	var points []trackers.Point
	for i := range 30 {
		points = append(points, curve(fmt.Sprintf("reward/part-%d", i), 100)...)
	}
	points = append(points, curve("avg@8", 3)...)
	points = append(points, curve("a+b", 3)...)
	points = append(points, curve("a-b", 3)...)
	points = append(points, curve("a*b", 3)...)
	if n, err := s.Send(t.Context(), points, map[string]string{"far": "yes"}); err != nil || n != len(points) {
		t.Fatalf("%d points: %v", n, err)
	}
	runs := m.Runs()
	if len(runs) != 1 {
		t.Fatalf("%d runs", len(runs))
	}
	got := runs[0]
	if len(got.Params) != len(r.Settings) || got.Params["losses.0.name"] != "ppo" || got.Params["section.key_349"] != "349" {
		t.Errorf("%d params of %d settings", len(got.Params), len(r.Settings))
	}
	if x := got.Params["long"]; len([]rune(x)) != 500 || !strings.HasSuffix(x, "… (700 characters)") {
		t.Errorf("a long value is %q", x)
	}
	if len(got.Metrics) != 34 || len(got.Metrics["avg_at_8"]) != 3 || len(got.Metrics["reward/part-29"]) != 100 {
		t.Errorf("%d metrics: %v", len(got.Metrics), got.Metrics["avg_at_8"])
	}
	if p := got.Metrics["reward/part-3"][99]; p != (trackerstest.Point{Step: 99, At: 99, Value: 24.75}) {
		t.Errorf("the last point is %+v", p)
	}
	if got.Tags["tag 349"] != "349" || got.Tags["far"] != "yes" || got.Name != "first" || got.Start != 7000 {
		t.Errorf("%+v", got)
	}
}

// TestMLflowGoesOn opens a run again: what is there is not sent again, a setting that has changed is a tag, and a table is there once.
func TestMLflowGoesOn(t *testing.T) {
	m := trackerstest.NewMLflow(t)
	c := at(t, m.URL, nil)
	r := trackers.Run{Key: "k", Settings: map[string]string{"iterations": "2", "seed": "1"}}
	send := func(steps int) {
		t.Helper()
		s := open(t, c, r)
		if _, err := s.Send(t.Context(), append(curve("loss", steps), curve("kl", steps)...), nil); err != nil {
			t.Fatal(err)
		}
		for step := 1; step <= steps; step++ {
			lacks, err := s.Lacks(t.Context(), step)
			if err == nil && lacks {
				err = s.Table(t.Context(), trackers.Table{Step: step, Columns: []string{"response", "outcome"}, Rows: [][]any{{"a", 1.0}, {"b", nil}}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		attached := s.Attach(t.Context(), "config.yaml", []byte("seed: 1\n"))
		if err := errors.Join(attached, s.Turn(t.Context(), trackers.Finished, time.Unix(9, 0))); err != nil {
			t.Fatal(err)
		}
	}
	send(3)
	requests := 0
	m.Before(func(http.ResponseWriter, *http.Request) bool { requests++; return false })
	send(3)
	if requests != 3 { // the experiment, the run, and its tables
		t.Errorf("a second time took %d requests", requests)
	}
	r.Settings["iterations"] = "5"
	send(5)
	runs := m.Runs()
	if len(runs) != 1 || len(runs[0].Metrics["loss"]) != 5 || len(runs[0].Metrics["kl"]) != 5 {
		t.Fatalf("%+v", runs)
	}
	got := runs[0]
	if got.Params["iterations"] != "2" || got.Tags["millrace.setting.iterations"] != "5" || got.Status != "FINISHED" || got.End != 9000 {
		t.Errorf("%+v", got)
	}
	if got.Files["config.yaml"] != "seed: 1\n" || got.Files["samples/00005.json"] !=
		`{"columns":["response","outcome"],"data":[["a",1],["b",null]]}` || len(got.Files) != 6 {
		t.Errorf("files %v", got.Files)
	}
	if want := `{"path":"samples/00005.json","type":"table"}]`; !strings.HasSuffix(got.Tags["mlflow.loggedArtifacts"], want) {
		t.Errorf("tables %s", got.Tags["mlflow.loggedArtifacts"])
	}
	delete(r.Settings, "iterations")
	r.Settings["iterations"] = "2" // as it was in the beginning
	open(t, c, r)
	if got := m.Runs()[0].Tags["millrace.setting.iterations"]; got != "2" {
		t.Errorf("a setting that is as it was is tagged %s", got)
	}
}

// TestMLflowTablesThatFit: the tag that names the tables stays within MLflow's limit and names the latest.
func TestMLflowTablesThatFit(t *testing.T) {
	m := trackerstest.NewMLflow(t)
	s := open(t, at(t, m.URL, nil), trackers.Run{Key: "k"})
	for step := 1; step <= 150; step++ {
		if _, err := s.Lacks(t.Context(), step); err != nil {
			t.Fatal(err)
		}
		if err := s.Table(t.Context(), trackers.Table{Step: step}); err != nil {
			t.Fatal(err)
		}
	}
	got := m.Runs()[0]
	tag := got.Tags["mlflow.loggedArtifacts"]
	if len(got.Files) != 150 || !strings.Contains(tag, "00150") || strings.Contains(tag, "00001") || strings.Count(tag, "path") < 100 {
		t.Errorf("%d files, %s", len(got.Files), tag)
	}
}

// TestMLflowLostAnswers: the server has done what it was asked, and nobody hears of it. What is opened anew sends only the rest.
func TestMLflowLostAnswers(t *testing.T) {
	m := trackerstest.NewMLflow(t)
	c := at(t, m.URL, nil)
	points := append(curve("loss", 700), curve("kl", 700)...)
	asked := map[string]int{}
	m.Lose(func(r *http.Request) bool { // of each method the first and the third: of batches one of settings and one of points
		asked[r.URL.Path]++
		return asked[r.URL.Path] == 1 || asked[r.URL.Path] == 3
	})
	for attempt := 0; ; attempt++ {
		if attempt == 20 {
			t.Fatal("it never ends")
		}
		s, err := c.Open(t.Context(), trackers.Run{Key: "k", Settings: map[string]string{"seed": "1"}})
		if err == nil {
			_, err = s.Send(t.Context(), points, nil)
		}
		if err == nil {
			break
		}
		var e *trackers.Error
		if !errors.As(err, &e) || !e.Again {
			t.Fatal(err)
		}
	}
	runs := m.Runs()
	if len(runs) != 1 || len(runs[0].Metrics["loss"]) != 700 || len(runs[0].Metrics["kl"]) != 700 {
		t.Fatalf("%d runs, %d and %d points", len(runs), len(runs[0].Metrics["loss"]), len(runs[0].Metrics["kl"]))
	}
}

// TestMLflowAnswers: answers that an MLflow server would not give are errors that say so, bounded in time and size, without keys, and
// nothing in them acts on a terminal.
func TestMLflowAnswers(t *testing.T) {
	const token = "tk-0123456789abcdef"
	t.Setenv("MLFLOW_TRACKING_TOKEN", token)
	stolen := ""
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		stolen += r.Header.Get("Authorization") + r.URL.Path
	}))
	defer thief.Close()
	wait := make(chan struct{})
	defer close(wait)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		says   string
		again  bool
	}{
		"hangs": {func(http.ResponseWriter, *http.Request) { <-wait }, "no complete answer within 300ms", true},
		"hangs half": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "{")
			w.(http.Flusher).Flush()
			<-wait
		}, "no complete answer", true},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(strings.Repeat(" ", 1<<20))); err != nil {
					return
				}
			}
		}, "is longer than", false},
		"page":       {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, "not that of an MLflow server", false},
		"other page": {http.NotFound, "there is no MLflow server", false},
		"deep": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.Repeat("[", 1<<20))
		}, "not that of an MLflow server", false},
		"no id": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"experiment": {}}`) }, "experiment_id", false},
		"deleted": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"experiment": {"experiment_id": "1", "lifecycle_stage": "deleted"}}`)
		}, "is deleted there", false},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief.URL+"/taken", http.StatusFound)
		}, "not followed", false},
		"key": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"error_code": "PERMISSION_DENIED", "message": "no\u001b[2J %s"}`, r.Header.Get("Authorization"))
		}, `no\x1b[2J Bearer (key); keys are read from MLFLOW_TRACKING_TOKEN`, false},
		"busy":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, "503", true},
		"drops": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF", true},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.answer)
			defer server.CloseClientConnections()
			limit := 0.3
			if name == "endless" || name == "deep" {
				limit = 30
			}
			start := time.Now()
			_, err := at(t, server.URL, map[string]any{"seconds": limit}).Open(t.Context(), trackers.Run{Key: "k"})
			var e *trackers.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) || e.Again != c.again {
				t.Errorf("%v", err)
			}
			if strings.Contains(fmt.Sprint(err), token) || len(fmt.Sprint(err)) > 1000 {
				t.Errorf("the message is %v", err)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	if stolen != "" {
		t.Errorf("another host was asked %s", stolen)
	}
}

// TestMLflowManyAnswers: what a server says more than was asked for is not kept, and a list ends.
func TestMLflowManyAnswers(t *testing.T) {
	const token = "tk-0123456789abcdef"
	t.Setenv("MLFLOW_TRACKING_TOKEN", token)
	m, pages := trackerstest.NewMLflow(t), 0
	m.Before(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/runs/search"):
			io.WriteString(w, `{"runs": [{"info": {"run_id": "run0", "artifact_uri": "mlflow-artifacts:/1/run0/artifacts"}}`+
				strings.Repeat(", {}", 900_000)+"]}")
		case strings.HasSuffix(r.URL.Path, "/artifacts/list"):
			pages++
			io.WriteString(w, `{"files": [{"path": "samples/00001.json"}, {"path": "`+strings.Repeat("x", 1000)+`"}], "next_page_token": "more"}`)
		case strings.HasSuffix(r.URL.Path, "/log-batch"):
			io.WriteString(w, "{}")
		default:
			return false
		}
		return true
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := open(t, at(t, m.URL, nil), trackers.Run{Key: "k"})
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d bytes for one run", grown)
	}
	if _, err := s.Lacks(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "more than 100 pages") || pages != 100 {
		t.Errorf("%d pages, %v", pages, err)
	}
	m.Before(func(w http.ResponseWriter, r *http.Request) bool {
		fmt.Fprintf(w, `{"experiment": {"experiment_id": %q}}`, r.Header.Get("Authorization"))
		return true
	})
	if _, err := at(t, m.URL, nil).Open(t.Context(), trackers.Run{Key: "k"}); err == nil || strings.Contains(err.Error(), token) {
		t.Errorf("an id that is a key: %v", err)
	}
}

// TestMLflowKeys: keys come from the environment, a name with a password before a token.
func TestMLflowKeys(t *testing.T) {
	m := trackerstest.NewMLflow(t)
	got := ""
	m.Before(func(_ http.ResponseWriter, r *http.Request) bool { got = r.Header.Get("Authorization"); return false })
	for _, c := range []struct{ user, password, token, want string }{{want: ""}, {token: "t", want: "Bearer t"},
		{user: "me", password: "p", token: "t", want: "Basic bWU6cA=="}} {
		t.Setenv("MLFLOW_TRACKING_USERNAME", c.user)
		t.Setenv("MLFLOW_TRACKING_PASSWORD", c.password)
		t.Setenv("MLFLOW_TRACKING_TOKEN", c.token)
		open(t, at(t, m.URL, nil), trackers.Run{Key: "k"})
		if got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// TestMLflowFilesElsewhere: nothing is sent to an address that only the server names, and the session says so.
func TestMLflowFilesElsewhere(t *testing.T) {
	for _, uri := range []string{"s3://bucket/1/artifacts", "file:///tmp/x", "/tmp/x", "mlflow-artifacts://other:5000/1/artifacts",
		"http://other/api/2.0/mlflow-artifacts/artifacts/1", "mlflow-artifacts:/../../../../secret", "mlflow-artifacts:", "%zz", ""} {
		m := trackerstest.NewMLflow(t)
		m.Before(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/api/2.0/mlflow-artifacts") {
				t.Errorf("%s: %s is asked", uri, r.URL.Path)
			}
			if strings.HasSuffix(r.URL.Path, "/create") && strings.Contains(r.URL.Path, "runs") {
				fmt.Fprintf(w, `{"run": {"info": {"run_id": "run0", "artifact_uri": %q}}}`, uri)
				return true
			}
			if strings.HasSuffix(r.URL.Path, "/log-batch") {
				io.WriteString(w, "{}")
				return true
			}
			return false
		})
		s := open(t, at(t, m.URL, nil), trackers.Run{Key: "k"})
		lacks, err := s.Lacks(t.Context(), 1)
		if err = errors.Join(err, s.Attach(t.Context(), "config.yaml", nil)); err != nil || lacks || !strings.Contains(s.Note(), "are not sent") {
			t.Errorf("%s: %v, %v, %s", uri, lacks, err, s.Note())
		}
	}
}

// TestMLflowSettings: a wrong setting is an error with its key.
func TestMLflowSettings(t *testing.T) {
	t.Setenv("MLFLOW_TRACKING_URI", "")
	for _, c := range []struct {
		kind, key string
		set       map[string]any
	}{
		{"mlflw", "kind", nil}, {"mlflow", "url", nil}, {"mlflow", "url", map[string]any{"url": "localhost:5000"}},
		{"mlflow", "url", map[string]any{"url": "ftp://localhost"}}, {"mlflow", "url", map[string]any{"url": "http://me:secret@localhost"}},
		{"mlflow", "url", map[string]any{"url": "http://169.254.169.254/"}}, {"mlflow", "url", map[string]any{"url": "http://localhost/?a=b"}},
		{"mlflow", "url", map[string]any{"url": "http://[::1"}}, {"mlflow", "url", map[string]any{"url": 3}},
		{"mlflow", "experiment", map[string]any{"url": "http://localhost", "experiment": ""}},
		{"mlflow", "seconds", map[string]any{"url": "http://localhost", "seconds": 0}},
		{"mlflow", "samples.rows", map[string]any{"url": "http://localhost", "samples": map[string]any{"rows": 0}}},
		{"mlflow", "experment", map[string]any{"url": "http://localhost", "experment": "x"}},
	} {
		_, err := trackers.New(c.kind, c.set)
		var e *setting.Error
		if !errors.As(err, &e) || e.Path != c.key || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v", c, err)
		}
	}
	t.Setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
	if _, err := trackers.New("mlflow", nil); err != nil {
		t.Error(err)
	}
}
