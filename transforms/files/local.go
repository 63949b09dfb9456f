package files

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/millrace/millrace/models/regular"
)

// localFiles are the files of this machine.
type localFiles struct{}

// Open refuses what is no regular file: a FIFO would wait for a writer for ever, and a device has no end.
func (localFiles) Open(_ context.Context, path string) (io.ReadCloser, error) {
	return openRegular(path)
}

func openRegular(path string) (seekable, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	return f, nil
}

const temporaryPrefix = ".millrace-tmp-"

var temporaries atomic.Int64

// temporaryName is the name of something half written, beside what it will be.
func temporaryName(path string) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, temporaryPrefix+strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(temporaries.Add(1), 10)+"-"+base)
}

func (localFiles) Create(_ context.Context, path string) (Pending, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(temporaryName(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &localFile{File: f, path: path}, nil
}

// localFile is written beside its name and renamed.
type localFile struct {
	*os.File
	path string
}

func (f *localFile) Commit(durable bool) error {
	var err error
	if durable {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), f.path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	if durable {
		return syncDir(filepath.Dir(f.path))
	}
	return nil
}

func (f *localFile) Abort() {
	f.Close()
	os.Remove(f.Name())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (localFiles) Stat(_ context.Context, path string) (Info, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Info{}, err
	}
	return Info{Path: path, Name: filepath.Base(path), Size: info.Size(), Modified: info.ModTime()}, nil
}

func (localFiles) Glob(_ context.Context, pattern string) ([]string, error) {
	return filepath.Glob(pattern)
}

func (localFiles) Below(_ context.Context, dir string) ([]Info, error) {
	var out []Info
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if path == dir && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		out = append(out, Info{Path: path, Name: filepath.ToSlash(rel), Size: info.Size(), Modified: info.ModTime()})
		return nil
	})
	return out, err
}

func (localFiles) Remove(_ context.Context, files []Info) error {
	for _, f := range files {
		if err := os.Remove(f.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// IsTemporary reports whether a name is one that files have while they are written.
func IsTemporary(name string) bool { return strings.HasPrefix(name, temporaryPrefix) }

// RemoveTemporary removes what killed processes left half written in a local directory and below. Call it only when no
// other process writes there, as the holder of a run directory's lock. Object stores never show what is half written.
func RemoveTemporary(dir string) error {
	if IsURL(dir) {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !IsTemporary(d.Name()) {
			return err
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}
