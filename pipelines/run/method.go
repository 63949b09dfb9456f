package run

import (
	"context"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/measure"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/telemetry"
	"github.com/millrace/millrace/runners"
)

// Method says what the iterations of a run do. The run takes care of the rest: directories, commits, going on after a kill, the
// share of dead rows, metrics and telemetry.
type Method interface {
	// Models finds the models that an iteration starts with, those of the committed iteration before it or the recipe's, and sets
	// what else of the iteration differs from that of the run: where in the source of prompts it begins.
	Models(ctx context.Context, run *Dir, it *chain.Iteration) error
	// Chain is the stages of the iteration. The models are found.
	Chain(it chain.Iteration) (chain.Chain, error)
}

// Optional methods of a Method.
type (
	// Checker looks, when a run is opened, whether what it needs is there.
	Checker interface {
		Check(ctx context.Context) error
	}
	// Giver says what files and models the recipe names, by the setting that names them: they must not change while a run goes on.
	Giver interface {
		Given(ctx context.Context) (map[string]commit.Input, error)
	}
	// Sampler runs pipelines before that of the chain, and returns their counters.
	Sampler interface {
		Sample(ctx context.Context, it *chain.Iteration) ([]beam.PipelineResult, error)
	}
	// Trainer has the models updated that another program updates, after the pipelines of an iteration.
	Trainer interface {
		Train(ctx context.Context, run *Dir, it chain.Iteration, show progress.Run) error
	}
	// Closer writes what follows from the counters of all pipelines of an iteration, before it is measured. An *ExhaustedError
	// after the first iteration ends the run.
	Closer interface {
		Close(ctx context.Context, it chain.Iteration, results []beam.PipelineResult, show progress.Run) error
	}
	// Measurer measures on held-out prompts.
	Measurer interface {
		// Start is what the run starts from; false where that is not measured.
		Start(it chain.Iteration) (measure.Subject, bool)
		// Subject is what an iteration left.
		Subject(ctx context.Context, it chain.Iteration) (measure.Subject, error)
		// Measure measures a subject in a scratch directory that it makes and removes.
		Measure(ctx context.Context, s measure.Subject, scratch string) (measure.Evaluation, error)
	}
	// SetMeasurer measures on further sets, by name.
	SetMeasurer interface {
		MeasureSets(ctx context.Context, s measure.Subject, scratch string) (map[string]measure.Evaluation, error)
	}
	// Decider writes what follows from the measurement of an iteration, before its commit.
	Decider interface {
		Decide(ctx context.Context, it chain.Iteration, m Measurement) error
	}
	// Noter finds something in a measurement that people should be told once; "" nothing.
	Noter interface{ Note(m Measurement) string }
)

// Settings are what a run needs to know beside its method.
type Settings struct {
	Run        string // directory
	Seed       uint64
	Iterations int
	// Config names the run in its records, and a later call on the directory must bring the same: what was computed depends on
	// nothing else. It is left as config.yaml.
	Config []byte
	// EvaluateEvery is the number of iterations between evaluations; the start and the end are evaluated too; 0: never.
	EvaluateEvery  int
	Best           string           // the set by which the best iteration is named; "": the held-out prompts
	DeadShare      float64          // an iteration with a larger share of dead rows fails
	Idle           int              // updates in a row that learn nothing, with which the run fails; 0: no limit
	KL             float64          // the most that a policy may move in an iteration; 0: no limit
	Mismatch       float64          // the most that the engine's log-probs may differ from the trainer's, in the mean; 0: no limit
	AuditGap       float64          // the most that a verifier may call right beyond its audit; 0: no limit
	Collapse       Collapse         // limits against it
	MaxRecordBytes int              // 0: 8 MiB
	Memory         recipe.Bytes     // the run ends when more of this process is resident; 0: no limit
	MemoryPlanned  int64            // what this process is estimated to hold; 0: not known
	Checked        bool             // a Checker has been asked already
	Keep           bool             // keep materialised edges after the commit
	Retain         *recipe.Keep     // which iterations keep their models; nil: all
	Runner         runners.Config   // the zero value: embedded
	Telemetry      telemetry.Config // the zero value: telemetry.Default
}

// SettingsOf are those of a recipe, with the configuration that names the run.
func SettingsOf(r recipe.Recipe, config []byte) Settings {
	s := Settings{Run: r.Run, Seed: r.Seed, Best: r.Evaluate.Best, Iterations: r.Iterations, Config: config, EvaluateEvery: r.Evaluate.Every,
		DeadShare: r.Limits.DeadShare, Idle: r.Limits.Idle, KL: r.Limits.KL, MaxRecordBytes: r.Limits.MaxRecordBytes, Memory: r.Limits.Memory,
		Keep: r.Keep, Retain: r.Retain, Runner: r.Runner, Telemetry: r.Telemetry}
	s.Collapse = Collapse{Echo: r.Limits.EchoShare, Truncated: r.Limits.TruncatedShare, Entropy: r.Limits.Entropy,
		Length: r.Limits.LengthFactor}
	if r.Importance != nil {
		s.Mismatch = r.Importance.Limit
	}
	if r.Audit != nil {
		s.AuditGap = r.Audit.MaxGap
	}
	return s
}

// fill takes the embedded runner and the usual telemetry where nothing is said of them.
func (s *Settings) fill() {
	if s.Runner.Name == "" {
		s.Runner = runners.Default()
	}
	if reflect.ValueOf(s.Telemetry).IsZero() {
		s.Telemetry = telemetry.Default()
	}
}

// ExhaustedError says that a source has no prompts left.
type ExhaustedError struct{ Iteration int }

func (e *ExhaustedError) Error() string {
	if e.Iteration == 0 {
		return "no source has a prompt; look at prompts.split and at the files"
	}
	return fmt.Sprintf("iteration %d: no source has a prompt left (prompts.file.exhausted: stop)", e.Iteration)
}
