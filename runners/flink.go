package runners

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"

	"github.com/millrace/millrace/schemas/setting"
)

// Environments of the workers of a Flink job: where the Go side of it runs.
const (
	Loopback = "loopback" // in the process that submits: one machine
	Process  = "process"  // each TaskManager starts the program; it must lie at the same path everywhere
	External = "external" // a pool that `millrace worker` serves beside each TaskManager
	Docker   = "docker"   // each TaskManager starts a container
)

// Flink holds the options of the Flink runner.
type Flink struct {
	Endpoint string `json:"endpoint" doc:"Beam's job service, host:port"`
	// Without Flink's own address there is no progress, and no way to end a job whose job service is gone.
	REST        string            `json:"rest" doc:"Flink's own address, host:port, for progress and for ending jobs; empty: neither"`
	Environment string            `json:"environment" enum:"loopback,process,external,docker" doc:"where workers run: here (loopback), started by TaskManagers (process), in a pool (external), in docker"`
	Command     string            `json:"command,omitempty" doc:"environment process: the program; empty: the file of this program"`
	Env         map[string]string `json:"env,omitempty" doc:"environment process: environment variables of the workers"`
	Pool        string            `json:"pool,omitempty" doc:"environment external: host:port of the pool as a TaskManager sees it"`
	Image       string            `json:"image,omitempty" doc:"environment docker: the image"`
	Parallelism int               `json:"parallelism" range:"[0,32768]" doc:"slots that are used; 0: the cluster's default"`

	// With BATCH_FORCED a stage starts when its inputs are complete, so that a lost TaskManager costs no deadlock for slots.
	ExecutionMode      string  `json:"execution_mode" enum:"PIPELINED,PIPELINED_FORCED,BATCH,BATCH_FORCED" doc:"how the stages of a batch job follow each other"`
	WorkersPerTM       int     `json:"workers_per_task_manager" range:"[0,inf)" doc:"worker processes of a TaskManager, which its slots share; 0: one a core"`
	MaxBundleSize      int     `json:"max_bundle_size" range:"[1,inf)" doc:"elements of a bundle at most"`
	MaxBundleSeconds   float64 `json:"max_bundle_seconds" range:"[0.001,1e6]" doc:"seconds after which a bundle is closed"`
	Retries            int     `json:"retries" range:"[-1,inf)" doc:"of a failed job; -1: as the cluster is configured"`
	RetryDelaySeconds  float64 `json:"retry_delay_seconds" range:"[0,1e6]" doc:"seconds before a failed job is tried again"`
	CheckpointSeconds  float64 `json:"checkpoint_seconds" range:"[0,1e6]" doc:"seconds between checkpoints; 0: none, as batch jobs have none"`
	StopTimeoutSeconds float64 `json:"stop_timeout_seconds" range:"[0,1e6]" doc:"seconds to wait for a leftover job of the same name to end"`

	Options map[string]any `json:"options,omitempty" doc:"further options of Beam's Flink runner by their names there, such as object_reuse"`
}

func defaultFlink() Flink {
	return Flink{Endpoint: "localhost:8099", REST: "localhost:8081", Environment: Loopback, ExecutionMode: "BATCH_FORCED", WorkersPerTM: 1,
		MaxBundleSize: 1000, MaxBundleSeconds: 1, Retries: -1, RetryDelaySeconds: 1, StopTimeoutSeconds: 60}
}

// validate names the first key that the runner cannot work with.
func (f Flink) validate() error {
	if err := checkAddress("endpoint", f.Endpoint); err != nil {
		return err
	}
	if f.REST != "" {
		if err := checkAddress("rest", f.REST); err != nil {
			return err
		}
	}
	if err := f.validateEnvironment(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(f.Options)) {
		if _, ok := f.runnerOptions()[name]; ok && !isExtra(f, name) {
			return setting.Errorf(setting.Join("options", name), "has a setting of its own in this section")
		}
	}
	return nil
}

// isExtra reports whether only Options sets the option.
func isExtra(f Flink, name string) bool {
	f.Options = nil
	_, own := f.runnerOptions()[name]
	return !own
}

func (f Flink) validateEnvironment() error {
	belongs := map[string]string{"command": Process, "env": Process, "pool": External, "image": Docker}
	given := map[string]bool{"command": f.Command != "", "env": len(f.Env) > 0, "pool": f.Pool != "", "image": f.Image != ""}
	for _, name := range []string{"command", "env", "pool", "image"} {
		if given[name] && belongs[name] != f.Environment {
			return setting.Errorf(name, "belongs to environment %s, which is %s here", belongs[name], f.Environment)
		}
	}
	switch f.Environment {
	case External:
		return checkAddress("pool", f.Pool)
	case Docker:
		if f.Image == "" {
			return setting.Errorf("image", "is empty; environment docker needs the name of an image")
		}
	}
	return nil
}

