// Package replay is the source of prompts that brings rows which runs have left, their responses with them: token ids, log-probs with
// their definition, ids. So a batch is labelled again, scored by another reward model, or trained on again, without sampling.
//
// In: batch files (Parquet or Arrow) of runs, or of other programs with the same columns. Out: their prompt groups in the order of the
// files.
package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/prompts"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// Batch configures the source. Of the rows it takes what the rollout of a run has left; Keep names what else is kept, such as outcome
// or advantage: a column that a stage of the new run adds is not brought, it would be there twice.
type Batch struct {
	Path prompts.Paths `json:"path" doc:"batch files (.parquet or .arrow), a run or another folder of batch-*.parquet, a pattern, or a list of these"`
	Keep []string      `json:"columns,omitempty" doc:"columns that are kept beside those of prompts and rollouts, such as outcome, candidate_ids, loss_mask or advantage"`
	// LogProbs: what runs leave is raw, as long as the responses are their own.
	LogProbs  *prompts.LogProbs `json:"logprobs,omitempty" doc:"what old_logp is (of rows that another engine has sampled, sampler_logp, where columns names it), for importance weights; without it raw, as runs leave it"`
	Exhausted string            `json:"exhausted,omitempty" enum:",wrap,stop" doc:"what follows the last prompt: wrap, the first again, or stop, nothing; empty: wrap"`
}

func init() {
	prompts.Register("batch", Batch{})
	beam.RegisterDoFn(&batchFn{})
	register.Emitter1[stage.Batch]()
}

// always are the columns of prompts and rollouts.
var always = []schemas.Descriptor{schemas.PromptID, schemas.Prompt, schemas.Messages, schemas.Answer, schemas.Source, schemas.Difficulty,
	schemas.Extra, schemas.ResponseID, schemas.Sample, schemas.PromptTokens, schemas.ResponseTokens, schemas.Response, schemas.TokenEnds,
	schemas.FinishReason, schemas.OldLogP, schemas.OldLogZ}

// Validate names the first key that is wrong.
func (c Batch) Validate() error {
	if len(c.Path) == 0 || slices.Contains(c.Path, "") {
		return setting.Errorf("path", "missing; want batch files, a run, a pattern, or a list of them")
	}
	for i, name := range c.Keep {
		at := fmt.Sprintf("columns[%d]", i)
		if _, ok := schemas.ByName(name); !ok {
			return setting.Errorf(at, "%q is no column%s", name, setting.Suggest(name, columnNames()))
		}
		if slices.Contains(schemas.Names(always), name) || slices.Contains(c.Keep[:i], name) {
			return setting.Errorf(at, "%s is there already", name)
		}
	}
	return nil
}

func columnNames() []string {
	var out []string
	for _, c := range schemas.Columns() {
		out = append(out, c.Name)
	}
	return out
}

// CheckSplit: the files hold what somebody has drawn of a split.
func (c Batch) CheckSplit(split string) error { return setting.OneOf("split", split, "train", "all") }

// Columns are those of its rows.
func (c Batch) Columns() []schemas.Descriptor {
	out := slices.Clone(always)
	for _, name := range c.Keep {
		if column, ok := schemas.ByName(name); ok {
			out = append(out, column)
		}
	}
	return out
}

// Defines says what log-probs its rows have: what the setting says, and raw ones without it.
func (c Batch) Defines() map[string]schemas.LogPDefinition {
	column, defined := schemas.OldLogP.Name, schemas.FullLogP("")
	if slices.Contains(c.Keep, schemas.SamplerLogP.Name) {
		column = schemas.SamplerLogP.Name
	}
	if c.LogProbs != nil {
		defined = c.LogProbs.Definition()
	}
	return map[string]schemas.LogPDefinition{column: defined}
}

// Confirm holds what Defines says of a column to what the files say. A setting speaks for files that do not say it.
func (c Batch) Confirm(ctx context.Context, column string) error {
	paths, err := c.Paths(ctx)
	if err != nil {
		return err
	}
	of, err := summaryOf(ctx, paths)
	if err != nil {
		return err
	}
	want, have := c.Defines()[column], of.defined[column]
	switch {
	case want.Matches(have) || !have.Known() && c.LogProbs != nil:
		return nil
	case !have.Known():
		return setting.Errorf("logprobs", "is missing, and the files do not say what their %s is; want {} for raw log-probs, or what they were "+
			"processed by, such as {temperature: 0.7, top_p: 0.9}", column)
	}
	return setting.Errorf("logprobs", "says that %s is %v, and the files say %v; want {temperature: %g, top_p: %g, top_k: %d}", column, want,
		have, have.Temperature, have.TopP, have.TopK)
}

