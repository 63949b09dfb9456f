package run

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/pipelines/commit"
)

// InputError says that a run would go on with another input than it began with. Then is empty for a file that was not among them, Now
// for one that no longer is.
type InputError struct {
	Setting   string
	Then, Now commit.Input
	Iteration int // the last one that was computed with the former
}

func (e *InputError) Error() string {
	what := fmt.Sprintf("%s has changed", e.Now.Path)
	switch {
	case e.Then.Digest == "":
		return fmt.Sprintf("%s: %s was not there in iteration %d; a run goes on with the files that it began with. Take it away, or use "+
			"another run directory", e.Setting, e.Now.Path, e.Iteration)
	case e.Now.Digest == "":
		return fmt.Sprintf("%s: %s is gone since iteration %d; a run goes on with the files that it began with. Restore it, or use "+
			"another run directory", e.Setting, e.Then.Path, e.Iteration)
	case e.Then.Path != e.Now.Path:
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
	if forked, err := all.forkedAt(ctx, last, all.Config); err != nil || forked {
		return err
	}
	return changed(m.Inputs, all.inputs, last)
}

// changed looks for an input that is another one than it was. A setting may name several files, which are the same ones then: its
// inputs are called by it and, after a space, by the file. A setting that is named on one side alone is a change of the recipe.
func changed(then, now map[string]commit.Input, last int) error {
	names := map[string]bool{}
	settings := [2]map[string]bool{{}, {}}
	for i, side := range [...]map[string]commit.Input{then, now} {
		for name := range side {
			names[name] = true
			settings[i][settingOf(name)] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if s := settingOf(name); then[name].Digest != now[name].Digest && settings[0][s] && settings[1][s] {
			return &InputError{Setting: s, Then: then[name], Now: now[name], Iteration: last}
		}
	}
	return nil
}

func settingOf(input string) string {
	setting, _, _ := strings.Cut(input, " ")
	return setting
}
