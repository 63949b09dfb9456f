package runners

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/millrace/millrace/schemas/setting"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(failVariable); name != "" {
		failOn(name)
		return
	}
	beam.Init()
	os.Exit(m.Run())
}

// failVariable makes this test program one that runs a pipeline which fails, on the runner that it names.
const failVariable = "MILLRACE_FAIL_ON"

func failOn(name string) {
	Init()
	p, s := beam.NewPipelineWithRoot()
	beam.ParDo0(s, failFn, beam.Impulse(s))
	c := Default()
	c.Name = name
	_, err := Run(context.Background(), p, c)
	slog.Info("from slog")
	log.Print("from log")
	fmt.Fprintln(os.Stderr, err)
}

// TestFailureIsToldOnce: a program that has set up no log sees the stage's error and its own lines, none of Beam's.
func TestFailureIsToldOnce(t *testing.T) {
	for _, name := range []string{"prism", "direct"} {
		program := exec.Command(os.Args[0])
		program.Env = append(os.Environ(), failVariable+"="+name)
		out, err := program.CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if len(lines) != 3 || !strings.HasSuffix(lines[0], " INFO from slog") || !strings.HasSuffix(lines[1], " from log") ||
			!strings.HasPrefix(lines[2], "the row is of another colour") {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// blocked holds holdFn until a test ends.
var blocked chan struct{}

func holdFn(ctx context.Context, _ []byte, emit func(int)) {
	emit(1)
	<-blocked
}

func failFn(context.Context, []byte) error { return errors.New("the row is of another colour") }

func countFn(ctx context.Context, _ []byte, emit func(int)) {
	beam.NewCounter("millrace.test", "rows_in").Inc(ctx, 3)
	emit(1)
}

func init() {
	register.Function3x0(holdFn)
	register.Function2x1(failFn)
	register.Function3x0(countFn)
	register.Emitter1[int]()
}

func TestCountersComeBack(t *testing.T) {
	for _, name := range []string{"prism", "direct"} {
		p, s := beam.NewPipelineWithRoot()
		beam.ParDo(s, countFn, beam.Impulse(s))
		c := Default()
		c.Name = name
		result, err := Run(t.Context(), p, c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		counters := result.Metrics().AllMetrics().Counters()
		if len(counters) != 1 || counters[0].Result() != 3 {
			t.Errorf("%s: counters %+v", name, counters)
		}
	}
}

func TestErrorOfAStageReachesTheCaller(t *testing.T) {
	for _, name := range []string{"prism", "direct"} {
		p, s := beam.NewPipelineWithRoot()
		beam.ParDo0(s, failFn, beam.Impulse(s))
		c := Default()
		c.Name = name
		_, err := Run(t.Context(), p, c)
		var failed *JobError
		if !errors.As(err, &failed) || !strings.HasPrefix(err.Error(), "the row is of another colour (in runners.failFn)") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStalledPipelineIsCancelledAndItsStageNamed(t *testing.T) {
	blocked = make(chan struct{})
	defer close(blocked)
	p, s := beam.NewPipelineWithRoot()
	beam.ParDo(s.Scope("grinder"), holdFn, beam.Impulse(s))
	c := Default()
	c.NoProgressMinutes = 5.0 / 60
	_, err := Run(t.Context(), p, c)
	var stalled *StalledError
	if !errors.As(err, &stalled) {
		t.Fatalf("want a *StalledError, have %v", err)
	}
	if !strings.Contains(strings.Join(stalled.Stages, " "), "grinder") {
		t.Errorf("stages %q do not name the one that hangs", stalled.Stages)
	}
}

func TestContextEndsRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, s := beam.NewPipelineWithRoot()
	beam.ParDo(s, countFn, beam.Impulse(s))
	if _, err := Run(ctx, p, Default()); !errors.Is(err, context.Canceled) {
		t.Errorf("want context.Canceled, have %v", err)
	}
}

func TestWatchdog(t *testing.T) {
	at := func(minute int) time.Time { return time.Unix(int64(60*minute), 0) }
	w := watchdog{runner: "flink", limit: 10 * time.Minute}
	if err := w.see(at(0), reading{moved: 1}); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		minute int
		r      reading
		stalls bool
	}{
		{9, reading{moved: 1}, false},
		{11, reading{moved: 2}, false}, // late, but it moved
		{20, reading{moved: 2}, false},
		{20, reading{err: errors.New("no answer")}, false},
		{21, reading{moved: 2, stages: []string{"rollout"}}, true},
	}
	for _, s := range steps {
		err := w.see(at(s.minute), s.r)
		if (err != nil) != s.stalls {
			t.Errorf("minute %d: %v", s.minute, err)
		}
		if err != nil && !strings.Contains(err.Error(), "rollout") {
			t.Errorf("the stage is not named: %v", err)
		}
	}
	unlimited := watchdog{}
	unlimited.see(at(0), reading{})
	if err := unlimited.see(at(1e6), reading{}); err != nil {
		t.Errorf("no limit: %v", err)
	}
	blind := watchdog{limit: time.Minute}
	blind.see(at(0), reading{err: errors.New("no answer")})
	if err := blind.see(at(1), reading{err: errors.New("no answer")}); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("progress that cannot be read: %v", err)
	}
}

func TestErrorsNameTheField(t *testing.T) {
	flink := func(change func(*Flink)) Config {
		c := Default()
		c.Name = "flink"
		change(&c.Flink)
		return c
	}
	dataflow := func(change func(*Dataflow)) Config {
		c := Default()
		c.Name, c.Dataflow = "dataflow", sound()
		change(&c.Dataflow)
		return c
	}
	prism := func(change func(*Config)) Config {
		c := Default()
		change(&c)
		return c
	}
	for want, c := range map[string]Config{
		"name:":                            prism(func(c *Config) { c.Name = "spark" }),
		"no_progress_minutes:":             prism(func(c *Config) { c.NoProgressMinutes = -1 }),
		"flags.nonesuch:":                  prism(func(c *Config) { c.Flags = map[string]string{"nonesuch": "1"} }),
		"flags.endpoint: use":              prism(func(c *Config) { c.Flags = map[string]string{"endpoint": "x:1"} }),
		"flink.endpoint:":                  flink(func(f *Flink) { f.Endpoint = "localhost" }),
		"flink.rest:":                      flink(func(f *Flink) { f.REST = "http://x" }),
		"flink.environment:":               flink(func(f *Flink) { f.Environment = "vm" }),
		"flink.pool:":                      flink(func(f *Flink) { f.Environment = External }),
		"flink.command: belongs":           flink(func(f *Flink) { f.Command = "/bin/x" }),
		"flink.image: is empty":            flink(func(f *Flink) { f.Environment = Docker }),
		"flink.parallelism:":               flink(func(f *Flink) { f.Parallelism = -1 }),
		"flink.execution_mode:":            flink(func(f *Flink) { f.ExecutionMode = "batch" }),
		"flink.max_bundle_size:":           flink(func(f *Flink) { f.MaxBundleSize = 0 }),
		"flink.max_bundle_seconds:":        flink(func(f *Flink) { f.MaxBundleSeconds = 0 }),
		"flink.retries:":                   flink(func(f *Flink) { f.Retries = -2 }),
		"flink.options.parallelism: has":   flink(func(f *Flink) { f.Parallelism = 1; f.Options = map[string]any{"parallelism": 2} }),
		"dataflow.project:":                dataflow(func(d *Dataflow) { d.Project = "" }),
		"dataflow.region:":                 dataflow(func(d *Dataflow) { d.Region = "here" }),
		"dataflow.staging_location:":       dataflow(func(d *Dataflow) { d.StagingLocation = "/data" }),
		"dataflow.num_workers: 3 is above": dataflow(func(d *Dataflow) { d.NumWorkers, d.MaxNumWorkers = 3, 2 }),
		"dataflow.labels:":                 dataflow(func(d *Dataflow) { d.Labels = map[string]string{"A": "b"} }),
		"dataflow.experiments:":            dataflow(func(d *Dataflow) { d.Experiments = []string{"disable_runner_v2"} }),
		"dataflow.worker_binary:":          dataflow(func(d *Dataflow) { d.WorkerBinary = "none/such" }),
	} {
		if err := setting.Check(c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want an error that starts with %q, have %v", want, err)
		}
	}
	for _, c := range []Config{Default(), flink(func(*Flink) {})} {
		if err := setting.Check(c); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	built := table["dataflow"].Run != nil
	err := setting.Check(dataflow(func(*Dataflow) {}))
	if built && err != nil || !built && (err == nil || !strings.Contains(err.Error(), "go build -tags cloud")) {
		t.Errorf("dataflow, which is built in: %v: %v", built, err)
	}
}

func sound() Dataflow {
	d := defaultDataflow()
	d.Project, d.Region, d.StagingLocation = "some-project", "us-central1", "gs://some-bucket/staging"
	return d
}

func TestCauseIsTheWorkersError(t *testing.T) {
	java := "java.util.concurrent.ExecutionException: job failed\nCaused by: java.lang.RuntimeException: " +
		"Error received from SDK harness for instruction 4: stage rollout: model lost\n\tat org.apache.Client.run(Client.java:1)\n"
	if got := cause("", java); got != "stage rollout: model lost" {
		t.Errorf("cause %q", got)
	}
	mapFn := "\nDoFn[UID:6, PID:stage.mapFn[main.Fail,*main.Fail], Name: " +
		"github.com/millrace/millrace/transforms/stage.mapFn[main.Fail,*main.Fail]] failed:\nstage fail: the disk is full"
	got := cause("", "while executing Process for Plan[plan]:\n7: ParDo[x] Out:[6]\n\tcaused by:"+mapFn)
	if got != "stage fail: the disk is full" {
		t.Errorf("cause %q", got)
	}
	generic := strings.ReplaceAll(mapFn, "transforms/stage.mapFn", "transforms/totals.mergeFn")
	if got := cause("", generic); got != "stage fail: the disk is full (in totals.mergeFn[main.Fail,*main.Fail])" {
		t.Errorf("cause %q", got)
	}
	plan := "while executing Process for Plan[stage-001]:\n2: ParDo[runners.failFn] Out:[]\n\tcaused by:\n" +
		"DoFn[UID:2, PID:e2, Name: runners.failFn] failed:\nno such row"
	if got := cause("", plan); got != "no such row (in runners.failFn)" {
		t.Errorf("cause %q", got)
	}
	if got := cause("stage rollout: model lost", "something later\n\tat x"); got != "stage rollout: model lost" {
		t.Errorf("a later message hides the worker's: %q", got)
	}
}

// TestPipelineThatPrismBrokeRunsAgain, one that a stage broke does not.
func TestPipelineThatPrismBrokeRunsAgain(t *testing.T) {
	// As prism words it: the panic, the stage, and the stack.
	broken := &JobError{Runner: "prism", Why: cause("",
		"panic in stage.Execute bundle processing goroutine: runtime error: invalid memory address or nil pointer dereference, "+
			"stage: &{ID:stage-003},stackTrace:\ngoroutine 91 [running]:\nworker.(*W).sendInstruction(0x0)\n\tworker.go:653")}
	for _, c := range []struct {
		fails []error
		runs  int
	}{
		{nil, 1},
		{[]error{broken}, 2},
		{[]error{broken, broken}, 3},
		{[]error{errors.New("the row is of another colour")}, 1},
		{[]error{&JobError{Runner: "prism", Why: "nil pointer dereference in a stage"}}, 1},
		{slices.Repeat([]error{broken}, 100), heldUpAttempts},
	} {
		runs := 0
		_, err := retryHeldUp(t.Context(), func() (beam.PipelineResult, error) {
			runs++
			if runs <= len(c.fails) {
				return nil, c.fails[runs-1]
			}
			return nil, nil
		})
		if runs != c.runs || (err == nil) != (runs > len(c.fails)) {
			t.Errorf("%d failures: %d runs, %v", len(c.fails), runs, err)
		}
	}
}
