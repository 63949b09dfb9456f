package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/models/regular"
)

// Format is a way to open models. Packages that implement one register it when they are imported; Acquire asks the formats
// in order of registration.
type Format struct {
	Name  string
	Match func(path string) bool // whether this format may open the path
	// Open opens the model at ref.Path, which is on this machine, in the precision of ref or says why it cannot.
	Open func(ctx context.Context, ref Ref) (Model, error)
	// Window is the longest sequence that the model at a path takes, read without its weights; nil: that shows when it is used.
	Window func(path string) (int, error)
	// Digest identifies the content behind the path; nil means the package's Digest of a local file or directory.
	Digest func(ctx context.Context, path string) (string, error)
}

var (
	formatsMu sync.RWMutex
	formats   []Format
)

// RegisterFormat adds a format. It panics when the name is taken, as that is a mistake in the program.
func RegisterFormat(f Format) {
	formatsMu.Lock()
	defer formatsMu.Unlock()
	for _, have := range formats {
		if have.Name == f.Name {
			panic("models: format registered twice")
		}
	}
	formats = append(formats, f)
}

// ErrNoFormat says that no registered format opens the path.
var ErrNoFormat = errors.New("not a model that any imported format opens")

// What this module's packages open, each with the name of a format that it registers.
var (
	localPackage = shipped{"huggingface", "github.com/millrace/millrace/models/local", "directories as Hugging Face lays them out, and " +
		"GGUF files"}
	remotePackage = shipped{"openai", "github.com/millrace/millrace/models/remote", "endpoints at http:// and https://"}
)

type shipped struct{ format, path, opens string }

// noFormat says why no format opens the path: nothing is there, or the package that would open it is not imported.
func noFormat(path string) error {
	scheme, _, url := strings.Cut(path, "://")
	if !url {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("models: %w", err)
		}
	}
	if url && scheme != "http" && scheme != "https" {
		return fmt.Errorf("models: %s: %w: no package that is imported fetches models from %s:// (see RegisterElsewhere)", path, ErrNoFormat,
			scheme)
	}
	from := localPackage
	if url {
		from = remotePackage
	}
	for _, f := range formats {
		if f.Name == from.format {
			return fmt.Errorf("models: %s: %w; %s opens %s", path, ErrNoFormat, from.path, from.opens)
		}
	}
	return fmt.Errorf("models: %s: %w; the program lacks: import _ %q, which opens %s", path, ErrNoFormat, from.path, from.opens)
}

// DigestError says that what lies at a path is not what a Ref named.
type DigestError struct{ Path, Want, Got string }

func (e *DigestError) Error() string {
	return fmt.Sprintf("models: %s has digest %s, the reference says %s: the model was changed or replaced", e.Path, e.Got, e.Want)
}

// cache holds the open models of this process, keyed by identity: workers that share a process share the weights, and
// a model that is reached by two paths is loaded once.
var cache = struct {
	sync.Mutex
	open map[string]*entry
}{open: map[string]*entry{}}

type entry struct {
	refs  int           // guarded by cache
	ready chan struct{} // closed when model and err are set
	model Model
	here  *Copy // which a model may go on reading
	err   error
}

// Handle is one use of a shared model. Release it when done; the model is closed with its last handle.
type Handle struct {
	Model
	Ref      Ref // with the digest of what was loaded
	entry    *entry
	scope    *scope // nil outside of any
	released atomic.Bool
}

// Window is the longest sequence that a model takes, without opening it; 0 where nothing says so, as of an endpoint or of a directory with
// a tokenizer alone.
func Window(ctx context.Context, ref Ref) (int, error) {
	here, err := FetchDescription(ctx, ref)
	if err != nil {
		return 0, err
	}
	defer here.Release()
	format, err := formatOf(here.Path)
	if err != nil || format.Window == nil {
		return 0, nil
	}
	return format.Window(here.Path)
}

