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

	"github.com/millrace/millrace/schemas"
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

// Preparer is a Format that looks at what it is to write before it begins: what is known of the rows, and of each file its columns, as
// a batch without rows. It gives the format that begins, or says why the rows cannot be written in it.
type Preparer interface {
	Prepare(of Origin, heads []stage.Batch) (Format, error)
}

// LogProbber is a Format that says which log-probs it writes of rows with the columns of a file.
type LogProbber interface {
	LogProbs(head stage.Batch) []schemas.Descriptor
}

// PairReader is a Format that reads the preference pairs of a run beside its rows.
type PairReader interface{ ReadsPairs() bool }

// Stepper is a Writer that is given the rows of one iteration after the other, each between a Step and an End.
type Stepper interface {
	Step(iteration int) error
	// End ends an iteration, and says as Write does what was left out.
	End() (left map[string]int, err error)
}

// Recorder is a Writer that counts the records it has written, which need not be as many as rows.
type Recorder interface{ Records() int }

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
	Records int               `json:"records,omitempty"`  // written, of a format that counts them
	Left    map[string]int    `json:"left_out,omitempty"` // rows, by why
	Run     string            `json:"run,omitempty"`      // that made the rows
	Lineage map[string]string `json:"lineage,omitempty"`  // column, to what wrote it
	// Models are the digests of the models that wrote columns, by their role.
	Models map[string][]string `json:"models,omitempty"`
	Origin
	// LogProbs are the definitions of the log-probs in the export, by their column.
	LogProbs map[string][]schemas.LogPDefinition `json:"logprobs,omitempty"`
}

// Source is what an export reads.
type Source struct {
	Files []string
	Origin
}

// Write exports files of rows, in the order of their prompts, into a directory.
func Write(ctx context.Context, name string, f Format, from []string, dir string) (Sidecar, error) {
	return WriteFrom(ctx, name, f, Source{Files: from}, dir)
}

// WriteFrom is Write of rows of which more is known than they say themselves.
func WriteFrom(ctx context.Context, name string, f Format, from Source, dir string) (out Sidecar, err error) {
	out = Sidecar{Format: name, From: from.Files, Left: map[string]int{}, Origin: from.Origin}
	if len(from.Files) == 0 {
		return out, fmt.Errorf("export: no file of rows")
	}
	if there, err := files.Exists(ctx, files.Join(dir, SidecarName)); err != nil {
		return out, err
	} else if there {
		return out, setting.Errorf("out", "%s holds an export already; name another directory", dir)
	}
	heads, err := headsOf(ctx, from.Files)
	if err != nil {
		return out, err
	}
	out.describe(heads)
	if p, ok := f.(Preparer); ok {
		if f, err = p.Prepare(from.Origin, heads.rows()); err != nil {
			return out, err
		}
	}
	if l, ok := f.(LogProbber); ok {
		out.LogProbs = definitions(l, heads)
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
	read, err := out.pass(ctx, w, heads)
	if err != nil {
		return out, err
	}
	if out.Files, err = w.Close(); err != nil {
		return out, err
	}
	if c, ok := w.(Recorder); ok {
		out.Records = c.Records()
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

// pass gives the rows to a writer, and counts them and what it leaves out.
func (s *Sidecar) pass(ctx context.Context, w Writer, from heads) (read int, err error) {
	count := func(left map[string]int) {
		for why, n := range left {
			s.Left[why] += n
		}
	}
	write := func(b stage.Batch) error {
		read += b.NumRows()
		left, err := w.Write(b)
		count(left)
		return err
	}
	stepped, ok := w.(Stepper)
	if !ok {
		return read, recordio.ReadMerged(ctx, from.paths(), write)
	}
	for _, iteration := range from.iterations() {
		if err := stepped.Step(iteration); err != nil {
			return read, err
		}
		if err := recordio.ReadMerged(ctx, from.of(iteration).paths(), write); err != nil {
			return read, err
		}
		left, err := stepped.End()
		count(left)
		if err != nil {
			return read, err
		}
	}
	return read, nil
}
