package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// NotARunError says that a directory does not hold a run.
type NotARunError struct{ Path, Why string }

func (e *NotARunError) Error() string {
	return fmt.Sprintf("%s is not a run directory: %s", e.Path, e.Why)
}

// Read opens the directory of a run for reading. It takes no lock, so a run can be looked at while it goes on; what it
// has committed does not change any more.
func Read(ctx context.Context, path string) (*Dir, error) {
	path, err := runPath(path)
	if err != nil {
		return nil, err
	}
	if _, err := files.Stat(ctx, files.Join(path, recipe.ConfigName)); err != nil {
		if files.IsURL(path) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		why := err.Error()
		if errors.Is(err, fs.ErrNotExist) {
			why = "it has no " + recipe.ConfigName
		}
		return nil, &NotARunError{Path: path, Why: why}
	}
	return &Dir{Path: path}, nil
}

// Iteration is the directory of a committed iteration; number < 0 means the last one.
func (r *Dir) Iteration(ctx context.Context, number int) (dir string, at int, err error) {
	done, err := r.Committed(ctx)
	if err != nil {
		return "", 0, err
	}
	switch {
	case len(done) == 0:
		return "", 0, fmt.Errorf("run %s has not committed an iteration yet", r.Path)
	case number < 0:
		number = len(done) - 1
	case number >= len(done):
		return "", 0, setting.Errorf("iteration", "%s has committed %d iterations, from 0; there is no iteration %d", r.Path, len(done), number)
	}
	return r.IterPath(number), number, nil
}

// Begun is Iteration, or the one after the last committed where that is asked for: what it has written so far tells why it failed.
func (r *Dir) Begun(ctx context.Context, number int) (dir string, err error) {
	done, err := r.Committed(ctx)
	if err != nil {
		return "", err
	}
	if number == len(done) {
		return r.IterPath(number), nil
	}
	dir, _, err = r.Iteration(ctx, number)
	return dir, err
}

// LastWith is the last iteration, one that is begun and not committed among them, that has rows of that name; ok is false where none has.
func (r *Dir) LastWith(ctx context.Context, name string) (at int, ok bool, err error) {
	done, err := r.Committed(ctx)
	if err != nil {
		return 0, false, err
	}
	for i := len(done); i >= 0; i-- {
		if found, err := RowFiles(ctx, r.IterPath(i), name); err != nil || len(found) > 0 {
			return i, true, err
		}
	}
	return 0, false, nil
}

// Recipe is the recipe the run was made with. It goes on in the same directory.
func (r *Dir) Recipe(ctx context.Context, sets ...string) (recipe.Recipe, error) {
	path := files.Join(r.Path, recipe.ConfigName)
	if err := r.checkConfig(ctx, path); err != nil {
		return recipe.Recipe{}, err
	}
	return recipe.Load(ctx, path, sets)
}

// checkConfig holds config.yaml to the manifest of the last iteration.
func (r *Dir) checkConfig(ctx context.Context, path string) error {
	done, err := r.Committed(ctx)
	if err != nil || len(done) == 0 {
		return err
	}
	m, _, err := r.ReadManifest(ctx, done[len(done)-1])
	if err != nil {
		return err
	}
	raw, err := files.Read(ctx, path, MaxStateBytes)
	if err != nil {
		return err
	}
	if forked, err := r.forkedAt(ctx, done[len(done)-1], raw); err != nil || forked {
		return err
	}
	if !computedWith(m, raw) {
		return &commit.ChangedError{Path: path, Want: m.Config, Got: commit.Digest(raw)}
	}
	return nil
}

// RowFiles are the files of rows of that name in a directory, in order. Those of a committed iteration are held to its manifest.
func RowFiles(ctx context.Context, dir, name string) ([]string, error) {
	found, err := files.ListIn(ctx, dir, name+"-*.parquet")
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	return found, commit.CheckFiles(ctx, dir, func(file string) bool {
		return strings.HasPrefix(file, name+"-") && strings.HasSuffix(file, ".parquet") && !strings.Contains(file, "/")
	})
}

// Inside lists the runs that lie directly in a directory, such as those of a quickstart.
func Inside(ctx context.Context, dir string) []string {
	found, err := files.ListIn(ctx, dir, "*/"+recipe.ConfigName)
	if err != nil {
		return nil
	}
	var out []string
	for _, path := range found {
		out = append(out, files.Parent(path))
	}
	slices.Sort(out)
	return out
}
