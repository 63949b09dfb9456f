package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/prompts"
)

// Inputs are the models and files that a recipe names, programs of verifiers among them, with their digests. What lies in an iteration
// of another run is held to its manifest. An endpoint has no digest.
func Inputs(ctx context.Context, r recipe.Recipe) (map[string]commit.Input, error) {
	out := map[string]commit.Input{}
	for _, p := range places(r) {
		m := p.model
		if m.Path == "" || m.New != nil || m.Remote() {
			continue
		}
		at, err := files.Abs(m.Path)
		if err != nil {
			return nil, setting.Errorf(p.path+".path", "%v", err)
		}
		if err := commit.CheckPath(ctx, at); err != nil {
			return nil, setting.Errorf(p.path+".path", "%v", err)
		}
		ref, err := models.Identify(ctx, models.Ref{Path: at})
		if err != nil {
			return nil, setting.Errorf(p.path+".path", "%v", err)
		}
		out[p.path+".path"] = commit.Input{Path: m.Path, Digest: ref.Digest}
	}
	if err := addSource(ctx, out, "prompts", r.Prompts); err != nil {
		return nil, err
	}
	for i, s := range r.Evaluate.Sets {
		if s.Source != nil && r.Measures() {
			if err := addSource(ctx, out, fmt.Sprintf("evaluate.sets[%d].prompts", i), *s.Source); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range programs(r) {
		of, err := p.files()
		if err != nil {
			return nil, err
		}
		for _, path := range of {
			if err := addFile(ctx, out, p.path, path); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// addSource adds the files of a source.
func addSource(ctx context.Context, to map[string]commit.Input, at string, c prompts.Config) error {
	paths, err := c.Paths(ctx)
	if err != nil {
		return setting.In(at, err)
	}
	for _, path := range paths {
		if err := addFile(ctx, to, at+"."+c.Source, path); err != nil {
			return err
		}
	}
	return nil
}

// addFile adds a file that a setting names, perhaps among others.
func addFile(ctx context.Context, to map[string]commit.Input, at, path string) error {
	info, err := files.Stat(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return setting.Errorf(at, "%s: there is no such file", path)
	}
	if err != nil {
		return setting.Errorf(at, "%v", err)
	}
	digest, err := files.Digest(ctx, info)
	if err != nil {
		return setting.Errorf(at, "%v", err)
	}
	to[at+" "+path] = commit.Input{Path: path, Digest: digest}
	return nil
}
