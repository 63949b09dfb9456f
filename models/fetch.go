package models

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// Elsewhere is where models may lie besides this machine, such as a bucket. Packages that can reach it register it; their
// users are those who import them.
type Elsewhere struct {
	Scheme string // of the paths, such as gs
	// List describes the files directly in a directory, or the one file that the path names.
	List func(ctx context.Context, path string) ([]RemoteFile, error)
	// Fetch copies listed files into a directory of this machine.
	Fetch func(ctx context.Context, files []RemoteFile, to string) error
}

// RemoteFile is a file of a model that lies elsewhere.
type RemoteFile struct {
	Path    string
	Name    string // without its directory
	Size    int64
	SHA256  string // lower-case hex, "" where it is not known without reading the file
	Version string // another one whenever the file is written
}

var elsewhere = map[string]Elsewhere{} // guarded by formatsMu

// RegisterElsewhere adds a place of models. It panics when the scheme is taken.
func RegisterElsewhere(e Elsewhere) {
	formatsMu.Lock()
	defer formatsMu.Unlock()
	if _, taken := elsewhere[e.Scheme]; taken {
		panic("models: scheme registered twice")
	}
	elsewhere[e.Scheme] = e
}

func elsewhereOf(path string) (Elsewhere, bool) {
	scheme, _, _ := strings.Cut(path, "://")
	formatsMu.RLock()
	defer formatsMu.RUnlock()
	e, ok := elsewhere[scheme]
	return e, ok
}

// Environment variables of the copies of models that lie elsewhere.
const (
	// CopiesVariable is the directory that holds them, for all processes of the machine. Default: millrace/models in the
	// user's cache directory, or in that of temporary files.
	CopiesVariable = "MILLRACE_MODELS"
	// CopiesLimitVariable is how much of them is kept, in GiB; the least recently used that no process holds are removed.
	CopiesLimitVariable = "MILLRACE_MODELS_GIB"
	defaultCopiesGiB    = 50
)

// Copy is a model on this machine: the model itself where it lies here, else a copy that stays until it is released.
type Copy struct {
	Path string
	Ref  Ref // where it lies, and its digest where that was asked for
	held *flock.Flock
}

// Release gives the copy up: it may be removed.
func (c *Copy) Release() {
	if c.held != nil {
		_ = c.held.Close() // which unlocks
	}
}

// Fetch brings a model to this machine. One that lies here is left where it is, and unchecked. Of one that lies elsewhere
// the content is checked: it has the digest of ref, if that has one (DigestError). A copy with that digest is used without
// asking where it came from.
func Fetch(ctx context.Context, ref Ref) (*Copy, error) { return fetch(ctx, ref, everything) }

// FetchDescription is Fetch without the weights of a directory: its configuration and its tokenizer.
func FetchDescription(ctx context.Context, ref Ref) (*Copy, error) {
	return fetch(ctx, ref, description)
}

func everything([]RemoteFile) func(RemoteFile) bool { return func(RemoteFile) bool { return true } }

