package look

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/google/uuid"

	"github.com/millrace/millrace/pipelines/chain"
	"github.com/millrace/millrace/pipelines/commit"
	"github.com/millrace/millrace/pipelines/run"
	"github.com/millrace/millrace/runners"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/setting"
	"github.com/millrace/millrace/transforms/files"
	"github.com/millrace/millrace/transforms/label"
	"github.com/millrace/millrace/transforms/recordio"
	"github.com/millrace/millrace/transforms/stage"
)

// Relabelling says what a verifier makes of rows that were labeled before.
type Relabelling struct {
	Rows    int            `json:"rows"`
	Dead    int            `json:"dead"`
	Files   []string       `json:"files"`   // written
	Before  string         `json:"before"`  // what wrote the old verdicts
	After   string         `json:"after"`   // what wrote the new ones
	Changes map[string]int `json:"changes"` // "incorrect -> correct" and so on, rows that changed only
	Changed []Change       `json:"changed"` // the first of them
}

// Add counts the rows of another relabelling by the same verifier too.
func (r *Relabelling) Add(of Relabelling) {
	if r.Changes == nil {
		r.Before, r.Changes = of.Before, map[string]int{}
	}
	if r.Before != of.Before {
		r.Before = "several"
	}
	r.Rows, r.Dead, r.After = r.Rows+of.Rows, r.Dead+of.Dead, of.After
	r.Files = append(r.Files, of.Files...)
	for change, n := range of.Changes {
		r.Changes[change] += n
	}
	r.Changed = append(r.Changed, of.Changed[:min(len(of.Changed), changesShown-len(r.Changed))]...)
}

// Change is one row whose verdict changed.
type Change struct {
	ResponseID uuid.UUID `json:"response_id"`
	Before     string    `json:"before"`
	After      string    `json:"after"`
	Answer     string    `json:"answer"`
	Extracted  string    `json:"extracted"`
}

const (
	changesShown  = 100
	relabeledName = "relabeled"
)

func init() {
	beam.RegisterDoFn(&unlabelFn{})
}

// unlabelFn drops what a verifier added, and what was computed from it.
type unlabelFn struct{}

// ProcessElement keeps the columns of the stages before label.
func (unlabelFn) ProcessElement(_ context.Context, b stage.Batch) (stage.Batch, error) {
	stale := labelColumns()
	for _, name := range b.Columns() {
		if part, ok := strings.CutPrefix(name, schemas.RewardPartPrefix); ok {
			stale = append(stale, schemas.RewardPart(part))
		}
	}
	return b.Without(stale...), nil
}

// labelColumns are the columns of label and of every stage after it that reads outcomes.
func labelColumns() []schemas.Descriptor {
	var out []schemas.Descriptor
	for _, c := range schemas.Columns() {
		if slices.Contains([]string{"label", "reward", "advantage", "target"}, c.Stage) {
			out = append(out, c)
		}
	}
	return out
}

// Relabel judges the rows of Parquet files again and writes them to a directory with the new labels. Columns that were
// computed from the old ones (advantages, targets) are left out.
func Relabel(ctx context.Context, paths []string, verifier label.Config, dir string, runner runners.Config) (out Relabelling, err error) {
	if len(paths) == 0 {
		return Relabelling{}, errors.New("relabel: no file")
	}
	if err := setting.In("label", setting.Check(verifier)); err != nil {
		return Relabelling{}, err
	}
	if old, err := run.RowFiles(ctx, dir, relabeledName); err != nil {
		return Relabelling{}, err
	} else if len(old) > 0 {
		return Relabelling{}, fmt.Errorf("relabel: %s holds %s already; choose another directory", dir, files.Base(old[0]))
	}
	work := files.Join(dir, chain.WorkName)
	if err := files.MakeDirectory(work); err != nil {
		return Relabelling{}, err
	}
	defer func() { err = errors.Join(err, files.RemoveAll(ctx, work)) }()
	out = Relabelling{Changes: map[string]int{}}
	before := map[uuid.UUID]string{}
	for _, file := range paths {
		if err := commit.CheckPath(ctx, file); err != nil {
			return out, err
		}
		err := recordio.ReadFile(ctx, file, func(b stage.Batch) error {
			verdicts, err := schemas.Verdict.Find(b)
			if err != nil {
				return err
			}
			out.Before = b.Meta().Lineage[schemas.Verdict.Name]
			for i, id := range schemas.ResponseID.Of(b) {
				before[id] = verdicts.At(i)
			}
			return nil
		})
		if err != nil {
			return out, fmt.Errorf("relabel: %w", err)
		}
	}
	runners.Init()
	p, s := beam.NewPipelineWithRoot()
	unlabeled := stage.Rows{PCollection: beam.ParDo(s, &unlabelFn{}, recordio.Read(s, paths).PCollection)}
	labeled, dead := label.Outcome(s, verifier, unlabeled)
	store := stage.Store{Dir: work}
	recordio.Write(s, recordio.Output{Dir: dir, Name: relabeledName}, store, labeled)
	recordio.Write(s, recordio.Output{Dir: dir, Name: chain.DeadName}, store, dead)
	result, err := chain.Execute(ctx, "relabel", p, runner)
	if err != nil {
		return out, err
	}
	for _, c := range stage.CountsOf(result) {
		out.Dead += int(c.Dead)
	}
	if out.Files, err = run.RowFiles(ctx, dir, relabeledName); err != nil {
		return out, err
	}
	for _, file := range out.Files {
		if err := recordio.ReadFile(ctx, file, func(b stage.Batch) error { out.compare(before, b); return nil }); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (r *Relabelling) compare(before map[uuid.UUID]string, b stage.Batch) {
	r.After = b.Meta().Lineage[schemas.Verdict.Name]
	verdicts, answers, extracted := schemas.Verdict.Of(b), schemas.Answer.Of(b), schemas.Extracted.Of(b)
	for i, id := range schemas.ResponseID.Of(b) {
		r.Rows++
		old, now := before[id], verdicts.At(i)
		if old == now {
			continue
		}
		r.Changes[old+" -> "+now]++
		if len(r.Changed) < changesShown {
			r.Changed = append(r.Changed, Change{ResponseID: id, Before: old, After: now, Answer: answers.At(i), Extracted: extracted.At(i)})
		}
	}
}
