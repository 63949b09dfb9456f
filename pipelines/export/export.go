// Package export writes the rows of runs, or of files of rows, in the formats of other programs.
//
// A format is one file: a struct of its settings and a Register. Prompt groups stay together, in the order of their ids; rows that
// a format cannot hold are left out and counted by why.
package export

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// Aborter is a Writer that removes what it has begun when an export fails.
type Aborter interface{ Abort() }

// Format writes rows. Its struct holds its settings.
type Format interface {
	// Begin starts files in a directory, which is there.
	Begin(ctx context.Context, dir string) (Writer, error)
}

// Writer takes the rows of an export.
type Writer interface {
	// Write writes the rows of a batch, which holds whole prompt groups, and says of rows that it leaves out why, by number.
	Write(b stage.Batch) (left map[string]int, err error)
	// Close ends the files and names them; nothing is under its name before.
	Close() (files []string, err error)
}

var formats = setting.NewKinds[Format]("format", "to")

// Register makes a format known under a name. The value holds the defaults.
func Register(name string, defaults Format) { formats.Register(name, defaults) }

// Formats lists the formats.
func Formats() []string { return formats.Names() }

// New is the format of a name with its settings; nil keeps the defaults.
func New(name string, settings map[string]any) (Format, error) {
	if settings == nil {
		return formats.New(name, nil)
	}
	return formats.New(name, settings)
}

// SidecarName is the file that says what an export is: it is written last.
const SidecarName = "export.json"

// Sidecar says what an export holds and where it comes from.
type Sidecar struct {
	Format  string            `json:"format"`
	Files   []string          `json:"files"` // written
	From    []string          `json:"from"`  // read
	Rows    int               `json:"rows"`
	Left    map[string]int    `json:"left_out,omitempty"` // rows, by why
	Run     string            `json:"run,omitempty"`      // that made the rows
	Lineage map[string]string `json:"lineage,omitempty"`  // column, to what wrote it
}

// Write exports files of rows, in the order of their prompts, into a directory.
func Write(ctx context.Context, name string, f Format, from []string, dir string) (out Sidecar, err error) {
	out = Sidecar{Format: name, From: from, Left: map[string]int{}}
	if len(from) == 0 {
		return out, fmt.Errorf("export: no file of rows")
	}
	if there, err := files.Exists(ctx, files.Join(dir, SidecarName)); err != nil {
		return out, err
	} else if there {
		return out, setting.Errorf("out", "%s holds an export already; name another directory", dir)
	}
	if err := files.MakeDirectory(dir); err != nil {
		return out, err
	}
	w, err := f.Begin(ctx, dir)
	if err != nil {
		return out, err
	}
	defer func() {
		if a, ok := w.(Aborter); ok && err != nil {
			a.Abort()
		}
	}()
	read := 0
	err = recordio.ReadMerged(ctx, from, func(b stage.Batch) error {
		if out.Run == "" {
			out.Run, out.Lineage = b.Meta().Run, maps.Clone(b.Meta().Lineage)
		}
		read += b.NumRows()
		left, err := w.Write(b)
		for why, n := range left {
			out.Left[why] += n
		}
		return err
	})
	if err != nil {
		return out, err
	}
	if out.Files, err = w.Close(); err != nil {
		return out, err
	}
	out.Rows = read
	for _, why := range slices.Sorted(maps.Keys(out.Left)) {
		out.Rows -= out.Left[why]
	}
	raw, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return out, err
	}
	return out, files.Write(ctx, files.Join(dir, SidecarName), append(raw, '\n'), true)
}
