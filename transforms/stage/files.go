package stage

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The files of a run, wherever it lies. A path says where: gs://bucket/name is an object of a bucket (see objects), a path
// with another scheme goes to Beam's filesystem of that name (see beamFiles), any other is a file of this machine. Every
// function here takes a path of any kind. A file is written as a whole or not at all.
//
// Errors name the path; errors.Is(err, fs.ErrNotExist) and fs.ErrPermission hold wherever the file lies.

// fileStore is what is asked of the files of one kind of path.
type fileStore interface {
	open(ctx context.Context, path string) (io.ReadCloser, error)
	// create begins a file that appears under its name when it is committed.
	create(ctx context.Context, path string) (pending, error)
	stat(ctx context.Context, path string) (FileInfo, error)
	// glob lists the files that a pattern matches: * and ? stay within a name, [] is a set.
	glob(ctx context.Context, pattern string) ([]string, error)
	// below lists the files of a directory and of those in it, and nothing where there is no directory.
	below(ctx context.Context, dir string) ([]FileInfo, error)
	remove(ctx context.Context, files []FileInfo) error
}

// pending is a file being written.
type pending interface {
	io.Writer
	commit(durable bool) error
	abort()
}

// FileInfo describes a file.
type FileInfo struct {
	Path     string
	Name     string // relative to the directory that was listed, with slashes
	Size     int64  // bytes
	Modified time.Time
	SHA256   string // lower-case hex, where the store keeps it with the content; else ""
	Version  string // changes whenever the file is written, where the store counts; else ""
}

// IsURL reports whether the path has a scheme, and so does not name a file of this machine.
func IsURL(path string) bool { return strings.Contains(path, "://") }

func storeOf(path string) fileStore {
	switch scheme, _, ok := strings.Cut(path, "://"); {
	case !ok:
		return localFiles{}
	case scheme == "gs":
		return objects{}
	}
	return beamFiles{}
}

// OpenFile opens a file for reading.
func OpenFile(ctx context.Context, path string) (io.ReadCloser, error) {
	return storeOf(path).open(ctx, path)
}

// ReadFile reads a file of at most limit bytes; a longer one is an error.
func ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	r, err := OpenFile(ctx, path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, named("read", path, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("read %s: it is longer than %d bytes", path, limit)
	}
	return raw, nil
}

// seekable is a file that can be read at any place, as Parquet must be.
type seekable interface {
	io.ReaderAt
	io.ReadSeeker
	io.Closer
}

// openSeekable opens a file for reading at any place. One that does not lie on this machine is copied to a temporary file
// that is gone when it is closed.
func openSeekable(ctx context.Context, path string) (seekable, error) {
	if !IsURL(path) {
		return os.Open(path)
	}
	r, err := OpenFile(ctx, path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, err := unnamedFile()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, r); err != nil {
		return nil, errors.Join(named("read", path, err), f.Close())
	}
	return f, nil
}

