// Package run is the directory of a run and what happens in it: iterations that are committed or done again, whatever they do. What
// they do is a Method.
package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/pipelines/chain"
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

// Manifest commits an iteration: what it was made from and the digest of every file it left.
type Manifest struct {
	Schema    int               `json:"schema"`
	Iteration int               `json:"iteration"`
	Seed      uint64            `json:"seed"`
	Config    string            `json:"config"` // digest of the resolved recipe
	Parent    string            `json:"parent"` // digest of the previous manifest, empty for the first
	Files     map[string]string `json:"files"`  // path inside the iteration, to sha256
	Metrics   json.RawMessage   `json:"metrics,omitempty"`
}

const (
	manifestSchema = 1
	manifestName   = "manifest.json"
	// MaxStateBytes bounds the files that are read as a whole.
	MaxStateBytes = 64 << 20
)

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
	return &Dir{Path: path, lock: lock}, ctx, nil
}

// runPath is a run's directory as workers see it, which may run in another directory.
func runPath(path string) (string, error) {
	at, err := files.Abs(path)
	if err != nil {
		return "", fmt.Errorf("run directory: %w", err)
	}
	if _, rest, ok := strings.Cut(at, "://"); ok && !strings.Contains(rest, "/") {
		return "", setting.Errorf("run", "%q is a whole bucket; want a directory in it, such as %s/run", path, at)
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
	manifests, err := files.ListIn(ctx, r.Path, "iter-*/"+manifestName)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, path := range manifests {
		if m := iterPattern.FindStringSubmatch(files.Base(files.Parent(path))); m != nil {
			n, _ := strconv.Atoi(m[1])
			out = append(out, n)
		}
	}
	slices.Sort(out)
	for i, n := range out {
		if n != i {
			return nil, fmt.Errorf("run directory %s: iteration %d has no manifest but iteration %d has; restore iter-%05d or remove the later "+
				"ones", r.Path, i, n, i)
		}
	}
	return out, nil
}

// ReadManifest reads the manifest of iteration i.
func (r *Dir) ReadManifest(ctx context.Context, i int) (Manifest, string, error) {
	path := files.Join(r.IterPath(i), manifestName)
	raw, err := files.Read(ctx, path, MaxStateBytes)
	if err != nil {
		return Manifest{}, "", err
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return Manifest{}, "", fmt.Errorf("%s: %w", path, err)
	}
	if m.Schema != manifestSchema {
		return Manifest{}, "", fmt.Errorf("%s: schema %d, this program reads %d", path, m.Schema, manifestSchema)
	}
	return m, Digest(raw), nil
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
func (r *Dir) Commit(ctx context.Context, m Manifest, keepExchange bool) error {
	dir := r.IterPath(m.Iteration)
	m.Schema = manifestSchema
	if err := r.commit(ctx, dir, m); err != nil {
		return fmt.Errorf("commit of iteration %d: %w", m.Iteration, err)
	}
	if !keepExchange {
		return files.RemoveAll(ctx, files.Join(dir, chain.WorkName))
	}
	return nil
}

func (r *Dir) commit(ctx context.Context, dir string, m Manifest) error {
	listed, err := files.Below(ctx, dir)
	if err != nil {
		return err
	}
	m.Files = map[string]string{}
	for _, f := range listed {
		if strings.HasPrefix(f.Name, chain.WorkName+"/") {
			continue
		}
		if m.Files[f.Name], err = files.Digest(ctx, f); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := r.lock.Check(ctx); err != nil {
		return err
	}
	return files.Write(ctx, files.Join(dir, manifestName), append(raw, '\n'), true)
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

// WriteConfig stores the resolved recipe. Once an iteration is committed, a later call must bring the recipe that it was computed
// with; before, another one takes its place.
func (r *Dir) WriteConfig(ctx context.Context, raw []byte, done []int) error {
	path := files.Join(r.Path, recipe.ConfigName)
	old, err := files.Read(ctx, path, MaxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = nil, nil
	}
	if err != nil {
		return err
	}
	if len(done) > 0 {
		last := done[len(done)-1]
		m, _, err := r.ReadManifest(ctx, last)
		if err != nil {
			return err
		}
		switch computed := m.Config == Digest(raw); {
		case computed:
		case string(old) == string(raw):
			return fmt.Errorf("%s was changed: iteration %d was computed with a recipe of digest %.12s, and this one has %.12s; restore it, "+
				"or use another directory", path, last, m.Config, Digest(raw))
		default:
			return fmt.Errorf("run directory %s was made with another recipe (first difference: %s); use another directory, or go on with "+
				"`millrace run %s`", r.Path, firstDifference(string(old), string(raw)), path)
		}
	}
	if string(old) == string(raw) {
		return nil
	}
	return files.Write(ctx, path, raw, true)
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

// Digest is the SHA-256 of some bytes, in hexadecimal.
func Digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
