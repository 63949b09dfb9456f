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

// Dataflow holds the options of the Dataflow runner.
type Dataflow struct {
	Project         string `json:"project"`
	Region          string `json:"region"`           // such as us-central1
	StagingLocation string `json:"staging_location"` // gs://bucket/path for the program and the pipeline
	TempLocation    string `json:"temp_location"`    // empty: tmp under staging_location
	// WorkerBinary is the program as a Linux file; empty: the file of this program.
	WorkerBinary   string            `json:"worker_binary"`
	Image          string            `json:"image"` // container of the workers; empty: Beam's Go image
	MachineType    string            `json:"machine_type"`
	NumWorkers     int64             `json:"num_workers"`     // at the start; 0: the service decides
	MaxNumWorkers  int64             `json:"max_num_workers"` // 0: the service decides
	Threads        int64             `json:"threads"`         // bundles at once on a worker; 0: the service decides
	DiskGB         int64             `json:"disk_gb"`         // 0: the service decides
	ServiceAccount string            `json:"service_account"`
	Network        string            `json:"network"`
	Subnetwork     string            `json:"subnetwork"`
	PublicIPs      bool              `json:"public_ips"`
	Labels         map[string]string `json:"labels,omitempty"`
	Experiments    []string          `json:"experiments,omitempty"`
	ServiceOptions []string          `json:"service_options,omitempty"`
}

func defaultDataflow() Dataflow { return Dataflow{PublicIPs: true} }

var (
	projectPattern = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	regionPattern  = regexp.MustCompile(`^[a-z]+-[a-z]+[0-9]+$`)
	bucketPattern  = regexp.MustCompile(`^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?$`)
	labelPattern   = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	jobNamePattern = regexp.MustCompile(`[^a-z0-9-]+`)
)

// Validate names the first field that is wrong.
func (d Dataflow) Validate() error {
	switch {
	case !projectPattern.MatchString(d.Project):
		return fmt.Errorf("project: %q is not the id of a project", d.Project)
	case !regionPattern.MatchString(d.Region):
		return fmt.Errorf("region: %q is not a region, such as us-central1", d.Region)
	case !bucketPattern.MatchString(d.StagingLocation):
		return fmt.Errorf("staging_location: %q is not gs://bucket/path", d.StagingLocation)
	case d.TempLocation != "" && !bucketPattern.MatchString(d.TempLocation):
		return fmt.Errorf("temp_location: %q is not gs://bucket/path", d.TempLocation)
	case d.NumWorkers < 0:
		return fmt.Errorf("num_workers: %d is negative", d.NumWorkers)
	case d.MaxNumWorkers < 0:
		return fmt.Errorf("max_num_workers: %d is negative", d.MaxNumWorkers)
	case d.MaxNumWorkers > 0 && d.NumWorkers > d.MaxNumWorkers:
		return fmt.Errorf("num_workers: %d is above max_num_workers (%d)", d.NumWorkers, d.MaxNumWorkers)
	case d.Threads < 0:
		return fmt.Errorf("threads: %d is negative", d.Threads)
	case d.DiskGB < 0:
		return fmt.Errorf("disk_gb: %d is negative", d.DiskGB)
	}
	for key := range d.Labels {
		if !labelPattern.MatchString(key) {
			return fmt.Errorf("labels: %q is not a key of lower-case letters, digits, - and _ that starts with a letter", key)
		}
	}
	for _, e := range d.Experiments {
		if strings.HasPrefix(e, "disable_runner_v2") {
			return fmt.Errorf("experiments: %s; Go pipelines need runner v2", e)
		}
	}
	if d.WorkerBinary != "" {
		if info, err := os.Stat(d.WorkerBinary); err != nil || info.IsDir() {
			return fmt.Errorf("worker_binary: %q is not a file", d.WorkerBinary)
		}
	}
	return nil
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

// Translation is a pipeline as Dataflow would be given it.
type Translation struct {
	Job      *df.Job          `json:"job"`   // the request of Dataflow's API
	Pipeline *pipepb.Pipeline `json:"-"`     // the pipeline in Beam's portable form
	Steps    []string         `json:"steps"` // its transforms that run code or shuffle, in order
}

// Translate shows the job that the Dataflow runner would submit. It needs no network and no credentials.
func Translate(ctx context.Context, p *beam.Pipeline, c Config) (Translation, error) {
	if err := under("dataflow", c.Dataflow.Validate()); err != nil {
		return Translation{}, err
	}
	j, err := c.Dataflow.job(ctx, p, c.Job)
	if err != nil {
		return Translation{}, fmt.Errorf("dataflow: %w", err)
	}
	hash := sha256.Sum256(protox.MustEncode(j.model))
	job, err := dataflowlib.Translate(ctx, j.model, j.options, j.workerURL, j.modelURL, hex.EncodeToString(hash[:]))
	if err != nil {
		return Translation{}, fmt.Errorf("dataflow: %w", err)
	}
	t := Translation{Job: job, Pipeline: j.model}
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
