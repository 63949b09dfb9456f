package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem/s3" // s3:// prompts and rows
)

// beamFiles are the files of Beam's filesystems: s3://, and whatever else a program registers. They can be read, written
// and listed. Beam's interface has no precondition that a lock could be made of, and nothing that tells an error from
// another, so no run lies there.
type beamFiles struct{}

func (beamFiles) open(ctx context.Context, path string) (io.ReadCloser, error) {
	files, err := filesystem.New(ctx, path)
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

func (beamFiles) create(ctx context.Context, path string) (pending, error) {
	ctx, cancel := context.WithCancel(ctx)
	files, err := filesystem.New(ctx, path)
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

func (f *beamFile) commit(bool) error {
	defer f.cancel()
	return errors.Join(f.Close(), f.files.Close())
}

func (f *beamFile) abort() {
	f.cancel() // an upload that is not finished never appears
	f.files.Close()
}

func (beamFiles) glob(ctx context.Context, pattern string) ([]string, error) {
	files, err := filesystem.New(ctx, pattern)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	return files.List(ctx, pattern)
}

func (b beamFiles) stat(ctx context.Context, path string) (FileInfo, error) {
	found, err := b.glob(ctx, path)
	if err != nil {
		return FileInfo{}, err
	}
	if len(found) == 0 {
		return FileInfo{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
	}
	files, err := filesystem.New(ctx, path)
	if err != nil {
		return FileInfo{}, err
	}
	defer files.Close()
	size, err := files.Size(ctx, path)
	return FileInfo{Path: path, Name: BasePath(path), Size: size}, err
}

// UnsupportedError says that a run or a model cannot lie where a path says.
type UnsupportedError struct{ Path string }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: runs and models lie in a directory of this machine or at gs://bucket/path; of other stores only prompts and rows are read and written", e.Path)
}

func (beamFiles) below(_ context.Context, dir string) ([]FileInfo, error) {
	return nil, &UnsupportedError{dir}
}

func (beamFiles) remove(_ context.Context, files []FileInfo) error {
	if len(files) > 0 {
		return &UnsupportedError{files[0].Path}
	}
	return nil
}
