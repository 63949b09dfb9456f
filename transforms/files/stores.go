package files

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// Store is what is asked of the files of one kind of path.
type Store interface {
	Open(ctx context.Context, path string) (io.ReadCloser, error)
	// Create begins a file that appears under its name when it is committed.
	Create(ctx context.Context, path string) (Pending, error)
	Stat(ctx context.Context, path string) (Info, error)
	// Glob lists the files that a pattern matches: * and ? stay within a name, [] is a set.
	Glob(ctx context.Context, pattern string) ([]string, error)
	// Below lists the files of a directory and of those in it, and nothing where there is no directory.
	Below(ctx context.Context, dir string) ([]Info, error)
	// Remove removes files; one that is not there is no error.
	Remove(ctx context.Context, files []Info) error
}

// Pending is a file being written.
type Pending interface {
	io.Writer
	// Commit makes the file appear; with durable it survives a power cut then.
	Commit(durable bool) error
	// Abort leaves nothing behind.
	Abort()
}

// Uploader is a Store that takes content which can be read twice, so that it needs no copy to know its digest beforehand.
type Uploader interface {
	Upload(ctx context.Context, path string, from io.ReadSeeker) error
}

var stores = map[string]Store{}

// Register adds the store of paths that begin with scheme://. It belongs into an init function, and panics when the scheme
// is taken.
func Register(scheme string, s Store) {
	if stores[scheme] != nil {
		panic("files: two stores for " + scheme + "://")
	}
	stores[scheme] = s
}

func storeOf(path string) (Store, error) {
	scheme, _, ok := strings.Cut(path, "://")
	if !ok {
		return localFiles{}, nil
	}
	if s := stores[scheme]; s != nil {
		return s, nil
	}
	if scheme == "gs" { // which Beam's workers bring, but see package gcs
		return nil, &NotBuiltError{path}
	}
	return beamFiles{}, nil
}

// clouds are the schemes that package clouds brings.
var clouds = map[string]bool{"gs": true, "s3": true}

// NotBuiltError says that the program was built without what reaches a path.
type NotBuiltError struct{ Path string }

func (e *NotBuiltError) Error() string {
	return fmt.Sprintf("%s: this program was built without the clients of clouds; build it with: go build -tags cloud "+
		"(a program of your own imports github.com/millrace/millrace/transforms/files/clouds)", e.Path)
}
