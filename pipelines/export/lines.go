package export

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"

	"github.com/millrace/millrace/transforms/files"
)

// lines is a file of JSON lines under construction, for formats that are such.
type lines struct {
	path    string
	file    *files.Writer
	out     *bufio.Writer
	records int
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
	l.records++
	if _, err := l.out.Write(line); err != nil {
		return err
	}
	return l.out.WriteByte('\n')
}

// value adds a line with a value as JSON.
func (l *lines) value(v any) error {
	raw, err := marshal(v)
	if err != nil {
		return err
	}
	return l.add(raw)
}

// marshal is a value as JSON, its texts as they are: <, > and & need no escapes outside of HTML.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	to := json.NewEncoder(&out)
	to.SetEscapeHTML(false)
	err := to.Encode(v)
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// Records counts the lines.
func (l *lines) Records() int { return l.records }

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
