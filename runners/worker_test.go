package runners

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func TestIsWorker(t *testing.T) {
	for _, args := range [][]string{{"--id=1-1", "--provision_endpoint=localhost:1"}, {"--worker=true"}, {"-worker=true"}} {
		if !IsWorker(args) {
			t.Errorf("%q starts a worker", args)
		}
	}
	for _, args := range [][]string{nil, {"run", "recipe.yaml"}, {"worker", "--listen=:1"}, {"run", "--set", "provision_endpoint=x"},
		{"--worker=false"}} {
		if IsWorker(args) {
			t.Errorf("%q starts no worker", args)
		}
	}
}

func TestWorkerWithoutARunnerEnds(t *testing.T) {
	if os.Getenv("MILLRACE_TEST_WORKER") == "1" {
		os.Exit(ServeWorker([]string{"--provision_endpoint=localhost:1"}, nil))
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestWorkerWithoutARunnerEnds$")
	cmd.Env = append(os.Environ(), "MILLRACE_TEST_WORKER=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--id is missing") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestWorkerEndsWithItsParent: the process that started a worker is killed and cannot stop it.
func TestWorkerEndsWithItsParent(t *testing.T) {
	const role = "MILLRACE_TEST_ROLE"
	again := func(as string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestWorkerEndsWithItsParent$")
		cmd.Env = append(os.Environ(), role+"="+as)
		return cmd
	}
	switch os.Getenv(role) {
	case "parent":
		worker := again("worker")
		if err := worker.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("worker %d\n", worker.Process.Pid)
		worker.Wait()
		return
	case "worker":
		exitWithParent()
		time.Sleep(10 * time.Minute)
		return
	}
	parent := again("parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var worker int
	if _, err := fmt.Fscanf(out, "worker %d\n", &worker); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // until it watches its parent
	running := func() bool {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", worker))
		return err == nil && !strings.Contains(string(raw), ") Z ")
	}
	if !running() {
		t.Fatal("the worker ended before its parent")
	}
	parent.Process.Kill()
	killed := time.Now()
	parent.Wait()
	for running() {
		if time.Since(killed) > time.Minute {
			t.Fatal("the worker outlives its parent")
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("the worker ended %v after its parent", time.Since(killed))
}

func TestPoolRefusesWhatItCannotStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	at, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- ServePool(ctx, "localhost:0", func(a net.Addr) { at <- a }, nil) }()
	conn, err := grpc.NewClient((<-at).String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pool := fnpb.NewBeamFnExternalWorkerPoolClient(conn)
	nowhere := &pipepb.ApiServiceDescriptor{Url: "localhost:1"}
	secure := &pipepb.ApiServiceDescriptor{Url: "localhost:1",
		Authentication: &pipepb.AuthenticationSpec{Urn: "beam:authentication:oauth2_client_credentials_grant:v1"}}
	for why, req := range map[string]*fnpb.StartWorkerRequest{
		"needs an id":                      {ControlEndpoint: nowhere, LoggingEndpoint: nowhere},
		"control and logging endpoints":    {WorkerId: "1"},
		"authentication are not supported": {WorkerId: "1", ControlEndpoint: secure, LoggingEndpoint: nowhere},
	} {
		resp, err := pool.StartWorker(t.Context(), req)
		if err != nil || !strings.Contains(resp.GetError(), why) {
			t.Errorf("want a refusal with %q, have %q, %v", why, resp.GetError(), err)
		}
	}
	start := func(id, control string) string {
		resp, err := pool.StartWorker(t.Context(), &fnpb.StartWorkerRequest{WorkerId: id,
			ControlEndpoint: &pipepb.ApiServiceDescriptor{Url: control}, LoggingEndpoint: nowhere})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetError()
	}
	if e := start("1-1", "localhost:1"); e != "" {
		t.Errorf("a worker: %s", e)
	}
	if e := start("1-1", "localhost:1"); !strings.Contains(e, "is running") {
		t.Errorf("the same worker again: %q", e)
	}
	if e := start("1-1", "localhost:2"); e != "" {
		t.Errorf("the same id of another TaskManager: %s", e)
	}
	// Of two TaskManagers the one that has ended its worker asks for the stop when only the other's is left.
	start("2-1", "localhost:2")
	if resp, err := pool.StopWorker(t.Context(), &fnpb.StopWorkerRequest{WorkerId: "2-1"}); err != nil || resp.GetError() != "" {
		t.Errorf("stop: %v, %v", resp, err)
	}
	if e := start("2-1", "localhost:2"); !strings.Contains(e, "is running") {
		t.Errorf("the worker of another TaskManager was stopped: %q", e)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the pool goes on after its context ended")
	}
}
