package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/transforms/files"
)

// Removal is what goes of an iteration.
type Removal struct {
	Iteration int      `json:"iteration"`
	Folders   []string `json:"folders"`
	Bytes     int64    `json:"bytes"`
}

// ToRemove lists what a run need not keep when so many iterations are done: models of iterations that keep says nothing of, and states
// of optimizers of all but the last. The reward model that serves, of a refresh on a schedule, stays with its state.
func (run *Dir) ToRemove(ctx context.Context, keep recipe.Keep, done, best int) ([]Removal, error) {
	serving, err := run.Serving(ctx, done)
	if err != nil {
		return nil, err
	}
	bases, err := run.bases(ctx, keep, done, best, serving)
	if err != nil {
		return nil, err
	}
	var out []Removal
	for i := range done - 1 {
		dir := run.IterPath(i)
		listed, err := files.Below(ctx, dir)
		if err != nil {
			return nil, err
		}
		bytes := map[string]int64{}
		var order []string
		for _, f := range listed {
			folder, _, below := strings.Cut(f.Name, "/")
			if !below || !IsModel(folder) && !IsState(folder) || stays(folder, i, keep, done, best, serving) ||
				bases[files.Resolved(files.Join(dir, folder))] {
				continue
			}
			if _, ok := bytes[folder]; !ok {
				order = append(order, folder)
			}
			bytes[folder] += f.Size
		}
		r := Removal{Iteration: i, Folders: order}
		for _, n := range bytes {
			r.Bytes += n
		}
		if len(order) > 0 {
			out = append(out, r)
		}
	}
	return out, nil
}

// stays reports whether a folder of an iteration stays for its own sake.
func stays(folder string, i int, keep recipe.Keep, done, best, serving int) bool {
	return i == serving && strings.HasSuffix(folder, chain.RewardRole) || IsModel(folder) && keep.Keeps(i, done, best)
}

// bases are the models that adapters which stay belong to: without them these are nothing. The first refresh of a reward model without
// a path begins with the policy of an iteration, and its adapters belong to that one ever after.
func (run *Dir) bases(ctx context.Context, keep recipe.Keep, done, best, serving int) (map[string]bool, error) {
	out := map[string]bool{}
	for i := range done {
		for _, role := range []string{chain.PolicyRole, chain.RewardRole, chain.ReviserRole} {
			if i < done-1 && !stays(role, i, keep, done, best, serving) {
				continue
			}
			path := files.Join(run.IterPath(i), role, "adapter_config.json")
			raw, err := files.Read(ctx, path, MaxStateBytes)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			var c struct {
				Base string `json:"base_model_name_or_path"`
			}
			if err == nil {
				err = json.Unmarshal(raw, &c)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			out[files.Resolved(c.Base)] = true
			// Of a fork, or a run that was moved, the same iteration's here is found in its place.
			near := files.Join(run.Path, files.Base(files.Parent(c.Base)), files.Base(c.Base))
			if _, err := files.Stat(ctx, files.Join(near, "adapter_config.json")); errors.Is(err, fs.ErrNotExist) { // adapters are no base
				out[files.Resolved(near)] = true
			}
		}
	}
	return out, nil
}

// Remove takes folders out of iterations.
func (run *Dir) Remove(ctx context.Context, of []Removal) error {
	for _, r := range of {
		if err := commit.Remove(ctx, run.IterPath(r.Iteration), r.Folders...); err != nil {
			return err
		}
	}
	return nil
}

// IsModel reports whether a folder of an iteration is a model that it left.
func IsModel(folder string) bool {
	return folder == chain.PolicyRole || folder == chain.RewardRole || folder == chain.ReviserRole
}

// IsState reports whether a folder of an iteration is the state of an optimizer.
func IsState(folder string) bool { return strings.HasPrefix(folder, "optimizer-") }

// retain makes room after a commit, as section keep says.
func (all *iterations) retain(ctx context.Context, done int) error {
	if all.Retain == nil {
		return nil
	}
	best := -1
	if all.best.Measured > 0 {
		best = all.best.Iteration
	}
	of, err := all.ToRemove(ctx, *all.Retain, done, best)
	if err != nil {
		return err
	}
	return all.Remove(ctx, of)
}

// ended ends removals that a process which died has begun.
func (run *Dir) ended(ctx context.Context, done []int) error {
	for _, i := range done {
		removed, err := commit.Removed(ctx, run.IterPath(i))
		if err != nil {
			return err
		}
		if len(removed) > 0 {
			if err := commit.Remove(ctx, run.IterPath(i)); err != nil {
				return err
			}
		}
	}
	return nil
}
