package run

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// ForkName is the file of a run that began as another one did.
const ForkName = "fork.json"

// Forked says from where a run was forked. Its iterations up to that one are the other run's, byte for byte.
type Forked struct {
	Run       string          `json:"run"`
	Iteration int             `json:"iteration"` // the last that both have
	Manifest  string          `json:"manifest"`  // digest of that one's
	Identity  string          `json:"identity"`  // digest of what of the new recipe decides what is computed
	Changes   []recipe.Change `json:"changes"`   // of settings
	Fresh     bool            `json:"fresh_optimizer,omitempty"`
	// Drawn is how many prompts each of the iterations that both have has taken from the source: where it goes on from. Iterations that
	// say themselves where they ended (ledger.json) are not asked for it.
	Drawn []int `json:"drawn"`
}

// First is where in its source an iteration begins, each taking so many prompts: after those that the iterations before it have taken,
// of which a fork may have some from a run that took another number.
func (run *Dir) First(ctx context.Context, iteration, count int) (int, error) {
	f, err := run.ReadFork(ctx)
	if err != nil || f == nil {
		return iteration * count, err
	}
	first := 0
	for i := range iteration {
		if i < len(f.Drawn) {
			first += f.Drawn[i]
		} else {
			first += count
		}
	}
	return first, nil
}

// ReadFork says from where a run was forked; nil where it was not.
func (run *Dir) ReadFork(ctx context.Context) (*Forked, error) {
	return readState[Forked](ctx, files.Join(run.Path, ForkName))
}

// forkedAt reports whether an iteration is the last that a run has from another, so that it goes on with a recipe of its own.
func (run *Dir) forkedAt(ctx context.Context, iteration int, config []byte) (bool, error) {
	f, err := run.ReadFork(ctx)
	return f != nil && f.Iteration == iteration && f.Identity == commit.Digest(recipe.Identity(config)), err
}

// Fork begins a run in a directory that has the iterations of this one up to at, and goes on with another configuration. With fresh it
// goes on with optimizers that know nothing of before. The configuration is written last: without it there is no run, and the same call
// again completes it.
func (run *Dir) Fork(ctx context.Context, at int, to string, config []byte, fresh bool) (Forked, error) {
	_, at, err := run.Iteration(ctx, at)
	if err != nil {
		return Forked{}, err
	}
	to, err = runPath(to)
	if err != nil {
		return Forked{}, err
	}
	inside := func(a, b string) bool { return strings.HasPrefix(files.Resolved(a)+"/", files.Resolved(b)+"/") }
	if inside(to, run.Path) || inside(run.Path, to) {
		return Forked{}, setting.Errorf("out", "of %s and the run %s one lies in the other, and is removed with it; name a directory "+
			"beside the run", to, run.Path)
	}
	_, digest, err := run.ReadManifest(ctx, at)
	if err != nil {
		return Forked{}, err
	}
	there, err := files.Read(ctx, files.Join(to, recipe.ConfigName), MaxStateBytes)
	switch {
	case err == nil:
		before, err := (&Dir{Path: to}).ReadFork(ctx)
		same := before != nil && before.Run == run.Path && before.Manifest == digest && before.Fresh == fresh
		if err == nil && same && bytes.Equal(there, config) {
			return *before, nil // a call that ended without having said so
		}
		return Forked{}, errors.Join(err, setting.Errorf("out", "%s holds a run already; name another directory", to))
	case !errors.Is(err, fs.ErrNotExist):
		return Forked{}, err
	}
	if err := empty(ctx, to); err != nil {
		return Forked{}, err
	}
	done, err := run.Committed(ctx)
	if err != nil {
		return Forked{}, err
	}
	if err := run.Verify(ctx, done[:at+1]); err != nil {
		return Forked{}, err
	}
	if err := run.hasAll(ctx, at, fresh); err != nil {
		return Forked{}, err
	}
	old, err := files.Read(ctx, files.Join(run.Path, recipe.ConfigName), MaxStateBytes)
	if err != nil {
		return Forked{}, err
	}
	d, ctx, err := Open(ctx, to)
	if err != nil {
		return Forked{}, err
	}
	defer d.Close()
	if err := files.RemoveTemporary(to); err != nil { // of a call that died
		return Forked{}, err
	}
	f := Forked{Run: run.Path, Iteration: at, Manifest: digest, Identity: commit.Digest(recipe.Identity(config)),
		Changes: recipe.Changes(old, config), Fresh: fresh}
	if f.Drawn, err = run.drawn(ctx, at); err != nil {
		return f, err
	}
	if before, err := d.ReadFork(ctx); err != nil || before != nil && (before.Run != f.Run || before.Manifest != f.Manifest) {
		return f, errors.Join(err, setting.Errorf("out", "%s holds a part of another fork; remove it, or name another directory", to))
	}
	if err := writeState(ctx, files.Join(to, ForkName), f, true); err != nil {
		return f, err
	}
	if err := run.bring(ctx, at, d); err != nil {
		return f, err
	}
	if err := d.Verify(ctx, done[:at+1]); err != nil { // the run may have gone on, and made room
		return f, err
	}
	if err := d.hasAll(ctx, at, fresh); err != nil {
		return f, err
	}
	if fresh {
		if err := d.forget(ctx, at); err != nil {
			return f, err
		}
	}
	return f, files.Write(ctx, files.Join(to, recipe.ConfigName), config, true)
}

