package runners

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/apache/beam/sdks/v2/go/container/tools"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/harness"
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
	"google.golang.org/grpc"

	"github.com/millrace/millrace/models"
)

// Pool starts workers on request, all in this process: so that the slots of a machine share the models that are loaded. What a
// worker's stages have acquired is released when it ends.
type Pool struct {
	fnpb.UnimplementedBeamFnExternalWorkerPoolServer
	root context.Context
	job  jobContext // may be nil

	mu      sync.Mutex
	workers map[poolKey]context.CancelFunc
}

// jobContext is the context of a worker's stages, by the pipeline options of its job.
type jobContext = func(context.Context, map[string]string) context.Context

// poolKey: two TaskManagers may give two workers the same id.
type poolKey struct{ id, control string }

// ServePool serves a pool at host:port until the context ends. Announce is given the address, which matters for port 0.
//
// Job, if not nil, is given the context and the pipeline options of each worker that is started; the context that it returns
// is that of the worker's stages.
func ServePool(ctx context.Context, address string, announce func(net.Addr), job jobContext) error {
	quietBeam()
	Init()
	at, ended, err := startPool(ctx, address, job)
	if err != nil {
		return err
	}
	announce(at)
	return <-ended
}

// startPool serves a pool in the background until the context ends.
func startPool(ctx context.Context, address string, job jobContext) (net.Addr, <-chan error, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("worker pool: %w", err)
	}
	server := grpc.NewServer()
	fnpb.RegisterBeamFnExternalWorkerPoolServer(server, &Pool{root: ctx, job: job, workers: map[poolKey]context.CancelFunc{}})
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, server.Stop)
	go func() {
		defer stop()
		err := server.Serve(listener)
		if ctx.Err() != nil {
			err = nil
		}
		ended <- err
	}()
	return listener.Addr(), ended, nil
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
		ctx, end := models.Scope(ctx)
		defer end()
		var options harness.Options
		if url := req.GetProvisionEndpoint().GetUrl(); url != "" {
			info, err := tools.ProvisionInfo(ctx, url)
			if err != nil {
				fmt.Fprintf(os.Stderr, "millrace worker: %s: provision: %v\n", id, err)
				return
			}
			if p.job != nil {
				// They are not made those of this process: Beam fixes these when it starts, and jobs share it.
				its, err := jobOptions(info)
				if err != nil {
					fmt.Fprintf(os.Stderr, "millrace worker: %s: %v\n", id, err)
					return
				}
				ctx = p.job(ctx, its.Options.Options)
			}
			options = harness.Options{StatusEndpoint: info.GetStatusEndpoint().GetUrl(), RunnerCapabilities: info.GetRunnerCapabilities()}
		}
		if err := harness.MainWithOptions(ctx, logging.GetUrl(), control.GetUrl(), options); err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "millrace worker: %s: %v\n", id, err)
		}
	}()
	return &fnpb.StartWorkerResponse{}, nil
}

// StopWorker stops nothing: a worker ends with its control connection, which the runner closes before it asks. The request
// holds an id alone, and by the time it comes the worker it means has ended, while one of that id may just have started for
// another TaskManager, which would wait for it for three minutes.
func (p *Pool) StopWorker(context.Context, *fnpb.StopWorkerRequest) (*fnpb.StopWorkerResponse, error) {
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
