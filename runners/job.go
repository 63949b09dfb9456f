package runners

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/container/tools"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/metrics"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/graphx"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/harness/init" // the worker's side of every portable runner
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/runtime/metricsx"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/util/hooks"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/runnerlib"
)

// JobError says that a job failed on its runner.
type JobError struct {
	Runner, Job string
	Why         string // the error of the worker where there is one, else the runner's
	Err         error  // what the runner itself said, in full, where it is more than text
}

// Error begins with the stage and what it said.
func (e *JobError) Error() string {
	job := e.Runner
	if e.Job != "" {
		job += ", " + e.Job
	}
	return fmt.Sprintf("%s (job failed on %s)", e.Why, job)
}

func (e *JobError) Unwrap() error { return e.Err }

// LostError says that the connection to a job service ended before the job did.
type LostError struct {
	Runner, Job string
	Err         error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%s: the job service was lost while job %s was running: %v", e.Runner, e.Job, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// job is a pipeline on a runner that speaks Beam's job API.
type job struct {
	runner     string
	name       string
	client     jobpb.JobServiceClient
	noProgress time.Duration
	read       func(ctx context.Context) reading
	watch      func(beam.PipelineResult)
	forWorkers map[string]string // options of our own that worker processes see

	id       string
	pipeline *pipepb.Pipeline
	position position
}

// position follows where the time of a job goes.
type position struct {
	moved fingerprint
	spent map[string]time.Duration // by transform, when the work last moved
}

// marshal translates the pipeline into Beam's portable form. Workers bring the program themselves, so no artifact is
// staged.
func marshal(p *beam.Pipeline, env *pipepb.Environment) (*pipepb.Pipeline, error) {
	edges, _, err := p.Build()
	if err != nil {
		return nil, err
	}
	env.Dependencies = nil
	return graphx.Marshal(edges, &graphx.Options{Environment: env, PipelineResourceHints: jobopts.GetPipelineResourceHints()})
}

func environment(ctx context.Context, urn, config string) (*pipepb.Environment, error) {
	return graphx.CreateEnvironment(ctx, urn, func(context.Context) string { return config })
}

// loopback makes this process the worker. Beam's own loopback server knows workers by their id alone, which two
// TaskManagers give twice; the second would wait for ever.
func loopback(ctx context.Context) (*pipepb.Environment, func(), error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	at, _, err := startPool(ctx, "localhost:0", nil)
	if err != nil {
		stop()
		return nil, nil, err
	}
	env, err := environment(ctx, graphx.URNEnvExternal, at.String())
	if err != nil {
		stop()
	}
	return env, stop, err
}

// execute submits the pipeline with the runner's options (by their names in Beam, without prefix and version) and waits.
func (j *job) execute(ctx context.Context, p *beam.Pipeline, env *pipepb.Environment, options map[string]any) (beam.PipelineResult, error) {
	var err error
	if j.pipeline, err = marshal(p, env); err != nil {
		return nil, fmt.Errorf("%s: %w", j.runner, err)
	}
	if j.name == "" {
		j.name = jobopts.GetJobName()
	}
	if err := j.submit(ctx, options); err != nil {
		return nil, fmt.Errorf("%s: %w", j.runner, err)
	}
	err = j.wait(ctx)
	result, metricsErr := j.result()
	if metricsErr != nil {
		var lost *LostError
		if err == nil || !errors.As(err, &lost) {
			err = errors.Join(err, fmt.Errorf("%s: counters of job %s: %w", j.runner, j.id, metricsErr))
		}
		return nil, err
	}
	return result, err
}

func (j *job) submit(ctx context.Context, options map[string]any) error {
	hooks.SerializeHooksToOptions()
	beam.PipelineOptions.LoadOptionsFromFlags(nil)
	forWorkers := beam.PipelineOptions.Export()
	forWorkers.Options = maps.Clone(forWorkers.Options)
	if forWorkers.Options == nil {
		forWorkers.Options = map[string]string{}
	}
	maps.Copy(forWorkers.Options, j.forWorkers)
	all := map[string]any{
		"beam:option:go_options:v1":  forWorkers,
		"beam:option:app_name:v1":    j.name,
		"beam:option:job_name:v1":    j.name,
		"beam:option:experiments:v1": append(jobopts.GetExperiments(), "beam_fn_api"),
	}
	for name, value := range options {
		all["beam:option:"+name+":v1"] = value
	}
	encoded, err := tools.OptionsToProto(all)
	if err != nil {
		return fmt.Errorf("options: %w", err)
	}
	prepared, err := j.client.Prepare(ctx, &jobpb.PrepareJobRequest{Pipeline: j.pipeline, PipelineOptions: encoded, JobName: j.name})
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	token, err := runnerlib.Stage(ctx, prepared.GetPreparationId(), prepared.GetArtifactStagingEndpoint().GetUrl(), "",
		prepared.GetStagingSessionToken())
	if err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	if j.id, err = runnerlib.Submit(ctx, j.client, prepared.GetPreparationId(), token); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	return nil
}

// wait follows the job to its end, and ends it when the context ends or nothing moves for too long.
func (j *job) wait(ctx context.Context) error {
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	end := make(chan error, 1)
	go func() { end <- j.follow(following) }()

	tick := time.NewTicker(pollEvery(j.noProgress))
	defer tick.Stop()
	dog := watchdog{runner: j.runner, limit: j.noProgress}
	for {
		select {
		case err := <-end:
			return err
		case <-ctx.Done():
			j.cancel(end)
			return ctx.Err()
		case now := <-tick.C:
			asking, done := context.WithTimeout(following, 10*time.Second)
			r := j.read(asking)
			if j.watch != nil {
				if result, err := j.counters(asking); err == nil {
					j.watch(result)
				}
			}
			done()
			if err := dog.see(now, r); err != nil {
				j.cancel(end)
				return err
			}
		}
	}
}

// cancelWait bounds how long a runner is given to stop its workers.
const cancelWait = 20 * time.Second

func (j *job) cancel(end <-chan error) {
	ctx, done := context.WithTimeout(context.Background(), cancelWait)
	defer done()
	if _, err := j.client.Cancel(ctx, &jobpb.CancelJobRequest{JobId: j.id}); err != nil {
		slog.WarnContext(ctx, "the job could not be cancelled", "runner", j.runner, "job", j.id, "error", err)
		return
	}
	select {
	case <-end:
	case <-ctx.Done():
	}
}

// follow reads the job's messages until it ends.
func (j *job) follow(ctx context.Context) error {
	stream, err := j.client.GetMessageStream(ctx, &jobpb.JobMessagesRequest{JobId: j.id})
	if err != nil {
		return &LostError{Runner: j.runner, Job: j.id, Err: err}
	}
	state, why := jobpb.JobState_UNSPECIFIED, ""
	for {
		message, err := stream.Recv()
		switch {
		case err != nil && state == jobpb.JobState_FAILED:
			if why == "" {
				why = "the runner gave no reason"
			}
			return &JobError{Runner: j.runner, Job: j.id, Why: why}
		case err == io.EOF && (state == jobpb.JobState_DONE || state == jobpb.JobState_DRAINED):
			return nil
		case err == io.EOF && state == jobpb.JobState_CANCELLED:
			return &JobError{Runner: j.runner, Job: j.id, Why: "it was cancelled"}
		case err != nil:
			return &LostError{Runner: j.runner, Job: j.id, Err: err}
		}
		if s := message.GetStateResponse(); s != nil {
			slog.DebugContext(ctx, "job state", "runner", j.runner, "job", j.id, "state", s.GetState().String())
			switch state = s.GetState(); state {
			case jobpb.JobState_DONE, jobpb.JobState_DRAINED:
				return nil
			case jobpb.JobState_CANCELLED:
				return &JobError{Runner: j.runner, Job: j.id, Why: "it was cancelled"}
			case jobpb.JobState_FAILED:
				if why != "" {
					return &JobError{Runner: j.runner, Job: j.id, Why: why}
				}
			}
			continue
		}
		m := message.GetMessageResponse()
		slog.DebugContext(ctx, "job message", "runner", j.runner, "job", j.id, "message", m.GetMessageText())
		if m.GetImportance() >= jobpb.JobMessage_JOB_MESSAGE_ERROR {
			why = cause(why, m.GetMessageText())
			if state == jobpb.JobState_FAILED {
				return &JobError{Runner: j.runner, Job: j.id, Why: why}
			}
		}
	}
}

var (
	fromWorker = regexp.MustCompile(`(?s)Error received from SDK harness for instruction \S+: (.*)`)
	fromDoFn   = regexp.MustCompile(`(?s).*DoFn\[UID:\d+, PID:[^\n]*, Name: ([^\n]*)\] failed:\n(.*)`)
)

// cause keeps what a user can act on: the worker's own error where a message holds one, without plans and Java's stack.
func cause(before, text string) string {
	found := fromWorker.FindStringSubmatch(text)
	if found != nil {
		text = found[1]
	} else if before != "" {
		return before
	}
	for _, mark := range []string{"\n\tat ", "\nCaused by: "} {
		text, _, _ = strings.Cut(text, mark)
	}
	if found := fromDoFn.FindStringSubmatch(text); found != nil {
		name, said := found[1], found[2]
		if text = said; !strings.Contains(name, "/transforms/stage.") { // a stage names itself
			name, of, _ := strings.Cut(name, "[") // the types of a generic one
			text += " (in " + strings.TrimSuffix(path.Base(name)+"["+of, "[") + ")"
		}
	}
	return strings.TrimSpace(text)
}

// readMetrics takes progress from the counters that the job service has while the job runs.
func (j *job) readMetrics(ctx context.Context) reading {
	r, err := j.client.GetJobMetrics(ctx, &jobpb.GetJobMetricsRequest{JobId: j.id})
	if err != nil {
		return reading{err: err}
	}
	m := metricsx.FromMonitoringInfos(j.pipeline, r.GetMetrics().GetAttempted(), r.GetMetrics().GetCommitted()).AllMetrics()
	return j.position.see(m, func(id string) string {
		if t := j.pipeline.GetComponents().GetTransforms()[id]; t != nil {
			return t.GetUniqueName()
		}
		return id
	})
}

// see: rows and counters say whether the work moves. Time spent passes in a stage that hangs too, and so says where the
// work is: in the transforms whose time grew since the work last moved.
func (p *position) see(m metrics.QueryResults, name func(id string) string) reading {
	var counts []string
	for _, c := range m.Counters() {
		if c.Key.Name != "ms" {
			counts = append(counts, c.Key.Step+"/"+c.Key.Namespace+"/"+c.Key.Name+"="+strconv.FormatInt(c.Result(), 10))
		}
	}
	for _, c := range m.PCols() { // without names: Beam calls one collection now by its transform, now by what that is part of
		counts = append(counts, "rows="+strconv.FormatInt(c.Result().ElementCount, 10))
	}
	slices.Sort(counts)
	moved := fingerprintOf(counts...)
	spent := map[string]time.Duration{}
	for _, c := range m.Msecs() {
		spent[c.Key.Step] = max(spent[c.Key.Step], c.Attempted.Process, c.Committed.Process)
	}
	if p.spent == nil || moved != p.moved {
		p.moved, p.spent = moved, spent
	}
	var stages []string
	for id, d := range spent {
		if d > p.spent[id] {
			stages = append(stages, id)
		}
	}
	slices.SortFunc(stages, func(a, b string) int {
		if c := cmp.Compare(spent[b]-p.spent[b], spent[a]-p.spent[a]); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	stages = stages[:min(len(stages), 3)]
	for i, id := range stages {
		stages[i] = name(id)
	}
	return reading{moved: moved, stages: stages}
}

func (j *job) result() (beam.PipelineResult, error) {
	ctx, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	return j.counters(ctx)
}

// counters are what the job service has counted so far.
func (j *job) counters(ctx context.Context) (beam.PipelineResult, error) {
	r, err := j.client.GetJobMetrics(ctx, &jobpb.GetJobMetricsRequest{JobId: j.id})
	if err != nil {
		return nil, err
	}
	return jobResult{j.id, metricsx.FromMonitoringInfos(j.pipeline, r.GetMetrics().GetAttempted(), r.GetMetrics().GetCommitted())}, nil
}

type jobResult struct {
	id      string
	metrics *metrics.Results
}

func (r jobResult) Metrics() metrics.Results { return *r.metrics }
func (r jobResult) JobID() string            { return r.id }
