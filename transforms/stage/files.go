package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem/gcs"   // gs:// run directories
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem/local" // paths of this machine
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem/s3"    // s3:// run directories
)

// OpenFile opens a file for reading, on whatever filesystem of Beam its path names (local, gs://, s3://).
func OpenFile(ctx context.Context, path string) (io.ReadCloser, error) {
	fs, err := filesystem.New(ctx, path)
	if err != nil {
		return nil, err
	}
	r, err := fs.OpenRead(ctx, path)
	if err != nil {
		fs.Close()
		return nil, err
	}
	return &opened{r, fs}, nil
}

type opened struct {
	io.ReadCloser
	fs filesystem.Interface
}

func (o *opened) Close() error { return errors.Join(o.ReadCloser.Close(), o.fs.Close()) }

// seekable is a file that can be read at any place, as Parquet must be.
type seekable interface {
	io.ReaderAt
	io.ReadSeeker
	io.Closer
}

// openSeekable opens a file for reading at any place. One that does not lie on this machine is copied to a temporary file
// that is gone when it is closed.
func openSeekable(ctx context.Context, path string) (seekable, error) {
	if !strings.Contains(path, "://") {
		return os.Open(path)
	}
	r, err := OpenFile(ctx, path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, err := os.CreateTemp("", "millrace-")
	if err != nil {
		return nil, err
	}
	t := &temporary{f}
	if _, err := io.Copy(f, r); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), t.Close())
	}
	return t, nil
}

type temporary struct{ *os.File }

func (t *temporary) Close() error { return errors.Join(t.File.Close(), os.Remove(t.Name())) }

// cappedAllocator is Go's allocator with a limit on each request, for decoders that believe the lengths of a file. A
// larger request panics; the caller recovers and reports the file as corrupt.
type cappedAllocator struct{ memory.GoAllocator }

const maxAllocation = 256 << 20

// Allocate returns n bytes.
func (a *cappedAllocator) Allocate(n int) []byte {
	capped(n)
	return a.GoAllocator.Allocate(n)
}

// Reallocate returns n bytes that begin with those of b.
func (a *cappedAllocator) Reallocate(n int, b []byte) []byte {
	capped(n)
	return a.GoAllocator.Reallocate(n, b)
}

func capped(n int) {
	if n < 0 || n > maxAllocation {
		panic(fmt.Sprintf("a part of %d bytes; at most %d are read at once", n, maxAllocation))
	}
}

// ReadFile reads a file of at most limit bytes; a longer one is an error.
func ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	r, err := OpenFile(ctx, path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("read %s: it is longer than %d bytes", path, limit)
	}
	return raw, nil
}

// ListFiles returns the files a glob matches, in lexical order; a path without wildcards is itself.
func ListFiles(ctx context.Context, glob string) ([]string, error) {
	fs, err := filesystem.New(ctx, glob)
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	return fs.List(ctx, glob)
}

// JoinPath appends elements to a directory that may be a URL.
func JoinPath(dir string, elem ...string) string {
	if strings.Contains(dir, "://") {
		return strings.TrimRight(dir, "/") + "/" + strings.Join(elem, "/")
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

// NewFile is a file being written. Nobody sees it under its name before Commit: on a local disk it is written beside it
// and renamed, on an object store an object appears as a whole.
type NewFile struct {
	path   string
	w      io.Writer
	local  *os.File
	remote io.WriteCloser
	fs     filesystem.Interface
	cancel context.CancelFunc
	done   bool
}

const temporaryPrefix = ".millrace-tmp-"

var temporaries atomic.Int64

// CreateFile begins to write a file, making its directory where that is needed.
func CreateFile(ctx context.Context, path string) (*NewFile, error) {
	if !strings.Contains(path, "://") {
		dir, base := filepath.Split(path)
		if err := os.MkdirAll(filepath.Clean(dir), 0o755); err != nil {
			return nil, err
		}
		name := temporaryPrefix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(temporaries.Add(1), 10) + "-" + base
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		return &NewFile{path: path, w: f, local: f}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	fs, err := filesystem.New(ctx, path)
	if err != nil {
		cancel()
		return nil, err
	}
	w, err := fs.OpenWrite(ctx, path)
	if err != nil {
		cancel()
		return nil, errors.Join(err, fs.Close())
	}
	return &NewFile{path: path, w: w, remote: w, fs: fs, cancel: cancel}, nil
}

func (f *NewFile) Write(p []byte) (int, error) { return f.w.Write(p) }

// Commit makes the file appear under its name, replacing one that is there. With durable it survives a power cut.
func (f *NewFile) Commit(durable bool) error {
	if f.done {
		return errors.New("file is closed already")
	}
	f.done = true
	if f.remote != nil {
		err := errors.Join(f.remote.Close(), f.fs.Close())
		f.cancel()
		return err
	}
	tmp := f.local.Name()
	var err error
	if durable {
		err = f.local.Sync()
	}
	err = errors.Join(err, f.local.Close())
	if err == nil {
		err = os.Rename(tmp, f.path)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	if durable {
		return syncDir(filepath.Dir(f.path))
	}
	return nil
}

// Abort gives the file up and leaves nothing behind. After Commit it does nothing, so it can be deferred.
func (f *NewFile) Abort() {
	if f.done {
		return
	}
	f.done = true
	if f.remote != nil {
		f.cancel() // an upload that is not finished never appears
		f.fs.Close()
		return
	}
	f.local.Close()
	os.Remove(f.local.Name())
}

// WriteFile writes a whole file; see NewFile.
func WriteFile(ctx context.Context, path string, raw []byte, durable bool) error {
	f, err := CreateFile(ctx, path)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(raw); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Commit(durable)
}

// RemoveTemporary removes what killed processes left half written in a local directory and below. Call it only when no
// other process writes there, as the holder of a run directory's lock.
func RemoveTemporary(dir string) error {
	if strings.Contains(dir, "://") {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() && strings.HasPrefix(d.Name(), temporaryPrefix) {
			err = os.Remove(path)
		}
		return err
	})
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
