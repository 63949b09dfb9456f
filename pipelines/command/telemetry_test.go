package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/pipelines/telemetry/telemetrytest"
)

func TestTelemetryOfARun(t *testing.T) {
	run, recipe := aRun(t)
	lines, err := telemetry.ReadStages(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	stages := map[string]int64{}
	var tokens, dead int64
	for _, l := range lines {
		if l.Run == "" || l.Time.IsZero() {
			t.Errorf("a line without run or time: %+v", l)
		}
		if l.RowsIn != l.RowsKept+l.Dead+l.Filtered {
			t.Errorf("stage %s: %d rows in, %d kept, %d dead, %d filtered", l.Stage, l.RowsIn, l.RowsKept, l.Dead, l.Filtered)
		}
		if l.Pipeline == "iteration" {
			stages[l.Stage]++
			if l.Stage == "rollout" {
				tokens, dead = tokens+l.TokensOut, dead+l.Reasons["too_long"]
			}
		}
	}
	for _, name := range []string{"rollout", "label", "advantage", "update_policy"} {
		if stages[name] != 2 {
			t.Errorf("stage %s has %d lines, want one for each of 2 iterations", name, stages[name])
		}
	}
	if tokens == 0 || dead == 0 {
		t.Errorf("rollout: %d tokens, %d rows too long; want some of both", tokens, dead)
	}
	if events, _ := filepath.Glob(filepath.Join(run, telemetry.Dir, "events.out.tfevents.*")); len(events) != 1 {
		t.Errorf("event files: %v, want one", events)
	}
	raw, err := os.ReadFile(filepath.Join(run, telemetry.Dir, "log.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		var l struct {
			Msg, Run, Stage, Record, Reason, Example string
			Iteration                                *int
		}
		if strings.Count(line, `"run":`) > 1 {
			t.Errorf("a line names its run twice: %s", line)
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if l.Run != "" && l.Iteration != nil && (l.Msg != "rows set aside" || l.Stage == "rollout" && l.Record != "" &&
			l.Reason == "too_long" && l.Example != "") {
			found[l.Msg] = true
		}
	}
	for _, msg := range []string{"iteration started", "iteration committed", "pipeline done", "rows set aside"} {
		if !found[msg] {
			t.Errorf("log.jsonl has no line %q that says where it comes from:\n%s", msg, raw)
		}
	}
	if config, err := os.ReadFile(filepath.Join(run, "config.yaml")); err != nil || strings.Contains(string(config), "telemetry") {
		t.Errorf("config.yaml holds telemetry, or %v", err)
	}
	// other telemetry, same run
	want(t, exitOK, nil, "run", recipe, "--set", "run="+run, "--log-level", "off", "--set", "telemetry.tensorboard=false")
	want(t, exitUsage, []string{"telemetry.log.level"}, "plan", recipe, "--log-level", "loud")
	want(t, exitUsage, []string{"telemetry.metrics.listen"}, "plan", recipe, "--metrics-listen", "9464")
}

func TestTracesOfARun(t *testing.T) {
	_, recipe := aRun(t)
	received := telemetrytest.Collector(t)
	want(t, exitOK, nil, "run", recipe, "--set", "run="+filepath.Join(t.TempDir(), "run"), "--set", "iterations=1", "--set",
		"evaluate.every=0", "--traces", "--metrics-listen", "localhost:0")
	spans := map[string]int{}
	parents := map[string]string{} // of stages: the id of the parent
	ids := map[string]string{}
	for _, s := range received() {
		spans[s.Name]++
		ids[string(s.SpanId)] = s.Name
		if strings.HasPrefix(s.Name, "stage ") {
			parents[s.Name] = string(s.ParentSpanId)
		}
	}
	for _, name := range []string{"run", "iteration", "pipeline iteration", "stage rollout", "stage label", "stage advantage",
		"stage update_policy"} {
		if spans[name] == 0 {
			t.Errorf("no span %q among %v", name, spans)
		}
	}
	for name, parent := range parents {
		if ids[parent] != "pipeline iteration" {
			t.Errorf("the parent of %q is %q, want the pipeline", name, ids[parent])
		}
	}
}
