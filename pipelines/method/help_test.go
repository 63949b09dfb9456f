package method_test

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/recipes"
	"github.com/millrace/millrace/pipelines/run"
)

// parse reads the text of a recipe and checks it as a run would.
func parse(raw []byte, sets []string) (recipe.Recipe, error) {
	r, err := recipe.Parse(raw, sets)
	if err == nil {
		_, err = method.New(r)
	}
	return r, err
}

// open is parse for a recipe that comes with the program.
func open(ctx context.Context, name string, sets []string) (recipe.Recipe, error) {
	r, err := recipes.Open(ctx, name, sets)
	if err == nil {
		_, err = method.New(r)
	}
	return r, err
}

// iterate runs a recipe.
func iterate(ctx context.Context, r recipe.Recipe, show progress.Run) error {
	m, err := method.New(r)
	if err != nil {
		return err
	}
	return method.Run(ctx, m, show)
}

func measurementsOf(ctx context.Context, dir string) ([]run.Measurement, error) {
	m, err := (&run.Dir{Path: dir}).ReadMeasurements(ctx)
	if err == nil && len(m) == 0 {
		err = fmt.Errorf("%s holds no committed iteration", dir)
	}
	return m, err
}

// written draws a new model and writes it to a directory.
func written(ctx context.Context, m recipe.Model, dir string, seed uint64) error {
	_, err := chain.Open(ctx, m, dir, seed)
	return err
}
