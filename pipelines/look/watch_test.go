package look_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/look"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/quickstart"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/pipelines/report"
	"github.com/millrace/millrace/pipelines/run"
)

// A run is followed: the state changes with a commit, and so does the page; nobody but this machine is answered.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	if err := quickstart.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	iterate := func(n string) *run.Dir {
		t.Helper()
		at := filepath.Join(dir, "run")
		r, err := recipes.Open(t.Context(), "grpo", []string{"run=" + at, "policy.path=" + filepath.Join(dir, "policy"), "prompts.count=4",
			"evaluate.every=0", "limits.idle=0", "iterations=" + n})
		if err != nil {
			t.Fatal(err)
		}
		m, err := method.New(r)
		if err == nil {
			err = method.Run(t.Context(), m, progress.Silent())
		}
		if err != nil {
			t.Fatal(err)
		}
		d, err := run.Read(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	server := httptest.NewServer(look.NewWatch(iterate("1")))
	defer server.Close()
	get := func(path string, set func(*http.Request)) (int, string) {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if set != nil {
			set(q)
		}
		answer, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		raw, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(raw)
	}
	state := func() (live report.Live) {
		t.Helper()
		code, text := get("/state", nil)
		if err := json.Unmarshal([]byte(text), &live); err != nil || code != http.StatusOK {
			t.Fatal(code, text, err)
		}
		return live
	}
	first := state()
	code, page := get("/", nil)
	if code != http.StatusOK || !strings.Contains(page, `data-state="`+first.State+`"`) || !strings.Contains(page, "connect-src &#39;self&#39;") {
		t.Errorf("%d, state %+v, page %.200q", code, first, page)
	}
	iterate("2")
	if second := state(); second.State == first.State || !strings.Contains(second.Note, "2 of 2") {
		t.Errorf("after another iteration: %+v, before %+v", second, first)
	}
	if _, again := get("/", nil); again == page {
		t.Error("the page is the same after another iteration")
	}
	for name, set := range map[string]func(*http.Request){
		"another host":        func(q *http.Request) { q.Host = "example.org" },
		"another address":     func(q *http.Request) { q.Host = "10.0.0.7:80" },
		"another site's page": func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") },
		"another origin":      func(q *http.Request) { q.Header.Set("Origin", "http://example.org") },
	} {
		if code, text := get("/", set); code != http.StatusForbidden || strings.Contains(text, "<html") {
			t.Errorf("%s: %d %.100q", name, code, text)
		}
	}
	if code, _ := get("/config.yaml", nil); code != http.StatusNotFound {
		t.Errorf("a file of the run: %d", code)
	}
	if code, _ := get("/", func(q *http.Request) { q.Method = http.MethodPost }); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", code)
	}
}
