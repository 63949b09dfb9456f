// Package runners executes Beam pipelines: prism, embedded in this process, by default; others by name.
//
// A runner is one file: its options, their validation, and its Run function, entered in the table below.
package runners

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

// Config chooses the runner and holds the options of each.
type Config struct {
	Name string `json:"name"` // prism
}

// Default is the embedded runner.
func Default() Config { return Config{Name: "prism"} }

type runFunc func(ctx context.Context, p *beam.Pipeline, c Config) (beam.PipelineResult, error)

var table = map[string]runFunc{
	"prism": runPrism,
}

// Names lists the runners, sorted.
func Names() []string {
	names := make([]string, 0, len(table))
	for name := range table {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Validate names the first setting that is wrong.
func (c Config) Validate() error {
	if _, ok := table[c.Name]; !ok {
		return fmt.Errorf("name: %q is not a runner; known: %s", c.Name, strings.Join(Names(), ", "))
	}
	return nil
}

// Run executes the pipeline and waits for it. The result carries the counters of every stage, also when err is not nil and
// the runner could still give them. A context that ends makes Run return early; the work is then left to be redone.
func Run(ctx context.Context, p *beam.Pipeline, c Config) (beam.PipelineResult, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	type outcome struct {
		result beam.PipelineResult
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		result, err := table[c.Name](ctx, p, c)
		done <- outcome{result, err}
	}()
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
