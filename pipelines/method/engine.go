package method

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/models"
	"github.com/millrace/millrace/models/remote"
	"github.com/millrace/millrace/models/transformer"
	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/progress"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/rollout"
)

// engine is what is known of the server that samples: which weights this process has given it.
type engine struct {
	given   bool
	version int
	name    string // under which an adapter is there
}

// give gives the engine the weights that an iteration samples with, and makes it the iteration's sampler.
func (e *engine) give(ctx context.Context, b base, d *run.Dir, it *chain.Iteration) error {
	c := *b.r.Rollout.Engine
	it.Version = c.Version(it.Number)
	policy, err := e.weights(ctx, b, d, it)
	if err != nil {
		return err
	}
	if !e.given || e.version != it.Version {
		if err := e.reload(ctx, c, policy, d.Path, it.Version); err != nil {
			return setting.Errorf("rollout.engine", "iteration %d: the server did not take the weights of %s: %v", it.Number, policy.Path, err)
		}
		e.given, e.version = true, it.Version
	}
	at, err := remote.Asking(c.Path, e.name, policy.Path)
	if err != nil {
		return setting.Errorf("rollout.engine.path", "%v", err)
	}
	it.Sampler, err = chain.Open(ctx, recipe.Model{Path: at}, "", 0)
	return err
}

// weights are those of the version: the iteration's policy, or what an earlier iteration started with.
func (e *engine) weights(ctx context.Context, b base, d *run.Dir, it *chain.Iteration) (models.Ref, error) {
	switch it.Version {
	case it.Number:
		return it.Policy, nil
	case 0:
		return StartPolicy(ctx, b.r, d.Path)
	}
	return chain.Committed(ctx, b.r.Policy, d.IterPath(it.Version-1), chain.PolicyRole)
}

// reload gives a server weights in its way.
func (e *engine) reload(ctx context.Context, c rollout.Engine, policy models.Ref, dir string, version int) error {
	if files.IsURL(policy.Path) && c.Reload != rollout.ReloadNone {
		return errors.New("a run in a bucket has no directory that a server could read")
	}
	dirOf, err := filepath.Abs(policy.Path)
	if err != nil {
		return err
	}
	of := "millrace-" + commit.Digest([]byte(dir))[:12] // other runs may have theirs beside
	name := fmt.Sprintf("%s-%d-%s", of, version, commit.Digest([]byte(policy.Identity()))[:12])
	if c.Shared != "" {
		if dirOf, err = share(ctx, c.Shared, dirOf, of, name); err != nil {
			return err
		}
	}
	start := time.Now()
	switch c.Reload {
	case rollout.ReloadNone:
		return nil
	case rollout.ReloadCommand:
		command := exec.CommandContext(ctx, c.Command[0], slices.Concat(c.Command[1:], []string{dirOf, strconv.Itoa(version)})...)
		said, err := command.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %.400s", c.Command[0], err, strings.TrimSpace(string(said)))
		}
	case remote.ReloadLoRA:
		before := e.name
		if e.name = ""; transformer.IsAdapter(dirOf) {
			if err := remote.LoadAdapter(ctx, c.Path, name, dirOf, remote.Options{}); err != nil {
				return err
			}
			e.name = name
		} else if version > 0 {
			return errors.New("it is no adapter, and reload lora gives adapters; set update.lora (without merge), or reload: disk")
		}
		if before != "" && before != e.name { // what is left there costs memory, and nothing else
			_ = remote.UnloadAdapter(ctx, c.Path, before, remote.Options{Attempts: 1})
		}
	case remote.ReloadDisk:
		if err := remote.LoadWeights(ctx, c.Path, dirOf, remote.Options{}); err != nil {
			return err
		}
		served, err := remote.Serves(ctx, c.Path, remote.Options{})
		if err != nil {
			return err
		}
		if served != "" && served != policy.Identity() {
			return fmt.Errorf("it serves weights %.12s after it was given %.12s", served, policy.Identity())
		}
	}
	progress.From(ctx).Note("iteration %d: the engine has the policy of %s (%.1f s)", version, filepath.Base(filepath.Dir(policy.Path)),
		time.Since(start).Seconds())
	return nil
}

// share copies a model to where the server sees it, and removes what was copied before. The copy appears as a whole.
func share(ctx context.Context, shared, dir, of, name string) (string, error) {
	out := filepath.Join(shared, name)
	if _, err := os.Stat(out); err == nil {
		return filepath.Abs(out)
	}
	err := files.WriteDirectory(ctx, out, nil, func(local string) error { return os.CopyFS(local, os.DirFS(dir)) })
	if err != nil {
		return "", err
	}
	old, err := filepath.Glob(filepath.Join(shared, of+"-*"))
	if err != nil {
		return "", err
	}
	slices.SortFunc(old, func(a, b string) int { return age(a).Compare(age(b)) })
	for _, path := range old[:max(0, len(old)-2)] { // the last but one may still be read
		if path != out {
			if err := os.RemoveAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	return filepath.Abs(out)
}

func age(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
