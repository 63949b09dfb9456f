package runners

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// flinkREST speaks to Flink's own interface.
type flinkREST struct{ address string }

type flinkJob struct {
	ID    string `json:"jid"`
	Name  string `json:"name"`
	State string `json:"state"`
}

func (j flinkJob) over() bool {
	return slices.Contains([]string{"FINISHED", "FAILED", "CANCELED", "SUSPENDED"}, j.State)
}

func (f flinkREST) call(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+f.address+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %.200s", method, path, resp.Status, body)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// running lists the jobs of a name that have not ended.
func (f flinkREST) running(ctx context.Context, name string) ([]flinkJob, error) {
	var all struct{ Jobs []flinkJob }
	if err := f.call(ctx, http.MethodGet, "/jobs/overview", &all); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all.Jobs, func(j flinkJob) bool { return j.Name != name || j.over() }), nil
}

// end cancels the jobs of a name and waits until they are over.
func (f flinkREST) end(ctx context.Context, name string, limit time.Duration) error {
	if name == "" {
		return nil
	}
	ctx, done := context.WithTimeout(ctx, max(limit, time.Second))
	defer done()
	for {
		jobs, err := f.running(ctx, name)
		if err != nil {
			return fmt.Errorf("runner.flink.rest: %w", err)
		}
		if len(jobs) == 0 {
			return nil
		}
		for _, j := range jobs {
			if j.State != "CANCELLING" {
				if err := f.call(ctx, http.MethodPatch, "/jobs/"+j.ID+"?mode=cancel", nil); err != nil {
					return fmt.Errorf("runner.flink.rest: job %s is left over and cannot be cancelled: %w", j.ID, err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("runner.flink.stop_timeout_seconds: job %s is left over and has not ended: %w", jobs[0].ID, ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// read takes progress from the vertices of the job: records and bytes in and out, states, and the counters of the stages,
// which Flink keeps as accumulators.
func (f flinkREST) read(ctx context.Context, name string) reading {
	jobs, err := f.running(ctx, name)
	if err != nil {
		return reading{err: err}
	}
	var counts, stages []string
	for _, j := range jobs {
		var detail struct {
			State    string
			Vertices []struct {
				Name, Status string
				Metrics      json.RawMessage
			}
		}
		if err := f.call(ctx, http.MethodGet, "/jobs/"+j.ID, &detail); err != nil {
			return reading{err: err}
		}
		counts = append(counts, detail.State)
		for _, v := range detail.Vertices {
			counts = append(counts, v.Name, v.Status, moving(v.Metrics))
			if v.Status == "RUNNING" {
				stages = append(stages, v.Name)
			}
		}
		var accumulators json.RawMessage
		if err := f.call(ctx, http.MethodGet, "/jobs/"+j.ID+"/accumulators", &accumulators); err == nil {
			counts = append(counts, string(accumulators))
		}
	}
	return reading{moved: fingerprintOf(counts...), stages: stages}
}

// moving keeps of a vertex's metrics those that change only with the work; Flink also reports idle and busy times.
func moving(raw json.RawMessage) string {
	var m map[string]any
	if json.Unmarshal(raw, &m) != nil {
		return ""
	}
	return fmt.Sprint(m["read-bytes"], m["write-bytes"], m["read-records"], m["write-records"])
}