// unnamedFile is a temporary file that nobody else sees and that is gone when it is closed, or its process killed.
func unnamedFile() (*os.File, error) {
	f, err := os.CreateTemp("", "millrace-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// NewFile is a file being written. Nobody sees it under its name before Commit: on a local disk it is written beside it
// and renamed, on an object store an object appears as a whole.
type NewFile struct {
	path string
	to   pending
	done bool
}

// CreateFile begins to write a file, making its directory where that is needed.
func CreateFile(ctx context.Context, path string) (*NewFile, error) {
	to, err := storeOf(path).create(ctx, path)
	if err != nil {
		return nil, err
	}
	return &NewFile{path: path, to: to}, nil
}

func (f *NewFile) Write(p []byte) (int, error) { return f.to.Write(p) }

// Commit makes the file appear under its name, replacing one that is there. With durable it survives a power cut.
func (f *NewFile) Commit(durable bool) error {
	if f.done {
		return errors.New("file is closed already")
	}
	f.done = true
	if err := f.to.commit(durable); err != nil {
		return named("write", f.path, err)
	}
	return nil
}

// Abort gives the file up and leaves nothing behind. After Commit it does nothing, so it can be deferred.
func (f *NewFile) Abort() {
	if !f.done {
		f.done = true
		f.to.abort()
	}
}

// WriteFile writes a whole file; see NewFile.
func WriteFile(ctx context.Context, path string, raw []byte, durable bool) error {
	return copyTo(ctx, path, bytes.NewReader(raw), durable)
}

// named is an error that names the path, once.
func named(op, path string, err error) error {
	var has *fs.PathError
	if errors.As(err, &has) && has.Path == path {
		return err
	}
	return fmt.Errorf("%s %s: %w", op, path, err)
}

func copyTo(ctx context.Context, path string, from io.Reader, durable bool) error {
	f, err := CreateFile(ctx, path)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := io.Copy(f, from); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Commit(durable)
}

// ListFiles returns the files a glob matches, in lexical order; a path without wildcards is itself.
func ListFiles(ctx context.Context, glob string) ([]string, error) {
	return storeOf(glob).glob(ctx, glob)
}

// ListIn is ListFiles of a pattern below a directory, whatever characters the directory's own path has.
func ListIn(ctx context.Context, dir, pattern string) ([]string, error) {
	literal := strings.NewReplacer("*", "[*]", "?", "[?]", "[", "[[]").Replace(dir)
	if !IsURL(dir) {
		literal = strings.ReplaceAll(literal, `\`, `\\`)
	}
	return ListFiles(ctx, JoinPath(literal, pattern))
}

// Stat describes a file. On this machine that may be a directory; object stores have none.
func Stat(ctx context.Context, path string) (FileInfo, error) { return storeOf(path).stat(ctx, path) }

// Exists reports whether there is such a file, or a directory with files in it.
func Exists(ctx context.Context, path string) (bool, error) {
	_, err := Stat(ctx, path)
	if errors.Is(err, fs.ErrNotExist) && IsURL(path) {
		files, err := FilesBelow(ctx, path)
		return len(files) > 0, err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// FilesBelow lists the files of a directory and of those in it, in the order of their names; nothing where there is none.
func FilesBelow(ctx context.Context, dir string) ([]FileInfo, error) {
	files, err := storeOf(dir).below(ctx, dir)
	slices.SortFunc(files, func(a, b FileInfo) int { return cmp.Compare(a.Name, b.Name) })
	return files, err
}

// FileDigest is the SHA-256 of a file's content as lower-case hex: the one that the store keeps with it, or else computed.
func FileDigest(ctx context.Context, f FileInfo) (string, error) {
	if f.SHA256 != "" {
		return f.SHA256, nil
	}
	r, err := OpenFile(ctx, f.Path)
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", named("read", f.Path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// MakeDirectory makes a directory where there are such things.
func MakeDirectory(dir string) error {
	if IsURL(dir) {
		return nil
	}
	return os.MkdirAll(dir, 0o755)
}

// RemoveAll removes a directory and what is in it, but for the names directly in it that are to stay. One that is not there
// is no error.
func RemoveAll(ctx context.Context, dir string, stay ...string) error {
	if !IsURL(dir) && len(stay) == 0 {
		return os.RemoveAll(dir)
	}
	if !IsURL(dir) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if !slices.Contains(stay, e.Name()) {
				if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
					return err
				}
			}
		}
		return nil
	}
	files, err := FilesBelow(ctx, dir)
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(f FileInfo) bool {
		first, _, _ := strings.Cut(f.Name, "/")
		return slices.Contains(stay, first)
	})
	return storeOf(dir).remove(ctx, files)
}

// RemoveFile removes a file; one that is not there is no error.
func RemoveFile(ctx context.Context, path string) error {
	return storeOf(path).remove(ctx, []FileInfo{{Path: path}})
}

// JoinPath appends elements to a directory.
func JoinPath(dir string, elem ...string) string {
	if IsURL(dir) {
		return strings.TrimRight(dir, "/") + "/" + strings.Join(elem, "/")
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

// ParentPath is the directory that a path lies in.
func ParentPath(p string) string {
	if scheme, rest, ok := strings.Cut(p, "://"); ok {
		return scheme + "://" + path.Dir(strings.TrimRight(rest, "/"))
	}
	return filepath.Dir(p)
}

// BasePath is the last element of a path.
func BasePath(p string) string {
	if _, rest, ok := strings.Cut(p, "://"); ok {
		return path.Base(rest)
	}
	return filepath.Base(p)
}

// AbsPath is the path as another process sees it, which may run in another directory.
func AbsPath(p string) (string, error) {
	if IsURL(p) {
		return strings.TrimRight(p, "/"), nil
	}
	return filepath.Abs(p)
}
