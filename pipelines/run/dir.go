// Package run is the directory of a run and what happens in it: iterations that are committed or done again, whatever they do. What
// they do is a Method.
package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/recipe"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
)

// Dir is the directory of one run. Files between iterations are its only state: an iteration is a function from a
// committed directory to a committed directory, and a manifest, written last, commits it.
type Dir struct {
	Path string
	lock files.Lock
}

// MaxStateBytes bounds the files that are read as a whole.
const MaxStateBytes = 64 << 20

// Open creates the directory if needed and locks it against other processes. What goes on in it goes on under the context
// that is returned, which ends if the lock is lost.
func Open(ctx context.Context, path string) (*Dir, context.Context, error) {
	path, err := runPath(path)
	if err != nil {
		return nil, nil, err
	}
	lock, ctx, err := files.AcquireLock(ctx, path)
	var locked *files.LockedError
	var unsupported *files.UnsupportedError
	switch {
	case errors.As(err, &unsupported):
		return nil, nil, setting.Errorf("run", "%v", err)
	case errors.As(err, &locked):
		return nil, nil, err
	case err != nil:
		return nil, nil, fmt.Errorf("run directory: %w", err)
	}
	if err := withoutLinks(path); err != nil {
		return nil, nil, errors.Join(err, lock.Release())
	}
	return &Dir{Path: path, lock: lock}, ctx, nil
}

// LinkError says that a run directory holds a symbolic link, which a run would write or remove through.
type LinkError struct{ Path string }

func (e *LinkError) Error() string {
	return fmt.Sprintf("%s is a symbolic link: a run writes and removes what is in its directory, and follows no link out of it; remove "+
		"the link, or put in its place what it leads to", e.Path)
}

// withoutLinks refuses a run directory with links in it; the directory itself may be one.
func withoutLinks(path string) error {
	if files.IsURL(path) {
		return nil
	}
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	return filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Type()&fs.ModeSymlink != 0:
			return &LinkError{at}
		}
		return nil
	})
}

// runPath is a run's directory as workers see it, which may run in another directory. A link to it is followed: what lists or removes a
// directory stops at a link.
func runPath(path string) (string, error) {
	at, err := files.Abs(path)
	if err != nil {
		return "", fmt.Errorf("run directory: %w", err)
	}
	if _, rest, ok := strings.Cut(at, "://"); ok && !strings.Contains(rest, "/") {
		return "", setting.Errorf("run", "%q is a whole bucket; want a directory in it, such as %s/run", path, at)
	}
	if info, err := os.Lstat(at); !files.IsURL(at) && err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if at, err = filepath.EvalSymlinks(at); err != nil {
			return "", fmt.Errorf("run directory: %w", err)
		}
	}
	return at, nil
}

// Close gives the lock back.
func (r *Dir) Close() error { return r.lock.Release() }

// IterPath is the directory of iteration i.
func (r *Dir) IterPath(i int) string { return files.Join(r.Path, fmt.Sprintf("iter-%05d", i)) }

var iterPattern = regexp.MustCompile(`^iter-(\d{5,9})$`)

// Committed lists the iterations that have a manifest, in order.
func (r *Dir) Committed(ctx context.Context) ([]int, error) {
	out, err := r.having(ctx, commit.ManifestName)
	if err != nil {
		return nil, err
	}
	for i, n := range out {
		if n != i {
			return nil, fmt.Errorf("run directory %s: iteration %d has no manifest but iteration %d has; restore iter-%05d or remove the later "+
				"ones", r.Path, i, n, i)
		}
	}
	return out, nil
}

