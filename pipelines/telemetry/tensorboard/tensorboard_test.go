package tensorboard

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestRecord holds the framing to what the RecordWriter of TensorBoard 2.21.0 writes for the first event of a file.
func TestRecord(t *testing.T) {
	const want = "0f000000000000006d532b091a0d627261696e2e4576656e743a32fc985129"
	if got := hex.EncodeToString(record([]byte("\x1a\x0dbrain.Event:2"))); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestWriterReportsWhatFails(t *testing.T) {
	if _, err := NewWriter(full{}, time.Now(), 0); err == nil {
		t.Error("a writer on a full disk opened without an error")
	}
}

// readBack prints what TensorBoard itself makes of the event files of a directory.
const readBack = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
a.Reload()
print(json.dumps({t: [[e.step, e.value, e.wall_time] for e in a.Scalars(t)] for t in a.Tags()["scalars"]}))
`

// TestTensorBoardReadsIt needs a Python with the package tensorboard: MILLRACE_TENSORBOARD_PYTHON names it.
func TestTensorBoardReadsIt(t *testing.T) {
	python := os.Getenv("MILLRACE_TENSORBOARD_PYTHON")
	if python == "" {
		t.Skip("set MILLRACE_TENSORBOARD_PYTHON to a Python that has the package tensorboard")
	}
	dir := t.TempDir()
	start := time.Unix(1_700_000_000, 250_000_000)
	write := func(at time.Time, values []float64) {
		t.Helper()
		var file bytes.Buffer
		w, err := NewWriter(&file, at, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			for _, tag := range []string{"loss", "avg@8", "stage_seconds/rollout"} {
				if err := w.Scalar(at.Add(time.Duration(i)*time.Second), int64(i), tag, v); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, FileName(at)), file.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(start, []float64{9, 9})
	want := []float64{0.5, -1.25, 3e-7, math.MaxFloat32}
	write(start.Add(time.Minute), want) // a later session holds all points again
	out, err := exec.Command(python, "-c", readBack, dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	var curves map[string][][3]float64
	if err := json.Unmarshal(bytes.TrimSpace(out), &curves); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(curves) != 3 {
		t.Fatalf("TensorBoard found the curves %v, want 3", curves)
	}
	for tag, points := range curves {
		if len(points) != len(want) {
			t.Fatalf("%s: TensorBoard found %v, want %d points", tag, points, len(want))
		}
		for i, p := range points {
			at := float64(start.Add(time.Minute+time.Duration(i)*time.Second).UnixNano()) / 1e9
			if p[0] != float64(i) || float32(p[1]) != float32(want[i]) || p[2] != at {
				t.Errorf("%s: point %d is %v, want step %d, value %v, time %v", tag, i, p, i, want[i], at)
			}
		}
	}
}
