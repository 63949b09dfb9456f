package runners

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/apache/beam/sdks/v2/go/container/tools"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/harness"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
)

// IsWorker reports whether a runner started the program as a worker: with Beam's contract for worker processes and
// containers, or by Beam's own boot program.
func IsWorker(args []string) bool {
	return option(args, "provision_endpoint") != "" || option(args, "worker") == "true"
}

// ServeWorker is the whole life of a worker process; it returns the exit code.
//
// A runner tells a worker no more than its id and where to ask. The answer is used in this process: no boot program, no
// copy of the binary, no file with the options, and one process that ends with the runner's signal.
//
// Start, if not nil, is called once the worker knows the options of its job; the function that it returns is called at the end.
func ServeWorker(args []string, start func() (end func())) int {
	exitWithParent()
	err := serveWorker(args, start)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "millrace worker: %v\n", err)
	return 1
}

func serveWorker(args []string, start func() (end func())) error {
	headroom()
	if option(args, "provision_endpoint") == "" { // Beam's boot program has asked already and passes flags
		if err := flag.CommandLine.Parse(args); err != nil {
			return err
		}
		beam.Init() // does not return in a worker
		return errors.New("the process did not start as a worker of Beam")
	}
	id := option(args, "id")
	if id == "" {
		return errors.New("--id is missing")
	}
	ctx := grpcx.WriteWorkerID(context.Background(), id)
	asking, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	info, err := tools.ProvisionInfo(asking, option(args, "provision_endpoint"))
	if err != nil {
		return fmt.Errorf("provision endpoint %s: %w", option(args, "provision_endpoint"), err)
	}
	logging, control := info.GetLoggingEndpoint().GetUrl(), info.GetControlEndpoint().GetUrl()
	if logging == "" {
		logging = option(args, "logging_endpoint")
	}
	if control == "" {
		control = option(args, "control_endpoint")
	}
	if control == "" {
		return errors.New("neither the provision service nor --control_endpoint names the control endpoint")
	}
	options, err := jobOptions(info)
	if err != nil {
		return err
	}
	runtime.GlobalOptions.Import(options.Options)
	if rest := options.Options.Options[restOption]; rest != "" && options.AppName != "" {
		go exitWithJob(ctx, flinkREST{rest}, options.AppName)
	}
	if start != nil {
		end := sync.OnceFunc(start())
		defer end()
		terminated := make(chan os.Signal, 1)
		signal.Notify(terminated, syscall.SIGTERM)
		go endWithSignal(terminated, end)
	}
	Init()
	return harness.MainWithOptions(ctx, logging, control, harness.Options{
		StatusEndpoint: info.GetStatusEndpoint().GetUrl(), RunnerCapabilities: info.GetRunnerCapabilities()})
}

// jobOptions are the pipeline options of the job.
func jobOptions(info *fnpb.ProvisionInfo) (options runtime.RawOptionsWrapper, err error) {
	raw, err := tools.ProtoToJSON(info.GetPipelineOptions())
	if err == nil {
		err = json.Unmarshal([]byte(raw), &options)
	}
	if err != nil {
		return options, fmt.Errorf("pipeline options: %w", err)
	}
	return options, nil
}

// endWithSignal ends the process as the runner's signal would, once what is outstanding is delivered.
func endWithSignal(terminated <-chan os.Signal, end func()) {
	<-terminated
	end()
	os.Exit(128 + int(syscall.SIGTERM))
}

// restOption tells worker processes where Flink can be asked about their job.
const restOption = "millrace_flink_rest"

// exitWithJob ends the process a minute after its job. A TaskManager whose other worker was killed forgets to stop the one
// that took its place, and would keep it and its models for ever. A Flink that does not answer says nothing.
func exitWithJob(ctx context.Context, rest flinkREST, name string) {
	for over := 0; over < 6; {
		time.Sleep(10 * time.Second)
		asking, done := context.WithTimeout(ctx, 5*time.Second)
		jobs, err := rest.running(asking, name)
		done()
		switch {
		case err == nil && len(jobs) == 0:
			over++
		case err == nil:
			over = 0
		}
	}
	fmt.Fprintf(os.Stderr, "millrace worker: job %s is over\n", name)
	os.Exit(0)
}

// option is the value of --name=value, with one dash or two.
func option(args []string, name string) string {
	for _, a := range args {
		if v, ok := strings.CutPrefix(strings.TrimPrefix(strings.TrimPrefix(a, "-"), "-"), name+"="); ok && strings.HasPrefix(a, "-") {
			return v
		}
	}
	return ""
}

// exitWithParent ends the process when the one that started it is gone: a TaskManager that was killed cannot stop its
// workers. The kernel's own notice (PR_SET_PDEATHSIG) cannot be used: it fires when the Java thread that started the
// process ends, long before the TaskManager does.
func exitWithParent() {
	parent := os.Getppid()
	if parent <= 1 {
		return // the first process of a container
	}
	go func() {
		for os.Getppid() == parent {
			time.Sleep(250 * time.Millisecond)
		}
		fmt.Fprintln(os.Stderr, "millrace worker: the process that started this one is gone")
		os.Exit(1)
	}()
}
