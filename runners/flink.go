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
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
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
	Endpoint string `json:"endpoint"` // Beam's job service, host:port
	// REST is Flink's own address, host:port: the source of progress, and the way to end a job whose job service is gone.
	// Empty: neither.
	REST        string            `json:"rest"`
	Environment string            `json:"environment"`       // loopback, process, external, docker
	Command     string            `json:"command,omitempty"` // process: the program; empty: the file of this program
	Env         map[string]string `json:"env,omitempty"`     // process: environment variables of the workers
	Pool        string            `json:"pool,omitempty"`    // external: host:port of the pool as a TaskManager sees it
	Image       string            `json:"image,omitempty"`   // docker: the image
	Parallelism int               `json:"parallelism"`       // slots used; 0: the cluster's default

	// ExecutionMode of batch jobs: PIPELINED, PIPELINED_FORCED, BATCH, BATCH_FORCED. With BATCH_FORCED a stage starts when
	// its inputs are complete, so that a lost TaskManager costs no deadlock for slots.
	ExecutionMode      string  `json:"execution_mode"`
	WorkersPerTM       int     `json:"workers_per_task_manager"` // worker processes a TaskManager; its slots share them
	MaxBundleSize      int     `json:"max_bundle_size"`          // elements
	MaxBundleSeconds   float64 `json:"max_bundle_seconds"`
	Retries            int     `json:"retries"` // of a failed job; -1: as the cluster is configured
	RetryDelaySeconds  float64 `json:"retry_delay_seconds"`
	CheckpointSeconds  float64 `json:"checkpoint_seconds"`   // 0: none, as batch jobs have none
	StopTimeoutSeconds float64 `json:"stop_timeout_seconds"` // how long to wait for a leftover job of the same name to end
	// Options are further options of Beam's Flink runner by their names there, such as object_reuse.
	Options map[string]any `json:"options,omitempty"`
}

func defaultFlink() Flink {
	return Flink{Endpoint: "localhost:8099", REST: "localhost:8081", Environment: Loopback, ExecutionMode: "BATCH_FORCED", WorkersPerTM: 1,
		MaxBundleSize: 1000, MaxBundleSeconds: 1, Retries: -1, RetryDelaySeconds: 1, StopTimeoutSeconds: 60}
}

var executionModes = []string{"PIPELINED", "PIPELINED_FORCED", "BATCH", "BATCH_FORCED"}

// Validate names the first field that is wrong.
func (f Flink) Validate() error {
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
	switch {
	case f.Parallelism < 0 || f.Parallelism > 1<<15:
		return fmt.Errorf("parallelism: %d is not in 0..32768", f.Parallelism)
	case !slices.Contains(executionModes, f.ExecutionMode):
		return fmt.Errorf("execution_mode: %q is not one of %s", f.ExecutionMode, strings.Join(executionModes, ", "))
	case f.WorkersPerTM < 0:
		return fmt.Errorf("workers_per_task_manager: %d is not at least 0 (0: one a core)", f.WorkersPerTM)
	case f.MaxBundleSize < 1:
		return fmt.Errorf("max_bundle_size: %d is not at least 1", f.MaxBundleSize)
	case f.Retries < -1:
		return fmt.Errorf("retries: %d is not at least -1 (-1: as the cluster is configured)", f.Retries)
	}
	for _, s := range []struct {
		name  string
		value float64
		least float64
	}{
		{"max_bundle_seconds", f.MaxBundleSeconds, 0.001}, {"retry_delay_seconds", f.RetryDelaySeconds, 0},
		{"checkpoint_seconds", f.CheckpointSeconds, 0}, {"stop_timeout_seconds", f.StopTimeoutSeconds, 0},
	} {
		if !(s.value >= s.least && s.value <= 1e6) {
			return fmt.Errorf("%s: %v is not in [%v, 1e6]", s.name, s.value, s.least)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Options)) {
		if _, ok := f.runnerOptions()[name]; ok && !isExtra(f, name) {
			return fmt.Errorf("options.%s: has a setting of its own in this section", name)
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
	if !slices.Contains([]string{Loopback, Process, External, Docker}, f.Environment) {
		return fmt.Errorf("environment: %q is not one of %s, %s, %s, %s", f.Environment, Loopback, Process, External, Docker)
	}
	for _, name := range []string{"command", "env", "pool", "image"} {
		if given[name] && belongs[name] != f.Environment {
			return fmt.Errorf("%s: belongs to environment %s, which is %s here", name, belongs[name], f.Environment)
		}
	}
	switch f.Environment {
	case External:
		return checkAddress("pool", f.Pool)
	case Docker:
		if f.Image == "" {
			return fmt.Errorf("image: is empty; environment docker needs the name of an image")
		}
	}
	return nil
}

func checkAddress(field, address string) error {
	host, port, err := net.SplitHostPort(address)
	if _, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || host == "" {
		return fmt.Errorf("%s: %q is not host:port", field, address)
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
		return nil, fmt.Errorf("runner.flink.endpoint: no job service answers at %s: %w", f.Endpoint, err)
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
			return fmt.Errorf("runner.flink.options.%s: the job service knows no option of this name", name)
		}
	}
	return nil
}
