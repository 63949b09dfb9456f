package files

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"
)

// A model is a directory of this machine to whoever writes or reads it: weights are mapped into memory. WriteDirectory and
// ReadDirectory take it to where the run lies, and from there.

// WriteDirectory makes a directory of what write leaves in an empty one of this machine, in place of one that is there.
// Locally that one is renamed. Elsewhere its files are uploaded, those that are not there already with the same content;
// files named last, without which the others are nothing, go first where any changes and come last.
func WriteDirectory(ctx context.Context, dir string, last []string, write func(local string) error) error {
	if IsURL(dir) {
		return inScratch(func(tmp string) error {
			if err := write(tmp); err != nil {
				return err
			}
			return uploadDirectory(ctx, tmp, dir, last)
		})
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp := temporaryName(dir)
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := write(tmp); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), os.Rename(tmp, dir))
}

// ReadDirectory gives read the directory as one of this machine, which is gone afterwards if it was not there before.
func ReadDirectory(ctx context.Context, dir string, read func(local string) error) error {
	if !IsURL(dir) {
		return read(dir)
	}
	files, err := Below(ctx, dir)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return &fs.PathError{Op: "read", Path: dir, Err: fs.ErrNotExist}
	}
	return inScratch(func(tmp string) error {
		if err := Download(ctx, files, tmp); err != nil {
			return err
		}
		return read(tmp)
	})
}

func inScratch(do func(dir string) error) error {
	dir, remove, err := ScratchDirectory()
	if err != nil {
		return err
	}
	return errors.Join(do(dir), remove())
}

// filesAtOnce are copied at once.
const filesAtOnce = 8

// Download copies listed files into a directory of this machine, under the names they were listed by.
func Download(ctx context.Context, files []Info, to string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(filesAtOnce)
	for _, f := range files {
		g.Go(func() error {
			if !filepath.IsLocal(filepath.FromSlash(f.Name)) {
				return &os.PathError{Op: "copy", Path: f.Path, Err: errors.New("its name leads out of the directory")}
			}
			from, err := Open(ctx, f.Path)
			if err != nil {
				return err
			}
			defer from.Close()
			return WriteFrom(ctx, filepath.Join(to, filepath.FromSlash(f.Name)), from, false)
		})
	}
	return g.Wait()
}

func uploadDirectory(ctx context.Context, from, dir string, last []string) error {
	files, err := Below(ctx, from)
	if err != nil {
		return err
	}
	there, err := Below(ctx, dir)
	if err != nil {
		return err
	}
	old := map[string]Info{}
	for _, f := range there {
		old[f.Name] = f
	}
	var fresh, markers []Info
	same := true
	for _, f := range files {
		digest, err := Digest(ctx, f)
		if err != nil {
			return err
		}
		was, ok := old[f.Name]
		changed := !ok || was.SHA256 != digest
		same = same && !changed
		if slices.Contains(last, f.Name) {
			markers = append(markers, f)
			continue
		}
		delete(old, f.Name)
		if changed {
			fresh = append(fresh, f)
		}
	}
	if same && len(old) == len(markers) {
		return nil
	}
	gone := slices.Collect(maps.Values(old)) // the markers, and what belongs to something else
	if err := remove(ctx, dir, gone); err != nil {
		return err
	}
	for _, part := range [][]Info{fresh, markers} {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(filesAtOnce)
		for _, f := range part {
			g.Go(func() error { return Copy(ctx, f.Path, Join(dir, f.Name)) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// Copy copies a file of this machine to wherever the path says.
func Copy(ctx context.Context, local, path string) error {
	from, err := os.Open(local)
	if err != nil {
		return err
	}
	defer from.Close()
	s, err := storeOf(path)
	if err != nil {
		return err
	}
	if u, ok := s.(Uploader); ok {
		return u.Upload(ctx, path, from)
	}
	return WriteFrom(ctx, path, from, false)
}
