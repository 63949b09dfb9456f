package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// ErrNoneBelow says of a folder that no file which is wanted lies below it; it is fs.ErrNotExist as well.
var ErrNoneBelow = fmt.Errorf("no file that is read lies below it: %w", fs.ErrNotExist)

// Expand lists the files that a path names, in the order of their names: those of a directory and of the directories in it for which
// wanted is true, those that a pattern matches, or the file itself. Hidden files and those whose name begins with an underscore, which
// Spark and others leave beside data, are no part of a directory.
func Expand(ctx context.Context, path string, wanted func(name string) bool) ([]string, error) {
	missing := &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	if !IsURL(path) {
		info, err := os.Stat(path)
		if err == nil && !info.IsDir() {
			return []string{path}, nil
		}
		if err == nil {
			return below(ctx, path, wanted, &fs.PathError{Op: "open", Path: path, Err: ErrNoneBelow})
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if strings.ContainsAny(path, "*?[") {
		found, err := List(ctx, path)
		if err == nil && len(found) == 0 {
			err = missing
		}
		return found, err
	}
	if IsURL(path) {
		_, err := Stat(ctx, path)
		if errors.Is(err, fs.ErrNotExist) {
			return below(ctx, path, wanted, missing)
		}
		return []string{path}, err
	}
	return nil, missing
}

func below(ctx context.Context, dir string, wanted func(name string) bool, missing error) ([]string, error) {
	all, err := Below(ctx, dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range all {
		hidden := false
		for part := range strings.SplitSeq(f.Name, "/") {
			hidden = hidden || strings.HasPrefix(part, ".") || strings.HasPrefix(part, "_")
		}
		if !hidden && wanted(f.Name) {
			out = append(out, f.Path)
		}
	}
	if len(out) == 0 {
		return nil, missing
	}
	return out, nil
}
