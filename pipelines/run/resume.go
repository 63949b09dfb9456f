package run

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/pipelines/commit"
)

// InputError says that a run would go on with another input than it began with.
type InputError struct {
	Setting   string
	Then, Now commit.Input
	Iteration int // the last one that was computed with the former
}

func (e *InputError) Error() string {
	what := fmt.Sprintf("%s has changed", e.Now.Path)
	if e.Then.Path != e.Now.Path {
		what = fmt.Sprintf("%s is another one than %s", e.Now.Path, e.Then.Path)
	}
	return fmt.Sprintf("%s: %s since iteration %d: its digest was %.12s and is %.12s; a run goes on with what it began with. Restore it, or "+
		"use another run directory", e.Setting, what, e.Iteration, e.Then.Digest, e.Now.Digest)
}

// resume looks whether what is committed is as it was, and whether the run is given what it was given before.
func (all *iterations) resume(ctx context.Context, done []int) error {
	if len(done) > 0 {
		if err := all.Verify(ctx, done); err != nil {
			return err
		}
	}
	g, ok := all.method.(Giver)
	if !ok {
		return nil
	}
	var err error
	if all.inputs, err = g.Given(ctx); err != nil || len(done) == 0 {
		return err
	}
	last := done[len(done)-1]
	m, _, err := all.ReadManifest(ctx, last)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(m.Inputs)) {
		if now, ok := all.inputs[name]; ok && now.Digest != m.Inputs[name].Digest {
			return &InputError{Setting: name, Then: m.Inputs[name], Now: now, Iteration: last}
		}
	}
	return nil
}
