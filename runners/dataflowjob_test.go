//go:build cloud

package runners

import (
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	df "google.golang.org/api/dataflow/v1b3"
)

func TestTranslateNeedsNoNetwork(t *testing.T) {
	p, s := beam.NewPipelineWithRoot()
	beam.ParDo(s, countFn, beam.Impulse(s))
	c := Default()
	c.Name, c.Dataflow, c.Job = "dataflow", sound(), "Millrace Run_1"
	c.Dataflow.MaxNumWorkers = 7
	translated, err := Translate(t.Context(), p, c)
	if err != nil {
		t.Fatal(err)
	}
	job, ok := translated.Job.(*df.Job)
	if !ok || job.Name != "millrace-run-1" || job.Environment.WorkerPools[0].AutoscalingSettings.MaxNumWorkers != 7 {
		t.Errorf("job %q, workers %+v", job.Name, job.Environment.WorkerPools[0].AutoscalingSettings)
	}
	if len(translated.Steps) != 2 || !strings.Contains(strings.Join(translated.Steps, " "), "countFn") {
		t.Errorf("steps %q", translated.Steps)
	}
}
