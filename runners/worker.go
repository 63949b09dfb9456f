package runners

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/container/tools"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/harness"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
	"google.golang.org/grpc"
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
func ServeWorker(args []string) int {
	exitWithParent()
	err := serveWorker(args)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "millrace worker: %v\n", err)
	return 1
}

func serveWorker(args []string) error {
	if option(args, "provision_endpoint") == "" { // Beam's boot program has asked already and passes flags
		if err := flag.CommandLine.Parse(args); err != nil {
			return err
		}
		beam.Init() // does not return in a worker
		return errors.New("Beam did not start as a worker")
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
	if err := importOptions(info); err != nil {
		return err
	}
	beam.Init()
	return harness.MainWithOptions(ctx, logging, control, harness.Options{
		StatusEndpoint: info.GetStatusEndpoint().GetUrl(), RunnerCapabilities: info.GetRunnerCapabilities()})
}

// importOptions makes the options of the job those of this process.
func importOptions(info *fnpb.ProvisionInfo) error {
	raw, err := tools.ProtoToJSON(info.GetPipelineOptions())
	if err != nil {
		return fmt.Errorf("pipeline options: %w", err)
	}
	var options runtime.RawOptionsWrapper
	if err := json.Unmarshal([]byte(raw), &options); err != nil {
		return fmt.Errorf("pipeline options: %w", err)
	}
	runtime.GlobalOptions.Import(options.Options)
	return nil
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

// Pool starts workers on request, all in this process: so that the slots of a machine, and one job after another, share
// the models that are loaded.
type Pool struct {
	fnpb.UnimplementedBeamFnExternalWorkerPoolServer
	root context.Context

	mu      sync.Mutex
	workers map[poolKey]context.CancelFunc
}

// poolKey: two TaskManagers may give two workers the same id.
type poolKey struct{ id, control string }

// ServePool serves a pool at host:port until the context ends. Announce is given the address, which matters for port 0.
func ServePool(ctx context.Context, address string, announce func(net.Addr)) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	quietLogs()
	beam.Init()
	server := grpc.NewServer()
	pool := &Pool{root: ctx, workers: map[poolKey]context.CancelFunc{}}
	fnpb.RegisterBeamFnExternalWorkerPoolServer(server, pool)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	announce(listener.Addr())
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// StartWorker starts one worker.
func (p *Pool) StartWorker(_ context.Context, req *fnpb.StartWorkerRequest) (*fnpb.StartWorkerResponse, error) {
	refuse := func(format string, args ...any) (*fnpb.StartWorkerResponse, error) {
		return &fnpb.StartWorkerResponse{Error: fmt.Sprintf(format, args...)}, nil
	}
	id := req.GetWorkerId()
	control, logging := req.GetControlEndpoint(), req.GetLoggingEndpoint()
	switch {
	case id == "":
		return refuse("a worker needs an id")
	case control.GetUrl() == "" || logging.GetUrl() == "":
		return refuse("worker %s: control and logging endpoints are needed", id)
	case control.GetAuthentication() != nil || logging.GetAuthentication() != nil:
		return refuse("worker %s: endpoints with authentication are not supported; put the pool on the TaskManager's own machine", id)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := poolKey{id, control.GetUrl()}
	if _, ok := p.workers[key]; ok {
		return refuse("worker %s is running", id)
	}
	ctx, cancel := context.WithCancel(grpcx.WriteWorkerID(p.root, id))
	p.workers[key] = cancel
	go func() {
		defer p.forget(key)
		var options harness.Options
		if url := req.GetProvisionEndpoint().GetUrl(); url != "" {
			info, err := tools.ProvisionInfo(ctx, url)
			if err == nil {
				err = importOptions(info)
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "millrace worker: %s: provision: %v\n", id, err)
				return
			}
			options = harness.Options{StatusEndpoint: info.GetStatusEndpoint().GetUrl(), RunnerCapabilities: info.GetRunnerCapabilities()}
		}
		if err := harness.MainWithOptions(ctx, logging.GetUrl(), control.GetUrl(), options); err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "millrace worker: %s: %v\n", id, err)
		}
	}()
	return &fnpb.StartWorkerResponse{}, nil
}

// StopWorker stops one worker. Where two have the id, both are left to end with their control connections.
func (p *Pool) StopWorker(_ context.Context, req *fnpb.StopWorkerRequest) (*fnpb.StopWorkerResponse, error) {
	p.mu.Lock()
	var found []poolKey
	for key := range p.workers {
		if key.id == req.GetWorkerId() {
			found = append(found, key)
		}
	}
	p.mu.Unlock()
	switch len(found) {
	case 0:
		return &fnpb.StopWorkerResponse{Error: fmt.Sprintf("no worker %s is running", req.GetWorkerId())}, nil
	case 1:
		p.forget(found[0])
	}
	return &fnpb.StopWorkerResponse{}, nil
}

func (p *Pool) forget(key poolKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cancel, ok := p.workers[key]; ok {
		cancel()
		delete(p.workers, key)
	}
}
