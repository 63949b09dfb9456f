// Package trackerstest is a tracker for tests.
package trackerstest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// MLflow is a server that takes what an MLflow server takes and refuses what one refuses. It keeps every point it is sent, so that one that
// is sent twice is there twice.
type MLflow struct {
	URL string

	mu          sync.Mutex
	experiments []string // names; ids are their indices
	runs        []*Run
	before      func(w http.ResponseWriter, r *http.Request) bool
	after       func(r *http.Request) bool
}

// Run is what the server has of a run.
type Run struct {
	ID, Name, Experiment, Status string
	Start, End                   int64
	Metrics                      map[string][]Point
	Params, Tags                 map[string]string
	Files                        map[string]string
}

// Point is a point of a metric.
type Point struct {
	Step, At int64
	Value    float64
}

// NewMLflow starts a server.
func NewMLflow(t *testing.T) *MLflow {
	m := &MLflow{}
	server := httptest.NewServer(http.HandlerFunc(m.serve))
	t.Cleanup(server.Close)
	m.URL = server.URL
	return m
}

// Before sets what is asked before every request; true says that it has answered.
func (m *MLflow) Before(f func(w http.ResponseWriter, r *http.Request) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = f
}

// Lose sets which answers are lost after the server has done what it was asked.
func (m *MLflow) Lose(f func(r *http.Request) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.after = f
}

// Runs are those that the server has.
func (m *MLflow) Runs() (out []Run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.runs {
		copied := *r
		copied.Metrics, copied.Params, copied.Tags, copied.Files = map[string][]Point{}, maps.Clone(r.Params), maps.Clone(r.Tags),
			maps.Clone(r.Files)
		for k, v := range r.Metrics {
			copied.Metrics[k] = slices.Clone(v)
		}
		out = append(out, copied)
	}
	return out
}

type pair struct{ Key, Value string }

type request struct {
	Name          string
	ExperimentID  string   `json:"experiment_id"`
	ExperimentIDs []string `json:"experiment_ids"`
	Filter        string
	RunID         string `json:"run_id"`
	RunName       string `json:"run_name"`
	StartTime     int64  `json:"start_time"`
	EndTime       int64  `json:"end_time"`
	Status        string
	Tags, Params  []pair
	Metrics       []struct {
		Key             string
		Value           float64
		Timestamp, Step int64
	}
}

