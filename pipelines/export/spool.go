package export

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/millrace/millrace/transforms/files"
)

// spool holds files until all of them are written: formats of many files would otherwise have as many open, or some under their names
// while the export can still fail.
type spool struct {
	file  *os.File // of no name
	parts []part
	size  int64
}

type part struct {
	path   string
	lo, hi int64
}

func newSpool() (*spool, error) {
	f, err := files.UnnamedFile()
	return &spool{file: f}, err
}

// begin begins a file, where the last one ends.
func (s *spool) begin(path string) { s.parts = append(s.parts, part{path, s.size, s.size}) }

// Write adds to the last file.
func (s *spool) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.size += int64(n)
	s.parts[len(s.parts)-1].hi = s.size
	return n, err
}

// drop gives the files up.
func (s *spool) drop() { s.file.Close() }

// commit puts the files under their names, in their order; where one fails, those before it are removed.
func (s *spool) commit(ctx context.Context) (paths []string, err error) {
	defer s.drop()
	for _, p := range s.parts {
		if err := s.put(ctx, p); err != nil {
			remove(ctx, paths)
			return nil, err
		}
		paths = append(paths, p.path)
	}
	return paths, nil
}

func (s *spool) put(ctx context.Context, p part) error {
	f, err := files.Create(ctx, p.path)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := io.Copy(f, io.NewSectionReader(s.file, p.lo, p.hi-p.lo)); err != nil {
		return fmt.Errorf("write %s: %w", p.path, err)
	}
	return f.Commit(true)
}

// remove takes back files of an export that fails when others of its files are there already.
func remove(ctx context.Context, paths []string) {
	for _, path := range paths {
		_ = files.Remove(ctx, path) // the error that matters is the export's
	}
}
