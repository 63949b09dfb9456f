package prompts

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/models/keyed"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/transforms/stage"
)

// fileFn reads the window's part of a file, in the order of the file.
type fileFn struct {
	File   File
	Window Window
}

func (f *fileFn) ProcessElement(ctx context.Context, _ []byte, emit, dead func(stage.Batch)) error {
	start := time.Now()
	res, err := scanWindow(ctx, f.File, f.Window,
		func(b stage.Batch) error { emit(b); return nil }, func(b stage.Batch) error { dead(b); return nil })
	if err != nil {
		return fmt.Errorf("prompts: %w", err)
	}
	stage.CountResult(ctx, "prompts", res, res.Kept, time.Since(start))
	return nil
}

// scanWindow emits the prompts of the window, in the order of the files.
func scanWindow(ctx context.Context, f File, w Window, emit, dead func(stage.Batch) error) (stage.Result, error) {
	all, err := spoolOf(ctx, f)
	if err != nil {
		return stage.Result{}, err
	}
	if all.rows == 0 {
		return stage.Result{}, fmt.Errorf("%s: there are no rows", f.Path)
	}
	var history History
	if w.Curriculum != nil && w.History != "" {
		if history, err = readHistory(ctx, w.History); err != nil {
			return stage.Result{}, err
		}
	}
	var index []uint64
	for _, g := range all.groups {
		if inSplit(g.test, w.Split) {
			index = append(index, g.short)
		}
	}
	chosen := choose(index, f, w, history)
	CountShort(ctx, f.name(), w.Count-len(chosen))
	out := packer{file: f, w: w, emit: emit}
	report := letters{meta: w.Meta, limit: f.MaxRecordBytes, emit: dead, reasons: map[schemas.Reason]int{}}
	filtered := 0
	for _, at := range all.groups {
		if _, ok := chosen[at.short]; !ok || !inSplit(at.test, w.Split) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return stage.Result{}, err
		}
		g, err := all.group(at)
		if err == nil {
			err = out.add(g)
		}
		if err != nil {
			return stage.Result{}, err
		}
	}
	if w.First+w.Drawn == 0 {
		stage.Count(ctx, "prompts", stage.SourceRows, all.rows)
		filtered = all.again
		for _, at := range all.bad {
			row, err := all.badRow(at)
			if err == nil {
				err = report.add(row)
			}
			if err != nil {
				return stage.Result{}, err
			}
		}
	}
	if err := out.flush(); err != nil {
		return stage.Result{}, err
	}
	for _, l := range out.tooLarge {
		if err := report.letter(l); err != nil {
			return stage.Result{}, err
		}
	}
	if err := report.flush(); err != nil {
		return stage.Result{}, err
	}
	return stage.Result{In: out.rows + len(out.tooLarge) + report.bad + filtered, Kept: out.rows, Filtered: filtered,
		Reasons: report.reasons}, nil
}

// choose picks the prompts of the window: its positions of the sequence in which the file follows on itself, without prompts
// that the iteration has taken already.
func choose(index []uint64, f File, w Window, h History) map[uint64]struct{} {
	n := len(index)
	take := func(first, count int) map[uint64]struct{} {
		out := make(map[uint64]struct{}, max(0, min(n, count)))
		round, order := -1, index
		for at := first; at < first+count; at++ {
			if f.Exhausted == stopExhausted && at >= n {
				break
			}
			if r := at / n; f.Shuffle && r != round {
				round, order = r, shuffled(index, w.Seed, r)
			}
			out[order[at%n]] = struct{}{}
		}
		return out
	}
	if len(h.Prompts) > 0 { // in the place of the file's own order
		index, w.First, f.Shuffle, f.Exhausted = w.Curriculum.ranked(index, h, w), 0, false, stopExhausted
	}
	first := func(count int) map[uint64]struct{} {
		if f.Exhausted != stopExhausted && count >= n { // each once, whatever the order
			return take(0, n)
		}
		return take(w.First, count)
	}
	if n == 0 {
		return nil
	}
	out := first(w.Drawn + w.Count)
	if w.Drawn > 0 {
		for id := range first(w.Drawn) {
			delete(out, id)
		}
	}
	return out
}

// shuffled is the order of a file's prompts in a round through it.
func shuffled(index []uint64, seed uint64, round int) []uint64 {
	out := slices.Clone(index)
	key := keyed.New(seed).With(uint64(round))
	slices.SortStableFunc(out, func(a, b uint64) int { return cmp.Compare(key.With(a).Uniform(), key.With(b).Uniform()) })
	return out
}

// shortCounter begins the name of a counter: the prompts that a window asked of a source beyond those it has.
const shortCounter = "short."

// CountShort counts prompts that a window asked of a source beyond those it has.
func CountShort(ctx context.Context, source string, n int) {
	stage.Count(ctx, "prompts", shortCounter+source, n)
}

// ShortOf gives the source that such a counter is of.
func ShortOf(counter string) (source string, ok bool) {
	return strings.CutPrefix(counter, shortCounter)
}

// packer puts groups together into records.
type packer struct {
	file     File
	w        Window
	emit     func(stage.Batch) error
	held     []group
	size     int
	rows     int
	tooLarge []stage.Letter
}

