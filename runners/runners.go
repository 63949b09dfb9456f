// Package runners executes Beam pipelines: on prism, embedded in this process, by default; on Beam's direct runner, on a
// Flink cluster or on Dataflow by name. It is also how the program acts as a worker of such a cluster.
//
// Beam has deprecated its direct runner in favour of prism. It stays for tests: it runs a few rows in this process, one after
// the other, without a job service, a worker or an encoding between stages, so what it does differently is a stage's fault.
//
// A runner is one file: its options, their validation, and its run function, entered in the table below.
package runners

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/schemas/setting"
)

// Config chooses the runner and holds the options of each.
type Config struct {
	Name              string            `json:"name" doc:"prism or direct, Beam's runners in this process, or the cluster of flink or dataflow"`
	NoProgressMinutes float64           `json:"no_progress_minutes" range:"[0,inf)" doc:"a pipeline is cancelled after so many minutes without a row or counter moving; 0: never"`
	Flags             map[string]string `json:"flags,omitempty" doc:"Beam's own flags by name, such as element_processing_timeout, for what has no setting here"`
	Flink             Flink             `json:"flink" doc:"options of runner flink"`
	Dataflow          Dataflow          `json:"dataflow" doc:"options of runner dataflow"`

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

// Runner executes pipelines. Another module registers its own; its settings are Beam's flags, or its own.
type Runner struct {
	// Validate checks the runner's own section; nil: it has none.
	Validate func(Config) error
	// Run executes a pipeline and waits for it; nil in a program that was built without the runner.
	Run func(ctx context.Context, p *beam.Pipeline, c Config) (beam.PipelineResult, error)
	// Translate shows the job that it would submit; nil: it submits none.
	Translate func(ctx context.Context, p *beam.Pipeline, c Config) (Translation, error)
	// InProcess says that its workers are this process.
	InProcess bool
}

var table = map[string]Runner{
	"prism":    {Run: runPrism, InProcess: true},
	"direct":   {Run: runDirect, InProcess: true},
	"flink":    {Validate: func(c Config) error { return setting.In("flink", c.Flink.validate()) }, Run: runFlink},
	"dataflow": {Validate: func(c Config) error { return setting.In("dataflow", c.Dataflow.validate()) }}, // dataflowjob.go has the rest
}

// Register makes a runner known under a name. It panics on a name that is taken, and on a runner that cannot run.
func Register(name string, r Runner) {
	if _, taken := table[name]; taken || r.Run == nil {
		panic("runners: " + name + " is registered twice, or without Run")
	}
	table[name] = r
}

// InProcess reports whether the runner's workers are this process.
func (c Config) InProcess() bool { return table[c.Name].InProcess }

// Names lists the runners, sorted.
func Names() []string { return slices.Sorted(maps.Keys(table)) }

// SettingSchema describes the settings, with the runners that there are.
func (c *Config) SettingSchema() *setting.Schema {
	type fields Config // without this method
	s := setting.SchemaOf(fields(*c))
	s.Properties["name"].Enum = Names()
	return s
}

// Validate asks what the chosen runner needs of its own section; ranges and choices hold in the sections of all.
func (c Config) Validate() error {
	if err := setting.OneOf("name", c.Name, Names()...); err != nil {
		return err
	}
	if err := checkFlags(c.Flags); err != nil {
		return err
	}
	r := table[c.Name]
	if r.Validate != nil {
		if err := r.Validate(c); err != nil {
			return err
		}
	}
	if r.Run == nil {
		return setting.Errorf("name", "this program was built without the clients of clouds, which %s needs; build it with: go build -tags "+
			"cloud", c.Name)
	}
	return nil
}

func (c Config) noProgress() time.Duration {
	return time.Duration(c.NoProgressMinutes * float64(time.Minute))
}

// Run executes the pipeline and waits for it. The result carries the counters of every stage, also when err is not nil and
// the runner could still give them. When the context ends, or nothing moves for too long (*StalledError), the job is
// cancelled; the work that was done stays in its files. Models that its stages have acquired in this process are released.
func Run(ctx context.Context, p *beam.Pipeline, c Config) (beam.PipelineResult, error) {
	if err := setting.Check(c); err != nil {
		return nil, err
	}
	if err := setFlags(c.Flags); err != nil {
		return nil, err
	}
	quietBeam()
	headroom()
	ctx, end := models.Scope(ctx)
	defer end()
	result, err := table[c.Name].Run(ctx, p, c)
	if err != nil && ctx.Err() != nil {
		var stalled *StalledError
		if !errors.As(err, &stalled) {
			err = ctx.Err()
		}
	}
	return result, err
}

// Translation is a pipeline as a service would be given it.
type Translation struct {
	Name     string           `json:"name"`  // of the job
	Job      any              `json:"job"`   // the request of the service's API
	Pipeline *pipepb.Pipeline `json:"-"`     // the pipeline in Beam's portable form
	Steps    []string         `json:"steps"` // its transforms that run code or shuffle, in order
}

// Translate shows the job that the runner would submit.
func Translate(ctx context.Context, p *beam.Pipeline, c Config) (Translation, error) {
	if err := setting.Check(c); err != nil {
		return Translation{}, err
	}
	translate := table[c.Name].Translate
	if translate == nil {
		return Translation{}, fmt.Errorf("runner %s submits no job that could be shown", c.Name)
	}
	return translate(ctx, p, c)
}
