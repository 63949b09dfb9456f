package telemetry

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"

	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/stage"
)

// Dir is the directory of a run's telemetry. Nothing in it is read by the run itself, and nothing of it is digested.
const Dir = "telemetry"

// Files of the directory.
const (
	countersName = "counters.jsonl"
	logName      = "log.jsonl"
)

// StageLine is a line of counters.jsonl: what one stage did in one pipeline of an iteration.
type StageLine struct {
	Time      time.Time        `json:"time"`
	Run       string           `json:"run"`
	Iteration int              `json:"iteration"`
	Pipeline  string           `json:"pipeline"` // round-000 and so on, iteration, evaluation
	Stage     string           `json:"stage"`
	RowsIn    int64            `json:"rows_in"`
	RowsKept  int64            `json:"rows_kept"`
	RowsOut   int64            `json:"rows_out"`
	Filtered  int64            `json:"rows_filtered"`
	Dead      int64            `json:"rows_dead"`
	Reasons   map[string]int64 `json:"dead_by_reason,omitempty"`
	TokensOut int64            `json:"tokens_out"`
	BytesOut  int64            `json:"bytes_out"`
	Batches   int64            `json:"batches"`
	Seconds   float64          `json:"seconds"`
	Other     map[string]int64 `json:"other,omitempty"` // what the stage counts for itself
}

// TransformLine is a line of counters.jsonl: what Beam measured of one transform.
type TransformLine struct {
	Time      time.Time `json:"time"`
	Run       string    `json:"run"`
	Iteration int       `json:"iteration"`
	Pipeline  string    `json:"pipeline"`
	Transform string    `json:"transform"`
	Elements  int64     `json:"elements"`
	Seconds   float64   `json:"process_seconds"`
}

// MemoryLine is a line of counters.jsonl: what an iteration held.
type MemoryLine struct {
	Time         time.Time `json:"time"`
	Run          string    `json:"run"`
	Iteration    int       `json:"iteration"`
	PeakResident int64     `json:"peak_resident_bytes"` // of the process that leads the run
}

// place is where a pipeline belongs.
type place struct {
	run       string
	iteration int
	pipeline  string
}

func stageLines(at place, now time.Time, counts []stage.Counts) []StageLine {
	out := make([]StageLine, 0, len(counts))
	for _, c := range counts {
		l := StageLine{Time: now, Run: at.run, Iteration: at.iteration, Pipeline: at.pipeline, Stage: c.Stage,
			RowsIn: c.In, RowsKept: c.Kept, RowsOut: c.Out, Filtered: c.Filtered, Dead: c.Dead,
			TokensOut: c.Tokens, BytesOut: c.Bytes, Batches: c.Batches, Seconds: float64(c.Millis) / 1000, Other: c.Other}
		for reason, n := range c.Reasons {
			if n > 0 {
				if l.Reasons == nil {
					l.Reasons = map[string]int64{}
				}
				l.Reasons[string(reason)] = n
			}
		}
		out = append(out, l)
	}
	return out
}

// transformLines are Beam's own measurements by transform, in the order of the names. Beam names a collection by the
// transform that makes it, so one transform can have several.
func transformLines(at place, now time.Time, result beam.PipelineResult) []TransformLine {
	all := result.Metrics().AllMetrics()
	by := map[string]*TransformLine{}
	of := func(k metrics.StepKey) *TransformLine {
		l := by[k.Step]
		if l == nil {
			l = &TransformLine{Time: now, Run: at.run, Iteration: at.iteration, Pipeline: at.pipeline, Transform: k.Step}
			by[k.Step] = l
		}
		return l
	}
	for _, c := range all.PCols() {
		of(c.Key).Elements += c.Result().ElementCount
	}
	for _, c := range all.Msecs() {
		of(c.Key).Seconds += max(c.Attempted.Process, c.Committed.Process).Seconds()
	}
	out := make([]TransformLine, 0, len(by))
	for _, l := range by {
		if l.Transform != "" {
			out = append(out, *l)
		}
	}
	slices.SortFunc(out, func(a, b TransformLine) int { return strings.Compare(a.Transform, b.Transform) })
	return out
}

// ReadStages reads the stage lines of a run's counters, in the order of iteration and first appearance. An
// iteration that was done again has only the lines of its last attempt. A run without the file has none; a line that
// cannot be read is passed over, since a process that was killed may leave half of one.
func ReadStages(ctx context.Context, run string) ([]StageLine, error) {
	f, err := files.Open(ctx, files.Join(run, Dir, countersName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	type key struct {
		iteration       int
		pipeline, stage string
	}
	last := map[key]StageLine{}
	var order []key
	for lines := bufio.NewReader(f); ; {
		raw, err := lines.ReadSlice('\n')
		var l StageLine
		if json.Unmarshal(raw, &l) == nil && l.Stage != "" {
			k := key{l.Iteration, l.Pipeline, l.Stage}
			if _, known := last[k]; !known {
				order = append(order, k)
			}
			last[k] = l
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			break // the end
		}
	}
	slices.SortStableFunc(order, func(a, b key) int { return a.iteration - b.iteration })
	out := make([]StageLine, len(order))
	for i, k := range order {
		out[i] = last[k]
	}
	return out, nil
}
