package kinds

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/pipelines/telemetry/trackers"
	"github.com/millrace/millrace/transforms/files"
)

// Lines is a tracker: a file of points for each run, in a folder.
type Lines struct {
	Folder string `json:"folder" filled:"true" doc:"of the files"`
}

func init() { trackers.Register("lines", Lines{}) }

// Tables wants none.
func (l Lines) Tables() trackers.Samples { return trackers.Samples{} }

// Open reads how far the file of the run goes.
func (l Lines) Open(ctx context.Context, r trackers.Run) (trackers.Session, error) {
	s := &lines{path: filepath.Join(l.Folder, r.Key+".jsonl"), last: map[string]int{}, status: trackers.Running}
	points, err := files.ReadLines[trackers.Point](ctx, s.path)
	if os.IsNotExist(err) {
		err = os.MkdirAll(l.Folder, 0o755)
	}
	for _, p := range points {
		s.last[p.Name] = p.Step
	}
	return s, err
}

type lines struct {
	trackers.NoFiles
	path   string
	last   map[string]int // step, by metric
	status trackers.Status
}

// Address is the file.
func (s *lines) Address() string { return s.path }

// Send appends the points after the last of their metric.
func (s *lines) Send(_ context.Context, points []trackers.Point, _ map[string]string) (sent int, err error) {
	to, err := os.OpenFile(s.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer to.Close()
	for _, p := range points {
		if last, there := s.last[p.Name]; there && p.Step <= last {
			continue
		}
		if err := json.NewEncoder(to).Encode(p); err != nil {
			return sent, err
		}
		s.last[p.Name], sent = p.Step, sent+1
	}
	return sent, nil
}

// Status is that of this process: the file has none.
func (s *lines) Status() trackers.Status { return s.status }

// Turn takes it in.
func (s *lines) Turn(_ context.Context, to trackers.Status, _ time.Time) error {
	s.status = to
	return nil
}