func (p *packer) add(g group) error {
	size := 0
	for _, r := range g.rows {
		size += len(r.prompt) + len(r.messages) + len(r.answer) + len(r.response) + len(r.extra) + 256 +
			4*(len(r.promptTokens)+len(r.responseTokens)+len(r.lossMask)+len(r.logProbs))
	}
	limit := p.file.MaxRecordBytes
	if limit == 0 {
		limit = stage.MaxRecordBytes
	}
	if len(p.held) > 0 && p.size+size > limit {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.held = append(p.held, g)
	p.size += size
	if len(p.held) < p.w.PerRecord {
		return nil
	}
	return p.flush()
}

func (p *packer) flush() error {
	if len(p.held) == 0 {
		return nil
	}
	b, err := p.file.batch(p.w, p.held)
	p.held, p.size = nil, 0
	if err != nil {
		return err
	}
	parts, dead, err := stage.Split(b, "prompts", p.file.MaxRecordBytes)
	if err != nil {
		return err
	}
	p.tooLarge = append(p.tooLarge, dead...)
	for _, part := range parts {
		p.rows += part.NumRows()
		if err := p.emit(part); err != nil {
			return err
		}
	}
	return nil
}

// batch makes a record of groups.
func (f File) batch(w Window, groups []group) (stage.Batch, error) {
	var ids, responseIDs []uuid.UUID
	var prompts, messages, answers, sources, difficulties, extras, responses, finish []string
	var hasMessages, hasAnswer, graded, hasExtra, hasOutcome []bool
	var samples, firstErrors []int32
	var stepBytes, promptTokens, responseTokens, lossMasks [][]int32
	var logProbs [][]float32
	var hasMask []bool
	var outcomes []float32
	for _, g := range groups {
		for k, r := range g.rows {
			ids, prompts, sources = append(ids, g.id), append(prompts, r.prompt), append(sources, f.name())
			difficulties, graded = append(difficulties, r.difficulty), append(graded, f.Fields.Difficulty != "")
			messages, hasMessages = append(messages, r.messages), append(hasMessages, r.messages != "")
			answers, hasAnswer = append(answers, r.answer), append(hasAnswer, r.hasAnswer)
			extras, hasExtra = append(extras, r.extra), append(hasExtra, r.hasExtra)
			responseIDs = append(responseIDs, uuid.NewSHA1(g.id, fmt.Appendf(nil, "file/%d/%s", k, r.said())))
			responses, finish, samples = append(responses, r.response), append(finish, cmp.Or(r.finish, "unknown")), append(samples, int32(k))
			promptTokens, responseTokens = append(promptTokens, r.promptTokens), append(responseTokens, r.responseTokens)
			lossMasks, logProbs, hasMask = append(lossMasks, r.lossMask), append(logProbs, r.logProbs), append(hasMask, r.lossMask != nil)
			outcomes, hasOutcome = append(outcomes, r.outcome), append(hasOutcome, r.hasOutcome)
			firstErrors, stepBytes = append(firstErrors, r.firstError), append(stepBytes, r.stepBytes)
		}
	}
	cols := []schemas.Filled{schemas.PromptID.From(ids)}
	if !f.Fields.promptAsIDs() {
		cols = append(cols, schemas.Prompt.From(prompts))
	}
	cols = append(cols,
		schemas.Messages.From(messages, hasMessages...), schemas.Answer.From(answers, hasAnswer...), schemas.Source.From(sources),
		schemas.Difficulty.From(difficulties, graded...), schemas.Extra.From(extras, hasExtra...))
	if f.Fields.responses() {
		cols = append(cols, schemas.ResponseID.From(responseIDs), schemas.Sample.From(samples))
		if !f.Fields.responseAsIDs() {
			cols = append(cols, schemas.Response.From(responses))
		}
		cols = append(cols, schemas.FinishReason.From(finish))
	}
	if f.Fields.tokens() && !f.Fields.PromptsOnly {
		cols = append(cols, schemas.PromptTokens.FromRows(promptTokens), schemas.ResponseTokens.FromRows(responseTokens))
		if f.Fields.LossMask != "" {
			cols = append(cols, schemas.LossMask.FromRows(lossMasks, hasMask...))
		}
		if f.Fields.LogProbs != "" {
			cols = append(cols, schemas.OldLogP.FromRows(logProbs).Defined(f.LogProbs.Definition()))
		}
	}
	if f.Fields.outcomes() {
		cols = append(cols, schemas.Outcome.From(outcomes, hasOutcome...))
	}
	if f.Fields.steps() {
		cols = append(cols, schemas.FirstError.From(firstErrors), schemas.StepBytes.FromRows(stepBytes))
	}
	return schemas.NewRecord(w.Meta, cols...)
}

// letters gathers dead letters of bad rows and emits them in batches of bounded size.
type letters struct {
	meta    schemas.Meta
	limit   int
	emit    func(stage.Batch) error
	held    []stage.Letter
	size    int
	bad     int // rows of the file, without those of groups that were too large
	reasons map[schemas.Reason]int
}

// add sets a row aside. A repeated prompt is named without its row, which is a copy.
func (l *letters) add(row badRow) error {
	var encoded []byte
	if row.Reason != schemas.ReasonRepeated {
		raw, err := schemas.NewRecord(l.meta, schemas.DeadRaw.From([][]byte{row.Raw}))
		if err != nil {
			return err
		}
		if encoded, err = raw.MarshalBinary(); err != nil {
			return err
		}
	}
	l.bad++
	return l.letter(stage.Letter{Stage: "prompts", Reason: row.Reason, Message: row.Where + ": " + row.Why, RowID: row.Where, Attempts: 1,
		Row: encoded})
}

func (l *letters) letter(d stage.Letter) error {
	l.reasons[d.Reason]++
	l.held = append(l.held, d)
	l.size += len(d.Row)
	if len(l.held) < 1000 && l.size < 1<<20 {
		return nil
	}
	return l.flush()
}

func (l *letters) flush() error {
	if len(l.held) == 0 {
		return nil
	}
	b, err := stage.Letters(l.meta, l.held)
	if err != nil {
		return err
	}
	l.held, l.size = nil, 0
	return l.emit(b)
}
