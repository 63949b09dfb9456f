package pipelines

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// RunDir is the directory of one run. Files between iterations are its only state: an iteration is a function from a
// committed directory to a committed directory, and a manifest, written last, commits it.
type RunDir struct {
	Path string
	lock *flock.Flock
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
)

// LockedError says that another process works on the run directory.
type LockedError struct{ Path string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("run directory %s is in use by another process; wait for it, stop it, or choose another directory with --set run=DIR", e.Path)
}

// OpenRun creates the directory if needed and locks it against other processes; the lock goes with the process.
func OpenRun(path string) (*RunDir, error) {
	if strings.Contains(path, "://") {
		return nil, configErrorf("run", "%q is not a directory of this machine; models, optimizer states and commits are ordinary files: mount the bucket at one path on driver and workers (docs/dataflow.md)", path)
	}
	path, err := filepath.Abs(path) // workers may run in another directory
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	lock := flock.New(filepath.Join(path, ".lock"))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("run directory %s: lock: %w", path, err)
	}
	if !ok {
		return nil, &LockedError{Path: path}
	}
	return &RunDir{Path: path, lock: lock}, nil
}

// Close gives the lock back.
func (r *RunDir) Close() error { return r.lock.Unlock() }

// IterPath is the directory of iteration i.
func (r *RunDir) IterPath(i int) string { return filepath.Join(r.Path, fmt.Sprintf("iter-%05d", i)) }

var iterPattern = regexp.MustCompile(`^iter-(\d{5,9})$`)

// Committed lists the iterations that have a manifest, in order.
func (r *RunDir) Committed() ([]int, error) {
	entries, err := os.ReadDir(r.Path)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range entries {
		m := iterPattern.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() {
			continue
		}
		if _, err := os.Stat(filepath.Join(r.Path, e.Name(), manifestName)); err == nil {
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
func (r *RunDir) ReadManifest(i int) (Manifest, string, error) {
	path := filepath.Join(r.IterPath(i), manifestName)
	raw, err := os.ReadFile(path)
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
func (r *RunDir) Begin(i int) (string, error) {
	dir := r.IterPath(i)
	if err := os.MkdirAll(filepath.Join(dir, workName), 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Name() == workName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// Commit digests every file of the iteration, removes its work folder unless kept, and writes the manifest last.
func (r *RunDir) Commit(m Manifest, keepExchange bool) error {
	dir := r.IterPath(m.Iteration)
	m.Schema = manifestSchema
	m.Files = map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel == workName {
				return fs.SkipDir
			}
			return nil
		}
		digest, err := digestFile(path)
		if err != nil {
			return err
		}
		m.Files[filepath.ToSlash(rel)] = digest
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit of iteration %d: %w", m.Iteration, err)
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := writeDurably(filepath.Join(dir, manifestName), append(raw, '\n')); err != nil {
		return fmt.Errorf("commit of iteration %d: %w", m.Iteration, err)
	}
	if !keepExchange {
		return os.RemoveAll(filepath.Join(dir, workName))
	}
	return nil
}

// Tidy removes what a process that died has left: half-written files of the run directory, and the work folders of committed
// iterations where it died between commit and removal. An uncommitted iteration is cleared by Begin.
func (r *RunDir) Tidy() error {
	half, err := filepath.Glob(filepath.Join(r.Path, ".tmp-*"))
	if err != nil {
		return err
	}
	for _, path := range half {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	done, err := r.Committed()
	if err != nil {
		return err
	}
	for _, i := range done {
		if err := os.RemoveAll(filepath.Join(r.IterPath(i), workName)); err != nil {
			return err
		}
	}
	return nil
}

// WriteConfig stores the resolved recipe once; a later call must bring the same one.
func (r *RunDir) WriteConfig(raw []byte) error {
	path := filepath.Join(r.Path, configName)
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return writeDurably(path, raw)
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

// writeDurably replaces a file in one step that survives a crash: temporary file, fsync, rename, fsync of the directory.
func writeDurably(path string, raw []byte) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(raw)
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func digestBytes(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

func digestFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