// Acquire opens the model or shares the one already open. The first caller loads while later ones wait. When ref has a
// digest the content must have it (DigestError). Under a Scope the handle is released with it, if not before.
func Acquire(ctx context.Context, ref Ref) (*Handle, error) {
	here, err := Fetch(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer func() { here.Release() }() // unless the open model has it
	format, err := formatOf(here.Path)
	if err != nil {
		return nil, err
	}
	got := here.Ref.Digest
	if here.Path == ref.Path {
		if got, err = format.digest(ctx, ref.Path); err != nil {
			return nil, err
		}
	}
	if ref.Digest != "" && ref.Digest != got {
		return nil, &DigestError{Path: ref.Path, Want: ref.Digest, Got: got}
	}
	ref.Digest = got

	key := format.Name + " " + ref.Identity()
	cache.Lock()
	e, ok := cache.open[key]
	if !ok {
		e = &entry{ready: make(chan struct{})}
		cache.open[key] = e
	}
	e.refs++
	cache.Unlock()
	h := &Handle{Ref: ref, entry: e, scope: scopeOf(ctx)}

	if !ok {
		local := ref
		local.Path = here.Path
		e.model, e.err = format.Open(ctx, local)
		if e.err == nil {
			e.here, here = here, &Copy{}
		} else {
			// A failed load is not remembered: the next caller tries again.
			cache.Lock()
			delete(cache.open, key)
			cache.Unlock()
		}
		close(e.ready)
	}
	select {
	case <-e.ready:
	case <-ctx.Done():
		h.Release()
		return nil, ctx.Err()
	}
	if e.err != nil {
		return nil, fmt.Errorf("models: open %s: %w", ref.Path, e.err)
	}
	h.Model = e.model
	if !h.scope.add(h) {
		h.Release()
		return nil, fmt.Errorf("models: open %s: %w", ref.Path, errEnded)
	}
	return h, nil
}

// Close is Release, so that a Handle is a Model.
func (h *Handle) Close() error { return h.Release() }

// Release gives the model back; the last one closes it. Releasing twice does nothing.
func (h *Handle) Release() error {
	if h.released.Swap(true) {
		return nil
	}
	h.scope.remove(h)
	cache.Lock()
	h.entry.refs--
	last := h.entry.refs == 0
	if last {
		for key, e := range cache.open {
			if e == h.entry {
				delete(cache.open, key)
			}
		}
	}
	cache.Unlock()
	if !last {
		return nil
	}
	<-h.entry.ready
	if h.entry.model == nil {
		return nil
	}
	defer h.entry.here.Release()
	return h.entry.model.Close()
}

// Identify gives a Ref the digest of what lies at its path, a directory, a file or an endpoint, here or elsewhere.
func Identify(ctx context.Context, ref Ref) (Ref, error) {
	if from, ok := elsewhereOf(ref.Path); ok {
		var err error
		ref.Digest, err = identify(ctx, from, ref.Path)
		return ref, err
	}
	format, err := formatOf(ref.Path)
	if err != nil {
		return Ref{}, err
	}
	ref.Digest, err = format.digest(ctx, ref.Path)
	return ref, err
}

func (f Format) digest(ctx context.Context, path string) (string, error) {
	digest, err := "", error(nil)
	if f.Digest == nil {
		digest, err = Digest(path)
	} else {
		digest, err = f.Digest(ctx, path)
	}
	if err != nil {
		return "", fmt.Errorf("models: digest of %s: %w", path, err)
	}
	return digest, nil
}

func formatOf(path string) (Format, error) {
	formatsMu.RLock()
	defer formatsMu.RUnlock()
	for _, f := range formats {
		if f.Match(path) {
			return f, nil
		}
	}
	return Format{}, noFormat(path)
}

// Digest identifies the content of a model: the SHA-256, as lower-case hex, over name, length and SHA-256 of every regular
// file directly in the directory, in order of name; hidden files do not count. For a single file it is that file's SHA-256.
func Digest(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		sum, _, err := fileSum(path)
		return hex.EncodeToString(sum), err
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return "", err
	}
	all := sha256.New()
	files := 0
	for _, entry := range entries {
		name := filepath.Join(path, entry.Name())
		if entry.Name()[0] == '.' {
			continue
		}
		info, err := os.Stat(name) // follows links: checkpoints are often links into a store
		if err != nil {
			return "", err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		sum, size, err := fileSum(name)
		if err != nil {
			return "", err
		}
		addToDigest(all, entry.Name(), size, sum)
		files++
	}
	if files == 0 {
		return "", fmt.Errorf("%s holds no files", path)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func addToDigest(all io.Writer, name string, size int64, sum []byte) {
	fmt.Fprintf(all, "%q %d %x\n", name, size, sum)
}

func fileSum(path string) ([]byte, int64, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return h.Sum(nil), n, err
}
