package commit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/millrace/millrace/transforms/files"
)

// RemovedName is the file of a committed iteration that says what has been taken out of it to make room. It is written before anything
// goes, so what it does not name must be there.
const RemovedName = "removed.json"

// RemovedError says that something of an iteration was taken out to make room.
type RemovedError struct{ Path string }

func (e *RemovedError) Error() string {
	return fmt.Sprintf("%s was removed to make room (section keep of the run's recipe, or `millrace rm`); name an iteration that has it, "+
		"which `millrace du` lists", e.Path)
}

// Removed are the folders that were taken out of an iteration, by their names, in order.
func Removed(ctx context.Context, dir string) ([]string, error) {
	path := files.Join(dir, RemovedName)
	raw, err := files.Read(ctx, path, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range out {
		if name == "" || strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, ".") {
			return nil, fmt.Errorf("%s: %q is no folder of an iteration", path, name)
		}
	}
	return out, nil
}

// Remove takes folders out of a committed iteration, those among names that it has. What was begun and did not come to its end is ended
// by the next call.
func Remove(ctx context.Context, dir string, names ...string) error {
	before, err := Removed(ctx, dir)
	if err != nil {
		return err
	}
	m, _, err := Read(ctx, dir)
	if err != nil {
		return err
	}
	has := func(name string) bool {
		for file := range m.Files {
			if strings.HasPrefix(file, name+"/") {
				return true
			}
		}
		return false
	}
	all := slices.Clone(before)
	for _, name := range names {
		if has(name) && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	if len(all) > len(before) {
		slices.Sort(all)
		raw, err := json.Marshal(all)
		if err != nil {
			return err
		}
		if err := files.Write(ctx, files.Join(dir, RemovedName), append(raw, '\n'), true); err != nil {
			return err
		}
	}
	for _, name := range all {
		if !has(name) {
			return fmt.Errorf("%s: %q is no folder of the iteration; take it out of the list", files.Join(dir, RemovedName), name)
		}
		if err := files.RemoveAll(ctx, files.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// within reports whether a file lies in one of some folders.
func within(name string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return name == f || strings.HasPrefix(name, f+"/") })
}