// empty looks whether a directory holds nothing yet, or what a fork into it that died has left.
func empty(ctx context.Context, to string) error {
	listed, err := files.Below(ctx, to)
	if err != nil {
		return err
	}
	begun := slices.ContainsFunc(listed, func(f files.Info) bool { return f.Name == ForkName })
	for _, f := range listed {
		if top, _, below := strings.Cut(f.Name, "/"); !(begun && written(top, below)) && f.Name != files.LockName && !files.IsTemporary(top) {
			return setting.Errorf("out", "%s holds %s already; name a new directory", to, top)
		}
	}
	return nil
}

// goesOnFrom are the iterations whose models the one after at goes on from: at, and the one whose refresh left the reward model that
// serves.
func (run *Dir) goesOnFrom(ctx context.Context, at int) ([]int, error) {
	serving, err := run.Serving(ctx, at+1)
	if err != nil || serving < 0 || serving == at {
		return []int{at}, err
	}
	return []int{at, serving}, nil
}

// hasAll looks whether an iteration, and the one whose refresh left the reward model that serves after it, still have what a fork goes
// on from: their models and, unless it begins with fresh optimizers, the states of these.
func (run *Dir) hasAll(ctx context.Context, at int, fresh bool) error {
	from, err := run.goesOnFrom(ctx, at)
	if err != nil {
		return err
	}
	for _, i := range from {
		removed, err := commit.Removed(ctx, run.IterPath(i))
		if err != nil {
			return err
		}
		slices.Reverse(removed) // names of models come after those of states; without them fresh optimizers are no way out
		for _, name := range removed {
			switch path := files.Join(run.IterPath(i), name); {
			case i != at && !strings.HasSuffix(name, chain.RewardRole):
			case IsModel(name):
				return setting.In("at", &commit.RemovedError{Path: path})
			case IsState(name) && !fresh:
				return setting.Errorf("at", "%v; or go on without it: --optimizer fresh", &commit.RemovedError{Path: path})
			}
		}
	}
	return nil
}

// drawn is how many prompts the iterations up to at have taken, each.
func (run *Dir) drawn(ctx context.Context, at int) ([]int, error) {
	r, err := run.Recipe(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]int, at+1)
	for i := range out {
		out[i] = r.Prompts.Count
	}
	f, err := run.ReadFork(ctx)
	if f != nil {
		copy(out, f.Drawn)
	}
	return out, err
}

// bring copies what a fork has of this run: the models that it started from, and its iterations, the manifest of each last.
func (run *Dir) bring(ctx context.Context, at int, to *Dir) error {
	listed, err := files.Below(ctx, run.Path)
	if err != nil {
		return err
	}
	wanted := func(name string) bool {
		top, _, below := strings.Cut(name, "/")
		if m := iterPattern.FindStringSubmatch(top); m != nil {
			n, err := strconv.Atoi(m[1])
			return err == nil && n <= at && !strings.HasPrefix(name, top+"/"+chain.WorkName+"/")
		}
		return below && strings.HasPrefix(top, chain.StartPrefix)
	}
	for _, last := range []bool{false, true} {
		for _, f := range listed {
			if !wanted(f.Name) || last != (files.Base(f.Name) == commit.ManifestName) {
				continue
			}
			if err := bringFile(ctx, f, files.Join(to.Path, f.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// bringFile copies a file, or gives it a second name where both lie on one disk: what is committed does not change any more, and what
// replaces a file is renamed over it.
func bringFile(ctx context.Context, from files.Info, to string) error {
	if there, err := files.Stat(ctx, to); err == nil && there.Size == from.Size {
		return nil
	}
	if !files.IsURL(to) && !files.IsURL(from.Path) {
		if err := files.MakeDirectory(files.Parent(to)); err != nil {
			return err
		}
		if os.Link(from.Path, to) == nil {
			return nil
		}
	}
	in, err := files.Open(ctx, from.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	return files.WriteFrom(ctx, to, in, true)
}

// forget takes the states of optimizers out of an iteration, and out of the one whose refresh left the reward model that serves.
func (run *Dir) forget(ctx context.Context, at int) error {
	from, err := run.goesOnFrom(ctx, at)
	if err != nil {
		return err
	}
	for _, i := range from {
		m, _, err := run.ReadManifest(ctx, i)
		if err != nil {
			return err
		}
		var folders []string
		for name := range m.Files {
			if top, _, below := strings.Cut(name, "/"); below && IsState(top) {
				folders = append(folders, top)
			}
		}
		if err := commit.Remove(ctx, run.IterPath(i), folders...); err != nil {
			return err
		}
	}
	return nil
}
