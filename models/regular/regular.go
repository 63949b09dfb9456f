// Package regular opens files that come from elsewhere: a path may name a FIFO, which would wait for a writer for ever, a device or a
// socket, and a file may be longer than it said.
package regular

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrNotRegular says that a path names no regular file.
var ErrNotRegular = errors.New("is not a regular file")

// TooLongError says that a file has more bytes than are read.
type TooLongError struct {
	Path  string
	Limit int64
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("%s: more than %d bytes, which is the most that is read", e.Path, e.Limit)
}

// Open opens a regular file for reading; anything else is refused without being opened.
func Open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &os.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	return os.Open(path)
}

// Read returns the content of a regular file of at most limit bytes, counted as they are read.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		return nil, &TooLongError{path, limit}
	}
	return text, err
}
