package export

import (
	"bufio"
	"context"

	"github.com/millrace/millrace/transforms/files"
)

// lines is a file of JSON lines under construction, for formats that are such.
type lines struct {
	path string
	file *files.Writer
	out  *bufio.Writer
}

// newLines begins a file in a directory.
func newLines(ctx context.Context, dir, name string) (*lines, error) {
	path := files.Join(dir, name)
	f, err := files.Create(ctx, path)
	if err != nil {
		return nil, err
	}
	return &lines{path: path, file: f, out: bufio.NewWriter(f)}, nil
}

func (l *lines) add(line []byte) error {
	if _, err := l.out.Write(line); err != nil {
		return err
	}
	return l.out.WriteByte('\n')
}

// Abort leaves nothing behind.
func (l *lines) Abort() { l.file.Abort() }

// Close puts the file under its name.
func (l *lines) Close() ([]string, error) {
	if err := l.out.Flush(); err != nil {
		l.file.Abort()
		return nil, err
	}
	return []string{l.path}, l.file.Commit(true)
}
