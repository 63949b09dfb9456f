package command

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/preflight"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/runners"
)

// recipeFlags are the flags of the commands that open a recipe. Each stands for a setting of the recipe.
type recipeFlags struct {
	given map[string]*string // by setting
	sets  []string
}

func (f *recipeFlags) register(c *cobra.Command) {
	f.given = map[string]*string{}
	for _, s := range []struct{ flag, setting, usage string }{
		{"runner", "runner.name", "runner of the pipelines: " + strings.Join(runners.Names(), ", ")},
		{"log-level", "telemetry.log.level", "least level of log lines on standard error: debug, info, warn, error, off"},
		{"log-format", "telemetry.log.format", "log lines on standard error as text or json"},
		{"metrics-listen", "telemetry.metrics.listen", "serve Prometheus metrics at this host:port"},
		{"traces", "telemetry.traces", "send OpenTelemetry spans, true or false; OTEL_* variables say where to"},
	} {
		f.given[s.setting] = c.Flags().String(s.flag, "", s.usage+" ("+s.setting+")")
	}
	c.Flag("traces").NoOptDefVal = "true"
	c.Flags().StringArrayVar(&f.sets, "set", nil, "override a setting, path=value; may be repeated")
}

// open reads the recipe of that name, or file, with what the flags say.
func (f *recipeFlags) open(ctx context.Context, name string) (recipe.Recipe, error) {
	return recipes.Open(ctx, name, f.all())
}

// all are the settings that the flags give.
func (f *recipeFlags) all() []string {
	sets := slices.Clone(f.sets)
	for _, setting := range sortedNames(f.given) {
		if value := *f.given[setting]; value != "" {
			sets = append(sets, setting+"="+value)
		}
	}
	return sets
}

// method makes the method of the recipe of that name, or file.
func (f *recipeFlags) method(ctx context.Context, name string) (method.Method, error) {
	r, err := f.open(ctx, name)
	if err != nil {
		return nil, err
	}
	m, err := method.New(r)
	return m, recipe.From(err, name)
}

// lookedAt opens what a recipe names, before a run directory is made for it. The notes are what people should know of it.
func lookedAt(ctx context.Context, m method.Method, name string) (notes []string, err error) {
	phases, err := m.Phases()
	if err != nil {
		return nil, err
	}
	found, err := preflight.Look(ctx, m.Recipe(), phases[0].Chain.Nodes, recipes.MakerOf)
	return found.Notes, recipe.From(err, name)
}
