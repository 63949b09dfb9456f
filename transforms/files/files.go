package files

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Info describes a file.
type Info struct {
	Path     string
	Name     string // relative to the directory that was listed, with slashes
	Size     int64  // bytes
	Modified time.Time
	SHA256   string // lower-case hex, where the store keeps it with the content; else ""
	Version  string // changes whenever the file is written, where the store counts; else ""
}

// Open opens a file for reading.
func Open(ctx context.Context, path string) (io.ReadCloser, error) {
	s, err := storeOf(path)
	if err != nil {
		return nil, err
	}
	return s.Open(ctx, path)
}

// Read reads a file of at most limit bytes; a longer one is an error.
func Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	r, err := Open(ctx, path)
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
		return openRegular(path)
	}
	r, err := Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, err := UnnamedFile()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, r); err != nil {
		return nil, errors.Join(named("read", path, err), f.Close())
	}
	return f, nil
}

// UnnamedFile is a temporary file that nobody else sees and that is gone when it is closed, or its process killed.
func UnnamedFile() (*os.File, error) {
	f, err := os.CreateTemp("", "millrace-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// Writer is a file being written. Nobody sees it under its name before Commit: on a local disk it is written beside it
// and renamed, on an object store an object appears as a whole.
type Writer struct {
	path string
	to   Pending
	done bool
}

// Create begins to write a file, making its directory where that is needed.
func Create(ctx context.Context, path string) (*Writer, error) {
	s, err := storeOf(path)
	if err != nil {
		return nil, err
	}
	to, err := s.Create(ctx, path)
	if err != nil {
		return nil, err
	}
	return &Writer{path: path, to: to}, nil
}

func (f *Writer) Write(p []byte) (int, error) { return f.to.Write(p) }

// Commit makes the file appear under its name, replacing one that is there. With durable it survives a power cut.
func (f *Writer) Commit(durable bool) error {
	if f.done {
		return errors.New("file is closed already")
	}
	f.done = true
	if err := f.to.Commit(durable); err != nil {
		return named("write", f.path, err)
	}
	return nil
}

// Abort gives the file up and leaves nothing behind. After Commit it does nothing, so it can be deferred.
func (f *Writer) Abort() {
	if !f.done {
		f.done = true
		f.to.Abort()
	}
}

// Write writes a whole file; see Writer.
func Write(ctx context.Context, path string, raw []byte, durable bool) error {
	return WriteFrom(ctx, path, bytes.NewReader(raw), durable)
}

// named is an error that names the path, once.
func named(op, path string, err error) error {
	var has *fs.PathError
	if errors.As(err, &has) && has.Path == path {
		return err
	}
	return fmt.Errorf("%s %s: %w", op, path, err)
}

// WriteFrom writes all of a reader to a file; see Writer.
func WriteFrom(ctx context.Context, path string, from io.Reader, durable bool) error {
	f, err := Create(ctx, path)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := io.Copy(f, from); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Commit(durable)
}

// List returns the files a glob matches, in lexical order; a path without wildcards is itself.
func List(ctx context.Context, glob string) ([]string, error) {
	s, err := storeOf(glob)
	if err != nil {
		return nil, err
	}
	return s.Glob(ctx, glob)
}

// ListIn is List of a pattern below a directory, whatever characters the directory's own path has.
func ListIn(ctx context.Context, dir, pattern string) ([]string, error) {
	literal := strings.NewReplacer("*", "[*]", "?", "[?]", "[", "[[]").Replace(dir)
	if !IsURL(dir) {
		literal = strings.ReplaceAll(literal, `\`, `\\`)
	}
	return List(ctx, Join(literal, pattern))
}

// Stat describes a file. On this machine that may be a directory; object stores have none.
func Stat(ctx context.Context, path string) (Info, error) {
	s, err := storeOf(path)
	if err != nil {
		return Info{}, err
	}
	return s.Stat(ctx, path)
}

// Exists reports whether there is such a file, or a directory with files in it.
func Exists(ctx context.Context, path string) (bool, error) {
	_, err := Stat(ctx, path)
	if errors.Is(err, fs.ErrNotExist) && IsURL(path) {
		files, err := Below(ctx, path)
		return len(files) > 0, err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Below lists the files of a directory and of those in it, in the order of their names; nothing where there is none.
func Below(ctx context.Context, dir string) ([]Info, error) {
	s, err := storeOf(dir)
	if err != nil {
		return nil, err
	}
	files, err := s.Below(ctx, dir)
	slices.SortFunc(files, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return files, err
}

// Digest is the SHA-256 of a file's content as lower-case hex: the one that the store keeps with it, or else computed.
func Digest(ctx context.Context, f Info) (string, error) {
	if f.SHA256 != "" {
		return f.SHA256, nil
	}
	r, err := Open(ctx, f.Path)
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

// Stamp tells files that stay as they are, by path, size, time and the store's version, without reading them.
func Stamp(ctx context.Context, paths []string) (string, error) {
	type stat struct {
		Path, Version string
		Size          int64
		Modified      time.Time
	}
	stats := make([]stat, len(paths))
	for i, p := range paths {
		info, err := Stat(ctx, p)
		if err != nil {
			return "", named("stat", p, err)
		}
		stats[i] = stat{p, info.Version, info.Size, info.Modified}
	}
	raw, err := json.Marshal(stats)
	return string(raw), err
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
	files, err := Below(ctx, dir)
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(f Info) bool {
		first, _, _ := strings.Cut(f.Name, "/")
		return slices.Contains(stay, first)
	})
	return remove(ctx, dir, files)
}

// Remove removes a file; one that is not there is no error.
func Remove(ctx context.Context, path string) error {
	return remove(ctx, path, []Info{{Path: path}})
}

// remove removes files of the store that a path belongs to.
func remove(ctx context.Context, path string, files []Info) error {
	s, err := storeOf(path)
	if err != nil {
		return err
	}
	return s.Remove(ctx, files)
}