func (m *MLflow) serve(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	before, after := m.before, m.after
	m.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	code, answer := m.answer(r)
	if after != nil && after(r) {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
}

func wrong(code int, word, format string, args ...any) (int, any) {
	return code, map[string]string{"error_code": word, "message": fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) (int, any) {
	return wrong(http.StatusBadRequest, "INVALID_PARAMETER_VALUE", format, args...)
}

const filesAt = "/api/2.0/mlflow-artifacts/artifacts/"

func (m *MLflow) answer(r *http.Request) (int, any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	raw, _ := io.ReadAll(r.Body)
	if name, ok := strings.CutPrefix(r.URL.Path, filesAt); ok {
		id, file, _ := strings.Cut(name, "/artifacts/")
		if run := m.run(path.Base(id)); run != nil && r.Method == http.MethodPut {
			run.Files[file] = string(raw)
			return http.StatusOK, struct{}{}
		}
		return wrong(http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST", "no run")
	}
	var q request
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &q); err != nil {
			return invalid("%v", err)
		}
	}
	switch strings.TrimPrefix(r.URL.Path, "/api/2.0/mlflow/") {
	case "experiments/get-by-name":
		for i, name := range m.experiments {
			if name == r.URL.Query().Get("experiment_name") {
				return http.StatusOK, map[string]any{"experiment": map[string]string{"experiment_id": fmt.Sprint(i), "lifecycle_stage": "active"}}
			}
		}
		return wrong(http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST", "no experiment")
	case "experiments/create":
		m.experiments = append(m.experiments, q.Name)
		return http.StatusOK, map[string]string{"experiment_id": fmt.Sprint(len(m.experiments) - 1)}
	case "runs/search":
		var found []any
		for _, run := range m.runs {
			if len(q.ExperimentIDs) == 1 && run.Experiment == q.ExperimentIDs[0] &&
				q.Filter == fmt.Sprintf("tags.`millrace.key` = '%s'", run.Tags["millrace.key"]) {
				found = append(found, run.json())
			}
		}
		return http.StatusOK, map[string]any{"runs": found}
	case "runs/create":
		run := &Run{ID: fmt.Sprintf("run%d", len(m.runs)), Name: q.RunName, Experiment: q.ExperimentID, Status: "RUNNING", Start: q.StartTime,
			Metrics: map[string][]Point{}, Params: map[string]string{}, Tags: map[string]string{}, Files: map[string]string{}}
		for _, t := range q.Tags {
			run.Tags[t.Key] = t.Value
		}
		m.runs = append(m.runs, run)
		return http.StatusOK, map[string]any{"run": run.json()}
	}
	run := m.run(q.RunID + r.URL.Query().Get("run_id"))
	if run == nil {
		return wrong(http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST", "no run")
	}
	switch strings.TrimPrefix(r.URL.Path, "/api/2.0/mlflow/") {
	case "runs/log-batch":
		return run.log(q, len(raw))
	case "runs/update":
		run.Status, run.End = q.Status, q.EndTime
		return http.StatusOK, map[string]any{"run_info": struct{}{}}
	case "artifacts/list":
		files := []map[string]any{}
		for name := range run.Files {
			if path.Dir(name) == r.URL.Query().Get("path") {
				files = append(files, map[string]any{"path": name, "is_dir": false, "file_size": "1"})
			}
		}
		return http.StatusOK, map[string]any{"files": files}
	}
	return http.StatusNotFound, "no such page"
}

func (m *MLflow) run(id string) *Run {
	for _, r := range m.runs {
		if r.ID == id {
			return r
		}
	}
	return nil
}

var names = regexp.MustCompile(`^[/\w.\- :]{1,250}$`)

// log holds a batch to MLflow's limits, those of values to the smaller ones of earlier versions.
func (r *Run) log(q request, size int) (int, any) {
	switch {
	case size > 1_000_000:
		return invalid("a request of %d bytes", size)
	case len(q.Params) > 100 || len(q.Tags) > 100 || len(q.Metrics) > 1000 || len(q.Params)+len(q.Tags)+len(q.Metrics) > 1000:
		return invalid("%d params, %d tags, %d metrics", len(q.Params), len(q.Tags), len(q.Metrics))
	}
	named := func(key string) bool {
		return names.MatchString(key) && path.Clean(key) == key && key[0] != '/' && key[0] != '.'
	}
	for _, x := range q.Params {
		if was, ok := r.Params[x.Key]; !named(x.Key) || len([]rune(x.Value)) > 500 || ok && was != x.Value {
			return invalid("param %q of %d characters, was %q", x.Key, len([]rune(x.Value)), was)
		}
	}
	for _, x := range q.Tags {
		if !named(x.Key) || len([]rune(x.Value)) > 5000 {
			return invalid("tag %q of %d characters", x.Key, len([]rune(x.Value)))
		}
	}
	for _, x := range q.Metrics {
		if !named(x.Key) {
			return invalid("metric %q", x.Key)
		}
	}
	for _, x := range q.Params {
		r.Params[x.Key] = x.Value
	}
	for _, x := range q.Tags {
		r.Tags[x.Key] = x.Value
	}
	for _, x := range q.Metrics {
		r.Metrics[x.Key] = append(r.Metrics[x.Key], Point{x.Step, x.Timestamp, x.Value})
	}
	return http.StatusOK, struct{}{}
}

// json is the run as MLflow gives it: of each metric the last point, whose whole numbers are texts at some servers.
func (r *Run) json() any {
	list := func(of map[string]string) (out []map[string]string) {
		for k, v := range of {
			out = append(out, map[string]string{"key": k, "value": v})
		}
		return out
	}
	var metrics []map[string]any
	for k, v := range r.Metrics {
		last := v[0]
		for _, p := range v {
			if p.Step >= last.Step {
				last = p
			}
		}
		metrics = append(metrics, map[string]any{"key": k, "value": last.Value, "step": fmt.Sprint(last.Step), "timestamp": last.At})
	}
	return map[string]any{
		"info": map[string]any{"run_id": r.ID, "status": r.Status,
			"artifact_uri": "mlflow-artifacts:/" + r.Experiment + "/" + r.ID + "/artifacts"},
		"data": map[string]any{"metrics": metrics, "params": list(r.Params), "tags": list(r.Tags)},
	}
}
