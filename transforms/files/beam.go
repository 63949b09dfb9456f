package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem"
)

// beamFiles are the files of Beam's filesystems: s3://, and whatever else a program registers. They can be read, written
// and listed. Beam's interface has no precondition that a lock could be made of, and nothing that tells an error from
// another, so no run lies there.
type beamFiles struct{}

func beamFilesystem(ctx context.Context, path string) (filesystem.Interface, error) {
	files, err := filesystem.New(ctx, path)
	if scheme, _, _ := strings.Cut(path, "://"); err != nil && clouds[scheme] { // there is no such filesystem
		return nil, &NotBuiltError{path}
	}
	return files, err
}

func (beamFiles) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	files, err := beamFilesystem(ctx, path)
	if err != nil {
		return nil, err
	}
	r, err := files.OpenRead(ctx, path)
	if err != nil {
		files.Close()
		return nil, err
	}
	return &opened{r, files}, nil
}

type opened struct {
	io.ReadCloser
	files filesystem.Interface
}

func (o *opened) Close() error { return errors.Join(o.ReadCloser.Close(), o.files.Close()) }

func (beamFiles) Create(ctx context.Context, path string) (Pending, error) {
	ctx, cancel := context.WithCancel(ctx)
	files, err := beamFilesystem(ctx, path)
	if err != nil {
		cancel()
		return nil, err
	}
	w, err := files.OpenWrite(ctx, path)
	if err != nil {
		cancel()
		return nil, errors.Join(err, files.Close())
	}
	return &beamFile{w, files, cancel}, nil
}

type beamFile struct {
	io.WriteCloser
	files  filesystem.Interface
	cancel context.CancelFunc
}

func (f *beamFile) Commit(bool) error {
	defer f.cancel()
	return errors.Join(f.Close(), f.files.Close())
}

func (f *beamFile) Abort() {
	f.cancel() // an upload that is not finished never appears
	f.files.Close()
}

func (beamFiles) Glob(ctx context.Context, pattern string) ([]string, error) {
	files, err := beamFilesystem(ctx, pattern)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	return files.List(ctx, pattern)
}

func (b beamFiles) Stat(ctx context.Context, path string) (Info, error) {
	found, err := b.Glob(ctx, path)
	if err != nil {
		return Info{}, err
	}
	if len(found) == 0 {
		return Info{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
	}
	files, err := beamFilesystem(ctx, path)
	if err != nil {
		return Info{}, err
	}
	defer files.Close()
	size, err := files.Size(ctx, path)
	return Info{Path: path, Name: Base(path), Size: size}, err
}

// UnsupportedError says that a run or a model cannot lie where a path says.
type UnsupportedError struct{ Path string }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: runs and models lie in a directory of this machine or at gs://bucket/path; "+
		"of other stores only prompts and rows are read and written", e.Path)
}

func (beamFiles) Below(_ context.Context, dir string) ([]Info, error) {
	return nil, &UnsupportedError{dir}
}

func (beamFiles) Remove(_ context.Context, files []Info) error {
	if len(files) > 0 {
		return &UnsupportedError{files[0].Path}
	}
	return nil
}