// having lists the iterations whose directories have a file of that name, in order.
func (r *Dir) having(ctx context.Context, name string) ([]int, error) {
	found, err := files.ListIn(ctx, r.Path, "iter-*/"+name)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, path := range found {
		if m := iterPattern.FindStringSubmatch(files.Base(files.Parent(path))); m != nil {
			n, _ := strconv.Atoi(m[1])
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// ReadManifest reads and checks the manifest of iteration i, and gives its digest.
func (r *Dir) ReadManifest(ctx context.Context, i int) (commit.Manifest, string, error) {
	m, digest, err := commit.Read(ctx, r.IterPath(i))
	if err == nil && m.Iteration != i {
		err = fmt.Errorf("%s: is of iteration %d", files.Join(r.IterPath(i), commit.ManifestName), m.Iteration)
	}
	return m, digest, err
}

// Verify holds what is committed to its manifests before a run goes on with it: the manifests themselves, each of which names the one
// before, the last iteration as a whole, and of the others the records that are read again.
func (r *Dir) Verify(ctx context.Context, done []int) error {
	parent := ""
	for _, i := range done {
		m, digest, err := r.ReadManifest(ctx, i)
		if err != nil {
			return err
		}
		if m.Parent != parent {
			return &commit.ChangedError{Path: files.Join(r.IterPath(i-1), commit.ManifestName), Want: m.Parent, Got: parent}
		}
		parent = digest
		records := func(name string) bool {
			return strings.HasSuffix(name, ".jsonl") || strings.HasSuffix(name, ".json") && !strings.Contains(name, "/")
		}
		if i == done[len(done)-1] {
			records = nil
		}
		if err := m.Check(ctx, r.IterPath(i), records); err != nil {
			return err
		}
	}
	return nil
}

// Begin makes an uncommitted iteration directory ready: whatever an interrupted attempt left is removed, except the
// materialised edges, which are named by what produced them and so are good for the second attempt.
func (r *Dir) Begin(ctx context.Context, i int) (string, error) {
	dir := r.IterPath(i)
	if err := files.MakeDirectory(files.Join(dir, chain.WorkName)); err != nil {
		return "", err
	}
	return dir, files.RemoveAll(ctx, dir, chain.WorkName)
}

// Commit digests every file of the iteration, writes the manifest last, and then removes the work folder unless it is kept.
func (r *Dir) Commit(ctx context.Context, m commit.Manifest, keepExchange bool) error {
	dir := r.IterPath(m.Iteration)
	if err := commit.Write(ctx, dir, m, func() error { return r.lock.Check(ctx) }); err != nil {
		return fmt.Errorf("commit of iteration %d: %w", m.Iteration, err)
	}
	if !keepExchange {
		return files.RemoveAll(ctx, files.Join(dir, chain.WorkName))
	}
	return nil
}

// Tidy removes what a process that died has left: half-written files, and the work folders of committed iterations where it
// died between commit and removal. An uncommitted iteration is cleared by Begin.
func (r *Dir) Tidy(ctx context.Context) error {
	if err := files.RemoveTemporary(r.Path); err != nil {
		return err
	}
	done, err := r.Committed(ctx)
	if err != nil {
		return err
	}
	left := func(i int) error { return files.RemoveAll(ctx, files.Join(r.IterPath(i), chain.WorkName)) }
	if files.IsURL(r.Path) && len(done) > 0 { // a request for each; only the last can have been interrupted
		return left(done[len(done)-1])
	}
	for _, i := range done {
		if err := left(i); err != nil {
			return err
		}
	}
	return nil
}

// ConfigsName is the folder of configurations that a run had before it went on with another one, each by its digest.
const ConfigsName = "configs"

// WriteConfig stores the resolved recipe and says in what it differs from the one before. Once an iteration is committed, a later call
// must bring the recipe that it was computed with, but for settings that change nothing of that (recipe.Identity); before, another one
// takes its place. Fewer iterations than are committed are refused.
func (r *Dir) WriteConfig(ctx context.Context, raw []byte, iterations int, done []int) ([]recipe.Change, error) {
	path := files.Join(r.Path, recipe.ConfigName)
	old, err := files.Read(ctx, path, MaxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(done) > 0 {
		last := done[len(done)-1]
		m, _, err := r.ReadManifest(ctx, last)
		if err != nil {
			return nil, err
		}
		forked, err := r.forkedAt(ctx, last, raw)
		if err != nil {
			return nil, err
		}
		wasForked, err := r.forkedAt(ctx, last, old)
		if err != nil {
			return nil, err
		}
		switch {
		case (computedWith(m, raw) || forked) && iterations < len(done):
			return nil, setting.Errorf("iterations", "is %d, and %s has %d already; ask for more, or go on as it was asked to last: "+
				"`millrace run %s`", iterations, r.Path, len(done), path)
		case computedWith(m, raw), forked:
		case old != nil && !computedWith(m, old) && !wasForked:
			return nil, setting.Errorf("run", "%s was changed: iteration %d was computed with a recipe of digest %.12s, and this one has %.12s; "+
				"restore it, or use another directory", path, last, m.Config, commit.Digest(old))
		default:
			return nil, setting.Errorf("run", "%s was made with another recipe (first difference: %s); `millrace fork` begins a run with other "+
				"settings from it, another directory begins anew, and this one goes on with `millrace run %s`", r.Path,
				firstDifference(string(recipe.Identity(old)), string(recipe.Identity(raw))), path)
		}
	}
	if string(old) == string(raw) {
		return nil, nil
	}
	var changes []recipe.Change
	if len(done) > 0 && old != nil {
		changes = recipe.Changes(old, raw)
		if err := files.Write(ctx, files.Join(r.Path, ConfigsName, commit.Digest(old)[:16]+".yaml"), old, true); err != nil {
			return nil, err
		}
	}
	return changes, files.Write(ctx, path, raw, true)
}

// computedWith reports whether an iteration was computed with a configuration, but for settings that change nothing of it.
func computedWith(m commit.Manifest, raw []byte) bool {
	return m.Config == commit.Digest(raw) || m.Identity != "" && m.Identity == commit.Digest(recipe.Identity(raw))
}

func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range max(len(as), len(bs)) {
		var x, y string
		if i < len(as) {
			x = strings.TrimSpace(as[i])
		}
		if i < len(bs) {
			y = strings.TrimSpace(bs[i])
		}
		if x != y {
			return fmt.Sprintf("there %q, now %q", x, y)
		}
	}
	return "white space"
}