func checkAddress(field, address string) error {
	host, port, err := net.SplitHostPort(address)
	if _, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || host == "" {
		return setting.Errorf(field, "%q is not host:port", address)
	}
	return nil
}

// runnerOptions are the options by their names in Beam's Flink runner.
func (f Flink) runnerOptions() map[string]any {
	all := map[string]any{
		"execution_mode_for_batch": f.ExecutionMode,
		"sdk_worker_parallelism":   f.WorkersPerTM,
		"max_bundle_size":          f.MaxBundleSize,
		"max_bundle_time_mills":    int64(f.MaxBundleSeconds * 1000),
		"execution_retry_delay":    int64(f.RetryDelaySeconds * 1000),
	}
	if f.Parallelism > 0 {
		all["parallelism"] = f.Parallelism
	}
	if f.Retries >= 0 {
		all["number_of_execution_retries"] = f.Retries
	}
	if f.CheckpointSeconds > 0 {
		all["checkpointing_interval"] = int64(f.CheckpointSeconds * 1000)
	}
	for name, value := range f.Options {
		all[name] = value
	}
	return all
}

// environment describes the workers.
func (f Flink) environment(ctx context.Context) (*pipepb.Environment, func(), error) {
	none := func() {}
	switch f.Environment {
	case Loopback:
		return loopback(ctx)
	case External:
		env, err := environment(ctx, graphx.URNEnvExternal, f.Pool)
		return env, none, err
	case Docker:
		env, err := environment(ctx, graphx.URNEnvDocker, f.Image)
		return env, none, err
	}
	command := f.Command
	if command == "" {
		var err error
		if command, err = os.Executable(); err != nil {
			return nil, nil, fmt.Errorf("flink.command: the file of this program is not known: %w", err)
		}
	}
	payload, err := json.Marshal(map[string]any{"command": command, "env": f.Env})
	if err != nil {
		return nil, nil, err
	}
	env, err := environment(ctx, graphx.URNEnvProcess, string(payload))
	return env, none, err
}

// connectWait bounds the wait for the job service.
const connectWait = 20 * time.Second

// runFlink submits the pipeline to the job service of a Flink cluster.
func runFlink(ctx context.Context, p *beam.Pipeline, c Config) (beam.PipelineResult, error) {
	f := c.Flink
	conn, err := grpcx.Dial(ctx, f.Endpoint, connectWait)
	if err != nil {
		return nil, setting.Errorf("runner.flink.endpoint", "no job service answers at %s: %v", f.Endpoint, err)
	}
	defer conn.Close()
	j := job{runner: "flink", name: c.Job, client: jobpb.NewJobServiceClient(conn), noProgress: c.noProgress(), watch: c.Watch}
	if err := checkOptions(ctx, j.client, f.Options); err != nil {
		return nil, err
	}
	rest := flinkREST{address: f.REST}
	j.read = j.readMetrics
	if f.REST != "" {
		j.forWorkers = map[string]string{restOption: f.REST}
		j.read = func(ctx context.Context) reading { return rest.read(ctx, j.name) }
		if err := rest.end(ctx, j.name, time.Duration(f.StopTimeoutSeconds*float64(time.Second))); err != nil {
			return nil, err
		}
	}
	env, stop, err := f.environment(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	result, err := j.execute(ctx, p, env, f.runnerOptions())
	if err != nil && f.REST != "" {
		// The job service cancels what it knows of; when it is gone, or too slow, the cluster is asked itself.
		ending, done := context.WithTimeout(context.WithoutCancel(ctx), cancelWait)
		defer done()
		rest.end(ending, j.name, cancelWait)
	}
	return result, err
}

// checkOptions asks the job service which options it has.
func checkOptions(ctx context.Context, client jobpb.JobServiceClient, options map[string]any) error {
	if len(options) == 0 {
		return nil
	}
	r, err := client.DescribePipelineOptions(ctx, &jobpb.DescribePipelineOptionsRequest{})
	if err != nil {
		return fmt.Errorf("flink: which options there are: %w", err)
	}
	known := map[string]bool{}
	for _, o := range r.GetOptions() {
		known[o.GetName()] = true
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if !known[name] {
			return setting.Errorf("runner.flink.options."+name, "the job service knows no option of this name")
		}
	}
	return nil
}
