// Package runners executes Beam pipelines: on prism, embedded in this process, by default; on Beam's direct runner, on a
// Flink cluster or on Dataflow by name. It is also how the program acts as a worker of such a cluster.
//
// A runner is one file: its options, their validation, and its run function, entered in the table below.
package runners

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

// Config chooses the runner and holds the options of each.
type Config struct {
	Name string `json:"name"` // prism, direct, flink, dataflow
	// NoProgressMinutes is how long a pipeline may go without a row or counter moving before it is cancelled; 0: for ever.
	NoProgressMinutes float64 `json:"no_progress_minutes"`
	// Flags are Beam's own flags by name, such as element_processing_timeout, for what has no setting here.
	Flags    map[string]string `json:"flags,omitempty"`
	Flink    Flink             `json:"flink"`
	Dataflow Dataflow          `json:"dataflow"`

	// Job names the work on a cluster. A job of the same name that is still running there is left over from a driver that
	// died, and is cancelled first. Empty: a name of its own.
	Job string `json:"-"`
	// Watch, if set, is given the counters of the pipeline every now and then while it runs, where the runner has them.
	Watch func(beam.PipelineResult) `json:"-"`
}

// Default is the embedded runner.
func Default() Config {
	return Config{Name: "prism", NoProgressMinutes: 30, Flink: defaultFlink(), Dataflow: defaultDataflow()}
}

type runner struct {
	validate func(Config) error // of the runner's own section
	run      func(ctx context.Context, p *beam.Pipeline, c Config) (beam.PipelineResult, error)
}

var table = map[string]runner{
	"prism":    {noOptions, runPrism},
	"direct":   {noOptions, runDirect},
	"flink":    {func(c Config) error { return under("flink", c.Flink.Validate()) }, runFlink},
	"dataflow": {func(c Config) error { return under("dataflow", c.Dataflow.Validate()) }, runDataflow},
}

func noOptions(Config) error { return nil }

func under(section string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s.%w", section, err)
}

// InProcess reports whether the runner's workers are this process.
func (c Config) InProcess() bool { return c.Name == "prism" || c.Name == "direct" }

// Names lists the runners, sorted.
func Names() []string {
	return []string{"dataflow", "direct", "flink", "prism"}
}

// Validate names the first setting that is wrong. Only the section of the chosen runner is looked at.
func (c Config) Validate() error {
	if !slices.Contains(Names(), c.Name) {
		return fmt.Errorf("name: %q is not a runner; known: %s", c.Name, strings.Join(Names(), ", "))
	}
	if !(c.NoProgressMinutes >= 0) || math.IsInf(c.NoProgressMinutes, 1) {
		return fmt.Errorf("no_progress_minutes: %v is not 0 (no limit) or a number of minutes", c.NoProgressMinutes)
	}
	if err := checkFlags(c.Flags); err != nil {
		return err
	}
	return table[c.Name].validate(c)
}

func (c Config) noProgress() time.Duration {
	return time.Duration(c.NoProgressMinutes * float64(time.Minute))
}

// Run executes the pipeline and waits for it. The result carries the counters of every stage, also when err is not nil and
// the runner could still give them. When the context ends, or nothing moves for too long (*StalledError), the job is
// cancelled; the work that was done stays in its files.
func Run(ctx context.Context, p *beam.Pipeline, c Config) (beam.PipelineResult, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := setFlags(c.Flags); err != nil {
		return nil, err
	}
	quietLogs()
	headroom()
	result, err := table[c.Name].run(ctx, p, c)
	if err != nil && ctx.Err() != nil {
		var stalled *StalledError
		if !errors.As(err, &stalled) {
			err = ctx.Err()
		}
	}
	return result, err
}
