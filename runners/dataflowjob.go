//go:build cloud

package runners

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/hooks"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/protox"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/dataflow/dataflowlib"
	df "google.golang.org/api/dataflow/v1b3"
)

var jobNamePattern = regexp.MustCompile(`[^a-z0-9-]+`) // what the service takes in no name

func init() {
	r := table["dataflow"]
	r.Run, r.Translate = runDataflow, translateDataflow
	table["dataflow"] = r
}

// defaultImage is Beam's container for Go workers; it fetches the staged program.
const defaultImage = "apache/beam_go_sdk:2.77.0"

// dataflowJob is a pipeline with what submitting it takes.
type dataflowJob struct {
	model               *pipepb.Pipeline
	options             *dataflowlib.JobOptions
	workerURL, modelURL string
}

func (d Dataflow) job(ctx context.Context, p *beam.Pipeline, name string) (dataflowJob, error) {
	edges, _, err := p.Build()
	if err != nil {
		return dataflowJob{}, err
	}
	image := d.Image
	if image == "" {
		image = defaultImage
	}
	env, err := environment(ctx, graphx.URNEnvDocker, image)
	if err != nil {
		return dataflowJob{}, err
	}
	model, err := graphx.Marshal(edges, &graphx.Options{Environment: env, PipelineResourceHints: jobopts.GetPipelineResourceHints()})
	if err != nil {
		return dataflowJob{}, err
	}
	if name == "" {
		name = jobopts.GetJobName()
	}
	name = strings.Trim(jobNamePattern.ReplaceAllString(strings.ToLower(name), "-"), "-")
	temp := d.TempLocation
	if temp == "" {
		temp = join(d.StagingLocation, "tmp")
	}
	experiments := slices.Clone(d.Experiments)
	for _, e := range []string{"beam_fn_api", "use_runner_v2", "use_unified_worker", "use_portable_job_submission"} {
		if !slices.Contains(experiments, e) {
			experiments = append(experiments, e)
		}
	}
	hooks.SerializeHooksToOptions()
	return dataflowJob{
		model: model,
		options: &dataflowlib.JobOptions{
			Name: name, Experiments: experiments, DataflowServiceOptions: d.ServiceOptions, Options: beam.PipelineOptions.Export(),
			Project: d.Project, Region: d.Region, Network: d.Network, Subnetwork: d.Subnetwork, NoUsePublicIPs: !d.PublicIPs,
			NumWorkers: d.NumWorkers, MaxNumWorkers: d.MaxNumWorkers, WorkerHarnessThreads: d.Threads, DiskSizeGb: d.DiskGB,
			MachineType: d.MachineType, Labels: d.Labels, ServiceAccountEmail: d.ServiceAccount, ContainerImage: image,
			TempLocation: temp, Worker: d.WorkerBinary,
		},
		// The service wants the last segment of the program's name to be "worker".
		workerURL: join(d.StagingLocation, name, "worker"), modelURL: join(d.StagingLocation, name, "model"),
	}, nil
}

func join(location string, more ...string) string {
	return strings.TrimSuffix(location, "/") + "/" + path.Join(more...)
}

// translateDataflow shows the job that would be submitted. It needs no network and no credentials.
func translateDataflow(ctx context.Context, p *beam.Pipeline, c Config) (Translation, error) {
	j, err := c.Dataflow.job(ctx, p, c.Job)
	if err != nil {
		return Translation{}, fmt.Errorf("dataflow: %w", err)
	}
	hash := sha256.Sum256(protox.MustEncode(j.model))
	job, err := dataflowlib.Translate(ctx, j.model, j.options, j.workerURL, j.modelURL, hex.EncodeToString(hash[:]))
	if err != nil {
		return Translation{}, fmt.Errorf("dataflow: %w", err)
	}
	t := Translation{Name: job.Name, Job: job, Pipeline: j.model}
	for _, transform := range j.model.GetComponents().GetTransforms() {
		if len(transform.GetSubtransforms()) == 0 {
			t.Steps = append(t.Steps, transform.GetUniqueName())
		}
	}
	slices.Sort(t.Steps)
	return t, nil
}

// runDataflow submits the pipeline and follows it.
func runDataflow(ctx context.Context, p *beam.Pipeline, c Config) (beam.PipelineResult, error) {
	d := c.Dataflow
	if d.WorkerBinary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("runner.dataflow.worker_binary: the file of this program is not known: %w", err)
		}
		d.WorkerBinary = self
	}
	j, err := d.job(ctx, p, c.Job)
	if err != nil {
		return nil, fmt.Errorf("dataflow: %w", err)
	}
	submitted, err := dataflowlib.Execute(ctx, j.model, j.options, j.workerURL, j.modelURL, "", true)
	if err != nil {
		return nil, fmt.Errorf("dataflow: %w", err)
	}
	client, err := dataflowlib.NewClient(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("dataflow: %w", err)
	}
	f := dataflowFollower{Dataflow: d, client: client, id: submitted.JobID(), model: j.model}
	err = f.wait(ctx, c.noProgress())
	result, metricsErr := f.result(context.WithoutCancel(ctx))
	if err == nil {
		err = metricsErr
	}
	return result, err
}

// dataflowFollower watches a submitted job.
type dataflowFollower struct {
	Dataflow
	client   *df.Service
	id       string
	model    *pipepb.Pipeline
	position position
}

func (f *dataflowFollower) wait(ctx context.Context, limit time.Duration) error {
	dog := watchdog{runner: "dataflow", limit: limit}
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			f.cancel()
			return ctx.Err()
		case now := <-tick.C:
			job, err := f.client.Projects.Locations.Jobs.Get(f.Project, f.Region, f.id).Context(ctx).Do()
			if err == nil {
				switch job.CurrentState {
				case "JOB_STATE_DONE", "JOB_STATE_DRAINED":
					return nil
				case "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_UPDATED":
					return &JobError{Runner: "dataflow", Job: f.id, Why: "it ended as " + job.CurrentState + "; the service's log of the job says why"}
				}
			}
			r := reading{err: err}
			if err == nil {
				r = f.read(ctx, job.CurrentState)
			}
			if err := dog.see(now, r); err != nil {
				f.cancel()
				return err
			}
		}
	}
}

func (f *dataflowFollower) read(ctx context.Context, state string) reading {
	m, err := dataflowlib.GetMetrics(ctx, f.client, f.Project, f.Region, f.id)
	if err != nil {
		return reading{err: err}
	}
	r := f.position.see(dataflowlib.FromMetricUpdates(m.Metrics, f.model).AllMetrics(), func(id string) string { return id })
	r.moved ^= fingerprintOf(state) // starting machines is progress
	return r
}

func (f *dataflowFollower) cancel() {
	ctx, done := context.WithTimeout(context.Background(), cancelWait)
	defer done()
	f.client.Projects.Locations.Jobs.Update(f.Project, f.Region, f.id, &df.Job{RequestedState: "JOB_STATE_CANCELLED"}).Context(ctx).Do()
}

func (f *dataflowFollower) result(ctx context.Context) (beam.PipelineResult, error) {
	m, err := dataflowlib.GetMetrics(ctx, f.client, f.Project, f.Region, f.id)
	if err != nil {
		return nil, fmt.Errorf("dataflow: counters of job %s: %w", f.id, err)
	}
	return jobResult{f.id, dataflowlib.FromMetricUpdates(m.Metrics, f.model)}, nil
}
