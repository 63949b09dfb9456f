// Command jobs runs pipelines that tests of faults and measurements of scale are made of, on any runner:
//
//	jobs volume   label, value, advantage and target on synthetic rollouts of the real schema
//	jobs outcome  label and advantage alone
//	jobs policy   rollouts of a model, label, score, value, advantage
//	jobs faulty   a stage that fails as $MILLRACE_FAULT says
//	jobs endpoint rollouts of a remote model
//
// Like the product it is its own worker. It prints one JSON object about what it did.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/runners"
)

// options are the flags of all jobs.
type options struct {
	dir         string // of materialised edges and output
	runner      string
	environment string
	slots       int
	slices      int
	shape       shape
	model       string
	endpoint    string
}

var jobs = map[string]func(context.Context, options) (any, error){
	"volume": volume, "outcome": outcomes, "policy": policy, "faulty": faulty, "endpoint": endpoint,
}

func main() {
	if args := os.Args[1:]; runners.IsWorker(args) {
		os.Exit(runners.ServeWorker(args, nil))
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "jobs: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 || jobs[args[0]] == nil {
		return fmt.Errorf("want one of volume, outcome, policy, faulty, endpoint")
	}
	var o options
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.StringVar(&o.dir, "dir", "", "directory of edges and output")
	f.StringVar(&o.runner, "runner", "prism", "prism, direct, flink; none: call the stages, without Beam")
	f.StringVar(&o.environment, "environment", runners.Process, "of Flink's workers")
	f.IntVar(&o.slots, "slots", 1, "of Flink")
	f.IntVar(&o.slices, "slices", 1, "pipelines, one after the other; each removes its edges")
	f.IntVar(&o.shape.Records, "records", 8, "records of a slice")
	f.IntVar(&o.shape.Groups, "groups", 4, "prompts of a record")
	f.IntVar(&o.shape.Responses, "responses", 8, "responses to a prompt")
	f.IntVar(&o.shape.Tokens, "tokens", 512, "tokens of a response, on average")
	f.IntVar(&o.shape.Candidates, "candidates", 5, "listed tokens of a position")
	f.StringVar(&o.model, "model", "", "directory of the policy")
	f.StringVar(&o.endpoint, "endpoint", "", "URL of the policy")
	profile := f.String("cpuprofile", "", "file for a profile of the driver")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if o.dir == "" {
		return fmt.Errorf("--dir: is missing")
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	if *profile != "" {
		out, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer out.Close()
		if err := pprof.StartCPUProfile(out); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	result, err := jobs[args[0]](ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// config is the runner's. The fault travels to worker processes in their environment, never in the pipeline: what a stage
// computes must not depend on it.
func (o options) config() runners.Config {
	c := runners.Default()
	c.Name, c.NoProgressMinutes = o.runner, 10
	c.Flink.Environment, c.Flink.Parallelism = o.environment, o.slots
	if fault := os.Getenv(faultVariable); fault != "" && o.environment == runners.Process {
		c.Flink.Env = map[string]string{faultVariable: fault}
	}
	if o.runner == "flink" {
		c.Job = "millrace-jobs-" + digest([]byte(o.dir))[:16]
	}
	return c
}

func (o options) execute(ctx context.Context, p *beam.Pipeline) (beam.PipelineResult, error) {
	return runners.Run(ctx, p, o.config())
}