// description leaves weights out, unless they are all there is: a GGUF file has its tokenizer inside.
func description(files []RemoteFile) func(RemoteFile) bool {
	small := func(f RemoteFile) bool {
		return !slices.Contains([]string{".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".onnx", ".msgpack"}, path.Ext(f.Name))
	}
	if !slices.ContainsFunc(files, small) {
		return everything(nil)
	}
	return small
}

func fetch(ctx context.Context, ref Ref, part func([]RemoteFile) func(RemoteFile) bool) (*Copy, error) {
	from, ok := elsewhereOf(ref.Path)
	if !ok {
		return &Copy{Path: ref.Path, Ref: ref}, nil
	}
	d, err := openDepot()
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" {
		if c, err := d.take(ctx, ref.Digest); c != nil || err != nil {
			return c.of(ref), err
		}
	}
	all, err := list(ctx, from, ref.Path)
	if err != nil {
		return nil, err
	}
	keep := part(all)
	files := slices.DeleteFunc(slices.Clone(all), func(f RemoteFile) bool { return !keep(f) })
	want := d.digestOf(ref.Path, files)
	if len(files) == len(all) && ref.Digest != "" {
		if want != "" && want != ref.Digest {
			return nil, &DigestError{Path: ref.Path, Want: ref.Digest, Got: want}
		}
		want = ref.Digest
	}
	c, err := d.fill(ctx, from, ref.Path, files, want)
	return c.of(ref), err
}

// of says what the copy is of.
func (c *Copy) of(ref Ref) *Copy {
	if c == nil {
		return nil
	}
	ref.Digest = c.Ref.Digest
	c.Ref = ref
	if only, err := os.ReadDir(c.Path); err == nil && len(only) == 1 && only[0].Name() == path.Base(ref.Path) {
		c.Path = filepath.Join(c.Path, only[0].Name()) // a file, not a directory
	}
	return c
}

// list describes the files that a model's digest is of.
func list(ctx context.Context, from Elsewhere, path string) ([]RemoteFile, error) {
	files, err := from.List(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("models: %w", err)
	}
	files = slices.DeleteFunc(files, func(f RemoteFile) bool {
		return f.Name == "" || strings.HasPrefix(f.Name, ".") || strings.ContainsAny(f.Name, `/\`)
	})
	if len(files) == 0 {
		return nil, fmt.Errorf("models: %w", &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist})
	}
	slices.SortFunc(files, func(a, b RemoteFile) int { return cmp.Compare(a.Name, b.Name) })
	return files, nil
}

// identify is the digest of a model that lies elsewhere. Where the store knows the digests of its files nothing is read;
// else the model is fetched, once for each version of it.
func identify(ctx context.Context, from Elsewhere, path string) (string, error) {
	d, err := openDepot()
	if err != nil {
		return "", err
	}
	files, err := list(ctx, from, path)
	if err != nil {
		return "", err
	}
	if digest := d.digestOf(path, files); digest != "" {
		return digest, nil
	}
	c, err := d.fill(ctx, from, path, files, "")
	if err != nil {
		return "", err
	}
	c.Release()
	return c.Ref.Digest, nil
}

// depot holds copies of models, each in a directory that is named by its digest and never changes. A copy is fetched into
// another directory and renamed. Beside it lies a lock, which who uses the copy shares and who fetches or removes it has
// alone.
type depot struct {
	dir   string
	limit int64 // bytes
}

// checked are the copies whose content this process has found to be what their name says.
var checked sync.Map

func openDepot() (*depot, error) {
	dir := os.Getenv(CopiesVariable)
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil { // no home, as in a container
			cache = os.TempDir()
		}
		dir = filepath.Join(cache, "millrace", "models")
	}
	limit := float64(defaultCopiesGiB)
	if text := os.Getenv(CopiesLimitVariable); text != "" {
		var err error
		if limit, err = strconv.ParseFloat(text, 64); err != nil || !(limit >= 0) {
			return nil, fmt.Errorf("models: $%s is %q, not a number of GiB", CopiesLimitVariable, text)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, versionsDir), 0o755); err != nil {
		return nil, fmt.Errorf("models: copies of models that lie elsewhere: %w", err)
	}
	return &depot{dir: dir, limit: int64(limit * (1 << 30))}, nil
}

const (
	// versionsDir holds, for versions of files whose digests no store knows, what was found when they were fetched.
	versionsDir = "versions"
	fillingName = ".filling-"
	lockSuffix  = ".lock"
	// abandoned is the age of a directory that was begun and never filled.
	abandoned = 24 * time.Hour
)

// lockWait is how often a lock that another process holds is tried again.
const lockWait = 100 * time.Millisecond

func (d *depot) path(digest string) string { return filepath.Join(d.dir, digest) }

// take returns the copy with a digest, nil when there is none.
func (d *depot) take(ctx context.Context, digest string) (*Copy, error) {
	if strings.ContainsAny(digest, `/\.`) {
		return nil, fmt.Errorf("models: %q is not a digest", digest)
	}
	held := flock.New(d.path(digest) + lockSuffix)
	if _, err := held.TryRLockContext(ctx, lockWait); err != nil {
		return nil, fmt.Errorf("models: %w", err)
	}
	c := &Copy{Path: d.path(digest), Ref: Ref{Digest: digest}, held: held}
	if _, err := os.Stat(c.Path); err != nil {
		c.Release()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	if _, ok := checked.Load(c.Path); !ok {
		got, err := digestOfCopy(c.Path, digest)
		if err != nil || got != digest { // somebody has damaged it
			c.Release()
			return nil, errors.Join(err, d.remove(ctx, digest))
		}
		checked.Store(c.Path, true)
	}
	now := time.Now()
	_ = os.Chtimes(c.Path, now, now) // the last to be removed
	return c, nil
}

// digestOfCopy is the digest of a directory, or of the file in it where that is what the digest is of.
func digestOfCopy(dir, want string) (string, error) {
	got, err := Digest(dir)
	if err != nil || got == want {
		return got, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) == 1 {
		return Digest(filepath.Join(dir, entries[0].Name()))
	}
	return got, nil
}

func (d *depot) remove(ctx context.Context, digest string) error {
	alone := flock.New(d.path(digest) + lockSuffix)
	if _, err := alone.TryLockContext(ctx, lockWait); err != nil {
		return err
	}
	defer alone.Close()
	checked.Delete(d.path(digest))
	return os.RemoveAll(d.path(digest))
}

// fill fetches files and returns the copy; want is its digest, "" where it is not known.
func (d *depot) fill(ctx context.Context, from Elsewhere, path string, files []RemoteFile, want string) (*Copy, error) {
	for {
		if want != "" {
			if c, err := d.take(ctx, want); c != nil || err != nil {
				return c, err
			}
		}
		got, err := d.download(ctx, from, path, files, want)
		if err != nil {
			return nil, err
		}
		want = got // and take it, unless it was removed just now
	}
}

func (d *depot) download(ctx context.Context, from Elsewhere, path string, files []RemoteFile, want string) (digest string, err error) {
	if want != "" { // others wait for this copy rather than fetch their own
		alone := flock.New(d.path(want) + lockSuffix)
		if _, err := alone.TryLockContext(ctx, lockWait); err != nil {
			return "", fmt.Errorf("models: %w", err)
		}
		defer alone.Close()
		if _, err := os.Stat(d.path(want)); err == nil {
			return want, nil
		}
	}
	size := int64(0)
	for _, f := range files {
		size += f.Size
	}
	if err := d.makeRoom(size); err != nil {
		return "", err
	}
	filling, err := os.MkdirTemp(d.dir, fillingName)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(filling)
	inner := filepath.Join(filling, "model")
	if err := os.Mkdir(inner, 0o755); err != nil {
		return "", err
	}
	if err := from.Fetch(ctx, files, inner); err != nil {
		return "", fmt.Errorf("models: fetch %s: %w", path, err)
	}
	if isFile(path, files) {
		digest, err = Digest(filepath.Join(inner, files[0].Name))
	} else {
		digest, err = Digest(inner)
	}
	if err != nil {
		return "", err
	}
	if want != "" && digest != want {
		return "", &DigestError{Path: path, Want: want, Got: digest}
	}
	if err := os.Rename(inner, d.path(digest)); err != nil {
		if _, there := os.Stat(d.path(digest)); there != nil {
			return "", err
		}
	}
	checked.Store(d.path(digest), true)
	return digest, os.WriteFile(d.versionsFile(files), []byte(digest), 0o644)
}

// makeRoom removes the least recently used copies that nobody holds until so many bytes more are within the limit, and what
// killed processes have left half fetched.
func (d *depot) makeRoom(more int64) error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	type kept struct {
		digest string
		size   int64
		used   time.Time
	}
	var all []kept
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || e.Name() == versionsDir {
			continue
		}
		if strings.HasPrefix(e.Name(), fillingName) {
			if time.Since(info.ModTime()) > abandoned {
				if err := os.RemoveAll(filepath.Join(d.dir, e.Name())); err != nil {
					return err
				}
			}
			continue
		}
		k := kept{digest: e.Name(), used: info.ModTime()}
		files, _ := os.ReadDir(filepath.Join(d.dir, e.Name()))
		for _, f := range files {
			if info, err := f.Info(); err == nil {
				k.size += info.Size()
			}
		}
		all = append(all, k)
		more += k.size
	}
	slices.SortFunc(all, func(a, b kept) int { return a.used.Compare(b.used) })
	for _, k := range all {
		if more <= d.limit {
			break
		}
		alone := flock.New(d.path(k.digest) + lockSuffix)
		if ok, err := alone.TryLock(); err != nil || !ok {
			continue // in use
		}
		checked.Delete(d.path(k.digest))
		err := os.RemoveAll(d.path(k.digest))
		_ = alone.Close()
		if err != nil {
			return err
		}
		more -= k.size
	}
	return nil
}

// digestOf is the digest of a model made of these files, "" when they would have to be read for it.
func (d *depot) digestOf(path string, files []RemoteFile) string {
	whole := sha256.New()
	for _, f := range files {
		sum, err := hex.DecodeString(f.SHA256)
		if err != nil || len(sum) != sha256.Size {
			raw, err := os.ReadFile(d.versionsFile(files))
			if err != nil {
				return ""
			}
			return string(raw)
		}
		if isFile(path, files) {
			return f.SHA256
		}
		addToDigest(whole, f.Name, f.Size, sum)
	}
	return hex.EncodeToString(whole.Sum(nil))
}

// isFile reports whether the path names a file rather than a directory.
func isFile(path string, files []RemoteFile) bool { return len(files) == 1 && files[0].Path == path }

// versionsFile remembers the digest of these versions of these files.
func (d *depot) versionsFile(files []RemoteFile) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d %q\n", f.Path, f.Size, f.Version)
	}
	return filepath.Join(d.dir, versionsDir, hex.EncodeToString(h.Sum(nil)))
}
