package look

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/method"
	"github.com/millrace/millrace/pipelines/recipe"
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
	Verb  string   `json:"command"` // of this program, which runs the recipe
	From  string   `json:"recipe"`  // the run's own
	Sets  []string `json:"set"`     // settings that make the recipe read the file, and go to a directory of its own
}

// Retry turns the dead letters of a run's iterations (number < 0), or of one of them, back into the rows they hold and writes them into
// dir, a file for each stage that had set rows aside. An iteration that was begun and is not committed is one of them: it may have
// failed for these rows. The run itself stays as it is. Unreadable counts dead letters that hold input which was never a row.
func Retry(ctx context.Context, d *run.Dir, number int, dir string) (revived []Revived, unreadable int, err error) {
	done, err := d.Committed(ctx)
	if err != nil {
		return nil, 0, err
	}
	if at, ok, err := d.LastWith(ctx, chain.DeadName); err != nil {
		return nil, 0, err
	} else if ok && at == len(done) {
		done = append(done, at)
	}
	if number >= 0 {
		if _, err := d.Begun(ctx, number); err != nil {
			return nil, 0, err
		}
		done = []int{number}
	}
	r, err := d.Recipe(ctx)
	if err != nil {
		return nil, 0, err
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
	if chain.Samples(r) {
		for name, batches := range byStage {
			if byStage[name], err = onePerPrompt(batches); err != nil {
				return nil, 0, err
			}
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
		sets, err := settingsOf(r, d.Path+"-retry-"+out.Name, out.Path(0), batches)
		if err != nil {
			return nil, 0, err
		}
		revived = append(revived, Revived{Stage: name, Rows: rows, Path: out.Path(0), Verb: method.Verb(r.Kind),
			From: files.Join(d.Path, recipe.ConfigName), Sets: sets})
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

// onePerPrompt leaves the first row of each prompt: a recipe that samples responses makes all of a prompt's from it.
func onePerPrompt(batches []stage.Batch) (out []stage.Batch, err error) {
	seen := map[uuid.UUID]bool{}
	for _, b := range batches {
		var take []int
		for i, id := range schemas.PromptID.Of(b) {
			if !seen[id] {
				seen[id] = true
				take = append(take, i)
			}
		}
		if len(take) == 0 {
			continue
		}
		if b, err = b.Take(take); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// settingsOf make the run's recipe read the rows again from their texts on, and go to another directory. Held-out prompts would be of
// the file too, so nothing is measured.
func settingsOf(r recipe.Recipe, dir, path string, batches []stage.Batch) ([]string, error) {
	fields := map[string]string{"prompt": schemas.Prompt.Name}
	of := []schemas.Descriptor{schemas.Answer, schemas.Messages}
	for _, c := range []schemas.Descriptor{schemas.Response, schemas.Outcome} {
		if r.Prompts.Brings(c) {
			of = append(of, c)
		}
	}
	for _, c := range of {
		if slices.ContainsFunc(batches, func(b stage.Batch) bool { return known(b, c) }) {
			fields[c.Describe().Name] = c.Describe().Name
		}
	}
	prompts, err := json.Marshal(map[string]any{"source": "file", "split": "all", "count": r.Prompts.Count, "per_record": r.Prompts.PerRecord,
		"file": map[string]any{"path": path, "fields": fields}})
	if err != nil {
		return nil, err
	}
	where, err := json.Marshal(dir)
	sets := []string{"run=" + string(where), "prompts=" + string(prompts)}
	if method.Reads(r, "evaluate") {
		sets = append(sets, "evaluate.every=0")
	}
	return sets, err
}

// known reports whether a column has a value in any row.
func known(b stage.Batch, c schemas.Descriptor) bool {
	i := slices.Index(b.Columns(), c.Describe().Name)
	return i >= 0 && b.Arrow().Column(i).NullN() < b.NumRows()
}
