package look

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// Revived are the rows that one stage had set aside, as a file that the file source reads.
type Revived struct {
	Stage string   `json:"stage"`
	Rows  int      `json:"rows"`
	Path  string   `json:"path"`
	Sets  []string `json:"set"` // settings that make a recipe read the file
}

// Retry turns the dead letters of a run's committed iterations (number < 0), or of one of them, back into the rows they
// hold and writes them into dir, a file for each stage that had set rows aside. The run itself stays as it is. Unreadable
// counts dead letters that hold input which was never a row.
func Retry(ctx context.Context, d *run.Dir, number int, dir string) (revived []Revived, unreadable int, err error) {
	done, err := d.Committed(ctx)
	if err != nil {
		return nil, 0, err
	}
	if number >= 0 {
		if _, _, err := d.Iteration(ctx, number); err != nil {
			return nil, 0, err
		}
		done = []int{number}
	}
	byStage := map[string][]stage.Batch{}
	for _, i := range done {
		paths, err := run.RowFiles(ctx, d.IterPath(i), chain.DeadName)
		if err != nil {
			return nil, 0, err
		}
		for _, file := range paths {
			n, err := reviveFile(ctx, file, byStage)
			if err != nil {
				return nil, 0, err
			}
			unreadable += n
		}
	}
	if len(byStage) == 0 {
		return nil, unreadable, nil
	}
	work := files.Join(dir, ".retry-"+uuid.NewString())
	if err := files.MakeDirectory(work); err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, files.RemoveAll(ctx, work)) }()
	runners.Init()
	p, scope := beam.NewPipelineWithRoot()
	for _, name := range slices.Sorted(maps.Keys(byStage)) {
		out := recordio.Output{Dir: dir, Name: strings.ReplaceAll(name, "/", "-")}
		batches := byStage[name]
		rows := 0
		for _, b := range batches {
			rows += b.NumRows()
		}
		recordio.Write(scope, out, stage.Store{Dir: work}, stage.Rows{PCollection: beam.CreateList(scope, batches)})
		revived = append(revived, Revived{Stage: name, Rows: rows, Path: out.Path(0), Sets: fileSettings(out.Path(0), batches[0])})
	}
	if _, err := chain.Execute(ctx, "retry", p, runners.Default()); err != nil {
		return nil, 0, err
	}
	return revived, unreadable, nil
}

// reviveFile adds the rows of a file of dead letters to those of their stages and counts what never was a row.
func reviveFile(ctx context.Context, file string, byStage map[string][]stage.Batch) (unreadable int, err error) {
	err = recordio.ReadFile(ctx, file, func(letters stage.Batch) error {
		names, rows := schemas.DeadStage.Of(letters), schemas.DeadRow.Of(letters)
		for i := range letters.NumRows() {
			var held stage.Batch
			if err := held.UnmarshalBinary(rows.At(i)); err != nil || held.Has(schemas.DeadRaw) {
				unreadable++
				continue
			}
			back, err := stage.Revive(letters.Slice(i, i+1))
			if err != nil {
				return err
			}
			byStage[names.At(i)] = append(byStage[names.At(i)], back...)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("retry: %w", err)
	}
	return unreadable, nil
}

// fileSettings make a recipe read the rows again from their texts on.
func fileSettings(path string, b stage.Batch) []string {
	sets := []string{"prompts.source=file", "prompts.split=all", "prompts.file.path=" + path, "prompts.file.fields.prompt=" +
		schemas.Prompt.Name}
	for _, c := range []schemas.Text{schemas.Answer, schemas.Response} {
		if b.Has(c) {
			sets = append(sets, "prompts.file.fields."+c.Name+"="+c.Name)
		}
	}
	return slices.Clip(sets)
}