// Paths are the files that are read, in order.
func (c Batch) Paths(ctx context.Context) ([]string, error) {
	var out []string
	for _, p := range c.Path {
		found, err := files.Expand(ctx, p, func(name string) bool {
			base := path.Base(name)
			return strings.HasPrefix(base, "batch-") && isRows(base)
		})
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			if !isRows(name) {
				return nil, setting.Errorf("path", "%s is no .parquet or .arrow file", name)
			}
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out, nil
}

func isRows(name string) bool {
	return strings.HasSuffix(name, "."+recordio.Parquet) || strings.HasSuffix(name, "."+recordio.Arrow)
}

// Size counts the prompts; every split is all of them.
func (c Batch) Size(ctx context.Context, _ string) (int, error) {
	paths, err := c.Paths(ctx)
	if err != nil {
		return 0, err
	}
	of, err := summaryOf(ctx, paths)
	return of.prompts, err
}

// summary is what is known of files before their rows are taken.
type summary struct {
	prompts int
	in      []int // prompts of each file
	// defined is what the log-probs of each column are. Where files hold those of several policies, the model is all of these.
	defined map[string]schemas.LogPDefinition
}

// summaries are those of files that were read in this process.
var summaries sync.Map

// summaryOf reads files once as long as they stay as they are.
func summaryOf(ctx context.Context, paths []string) (summary, error) {
	stamp, err := files.Stamp(ctx, paths)
	if err != nil {
		return summary{}, err
	}
	if of, ok := summaries.Load(stamp); ok {
		return of.(summary), nil
	}
	out := summary{defined: map[string]schemas.LogPDefinition{}}
	models := map[string][]string{}
	out.in = make([]int, len(paths))
	err = each(ctx, paths, func(file int, b stage.Batch) error {
		out.prompts++
		out.in[file]++
		for _, name := range b.Columns() {
			d, ok := schemas.LogPOf(b, schemas.Column{Name: name})
			if !ok {
				continue
			}
			if have, seen := out.defined[name]; seen && !have.Matches(anyModel(d)) {
				return setting.Errorf("path", "the files hold %s that are %v, and others that are %v; bring them in runs of their own", name,
					anyModel(have), anyModel(d))
			}
			if out.defined[name] = anyModel(d); d.Model != "" && !slices.Contains(models[name], d.Model) {
				models[name] = append(models[name], d.Model)
			}
		}
		return nil
	})
	if err != nil {
		return summary{}, err
	}
	for name, d := range out.defined {
		slices.Sort(models[name])
		d.Model = strings.Join(models[name], ";")
		out.defined[name] = d
	}
	summaries.Store(stamp, out)
	return out, nil
}

func anyModel(d schemas.LogPDefinition) schemas.LogPDefinition {
	d.Model = ""
	return d
}

// each gives the prompt groups of files in order, with the number of their file.
func each(ctx context.Context, paths []string, group func(file int, b stage.Batch) error) error {
	for i, p := range paths {
		err := recordio.ReadFile(ctx, p, func(b stage.Batch) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			groups, err := b.Groups()
			if err != nil {
				return err
			}
			for _, g := range groups {
				if err := group(i, b.Slice(g.Lo, g.Hi)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Read reads the window's prompts.
func (c Batch) Read(s beam.Scope, w prompts.Window) (rows, dead stage.Rows) {
	known := schemas.Known{}
	for _, d := range c.Columns() {
		known.Columns = append(known.Columns, d.Describe())
	}
	read := beam.ParDo(s, &batchFn{Of: c, Window: w}, beam.Impulse(s))
	return stage.Rows{PCollection: read, Known: &known, MaxRecordBytes: w.MaxRecordBytes}, stage.Rows{}
}

type batchFn struct {
	Of     Batch
	Window prompts.Window
}

// ProcessElement reads the window.
func (f *batchFn) ProcessElement(ctx context.Context, _ []byte, emit func(stage.Batch)) error {
	start := time.Now()
	n, short, err := f.Of.window(ctx, f.Window, emit)
	if err != nil {
		return fmt.Errorf("prompts: %w", err)
	}
	prompts.CountShort(ctx, "batch", short)
	stage.CountResult(ctx, "prompts", stage.Result{In: n, Kept: n}, n, time.Since(start))
	return nil
}

var errEnough = errors.New("the window is read")

// window emits the window's prompts and tells the number of their rows, and of prompts that the files are short of.
func (c Batch) window(ctx context.Context, w prompts.Window, emit func(stage.Batch)) (rows, short int, err error) {
	paths, err := c.Paths(ctx)
	if err != nil {
		return 0, 0, err
	}
	all, err := summaryOf(ctx, paths)
	if err != nil {
		return 0, 0, err
	}
	defined := maps.Clone(all.defined)
	for column, said := range c.Defines() {
		if c.LogProbs != nil && !defined[column].Known() {
			defined[column] = said
		}
	}
	total := all.prompts
	if total == 0 {
		return 0, 0, fmt.Errorf("%s: there are no rows", c.Path)
	}
	first := w.First + w.Drawn
	if c.Exhausted != "stop" {
		first %= total
	}
	most := min(w.Count, total)
	if c.Exhausted == "stop" {
		most = max(0, min(w.Count, total-first))
	}
	var held stage.Batch
	groups, size, left := 0, 0, most
	flush := func() error {
		if groups == 0 {
			return nil
		}
		rows += held.NumRows()
		emit(held)
		held, groups, size = stage.Batch{}, 0, 0
		return nil
	}
	limit := w.MaxRecordBytes
	if limit == 0 {
		limit = stage.MaxRecordBytes
	}
	take := func(from int) error { // from a position on, to the end of the files
		at, file := 0, 0
		for ; file < len(paths) && at+all.in[file] <= from; file++ { // which need not be read
			at += all.in[file]
		}
		err := each(ctx, paths[file:], func(_ int, group stage.Batch) error {
			if at++; at <= from {
				return nil
			}
			if left == 0 {
				return errEnough
			}
			left--
			b, err := c.narrow(group, w.Meta, defined)
			if err != nil {
				return err
			}
			if groups > 0 && size+b.Size() > limit {
				if err := flush(); err != nil {
					return err
				}
			}
			if held, err = schemas.Append(held, b); err != nil {
				return err
			}
			groups, size = groups+1, size+b.Size()
			if groups < max(1, w.PerRecord) {
				return nil
			}
			return flush()
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	}
	for from := first; left > 0; from = 0 {
		if err := take(from); err != nil {
			return 0, 0, err
		}
	}
	return rows, w.Count - most, flush()
}

// narrow keeps the columns of the source, in their order. A nullable one that the file lacks is null.
func (c Batch) narrow(b stage.Batch, meta schemas.Meta, defined map[string]schemas.LogPDefinition) (stage.Batch, error) {
	rec := b.Arrow()
	var fields []arrow.Field
	var arrays []arrow.Array
	for _, d := range c.Columns() {
		column := d.Describe()
		if at := rec.Schema().FieldIndices(column.Name); len(at) == 1 {
			field := rec.Schema().Field(at[0])
			if d, ok := defined[column.Name]; ok {
				field.Metadata = d.Metadata()
			}
			fields, arrays = append(fields, field), append(arrays, rec.Column(at[0]))
		} else if column.Nullable && !slices.Contains(c.Keep, column.Name) {
			fields = append(fields, column.Field())
			arrays = append(arrays, array.MakeArrayOfNull(memory.DefaultAllocator, column.Type, int(rec.NumRows())))
		} else {
			return stage.Batch{}, &schemas.ColumnError{Column: column.Name, Reason: "is missing; the file holds " +
				strings.Join(b.Columns(), ", ")}
		}
	}
	out, err := schemas.FromArrow(array.NewRecord(arrow.NewSchema(fields, nil), arrays, rec.NumRows()))
	if err != nil {
		return stage.Batch{}, err
	}
	meta.Lineage = map[string]string{}
	for column, by := range b.Meta().Lineage {
		if out.Has(schemas.Column{Name: column}) {
			meta.Lineage[column] = by
		}
	}
	return out.WithMeta(meta), nil
}
