package pipelines

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

	"github.com/millrace/millrace/transforms/stage"
)

// RunDir is the directory of one run. Files between iterations are its only state: an iteration is a function from a
// committed directory to a committed directory, and a manifest, written last, commits it.
type RunDir struct {
	Path string
	lock *stage.Lock
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
	configName     = "config.yaml"
	// workName holds what an iteration needs only until its commit: materialised edges.
	workName = "exchange"
	// maxStateBytes bounds the files that are read as a whole.
	maxStateBytes = 64 << 20
)

// OpenRun creates the directory if needed and locks it against other processes. What goes on in it goes on under the context
// that is returned, which ends if the lock is lost.
func OpenRun(ctx context.Context, path string) (*RunDir, context.Context, error) {
	path, err := runPath(path)
	if err != nil {
		return nil, nil, err
	}
	lock, ctx, err := stage.AcquireLock(ctx, path)
	var locked *stage.LockedError
	var unsupported *stage.UnsupportedError
	switch {
	case errors.As(err, &unsupported):
		return nil, nil, configErrorf("run", "%v", err)
	case errors.As(err, &locked):
		return nil, nil, err
	case err != nil:
		return nil, nil, fmt.Errorf("run directory: %w", err)
	}
	return &RunDir{Path: path, lock: lock}, ctx, nil
}

// runPath is a run's directory as workers see it, which may run in another directory.
func runPath(path string) (string, error) {
	at, err := stage.AbsPath(path)
	if err != nil {
		return "", fmt.Errorf("run directory: %w", err)
	}
	if _, rest, ok := strings.Cut(at, "://"); ok && !strings.Contains(rest, "/") {
		return "", configErrorf("run", "%q is a whole bucket; want a directory in it, such as %s/run", path, at)
	}
	return at, nil
}

// Close gives the lock back.
func (r *RunDir) Close() error { return r.lock.Release() }

// IterPath is the directory of iteration i.
func (r *RunDir) IterPath(i int) string { return stage.JoinPath(r.Path, fmt.Sprintf("iter-%05d", i)) }

var iterPattern = regexp.MustCompile(`^iter-(\d{5,9})$`)

// Committed lists the iterations that have a manifest, in order.
func (r *RunDir) Committed(ctx context.Context) ([]int, error) {
	manifests, err := stage.ListIn(ctx, r.Path, "iter-*/"+manifestName)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, path := range manifests {
		if m := iterPattern.FindStringSubmatch(stage.BasePath(stage.ParentPath(path))); m != nil {
			n, _ := strconv.Atoi(m[1])
			out = append(out, n)
		}
	}
	slices.Sort(out)
	for i, n := range out {
		if n != i {
			return nil, fmt.Errorf("run directory %s: iteration %d has no manifest but iteration %d has; restore iter-%05d or remove the later ones", r.Path, i, n, i)
		}
	}
	return out, nil
}

// ReadManifest reads the manifest of iteration i.
func (r *RunDir) ReadManifest(ctx context.Context, i int) (Manifest, string, error) {
	path := stage.JoinPath(r.IterPath(i), manifestName)
	raw, err := stage.ReadFile(ctx, path, maxStateBytes)
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
	return m, digestBytes(raw), nil
}

// Begin makes an uncommitted iteration directory ready: whatever an interrupted attempt left is removed, except the
// materialised edges, which are named by what produced them and so are good for the second attempt.
func (r *RunDir) Begin(ctx context.Context, i int) (string, error) {
	dir := r.IterPath(i)
	if err := stage.MakeDirectory(stage.JoinPath(dir, workName)); err != nil {
		return "", err
	}
	return dir, stage.RemoveAll(ctx, dir, workName)
}

// Commit digests every file of the iteration, writes the manifest last, and then removes the work folder unless it is kept.
func (r *RunDir) Commit(ctx context.Context, m Manifest, keepExchange bool) error {
	dir := r.IterPath(m.Iteration)
	m.Schema = manifestSchema
	if err := r.commit(ctx, dir, m); err != nil {
		return fmt.Errorf("commit of iteration %d: %w", m.Iteration, err)
	}
	if !keepExchange {
		return stage.RemoveAll(ctx, stage.JoinPath(dir, workName))
	}
	return nil
}

func (r *RunDir) commit(ctx context.Context, dir string, m Manifest) error {
	files, err := stage.FilesBelow(ctx, dir)
	if err != nil {
		return err
	}
	m.Files = map[string]string{}
	for _, f := range files {
		if strings.HasPrefix(f.Name, workName+"/") {
			continue
		}
		if m.Files[f.Name], err = stage.FileDigest(ctx, f); err != nil {
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
	return stage.WriteFile(ctx, stage.JoinPath(dir, manifestName), append(raw, '\n'), true)
}

// Tidy removes what a process that died has left: half-written files, and the work folders of committed iterations where it
// died between commit and removal. An uncommitted iteration is cleared by Begin.
func (r *RunDir) Tidy(ctx context.Context) error {
	if err := stage.RemoveTemporary(r.Path); err != nil {
		return err
	}
	done, err := r.Committed(ctx)
	if err != nil {
		return err
	}
	left := func(i int) error { return stage.RemoveAll(ctx, stage.JoinPath(r.IterPath(i), workName)) }
	if stage.IsURL(r.Path) && len(done) > 0 { // a request for each; only the last can have been interrupted
		return left(done[len(done)-1])
	}
	for _, i := range done {
		if err := left(i); err != nil {
			return err
		}
	}
	return nil
}

// WriteConfig stores the resolved recipe once; a later call must bring the same one.
func (r *RunDir) WriteConfig(ctx context.Context, raw []byte) error {
	path := stage.JoinPath(r.Path, configName)
	old, err := stage.ReadFile(ctx, path, maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return stage.WriteFile(ctx, path, raw, true)
	}
	if err != nil {
		return err
	}
	if string(old) == string(raw) {
		return nil
	}
	return fmt.Errorf("run directory %s was made with another recipe (first difference: %s); use another directory, or go on with `millrace run %s`",
		r.Path, firstDifference(string(old), string(raw)), path)
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

func digestBytes(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
